//! `slotfs diff`: what was written, slot by slot.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Seek, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;
use slotfs_fs::disk::{Context as _, atomic};
use slotfs_fs::layer::stack::Stack;
use slotfs_fs::node::Kind;
use slotfs_fs::overlay::{
    ArchiveError, Change, Difference, LeftOut, Parts, Scope, View, changes, write_archive,
};

use super::{Pause, find, layers_of, scope};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::{Output, Tone, escaped};
use crate::host::files;
use crate::workenv::Listed;

/// Show what programs wrote in a work environment
///
/// A line for each path, grouped by the slot that it belongs to: A added, M changed, D removed, and m where the content
/// is the package's and only mode, owner or attributes differ (a file that was copied for writing and still has its size
/// and modification time counts as such; of a large file of which only attributes or names were changed it is known). Only
/// what was written is looked at, never the package's own files, so it takes as long as there are changes. While the
/// environment is mounted, changes wait for the moment that this takes, a minute at most.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A work environment's name or id, or the beginning of either
    #[arg(value_name = "NAME|ID")]
    what: PathBuf,
    /// Only what is at or below these paths, as seen in the environment
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write a tar archive of the changes to standard output: added and changed files, and for what was removed the
    /// marks of OCI image layers (`.wh.NAME`, `.wh..wh..opq`)
    #[arg(long, conflicts_with = "json")]
    tar: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no such environment, or something cannot be read.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    if arguments.tar && context.output.data_is_watched() {
        let failure = Failure::new(FailureKind::Usage, "cannot write an archive to a terminal");
        return Err(failure.hint("send it to a file: `slotfs diff --tar NAME > changes.tar`"));
    }
    let listed = find(&arguments.what, context)?;
    let scope = scope(&arguments.paths, &listed)?;
    let stack = layers_of(&listed, context);
    let pause = Pause::begin(&listed, context);
    let Some(view) = View::open(&listed.workenv.upper())? else { return Ok(0) };
    if arguments.tar {
        return archive((&view, stack.as_ref(), &scope), pause, &listed, context);
    }
    let told = collect(&view, stack.as_ref(), &scope)?;
    pause.end(context);
    if arguments.json {
        context.output.json(&Document::of(&listed, stack.as_ref(), &told))?;
    } else {
        context.output.data(&text(&told, stack.as_ref(), &context.output))?;
    }
    Ok(0)
}

/// Returns all changes in `scope`, sorted by path.
pub(super) fn collect(view: &View, stack: Option<&Stack>, scope: &Scope) -> Result<Vec<Change>, Failure> {
    let mut all = Vec::new();
    changes(view, stack, scope, &mut |change| {
        all.push(change.clone());
        ControlFlow::Continue(())
    })?;
    all.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(all)
}

/// Writes the archive. Nobody knows how fast it is read, so while changes are held up it goes to a file first.
fn archive(
    (view, stack, scope): (&View, Option<&Stack>, &Scope),
    pause: Pause,
    listed: &Listed,
    context: &Context,
) -> Result<u8, Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = if pause.is_needed() {
        let mut file = nameless(&listed.workenv.snapshots())?;
        let left_out = write_buffered(view, stack, scope, &file);
        pause.end(context);
        left_out.and_then(|left_out| {
            file.rewind()?;
            std::io::copy(&mut file, &mut stdout)?;
            stdout.flush()?;
            Ok(left_out)
        })
    } else {
        write_buffered(view, stack, scope, stdout)
    };
    match written {
        Ok(left_out) => {
            for left in &left_out {
                context.output.warn(&format!("left out `{}`: {}", shown(&left.path), left.reason));
            }
            if left_out.iter().any(|left| left.is_loss) {
                return Err(Failure::new(FailureKind::Disk, "the archive is not complete"));
            }
            Ok(0)
        }
        // Who reads has had enough.
        Err(ArchiveError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn write_buffered(
    view: &View,
    stack: Option<&Stack>,
    scope: &Scope,
    out: impl Write,
) -> Result<Vec<LeftOut>, ArchiveError> {
    let mut out = std::io::BufWriter::with_capacity(1 << 20, out);
    let left_out = write_archive(view, stack, scope, &mut out)?;
    out.flush()?;
    Ok(left_out)
}

/// Makes a file in `folder` that goes when it is closed.
fn nameless(folder: &Path) -> Result<File, Failure> {
    files::create_private_directories(folder).context("create the directory", folder)?;
    let path = atomic::temporary_beside(&folder.join("archive"));
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    let file = file.context("create", &path)?;
    std::fs::remove_file(&path).context("remove", &path)?;
    Ok(file)
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        let message = error.to_string();
        match error {
            ArchiveError::Layer(error) => error.into(),
            ArchiveError::Write(_) => Self::new(FailureKind::Disk, message),
            ArchiveError::Moved { .. } | ArchiveError::Bare { .. } => {
                Self::new(FailureKind::NotFound, message)
                    .hint("put the package back where it was, or name other paths")
            }
        }
    }
}

/// Returns the changes as lines: under their slots where those are known.
pub(super) fn text(told: &[Change], stack: Option<&Stack>, output: &Output) -> String {
    let Some(stack) = stack else {
        return told.iter().map(|change| line(change, output)).collect();
    };
    // Those of no slot come last.
    let mut groups: BTreeMap<u32, Vec<&Change>> = BTreeMap::new();
    for change in told {
        groups.entry(change.owner.unwrap_or(u32::MAX)).or_default().push(change);
    }
    let mut text = String::new();
    for (owner, changes) in groups {
        let title = match owner {
            u32::MAX => "no slot".to_owned(),
            owner => format!("slot {}", stack.layer(owner).name),
        };
        text.push_str(&format!("{}\n", output.paint(Tone::Heading, &title)));
        for change in changes {
            text.push_str(&format!("  {}", line(change, output)));
        }
    }
    text
}

fn line(change: &Change, output: &Output) -> String {
    let (letter, tone) = match &change.difference {
        Difference::Added { .. } => ("A", Tone::Good),
        Difference::Changed(parts) if parts.content => ("M", Tone::Warning),
        Difference::Changed(_) => ("m", Tone::Warning),
        Difference::Removed => ("D", Tone::Bad),
    };
    let slash = if change.kind == Some(Kind::Directory) { "/" } else { "" };
    let note = match &change.difference {
        Difference::Added { from: Some(from) } => {
            let word = if change.kind == Some(Kind::Directory) { "moved from" } else { "content of" };
            format!(" ({word} {})", escaped(from.strip_prefix(b"/").unwrap_or(from)))
        }
        Difference::Changed(parts) if !parts.content => match words(*parts).join(", ") {
            words if words.is_empty() => " (copied, looks the same)".into(),
            words => format!(" ({words})"),
        },
        Difference::Changed(_) | Difference::Added { from: None } | Difference::Removed => String::new(),
    };
    format!("{} {}{slash}{note}\n", output.paint(tone, letter), shown(&change.path))
}

/// Returns a path as a person reads it, on one line.
pub(super) fn shown(path: &[Vec<u8>]) -> String {
    escaped(&path.join(&b'/'))
}

fn words(parts: Parts) -> Vec<&'static str> {
    let all = [
        (parts.content, "content"),
        (parts.mode, "mode"),
        (parts.owner, "owner"),
        (parts.attributes, "xattr"),
    ];
    all.into_iter().filter(|(differs, _)| *differs).map(|(_, word)| word).collect()
}

/// The changes of one environment in JSON.
#[derive(Serialize)]
struct Document {
    name: String,
    id: Option<String>,
    upper: String,
    /// Whether the package could be opened, so that slots are told.
    slots_known: bool,
    changes: Vec<Line>,
}

/// One change in JSON.
#[derive(Serialize)]
pub(super) struct Line {
    path: String,
    /// The exact bytes, in hexadecimal digits, where they are no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    /// `added`, `changed` or `removed`.
    change: &'static str,
    /// What of it differs, for what changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differs: Vec<&'static str>,
    /// Where in the package a directory was moved from.
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_from: Option<String>,
    /// Which file of the package has the content, where that was never copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_of: Option<String>,
    kind: Option<Kind>,
    slot: Option<String>,
    size: Option<u64>,
    /// In octal digits.
    mode: Option<String>,
    /// Seconds since 1970.
    mtime: Option<i64>,
}

impl Document {
    fn of(listed: &Listed, stack: Option<&Stack>, told: &[Change]) -> Self {
        Self {
            name: listed.workenv.name().to_string(),
            id: listed.id.as_ref().map(ToString::to_string),
            upper: listed.workenv.upper().display().to_string(),
            slots_known: stack.is_some(),
            changes: told.iter().map(|change| Line::of(change, stack)).collect(),
        }
    }
}

impl Line {
    pub(super) fn of(change: &Change, stack: Option<&Stack>) -> Self {
        let bytes = change.path.join(&b'/');
        let path = String::from_utf8_lossy(&bytes).into_owned();
        let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (word, differs, moved_from) = match &change.difference {
            Difference::Added { from } => ("added", Vec::new(), from.clone()),
            Difference::Changed(parts) => ("changed", words(*parts), None),
            Difference::Removed => ("removed", Vec::new(), None),
        };
        let now = change.now.as_ref();
        let from = moved_from
            .map(|from| String::from_utf8_lossy(from.strip_prefix(b"/").unwrap_or(&from)).into_owned());
        let (moved_from, content_of) =
            if change.kind == Some(Kind::Directory) { (from, None) } else { (None, from) };
        Self {
            path_hex: std::str::from_utf8(&bytes).is_err().then(hex),
            path,
            change: word,
            differs,
            moved_from,
            content_of,
            kind: change.kind,
            slot: stack.zip(change.owner).map(|(stack, owner)| stack.layer(owner).name.clone()),
            size: now.filter(|now| now.kind == Kind::File).map(|now| now.size),
            mode: now.map(|now| format!("{:04o}", now.mode)),
            mtime: now.map(|now| now.modified.seconds),
        }
    }
}

//! `slotfs profile`: what launches touch, as a table, as JSON, or as a picture.

mod drawing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use slotfs_fs::disk::atomic;

use super::written::find_any;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::{Tone, human_duration, human_size};
use crate::cli::table::{Cell, Side, Table};
use crate::host::files;
use crate::session::profile::{Entry, Profile, What};
use crate::workenv::Listed;

/// Show what launches touch, in order
///
/// A mount records which names, listings and parts of files are asked for in its first half minute. At the next start they
/// are asked for ahead of the program, at low priority, unless `--no-prefetch` or the setting `prefetch` says otherwise.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A work environment's name or id, or the beginning of either
    #[arg(value_name = "NAME|ID")]
    what: PathBuf,
    /// Print JSON
    #[arg(long, conflicts_with_all = ["svg", "forget"])]
    json: bool,
    /// Draw it into a file, what was touched over the time
    #[arg(long, value_name = "FILE", conflicts_with = "forget")]
    svg: Option<PathBuf>,
    /// Forget it; the next launch is recorded anew
    #[arg(long)]
    forget: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no such environment, no launch of it was recorded, or a disk refuses.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let listed = find_any(&arguments.what, context)?;
    let name = listed.workenv.name();
    if arguments.forget {
        let known = Profile::forget(&listed.workenv)?;
        let told = if known { "forgot what launches touch in" } else { "nothing is known of launches in" };
        context.output.note(&format!("{told} `{name}`"));
        return Ok(0);
    }
    let profile = read(&listed)?;
    if arguments.json {
        let document = serde_json::json!({
            "name": name.to_string(),
            "id": profile.content,
            "entries": profile.entries,
        });
        context.output.json(&document)?;
    } else if let Some(file) = &arguments.svg {
        atomic::write(file, drawing::svg(&name.to_string(), &profile).as_bytes())?;
        context.output.note(&format!("drew {} touches into `{}`", profile.entries.len(), file.display()));
    } else {
        context.output.data(&table(&profile).render(&context.output, 0))?;
        let bytes = profile.entries.iter().map(Entry::bytes).sum();
        let (count, duration) = (profile.entries.len(), profile.duration());
        context.output.note(&format!(
            "{count} touches, {} read, within {}",
            human_size(bytes),
            human_duration(duration)
        ));
    }
    Ok(0)
}

/// Returns the files that launches touched in an environment, in order, as paths from its root.
///
/// # Errors
/// There is no such environment, or no launch of it was recorded.
pub fn touched_files(what: &Path, context: &Context) -> Result<Arc<[Vec<u8>]>, Failure> {
    let profile = read(&find_any(what, context)?)?;
    let files = profile.entries.iter().filter(|entry| matches!(entry.what, What::Content { .. }));
    Ok(files.map(|entry| files::path_bytes(&entry.path)).collect())
}

fn read(listed: &Listed) -> Result<Profile, Failure> {
    Profile::read(&listed.workenv).ok_or_else(|| {
        let message = format!("no launch of `{}` was recorded", listed.workenv.name());
        Failure::new(FailureKind::NotFound, message)
            .hint("one is recorded when a package is run or mounted and enough of it is used")
    })
}

fn table(profile: &Profile) -> Table {
    let mut table = Table::new([
        ("AFTER", Side::Right),
        ("WHAT", Side::Left),
        ("READ", Side::Right),
        ("PATH", Side::Left),
    ]);
    for entry in &profile.entries {
        let what = match entry.what {
            What::Name => "name",
            What::Listing => "listing",
            What::Content { .. } => "content",
        };
        let bytes = entry.bytes();
        let read = if bytes == 0 { String::new() } else { human_size(bytes) };
        let path = entry.path.display().to_string();
        table.row([
            format!("{}.{:03} ms", entry.at / 1000, entry.at % 1000).into(),
            Cell::toned(Tone::Faint, what),
            read.into(),
            Cell::toned(Tone::Heading, if path.is_empty() { ".".to_owned() } else { path }),
        ]);
    }
    table
}

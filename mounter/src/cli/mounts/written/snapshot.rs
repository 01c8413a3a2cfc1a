//! `slotfs snapshot`, `snapshots` and `restore`: what was written, kept as it is and put back.

use std::path::PathBuf;

use super::{consent, find, quiet};
use crate::cli::confirm::ConsentArguments;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::{Tone, human_age, human_size};
use crate::cli::progress::Bars;
use crate::cli::status;
use crate::cli::table::{Cell, Side, Table};
use crate::extract::progress::Progress as _;
use crate::session::snapshot::{Snapshot, SnapshotError};
use crate::workenv::{Listed, PackageId, WorkenvError};

/// Keep what programs wrote as it is now
///
/// The files are cloned where the disk can do that, else copied without their holes; it takes no room or as much as they
/// do. While the environment is mounted, changes wait for the moment that this takes, but stores through memory maps of
/// files that the kernel serves by itself do not. `slotfs restore` puts it back.
#[derive(Debug, clap::Args)]
pub struct MakeArguments {
    /// A work environment's name or id, or the beginning of either
    #[arg(value_name = "NAME|ID")]
    what: PathBuf,
    /// The snapshot's name: letters, digits, `.`, `_` and `-`
    #[arg(value_name = "SNAPSHOT")]
    name: String,
    /// Remove the snapshot
    #[arg(long)]
    delete: bool,
    /// With --delete: only say what would be removed
    #[arg(long, requires = "delete")]
    dry_run: bool,
    /// With --delete: do not ask
    #[arg(short, long, requires = "delete")]
    yes: bool,
}

/// List the snapshots of what programs wrote
#[derive(Debug, clap::Args)]
pub struct ListArguments {
    /// A work environment's name or id, or the beginning of either
    #[arg(value_name = "NAME|ID")]
    what: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Put a snapshot in the place of what programs wrote since
///
/// What is written now is replaced as a whole, and is there until the snapshot is; the snapshot stays. While the environment
/// is mounted, programs find the snapshot's files from then on, and keep those that they have open, as if they were removed. Setup is done again at the next start if it had not been done when the snapshot was made.
#[derive(Debug, clap::Args)]
pub struct RestoreArguments {
    /// A work environment's name or id, or the beginning of either
    #[arg(value_name = "NAME|ID")]
    what: PathBuf,
    /// The snapshot's name
    #[arg(value_name = "SNAPSHOT")]
    name: String,
    /// Whether to go on.
    #[command(flatten)]
    consent: ConsentArguments,
}

/// Makes or removes a snapshot.
///
/// # Errors
/// The environment is in use, the name is taken or there is none of it, or the disk refuses.
pub fn make(arguments: &MakeArguments, context: &Context) -> Result<u8, Failure> {
    let listed = find(&arguments.what, context)?;
    let workenv = &listed.workenv;
    if arguments.delete {
        let what = match Snapshot::find(workenv, &arguments.name) {
            Err(SnapshotError::Garbled { .. }) => format!("the damaged snapshot `{}`", arguments.name),
            found => described(&found?),
        };
        if arguments.dry_run {
            context.output.note(&format!("would remove {what}"));
            return Ok(0);
        }
        consent(arguments.yes, &format!("Remove {what}?"), context)?;
        Snapshot::remove(&quiet(&listed)?, workenv, &arguments.name)?;
        return Ok(0);
    }
    let mut quiet = quiet(&listed)?;
    let total = status::size_of(&workenv.upper());
    let made = with_bar("Copying", total, context, |told| {
        Snapshot::make(&mut quiet, workenv, (&arguments.name, id_of(&listed)?), told).map_err(Failure::from)
    })?;
    context.output.note(&format!("kept {}", described(&made)));
    Ok(0)
}

/// Lists snapshots.
///
/// # Errors
/// There is no such environment, or its directory cannot be read.
pub fn list(arguments: &ListArguments, context: &Context) -> Result<u8, Failure> {
    let listed = find(&arguments.what, context)?;
    let (all, damaged) = Snapshot::all(&listed.workenv)?;
    for name in &damaged {
        context.output.warn(&format!("snapshot `{name}` cannot be read"));
    }
    if arguments.json {
        let lines: Vec<_> = all
            .iter()
            .map(|snapshot| {
                serde_json::json!({
                    "name": snapshot.name,
                    "created": snapshot.created,
                    "package": snapshot.package,
                    "prepared": snapshot.prepared,
                    "names": snapshot.names,
                    "bytes": snapshot.bytes,
                })
            })
            .collect();
        let name = listed.workenv.name().to_string();
        context.output.json(&serde_json::json!({ "name": name, "snapshots": lines, "damaged": damaged }))?;
    } else if all.is_empty() {
        context.output.note(&format!("`{}` has no snapshots", listed.workenv.name()));
    } else {
        let mut table = Table::new([
            ("SNAPSHOT", Side::Left),
            ("SIZE", Side::Right),
            ("NAMES", Side::Right),
            ("MADE", Side::Left),
            ("OF", Side::Left),
        ]);
        for snapshot in &all {
            table.row([
                Cell::toned(Tone::Heading, snapshot.name.as_str()),
                human_size(snapshot.bytes).into(),
                snapshot.names.to_string().into(),
                human_age(status::ago(snapshot.created)).into(),
                Cell::toned(Tone::Faint, snapshot.package.as_str()),
            ]);
        }
        context.output.data(&table.render(&context.output, 0))?;
    }
    Ok(0)
}

/// Puts a snapshot back.
///
/// # Errors
/// The environment is in use, there is no such snapshot, it is of another build, or the disk refuses.
pub fn restore(arguments: &RestoreArguments, context: &Context) -> Result<u8, Failure> {
    let listed = find(&arguments.what, context)?;
    let workenv = &listed.workenv;
    let snapshot = Snapshot::find(workenv, &arguments.name)?;
    let now = human_size(status::size_of(&workenv.upper()));
    let what = format!("what is written in `{}` now ({now}) by {}", workenv.name(), described(&snapshot));
    if arguments.consent.dry_run {
        context.output.note(&format!("would replace {what}"));
        return Ok(0);
    }
    // Asked before anything is locked: a question may stay unanswered for long.
    drop(quiet(&listed)?);
    consent(arguments.consent.yes, &format!("Replace {what}?"), context)?;
    let mut quiet = quiet(&listed)?;
    with_bar("Copying", snapshot.bytes, context, |told| {
        snapshot.restore(&mut quiet, workenv, id_of(&listed)?, told).map_err(Failure::from)
    })?;
    context.output.note(&format!("put back {}", described(&snapshot)));
    Ok(0)
}

fn described(snapshot: &Snapshot) -> String {
    let (size, age) = (human_size(snapshot.bytes), human_age(status::ago(snapshot.created)));
    format!("snapshot `{}` ({size}, made {age})", snapshot.name)
}

/// Returns the identity of the package that the environment is of.
fn id_of(listed: &Listed) -> Result<&PackageId, Failure> {
    listed.id.as_ref().ok_or_else(|| {
        let message = format!("it is not known which package `{}` is of", listed.workenv.name());
        Failure::new(FailureKind::NotFound, message).hint("start the package once")
    })
}

/// Shows a bar while `act` tells how many bytes are done.
pub(super) fn with_bar<T>(
    title: &str,
    total: u64,
    context: &Context,
    act: impl FnOnce(&mut dyn FnMut(u64)) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let bars = Bars::new(context.output);
    bars.begin(0, title, total);
    let done = act(&mut |bytes| bars.advance(0, bytes));
    bars.clear();
    done
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        let message = error.to_string();
        match error {
            SnapshotError::Control(error) => error.into(),
            SnapshotError::Late { .. } => Self::new(FailureKind::Busy, message)
                .hint("stop the program that writes, or unmount it first"),
            SnapshotError::Workenv(WorkenvError::Disk(error)) => error.into(),
            SnapshotError::Workenv(error) => error.into(),
            SnapshotError::Name { .. } => Self::new(FailureKind::Usage, message)
                .hint("use letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most 100"),
            SnapshotError::Exists { name, .. } => Self::new(FailureKind::Usage, message)
                .hint(format!("choose another name, or remove it first: `--delete {name}`")),
            SnapshotError::Missing { workenv, .. } => Self::new(FailureKind::NotFound, message)
                .hint(format!("`slotfs snapshots {workenv}` shows all")),
            SnapshotError::Garbled { .. } => Self::new(FailureKind::Disk, message),
            SnapshotError::OtherBuild { .. } => Self::new(FailureKind::Usage, message).hint(
                "`slotfs run` the earlier build first, or copy what you need from the snapshot's directory",
            ),
        }
    }
}

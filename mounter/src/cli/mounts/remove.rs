//! `slotfs remove`: removes work environments with all that was written in them.

use std::path::PathBuf;

use serde::Serialize;

use super::clean::{counted, erasure};
use super::session;
use crate::cleanup::{self, CleanupError, Environment};
use crate::cli::confirm::{ConsentArguments, confirm};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::{Tone, human_size};
use crate::cli::progress::Bars;
use crate::cli::table::{Cell, Side, Table};
use crate::extract::progress::Progress as _;
use crate::workenv::Cache;

/// Remove work environments with all that was written in them
///
/// What is in use stays, and who uses it is named (exit code 110). On a terminal it is asked first. Decoded content that
/// nothing refers to any more goes with `slotfs clean`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Work environments: name, id, package file, directory, or the beginning of a name or id
    #[arg(required = true, value_name = "NAME|ID")]
    environments: Vec<PathBuf>,
    /// Overwrite what programs wrote before it goes; slower, and out of reach of some disks
    ///
    /// Files are overwritten with zeros where they are, and those are on the disk before the name goes. That means
    /// something on disks that write in place (ext4 or XFS on a hard disk). It does not on disks that write elsewhere
    /// (btrfs, ZFS, clones and snapshots), in journals of data, or in flash memory: encrypt such a disk.
    #[arg(long)]
    secure: bool,
    /// Whether to go on.
    #[command(flatten)]
    consent: ConsentArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was or would be removed, as JSON.
#[derive(Serialize)]
struct Report {
    /// The directory of work environments.
    cache: String,
    /// Whether this is only what would go.
    dry_run: bool,
    /// In the order in which they were named.
    environments: Vec<Reported>,
    /// Bytes that became free, or would.
    freed_bytes: u64,
}

#[derive(Serialize)]
struct Reported {
    name: String,
    id: Option<String>,
    /// Where its files were seen.
    content: String,
    /// Files that were written or unpacked.
    written_files: u64,
    /// Bytes of them.
    written_bytes: u64,
    /// Snapshots that are kept with it.
    snapshots: u64,
    /// All bytes.
    bytes: u64,
}

/// Carries the command out.
///
/// # Errors
/// There is no such environment, it is in use, or nobody can be asked.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    session::sweep(context);
    let cache = Cache::new(&context.settings.cache_directory.value);
    let environments = cleanup::find(&cache, &arguments.environments)?;
    if let Some((environment, reason)) = environments.iter().find_map(|one| Some((one, one.in_use.as_ref()?)))
    {
        return Err(CleanupError::kept(&environment.listed.workenv, reason.clone()).into());
    }
    let total = environments.iter().map(|environment| environment.bytes).fold(0, u64::saturating_add);
    let report = Report {
        cache: cache.directory().display().to_string(),
        dry_run: arguments.consent.dry_run,
        environments: environments.iter().map(reported).collect(),
        freed_bytes: total,
    };
    if !arguments.json {
        show(&environments, context)?;
    }
    if !arguments.consent.dry_run {
        confirm(&question(&environments), arguments.consent.yes, "nothing was removed", &context.output)?;
        let bars = Bars::new(context.output);
        bars.begin(0, "Removing", total);
        let removed =
            cleanup::remove(&cache, &environments, erasure(arguments.secure, context), &mut |environment| {
                bars.advance(0, environment.bytes);
            });
        bars.clear();
        removed?;
    }
    if arguments.json {
        context.output.json(&report)?;
    } else {
        let done = if arguments.consent.dry_run { "would be freed" } else { "freed" };
        context.output.data(&format!("{} {done}\n", human_size(total)))?;
    }
    Ok(0)
}

fn show(environments: &[Environment], context: &Context) -> Result<(), Failure> {
    let mut table = Table::new([("WHAT", Side::Left), ("FILES", Side::Right), ("SIZE", Side::Right)]);
    for environment in environments {
        table.row([
            Cell::toned(Tone::Heading, environment.listed.workenv.name().to_string()),
            environment.written.files.to_string().into(),
            human_size(environment.bytes).into(),
        ]);
    }
    context.output.data(&table.render(&context.output, 0))
}

fn question(environments: &[Environment]) -> String {
    let files: u64 = environments.iter().map(|environment| environment.written.files).sum();
    let bytes = environments.iter().map(|environment| environment.written.bytes).sum();
    let what = match environments {
        [one] => format!("`{}`", one.listed.workenv.name()),
        several => counted(several.len() as u64, "environment"),
    };
    let snapshots: u64 = environments.iter().map(|environment| environment.snapshots).sum();
    let unpacked = environments.iter().any(|environment| environment.unpacked);
    let how = if unpacked { "unpacked or written" } else { "written" };
    let written = format!("{} {how} there, {},", counted(files, "file"), human_size(bytes));
    let kept = counted(snapshots, "snapshot");
    match (files, snapshots) {
        (0, 0) => format!("nothing was written there; remove {what}?"),
        (0, 1) => format!("1 snapshot goes for good; remove {what}?"),
        (0, _) => format!("{kept} go for good; remove {what}?"),
        (1, 0) => format!("{written} goes for good; remove {what}?"),
        (_, 0) => format!("{written} go for good; remove {what}?"),
        (_, _) => format!("{written} and {kept} go for good; remove {what}?"),
    }
}

fn reported(environment: &Environment) -> Reported {
    let workenv = &environment.listed.workenv;
    Reported {
        name: workenv.name().to_string(),
        id: environment.listed.id.as_ref().map(ToString::to_string),
        content: workenv.content().display().to_string(),
        written_files: environment.written.files,
        written_bytes: environment.written.bytes,
        snapshots: environment.snapshots,
        bytes: environment.bytes,
    }
}

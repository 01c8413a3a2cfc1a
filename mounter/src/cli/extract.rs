//! `slotfs extract`: a package's files, written out.

use std::path::PathBuf;
use std::time::Instant;

use slotfs_fs::layer::slot::SlotOptions;
use slotfs_fs::layer::stack::Stack;
use slotfs_fs::package::Package;
use slotfs_policy::access::{self, AccessError, SlotFacts};

use super::arguments::PackageArguments;
use super::context::Context;
use super::failure::Failure;
use super::output::{human_duration, human_size};
use super::progress::Bars;
use super::{notices, package};
use crate::extract::layers::{self, OpenSlot};
use crate::extract::{self, ExtractError, Report};
use crate::host::interrupt;
use crate::plan::{self, SlotPlan, Wishes};

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Write a package's files into a directory
///
/// The tree is the one that a mount shows, with the slots that exist for setup only. It is written beside the directory
/// and moved in when it is complete, so that a directory never holds half of it. Modes, times, links, holes and
/// extended attributes are kept, owners are not. The setup commands are not run.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A package, archive or directory
    #[arg(value_name = "PACKAGE")]
    path: PathBuf,
    /// Where to write; made when missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Write this slot only, by its id or position; may be given several times
    #[arg(long, value_name = "NAME")]
    slot: Vec<String>,
    /// Replace everything that is in the directory
    #[arg(long)]
    force: bool,
    /// How packages are judged.
    #[command(flatten)]
    pub package: PackageArguments,
}

/// Carries the command out.
///
/// # Errors
/// The package cannot be used, or its files cannot be written; nothing is left of them then.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let started = Instant::now();
    let stop = interrupt::watch();
    let (opened, verification) = package::trusted(&arguments.path, package::Recall::Allowed, context)?;
    let wanted = wanted(&opened, &arguments.slot, context)?;
    let home = package::home(context)?;
    let limits = layers::limits(context.settings.limits());
    let options = SlotOptions { limits, ..SlotOptions::default() };
    let mut slots = Vec::new();
    for slot in opened.slots().iter().filter(|slot| wanted.contains(&slot.position)) {
        slots.push((slot, OpenSlot::open(slot, &verification, &home, &options)?));
    }
    let stack = Stack::new(slots.iter().map(|(slot, open)| open.placed(slot, false)).collect());
    let bars = Bars::new(context.output);
    let directory = context.environment.absolute(&arguments.directory);
    let options = extract::Options {
        force: arguments.force,
        root_mode: None,
        marker: None,
        current_directory: context.environment.working_directory(),
        stop,
    };
    let extracted = extract::extract(&stack, &directory, &options, &bars);
    bars.clear();
    let report = match extracted {
        Err(error @ ExtractError::Interrupted { .. }) => {
            context.output.failure(&Failure::from(error));
            return Ok(INTERRUPTED);
        }
        Err(error @ (ExtractError::Content { .. } | ExtractError::Short { .. })) => {
            let failure = Failure::from(error);
            let message = format!("`{}` cannot be extracted: {}", arguments.path.display(), failure.message);
            return Err(Failure { message, ..failure });
        }
        other => other?,
    };
    for (slot, open) in &slots {
        if let OpenSlot::Stored(layer) = open {
            for line in notices::lines(&slot.id, &layer.notices()?) {
                context.output.warn(&line);
            }
        }
    }
    tell(&report, arguments, started, context);
    Ok(0)
}

/// Returns the positions of the slots to write: those named, or all that belong here.
fn wanted(package: &Package, names: &[String], context: &Context) -> Result<Vec<u32>, Failure> {
    let plans = plan::slots(package, &Wishes::default(), plan::machine())?;
    if names.is_empty() {
        let belongs = |plan: &&SlotPlan| plan.in_setup || plan.in_run;
        for plan in plans.iter().filter(|plan| !belongs(plan)) {
            let reason = plan.absence.as_deref().unwrap_or("it is not mounted");
            context.output.note(&format!("slot {} is left out: {reason}", plan.id));
        }
        return Ok(plans.iter().filter(belongs).map(|plan| plan.position).collect());
    }
    let facts: Vec<SlotFacts<'_>> =
        plans.iter().map(|plan| SlotFacts { id: &plan.id, writable: plan.writable }).collect();
    let known = || plans.iter().map(|plan| plan.id.clone()).collect();
    names
        .iter()
        .map(|name| {
            let position = access::position(&facts, name);
            let position =
                position.ok_or_else(|| AccessError::Unknown { slot: name.clone(), known: known() })?;
            Ok(plans[position].position)
        })
        .collect()
}

fn tell(report: &Report, arguments: &Arguments, started: Instant, context: &Context) {
    for skipped in report.skipped.iter().take(10) {
        context.output.warn(&format!("left out `{}`: {}", skipped.path, skipped.reason));
    }
    let untold = report.skipped_count.saturating_sub(10);
    if untold > 0 {
        context.output.warn(&format!("left out {untold} more"));
    }
    let count = |number: u64, one: &str, many: &str| match number {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    };
    context.output.note(&format!(
        "wrote {}, {} and {} ({}) to `{}` in {}",
        count(report.files, "file", "files"),
        count(report.directories, "directory", "directories"),
        count(report.links, "link", "links"),
        human_size(report.bytes),
        arguments.directory.display(),
        human_duration(started.elapsed()),
    ));
}

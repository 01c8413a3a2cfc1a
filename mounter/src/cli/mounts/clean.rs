//! `slotfs clean`: removes what nobody needs any more, and says what and why.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use slotfs_fs::disk::unix::Erasure;
use slotfs_policy::cleanup::{Reason, Wish};
use slotfs_policy::retention::{self, Strategy};

use super::session;
use crate::cleanup::{CleanupError, Failed, InUse, Outcome, Plan, PlannedRemoval, Skipped};
use crate::cli::confirm::{ConsentArguments, confirm};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::{Output, Tone, human_size};
use crate::cli::progress::Bars;
use crate::cli::table::{Cell, Side, Table};
use crate::extract::progress::Progress as _;
use crate::host::users;
use crate::session::recover;
use crate::workenv::Cache;

/// Remove what nobody needs any more
///
/// Without options: work environments that nobody used for as long as the strategy keeps them (`balanced`: 30 days),
/// those that were never finished, what was written over `cached` slots, and decoded content that no environment
/// refers to. Everything can be made again from the packages, except what programs wrote in an environment that goes.
/// What is in use stays, and so does an environment with snapshots. On a terminal it is shown and asked for first.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Remove every environment that nobody used for so many days
    #[arg(long, value_name = "DAYS", conflicts_with = "all")]
    older_than: Option<u64>,
    /// Remove everything that is not in use
    #[arg(long)]
    all: bool,
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

/// What a clean did or would do, as JSON.
#[derive(Serialize)]
struct Report {
    /// The directory of work environments.
    cache: String,
    /// Whether this is only what would go.
    dry_run: bool,
    /// Environments that go with all that was written in them.
    environments: Vec<ReportedRemoval>,
    /// Environments that lose what was written over slots that can be made again.
    dropped_writes: Vec<ReportedDrop>,
    /// What goes from the shared store.
    contents: ReportedContents,
    /// Bytes that interrupted removals had left.
    leftover_bytes: u64,
    /// What stays because it is in use.
    skipped: Vec<ReportedSkip>,
    /// What the disk did not let go.
    failed: Vec<ReportedFailure>,
    /// Bytes that became free; in a dry run those that would for certain.
    freed_bytes: u64,
}

#[derive(Serialize)]
struct ReportedRemoval {
    name: String,
    id: Option<String>,
    /// `asked`, `older_than_asked`, `expired` or `unfinished`.
    reason: &'static str,
    /// Whole days since it was last used.
    idle_days: u64,
    bytes: u64,
    /// Whether it is gone.
    removed: bool,
}

#[derive(Serialize)]
struct ReportedDrop {
    name: String,
    /// All bytes that were written in it; what goes is part of them.
    written_bytes: u64,
    /// Bytes that were dropped; `None` when nothing was.
    dropped_bytes: Option<u64>,
}

#[derive(Serialize)]
struct ReportedContents {
    files: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct ReportedSkip {
    name: String,
    reason: String,
}

#[derive(Serialize)]
struct ReportedFailure {
    /// `None` for the shared store.
    name: Option<String>,
    reason: String,
}

/// Returns what happens to what programs wrote, before it goes.
pub(super) fn erasure(asked: bool, context: &Context) -> Erasure {
    if asked || context.settings.secure.value { Erasure::Overwrite } else { Erasure::None }
}

/// Carries the command out.
///
/// # Errors
/// The cache cannot be read, nobody can be asked, or something could not be removed.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    session::sweep(context);
    let cache = Cache::new(&context.settings.cache_directory.value);
    let strategy = Strategy::from_name(context.settings.strategy.value.as_str()).unwrap_or_default();
    let wish = match (arguments.older_than, arguments.all) {
        (Some(days), _) => Wish::OlderThan(retention::days(days)),
        (None, true) => Wish::Everything,
        (None, false) => Wish::ByStrategy,
    };
    let plan = Plan::make(&cache, strategy, wish, SystemTime::now())?;
    let mut report = Report::of(&plan, &cache, arguments.consent.dry_run);
    if !arguments.json {
        show(&plan, context)?;
    }
    if arguments.consent.dry_run || plan.is_empty() {
        return finish(&report, &plan, arguments, context).map(|()| 0);
    }
    confirm(&question(&plan), arguments.consent.yes, "nothing was removed", &context.output)?;
    let bars = Bars::new(context.output);
    bars.begin(0, "Removing", plan.bytes());
    let planned = plan.skipped.len();
    let outcome = plan.carry_out(erasure(arguments.secure, context), &mut |bytes| bars.advance(0, bytes))?;
    bars.clear();
    report.carried_out(&outcome);
    if arguments.json {
        context.output.json(&report)?;
    } else {
        tell_skipped(outcome.skipped.get(planned..).unwrap_or_default(), &context.output);
        context.output.data(&format!("{} freed\n", human_size(outcome.freed)))?;
    }
    failures(outcome.failed, context).map_or(Ok(0), Err)
}

/// Ends a command that changes nothing.
fn finish(report: &Report, plan: &Plan, arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    if arguments.json {
        context.output.json(report)
    } else if plan.is_empty() {
        context.output.note("nothing to clean");
        Ok(())
    } else {
        let more = if plan.drops.is_empty() { "" } else { " or more" };
        context.output.data(&format!("{}{more} would be freed\n", human_size(plan.bytes())))
    }
}

/// Tells every failure but the last, which is returned.
fn failures(failed: Vec<Failed>, context: &Context) -> Option<Failure> {
    let mut failures = failed.into_iter().map(|failed| Failure::from(failed.error));
    let mut last = failures.next()?;
    for failure in failures {
        context.output.failure(&last);
        last = failure;
    }
    Some(last)
}

fn show(plan: &Plan, context: &Context) -> Result<(), Failure> {
    let output = &context.output;
    if !plan.is_empty() {
        let mut table = Table::new([("WHAT", Side::Left), ("WHY", Side::Left), ("SIZE", Side::Right)]);
        for removal in &plan.removals {
            let name = removal.environment.listed.workenv.name().to_string();
            table.row([
                Cell::toned(Tone::Heading, name),
                why(removal).into(),
                human_size(removal.environment.bytes).into(),
            ]);
        }
        for environment in &plan.drops {
            let name = format!("{}: writes", environment.listed.workenv.name());
            let most = human_size(environment.droppable.unwrap_or_default());
            table.row([name.into(), "over slots that can be made again".into(), format!("≤ {most}").into()]);
        }
        let contents = &plan.contents;
        if contents.files() > 0 {
            let what = format!("shared store: {}", counted(contents.files(), "file"));
            table.row([what.into(), "nothing needs it".into(), human_size(contents.bytes()).into()]);
        }
        if plan.leftovers > 0 {
            let size = human_size(plan.leftovers);
            table.row(["left-overs".into(), "of an interrupted removal".into(), size.into()]);
        }
        output.data(&table.render(output, 0))?;
    }
    tell_skipped(&plan.skipped, output);
    Ok(())
}

fn tell_skipped(skipped: &[Skipped], output: &Output) {
    for Skipped { name, reason } in skipped {
        output.note(&format!("`{name}` stays: {reason}"));
    }
}

fn why(removal: &PlannedRemoval) -> String {
    match removal.reason {
        Reason::Unfinished => "never finished".into(),
        Reason::Asked
        | Reason::OlderThanAsked
        | Reason::Expired
        | Reason::OverBudget
        | Reason::Unreferenced => unused_for(removal.idle),
    }
}

fn unused_for(idle: Duration) -> String {
    match idle.as_secs() / 86_400 {
        0 => "used today".into(),
        days => format!("unused for {}", counted(days, "day")),
    }
}

/// Returns `1 file`, `3 files`.
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn question(plan: &Plan) -> String {
    let written: u64 = plan.removals.iter().map(|removal| removal.environment.written.files).sum();
    let snapshots: u64 = plan.removals.iter().map(|removal| removal.environment.snapshots).sum();
    let (files, kept) = (counted(written, "file"), counted(snapshots, "snapshot"));
    let what = match (written, snapshots) {
        (0, 0) => return "remove that?".into(),
        (_, 0) => files,
        (0, _) => kept,
        (_, _) => format!("{files} and {kept}"),
    };
    let go = if written + snapshots == 1 { "goes" } else { "go" };
    format!("{what} in these environments {go} for good; remove all that?")
}

impl Report {
    fn of(plan: &Plan, cache: &Cache, dry_run: bool) -> Self {
        let environments = plan.removals.iter().map(|removal| ReportedRemoval {
            name: removal.environment.listed.workenv.name().to_string(),
            id: removal.environment.listed.id.as_ref().map(ToString::to_string),
            reason: match removal.reason {
                Reason::Asked => "asked",
                Reason::OlderThanAsked => "older_than_asked",
                Reason::Expired => "expired",
                Reason::Unfinished => "unfinished",
                Reason::OverBudget => "over_budget",
                Reason::Unreferenced => "unreferenced",
            },
            idle_days: removal.idle.as_secs() / 86_400,
            bytes: removal.environment.bytes,
            removed: false,
        });
        let dropped_writes = plan.drops.iter().map(|environment| ReportedDrop {
            name: environment.listed.workenv.name().to_string(),
            written_bytes: environment.droppable.unwrap_or_default(),
            dropped_bytes: None,
        });
        Self {
            cache: cache.directory().display().to_string(),
            dry_run,
            environments: environments.collect(),
            dropped_writes: dropped_writes.collect(),
            contents: ReportedContents { files: plan.contents.files(), bytes: plan.contents.bytes() },
            leftover_bytes: plan.leftovers,
            skipped: plan.skipped.iter().map(reported).collect(),
            failed: Vec::new(),
            freed_bytes: if dry_run { plan.bytes() } else { 0 },
        }
    }

    fn carried_out(&mut self, outcome: &Outcome) {
        for environment in &mut self.environments {
            environment.removed = outcome.removed.contains(&environment.name);
        }
        for drop in &mut self.dropped_writes {
            let done = outcome.dropped.iter().find(|done| done.name == drop.name);
            drop.dropped_bytes = done.map(|done| done.bytes);
        }
        self.contents = ReportedContents { files: outcome.contents, bytes: outcome.contents_bytes };
        self.skipped = outcome.skipped.iter().map(reported).collect();
        let failed = outcome
            .failed
            .iter()
            .map(|failed| ReportedFailure { name: failed.name.clone(), reason: failed.error.to_string() });
        self.failed = failed.collect();
        self.freed_bytes = outcome.freed;
    }
}

fn reported(skipped: &Skipped) -> ReportedSkip {
    ReportedSkip { name: skipped.name.clone(), reason: skipped.reason.clone() }
}

impl From<CleanupError> for Failure {
    fn from(error: CleanupError) -> Self {
        let message = error.to_string();
        match error {
            CleanupError::Workenv(error) => error.into(),
            CleanupError::Disk(error) => error.into(),
            CleanupError::Layers(error) => error.into(),
            CleanupError::Layer(error) => error.into(),
            CleanupError::InUse { content, reason, .. } => {
                let failure = Self::new(FailureKind::Busy, message);
                let mut users = users::of(&recover::resolved(&content));
                if !matches!(reason, InUse::Mounted { .. }) {
                    // Who keeps it is known.
                    users.hidden = 0;
                }
                session::describe(&users).into_iter().fold(failure, Self::hint)
            }
            CleanupError::Foreign { path, .. } => Self::new(FailureKind::Disk, message)
                .hint(format!("look at `{}`, and remove the environment by hand", path.display())),
        }
    }
}

//! `slotfs commit`: what was written, as a slot of a new package.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::snapshot::with_bar;
use super::{Pause, base_of, find, quiet};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::{Tone, escaped, human_duration, human_size};
use crate::cli::pack::optimize::{tell_launcher, usual_profile};
use crate::cli::pack::{INTERRUPTED, SigningArguments, level, may_be_replaced, tell_differences};
use crate::cli::progress::Bars;
use crate::cli::{package, rebuilt, status};
use crate::extract::layers;
use crate::host::interrupt;
use crate::pack::{Archives, Launcher, PackError, Profile};
use crate::session::commit::{Base, CommitError, Committed, Options, Plan};
use crate::session::frozen::Frozen;
use crate::workenv::Listed;

/// Make a package of a work environment: its package's slots, and what programs wrote as one more
///
/// The new package shows the tree that the environment shows now. Slots of the old one stay the same bytes, with the
/// indexes that they bring along; so do launcher and metadata, setup commands among them. The changes come into a slot of
/// their own over the others, called `changes` (then `changes-2`, and so on), and belong to it from then on. An archive
/// cannot say that something is gone, so a slot that has what was removed, moved away, or replaced by something of another
/// kind is written again without it. `--dry-run` says which these are.
///
/// An archive or a directory becomes a package, too: its tree is one slot, written anew.
///
/// While the environment is mounted, the changes are copied first, and programs wait for the moment that this takes, as for
/// `slotfs snapshot`. What no slot can hold is told: owners, set-user-ID bits, access lists, devices and sockets.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A work environment's name or id, or the beginning of either
    #[arg(value_name = "NAME|ID")]
    what: PathBuf,
    /// Where to write the package
    #[arg(short, long, alias = "output", value_name = "FILE", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// The slot that the changes come into. One that is there already, and has no other over it, gets them laid over its own
    /// content and keeps its lifecycle
    #[arg(long, value_name = "SLOT")]
    slot: Option<String>,
    /// For whom to make it [default: fast if the package has slots in zstd, else compatible]
    #[arg(long, value_name = "PROFILE", value_enum)]
    profile: Option<Profile>,
    /// How hard to compress: 1 to 9, or to 19 with the fast profile [default: 6, or 3 with the fast profile]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(1..=19))]
    level: Option<u32>,
    /// The executable in front: a file, a package to take it from, or the word `slotfs` for slotfs itself [default: that of the
    /// package]
    #[arg(long, value_name = "FILE|slotfs")]
    launcher: Option<PathBuf>,
    /// The program and its arguments [default: that of the package; an archive or a directory has none]
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// What signs it.
    #[command(flatten)]
    signing: SigningArguments,
    /// Only say what would be in it
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before a file is replaced that is no package
    #[arg(short, long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no new package then.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let started = Instant::now();
    let stop = interrupt::watch();
    let listed = find(&arguments.what, context)?;
    let base = base_of(&listed, context)?;
    // What is signed anew has to be such as may be used.
    package::accept(&base.package, &base.verification, context)?;
    let profile = arguments.profile.unwrap_or_else(|| usual_profile(&base.package));
    let level = level(profile, arguments.level)?;
    let Some(out) = arguments.out.as_deref().filter(|_| !arguments.dry_run) else {
        return foretell(arguments, (&listed, &base, profile), context);
    };
    may_be_replaced(out, arguments.yes, context)?;
    let key = arguments.signing.key()?;
    let archives =
        Archives { home: package::home(context)?, limits: layers::limits(context.settings.limits()) };
    let total = status::size_of(&listed.workenv.upper());
    let held = quiet(&listed)?;
    let frozen = with_bar("Copying", total, context, |told| {
        Frozen::take(held, &listed.workenv, told).map_err(Failure::from)
    })?;
    let plan = planned(frozen.view()?.as_ref(), (&listed, &base, profile), arguments)?;
    let launcher = arguments.launcher.as_deref().map(Launcher::named);
    let command = arguments.command.as_deref();
    let options = Options { profile, launcher, command, key: &key, level, archives: &archives };
    let bars = Bars::new(context.output);
    let done = plan.carry_out(&base, &frozen, &options, out, (stop, &bars));
    bars.clear();
    drop(frozen);
    let committed = match done {
        Err(CommitError::Pack(error @ PackError::Interrupted)) => {
            context.output.failure(&Failure::from(error));
            return Ok(INTERRUPTED);
        }
        other => other?,
    };
    tell(&committed, &base, profile, context);
    tell_launcher(&base.package, profile, options.launcher.as_ref(), context);
    arguments.signing.tell(context);
    show(&committed, &plan, &base, (out, &key.fingerprint().to_string(), started), arguments, context)?;
    Ok(0)
}

fn planned(
    view: Option<&slotfs_fs::overlay::View>,
    (listed, base, profile): (&Listed, &Base, Profile),
    arguments: &Arguments,
) -> Result<Plan, Failure> {
    let nothing = || CommitError::Nothing { workenv: listed.workenv.name().to_string() };
    let plan = Plan::of(base, view.ok_or_else(nothing)?, arguments.slot.as_deref(), profile)?;
    if plan.is_empty() {
        return Err(nothing().into());
    }
    Ok(plan)
}

/// Says what would be in the package.
fn foretell(
    arguments: &Arguments,
    (listed, base, profile): (&Listed, &Base, Profile),
    context: &Context,
) -> Result<u8, Failure> {
    let pause = Pause::begin(listed, context);
    let view = slotfs_fs::overlay::View::open(&listed.workenv.upper())?;
    let plan = planned(view.as_ref(), (listed, base, profile), arguments);
    pause.end(context);
    let plan = plan?;
    if arguments.json {
        context.output.json(&Foretold { dry_run: true, changes: Changes::of(&plan, base) })?;
        return Ok(0);
    }
    let title = |text: String| format!("{}\n", context.output.paint(Tone::Heading, &text));
    let word = if plan.is_merged() { "with changes" } else { "new" };
    let mut text = title(format!("slot {} ({word})", plan.slot));
    let line = |path: &Vec<Vec<u8>>| format!("  {}\n", escaped(&path.join(&b'/')));
    text.extend(plan.held().iter().map(line));
    for (slot, paths) in plan.without(base) {
        text.push_str(&title(format!("slot {slot} (written again without)")));
        text.extend(paths.iter().map(line));
    }
    context.output.data(&text)?;
    Ok(0)
}

/// Says what is not as in the environment, and who cannot use the package.
fn tell(committed: &Committed, base: &Base, profile: Profile, context: &Context) {
    for (_, slot) in &committed.rebuilt.slots {
        tell_differences(slot, context);
    }
    if profile == Profile::Compatible && committed.needs_slotfs {
        context
            .output
            .warn("the changes hold symbolic links or pipes: FlavorPack's launchers refuse the package");
    }
    if profile == Profile::Compatible && base.package.index().is_none() {
        context.output.note("links are kept: where there are any, FlavorPack's launchers refuse the package");
    }
    if !base.package.metadata().setup_commands.is_empty() {
        context.output.note(
            "the package's setup commands stay: they run at its first start, over what is there of them already",
        );
    }
}

/// What the new package has that the old one has not, and what not.
#[derive(Debug, Serialize)]
struct Changes {
    slot: String,
    /// Whether the slot was there already.
    merged: bool,
    held: Vec<Shown>,
    rewritten: Vec<Rewritten>,
}

/// A slot that is written again, and without what.
#[derive(Debug, Serialize)]
struct Rewritten {
    slot: String,
    without: Vec<Shown>,
}

/// A path in the environment.
#[derive(Debug, Serialize)]
struct Shown {
    path: String,
    /// The exact bytes, in hexadecimal digits, where they are no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

/// What would be in a package.
#[derive(Debug, Serialize)]
struct Foretold {
    dry_run: bool,
    #[serde(flatten)]
    changes: Changes,
}

/// What was made.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    changes: Changes,
    #[serde(flatten)]
    rebuilt: rebuilt::Document,
}

impl Shown {
    fn of(path: &[Vec<u8>]) -> Self {
        let bytes = path.join(&b'/');
        let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            path_hex: std::str::from_utf8(&bytes).is_err().then(hex),
            path: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }
}

impl Changes {
    fn of(plan: &Plan, base: &Base) -> Self {
        let rewritten = plan.without(base).map(|(slot, paths)| Rewritten {
            slot: slot.to_owned(),
            without: paths.iter().map(|path| Shown::of(path)).collect(),
        });
        Self {
            slot: plan.slot.clone(),
            merged: plan.is_merged(),
            held: plan.held().iter().map(|path| Shown::of(path)).collect(),
            rewritten: rewritten.collect(),
        }
    }
}

fn show(
    committed: &Committed,
    plan: &Plan,
    base: &Base,
    (out, key_fingerprint, started): (&Path, &str, Instant),
    arguments: &Arguments,
    context: &Context,
) -> Result<(), Failure> {
    let made = &committed.rebuilt;
    let path = out.display().to_string();
    if arguments.json {
        return context.output.json(&Document {
            changes: Changes::of(plan, base),
            rebuilt: rebuilt::Document {
                path,
                size: made.size,
                key_fingerprint: key_fingerprint.to_owned(),
                slots: rebuilt::slots(made),
            },
        });
    }
    context.output.data(&rebuilt::table(made).render(&context.output, 0))?;
    let (size, time) = (human_size(made.size), human_duration(started.elapsed()));
    context.output.note(&format!("wrote `{path}` ({size}) in {time}"));
    Ok(())
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        let message = error.to_string();
        match error {
            CommitError::Nothing { .. } => Self::new(FailureKind::NotFound, message)
                .hint("run the package first, or copy the package itself"),
            CommitError::Slot { .. } => Self::new(FailureKind::Usage, message)
                .hint("name another one, or none: they get a slot of their own"),
            CommitError::Layer(error) => error.into(),
            CommitError::Volume(_) => Self::new(FailureKind::Disk, message),
            CommitError::Pack(error) => error.into(),
        }
    }
}

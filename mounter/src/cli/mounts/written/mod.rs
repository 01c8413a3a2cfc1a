//! The commands about what programs wrote: where it is, what it is, taking it back, keeping it.

pub mod commit;
pub mod diff;
pub mod path;
pub mod reset;
pub mod snapshot;

use std::path::{Component, Path};

use slotfs_fs::disk::unix::own_ids;
use slotfs_fs::layer::slot::SlotOptions;
use slotfs_fs::layer::stack::Stack;
use slotfs_fs::overlay::{Scope, View};
use slotfs_fs::package::Package;
use slotfs_fs::package::verify::Verification;

use crate::cli::confirm::confirm;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::mounts::session::kind_of;
use crate::cli::package::{self, Recall};
use crate::extract::layers::{self, OpenSlot};
use crate::host::files;
use crate::plan::{self, Wishes};
use crate::session::commit::Base;
use crate::session::control::{ControlError, Line};
use crate::session::place::Place;
use crate::session::record::SessionRecord;
use crate::session::still::{Quiet, StillError, line_to};
use crate::workenv::{Cache, Listed};

/// Finds the environment that is meant by `what`.
pub(super) fn find_any(what: &Path, context: &Context) -> Result<Listed, Failure> {
    super::sweep(context);
    Ok(Cache::new(&context.settings.cache_directory.value).find(what)?)
}

/// Finds the environment that is meant by `what`, of which an upper directory is there.
fn find(what: &Path, context: &Context) -> Result<Listed, Failure> {
    let listed = find_any(what, context)?;
    if listed.workenv.upper().is_dir() {
        return Ok(listed);
    }
    let message = format!("`{}` has no upper directory: it was never mounted", listed.workenv.name());
    Err(Failure::new(FailureKind::NotFound, message)
        .hint("a package's own launcher writes into the unpacked files themselves"))
}

/// Takes hold of the environment, mounted or not, so that this stays so.
fn quiet(listed: &Listed) -> Result<Quiet, Failure> {
    Ok(Quiet::hold(&Place::of(listed.workenv.clone()))?)
}

/// Asks whether to go on, unless that was said already.
fn consent(given: bool, question: &str, context: &Context) -> Result<(), Failure> {
    confirm(question, given, "nothing was changed", &context.output)
}

impl From<StillError> for Failure {
    fn from(error: StillError) -> Self {
        let message = error.to_string();
        match error {
            StillError::Mounted { workenv, .. } => Self::new(FailureKind::Busy, message)
                .hint(format!("`slotfs unmount {workenv}` ends that mount")),
            StillError::InUse { .. } => {
                Self::new(FailureKind::Busy, message).hint("wait until that has ended, then try again")
            }
            StillError::Session(error) => error.into(),
            StillError::Control(error) => error.into(),
        }
    }
}

/// Changes that are held up where the environment is mounted, so that what is looked at is of one moment.
struct Pause(Option<Line>);

impl Pause {
    /// Says in a warning why changes cannot be held up.
    fn begin(listed: &Listed, context: &Context) -> Self {
        let held = line_to(&Place::of(listed.workenv.clone())).and_then(|line| match line {
            Some(mut line) => Ok(line.hold().map(|()| Some(line))?),
            None => Ok(None),
        });
        let line = held.unwrap_or_else(|error| {
            context.output.warn(&format!("programs go on writing meanwhile: {error}"));
            None
        });
        Self(line)
    }

    fn is_needed(&self) -> bool {
        self.0.is_some()
    }

    /// Lets changes go on; says in a warning if some were made meanwhile.
    fn end(self, context: &Context) {
        if let Some(mut line) = self.0
            && !line.release().unwrap_or(false)
        {
            context.output.warn("it took too long: programs went on writing meanwhile");
        }
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let message = error.to_string();
        match error {
            ControlError::Refused { cause, .. } => {
                let kind = kind_of(cause);
                let failure = Self::new(kind, message);
                if kind == FailureKind::Busy {
                    failure.hint("try again, or unmount it first")
                } else {
                    failure
                }
            }
            ControlError::Lost(_) => {
                Self::new(FailureKind::Mount, message).hint("`slotfs list` says whether it is still mounted")
            }
        }
    }
}

/// Opens the layers that the environment's upper directory lies over. Where the package cannot be used any more, says
/// why in a warning and returns `None`.
fn layers_of(listed: &Listed, context: &Context) -> Option<Stack> {
    let told = |failure: Failure| context.output.warn(&format!("{}; slots cannot be told", failure.message));
    base_of(listed, context).map_err(told).ok().map(|base| base.stack)
}

/// Opens the package that the environment is of, and of it the layers that the upper directory lies over.
fn base_of(listed: &Listed, context: &Context) -> Result<Base, Failure> {
    let Some(path) = &listed.path else {
        let message = "it is not known which package this is of";
        return Err(Failure::new(FailureKind::NotFound, message).hint("start the package once"));
    };
    let package = package::open(path)?;
    if listed.id.as_ref().is_none_or(|id| id.as_str() != package.id()) {
        let message = format!("`{}` is another package by now", path.display());
        return Err(Failure::new(FailureKind::NotFound, message)
            .hint("put the package back where it was, or start the new one once"));
    }
    let verification = package::hash(&package, Recall::Allowed, context)?;
    let (stack, positions) = stack(&package, &verification, listed, context)?;
    Ok(Base { package, verification, stack, positions })
}

fn stack(
    package: &Package,
    verification: &Verification,
    listed: &Listed,
    context: &Context,
) -> Result<(Stack, Vec<u32>), Failure> {
    let home = layers::home(&Cache::new(&context.settings.cache_directory.value).shared())?;
    let limits = layers::limits(context.settings.limits());
    // As the serving process shows them.
    let options = SlotOptions { limits, owner: Some(own_ids()), ..SlotOptions::default() };
    let joined = |mut positions: Vec<u32>| -> Result<(Stack, Vec<u32>), Failure> {
        positions.sort_unstable();
        let mut placed = Vec::new();
        for slot in package.slots().iter().filter(|slot| positions.contains(&slot.position)) {
            placed.push(OpenSlot::open(slot, verification, &home, &options)?.placed(slot, true));
        }
        Ok((Stack::new(placed), positions))
    };
    let record = SessionRecord::read(&Place::of(listed.workenv.clone())).ok().flatten();
    if let Some(record) = record.filter(|record| record.request.content == package.id()) {
        return joined(record.request.slots.iter().map(|slot| slot.position).collect());
    }
    let usual = joined(positions_in_run(package, false)?)?;
    let view = View::open(&listed.workenv.upper())?;
    if view.map_or(Ok(false), |view| view.is_over_others(&usual.0.fingerprint()))? {
        // It was last run without the slots for development.
        return joined(positions_in_run(package, true)?);
    }
    Ok(usual)
}

/// Returns which slots a run mounts.
fn positions_in_run(package: &Package, production: bool) -> Result<Vec<u32>, Failure> {
    let wishes = Wishes { production, ..Wishes::default() };
    let plans = plan::slots(package, &wishes, plan::machine())?;
    Ok(plans.iter().filter(|plan| plan.in_run).map(|plan| plan.position).collect())
}

/// Returns the part of the environment that `paths` name: as seen in it, or whole paths that lead into it.
fn scope(paths: &[std::path::PathBuf], listed: &Listed) -> Result<Scope, Failure> {
    let content = listed.workenv.content();
    let record = SessionRecord::read(&Place::of(listed.workenv.clone())).ok().flatten();
    let mountpoint = record.map(|record| record.request.mountpoint);
    let roots: Vec<&Path> = [Some(content.as_path()), mountpoint.as_deref()].into_iter().flatten().collect();
    let mut wanted = Vec::with_capacity(paths.len());
    for path in paths {
        let inside = roots.iter().find_map(|root| path.strip_prefix(root).ok());
        let refused = |reason: &str| {
            let message = format!("`{}` is no path in `{}`: {reason}", path.display(), listed.workenv.name());
            Failure::new(FailureKind::Usage, message).hint("name it as `slotfs diff` does")
        };
        if inside.is_none() && path.is_absolute() {
            return Err(refused("it is somewhere else"));
        }
        let mut names = Vec::new();
        for component in inside.unwrap_or(path).components() {
            match component {
                Component::Normal(name) => names.push(files::path_bytes(Path::new(name))),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
                Component::ParentDir => return Err(refused("it goes up")),
            }
        }
        wanted.push(names);
    }
    Ok(Scope::of(wanted))
}

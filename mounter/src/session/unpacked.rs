//! The same work environment as plain files, where nothing can be mounted, or where the user wants files.
//!
//! It is prepared under the same locks and noted by the same marks as a mounted one, so that launchers and later runs
//! use it, too. What was written in an earlier tree is set aside or carried over, as for a mounted environment.
//!
//! **Invariant:** the tree is complete or absent, and counts as prepared only after setup; nothing is unpacked under a
//! mount.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use slotfs_fs::disk::{Context, DiskError};
use slotfs_fs::layer::LayerError;
use slotfs_fs::layer::slot::SlotOptions;
use slotfs_fs::layer::stack::{Lower, PlacedLayer, Stack};
use slotfs_fs::node::Kind;

use crate::extract::layers::{self, LayersError, OpenSlot};
use crate::extract::progress::Progress;
use crate::extract::{self, ExtractError};
use crate::host::{files, plain, standby};
use crate::launch::{self, Program, Setup};
use crate::plan::{self, Examined, SlotPlan};
use crate::workenv::{Claim, InstanceLock, Workenv};

use super::claim::claim;
use super::error::SessionError;
use super::halfway::Halfway;
use super::place::{Lease, Place, StartLock};
use super::prepare::{PrepareError, Step, Wanted, digests};
use super::recover;
use super::served::Served;

/// Why a work environment could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The environment cannot be had, or setup failed.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// A slot cannot be opened.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// A slot cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The files cannot be written.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// It is mounted, so that files could only be written under the mount.
    #[error("`{workenv}` is mounted at `{}`: its files cannot be unpacked there", content.display())]
    Mounted {
        /// The environment.
        workenv: String,
        /// Where it is.
        content: PathBuf,
    },
}

impl From<DiskError> for UnpackError {
    fn from(error: DiskError) -> Self {
        Self::Prepare(error.into())
    }
}

/// A prepared work environment of plain files.
#[derive(Debug)]
pub struct Unpacked {
    /// Tells others that it is in use.
    pub lease: Lease,
    /// The locks and files of the environment.
    pub place: Place,
    /// Where the files are.
    pub content: PathBuf,
}

/// Unpacks and sets up the environment of `examined`, unless that was done before. `told` hears what happens, and
/// `progress` how far it is.
///
/// # Errors
/// Says what failed; the tree is absent then, or not taken for prepared.
pub fn unpack(
    examined: &Examined,
    wanted: &Wanted<'_>,
    told: &mut dyn FnMut(Step<'_>),
    progress: &dyn Progress,
) -> Result<Unpacked, UnpackError> {
    // Nothing will be served.
    drop(standby::take());
    let slots = plan::slots(&examined.package, wanted.wishes, plan::machine()).map_err(PrepareError::from)?;
    let (claimed, place, start) = claim(examined, wanted, told)?;
    claimed.sync()?;
    let unpacking = Unpacking { examined, wanted, slots, workenv: claimed.workenv, place, start };
    let content = unpacking.workenv.content();
    recover::clear(&unpacking.start, &unpacking.place).map_err(PrepareError::from)?;
    if recover::is_mounted(&recover::resolved(&content))? {
        return Err(UnpackError::Mounted { workenv: unpacking.workenv.name().to_string(), content });
    }
    let lease = unpacking.place.lease(wanted.patience.leaving)?;
    let program = unpacking.program(&content);
    let ready = claimed.claim == Claim::Same && wanted.settings.reuse.value && unpacking.is_ready(&content);
    if ready {
        launch::make_directories(&program).map_err(PrepareError::from)?;
    }
    if !ready || !launch::passes_check(&program) {
        unpacking.unpack(&claimed.claim, &program, told, progress)?;
    }
    Ok(Unpacked { lease, place: unpacking.place, content })
}

struct Unpacking<'a> {
    examined: &'a Examined,
    wanted: &'a Wanted<'a>,
    slots: Vec<SlotPlan>,
    workenv: Workenv,
    place: Place,
    start: StartLock,
}

impl Unpacking<'_> {
    fn program<'a>(&'a self, content: &'a Path) -> Program<'a> {
        Program {
            metadata: self.examined.package.metadata(),
            package: &self.examined.facts.path,
            workenv: content,
            cache: &self.wanted.settings.cache_directory.value,
        }
    }

    /// Tells whether the files are there and set up, by slotfs or by a launcher of this very package.
    fn is_ready(&self, content: &Path) -> bool {
        let has_files = std::fs::read_dir(content).is_ok_and(|mut entries| entries.next().is_some());
        self.workenv.instance_state().launcher_would_start(&self.examined.facts)
            && (has_files || self.slots.is_empty())
    }

    fn unpack(
        &self,
        claim: &Claim,
        program: &Program<'_>,
        told: &mut dyn FnMut(Step<'_>),
        progress: &dyn Progress,
    ) -> Result<(), UnpackError> {
        let workenv = &self.workenv;
        let _peer =
            InstanceLock::acquire(workenv, self.wanted.patience.preparing).map_err(PrepareError::from)?;
        if let Claim::Rebuilt(previous) = claim {
            let nothing = |_: &OsStr| false;
            workenv
                .replace(&self.examined.facts, previous, SystemTime::now(), nothing, |_, _| Ok(()))
                .map_err(PrepareError::from)?;
        }
        workenv.forget_preparation().map_err(PrepareError::from)?;
        workenv.describe(&self.examined.facts).map_err(PrepareError::from)?;
        // Before anything is made in the store: what nothing refers to is anybody's to remove.
        Served::note_unpacked(workenv, digests(self.examined, &self.slots), &self.examined.facts.id)?;
        let halfway = Halfway::unpacking(workenv);
        halfway.resume()?;
        let earlier = self.set_aside(program.workenv, told)?;
        halfway.note()?;
        let opened = self.open()?;
        let all = Stack::new(opened.iter().map(|(_, placed)| placed.clone()).collect());
        let options = extract::Options {
            force: true,
            root_mode: Some(0o700),
            marker: None,
            current_directory: self.wanted.environment.working_directory(),
            // An interrupted process leaves a directory that the next extraction sweeps away.
            stop: &AtomicBool::new(false),
        };
        extract::extract(&all, program.workenv, &options, progress)?;
        if let Some(earlier) = earlier {
            self.carry_over(&earlier, program.workenv)?;
        }
        self.set_up(program, told)?;
        remove_setup_only(program.workenv, &opened)?;
        plain::sync_file_system(program.workenv).context("sync the file system of", program.workenv)?;
        workenv.mark_prepared(&self.examined.facts).map_err(PrepareError::from)?;
        halfway.complete()?;
        workenv.publish(&self.examined.facts).map_err(PrepareError::from)?;
        Ok(())
    }

    fn set_up(&self, program: &Program<'_>, told: &mut dyn FnMut(Step<'_>)) -> Result<(), PrepareError> {
        launch::make_directories(program)?;
        let setup = Setup::plan(program, self.wanted.environment)?;
        let count = setup.steps().len();
        setup.run(program, |step| {
            told(Step::Setup { position: step.position, count, title: &step.title });
        })?;
        Ok(())
    }

    /// Opens every slot that setup or the program sees; tells for each whether only setup does.
    fn open(&self) -> Result<Vec<(bool, PlacedLayer)>, UnpackError> {
        let home = layers::home(&self.workenv.cache().shared())?;
        let limits = layers::limits(self.wanted.settings.limits());
        let options = SlotOptions { limits, ..SlotOptions::default() };
        let plans = self.slots.iter().filter(|plan| plan.in_setup || plan.in_run);
        plans
            .filter_map(|plan| Some((plan, self.examined.package.slot(plan.position)?)))
            .map(|(plan, slot)| {
                let open = OpenSlot::open(slot, &self.examined.verification, &home, &options)?;
                Ok((!plan.in_run, open.placed(slot, plan.writable)))
            })
            .collect()
    }

    /// Moves an earlier tree out of the way; returns where it is.
    fn set_aside(
        &self,
        content: &Path,
        told: &mut dyn FnMut(Step<'_>),
    ) -> Result<Option<PathBuf>, UnpackError> {
        let used = std::fs::read_dir(content).is_ok_and(|mut entries| entries.next().is_some());
        if !used {
            return Ok(None);
        }
        let folder = self.workenv.earlier();
        files::create_private_directories(&folder).context("create the directory", &folder)?;
        let free =
            (0u32..).map(|number| folder.join(format!("unpacked-{number}"))).find(|path| !path.exists());
        let place = free.unwrap_or_else(|| folder.join("unpacked"));
        std::fs::rename(content, &place).context("set aside", content)?;
        files::create_private_directories(content).context("create the directory", content)?;
        told(Step::SetAside { place: &place });
        Ok(Some(place))
    }

    /// Moves the user's own directories from an earlier tree into the new one.
    fn carry_over(&self, earlier: &Path, content: &Path) -> Result<(), DiskError> {
        for name in plan::kept_on_upgrade(&self.examined.package, &self.slots) {
            let (from, to) = (earlier.join(&name), content.join(&name));
            if from.symlink_metadata().is_ok() && to.symlink_metadata().is_err() {
                std::fs::rename(&from, &to).context("carry over", &to)?;
            }
        }
        Ok(())
    }
}

/// Removes what only slots for setup provide, now that setup is done.
fn remove_setup_only(content: &Path, opened: &[(bool, PlacedLayer)]) -> Result<(), UnpackError> {
    let of = |setup_only: bool| {
        let layers = opened.iter().filter(|(only, _)| *only == setup_only);
        Stack::new(layers.map(|(_, placed)| placed.clone()).collect())
    };
    let (goes, stays) = (of(true), of(false));
    if goes.layers().is_empty() {
        return Ok(());
    }
    remove_below(content, &goes, &goes.root()?, &stays, Some(&stays.root()?))
}

/// Removes what `directory` of `goes` holds and `kept`, the same directory of `stays`, does not.
fn remove_below(
    path: &Path,
    goes: &Stack,
    directory: &Lower,
    stays: &Stack,
    kept: Option<&Lower>,
) -> Result<(), UnpackError> {
    let mut names = Vec::new();
    goes.list(directory, &mut |name, _, _| {
        names.push(name.to_vec());
        ControlFlow::Continue(())
    })?;
    for name in names {
        let Some(entry) = goes.lookup(directory, &name)? else { continue };
        let kept = match kept {
            Some(kept) if kept.kind == Kind::Directory => stays.lookup(kept, &name)?,
            _ => None,
        };
        let Ok(file_name) = plain::file_name(&name) else { continue };
        let path = path.join(file_name);
        if entry.kind == Kind::Directory {
            remove_below(&path, goes, &entry, stays, kept.as_ref())?;
            if kept.is_none() {
                // One in which setup put something stays.
                unless_gone(std::fs::remove_dir(&path), "remove the directory", &path)?;
            }
        } else if kept.is_none() {
            unless_gone(std::fs::remove_file(&path), "remove", &path)?;
        }
    }
    Ok(())
}

fn unless_gone(result: std::io::Result<()>, action: &'static str, path: &Path) -> Result<(), DiskError> {
    match result {
        Err(error)
            if !matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory
            ) =>
        {
            Err(DiskError::new(action, path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

impl From<SessionError> for UnpackError {
    fn from(error: SessionError) -> Self {
        Self::Prepare(error.into())
    }
}

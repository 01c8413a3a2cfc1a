//! From a package to a live session of its prepared work environment.
//!
//! Everything happens under the environment's start lock: whose environment it is, what a crash left, setup where it
//! was not done yet, and joining or starting the session. The lock is let go when the session can be shared.
//!
//! **Invariant:** an environment counts as prepared only after every setup command has succeeded and what they wrote
//! is on disk; what an interrupted setup wrote is gone before anything else is done with the environment.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use slotfs_fs::disk::unix::own_ids;
use slotfs_fs::disk::{Context, DiskError};
use slotfs_fs::layer::LayerError;
use slotfs_fs::layer::slot::SlotOptions;
use slotfs_fs::layer::stack::Stack;
use slotfs_policy::access::{Access, AccessError};
use slotfs_policy::lifecycle::Moment;

use crate::extract::layers::{self, LayersError, OpenSlot};
use crate::host::plain;
use crate::launch::{self, LaunchError, Program, Setup};
use crate::plan::{self, Examined, SlotPlan, Wishes};
use crate::settings::{Environment, Settings};
use crate::workenv::{Claim, InstanceLock, NameRule, Record, Workenv, WorkenvError};

use super::beside;
use super::claim::{claim, sync_beside};
use super::error::SessionError;
use super::halfway::Halfway;
use super::live::{Ended, Session};
use super::place::{Lease, Place, StartLock};
use super::recover;
use super::request::{
    BARE_COPIES, DecodeLimits, FailureCause, MountWishes, Purpose, ServeRequest, ServedSlot, Spill, VERSION,
};
use super::served::Served;
use super::start::{self, Found, Patience};
use super::upgrade::{Earlier, Upgraded};

/// What is wanted of a session.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Every setting.
    pub settings: &'a Settings,
    /// The environment of the caller, which setup commands inherit.
    pub environment: &'a Environment,
    /// Access to slots.
    pub wishes: &'a Wishes,
    /// Which names of environments will do.
    pub rule: NameRule,
    /// Where to mount, if not in the cache.
    pub mountpoint: Option<&'a Path>,
    /// Whether the mount is to stay when nobody holds a lease.
    pub keep: bool,
    /// Whether all slots are to be indexed before this is done.
    pub settled: bool,
    /// How long to wait for others.
    pub patience: Patience,
}

/// What happens on the way, for somebody who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Another process prepares the same environment; this one waits.
    Waiting {
        /// Who it is.
        holder: &'a str,
    },
    /// What was written under an earlier build of the package was set aside.
    SetAside {
        /// Where it is now.
        place: &'a Path,
    },
    /// The environment went to another build of the package, which has `config` slots or had some.
    Upgraded {
        /// What became of their files.
        files: &'a Upgraded,
    },
    /// Nothing can be mounted here; the package is unpacked.
    Unpacking {
        /// Why nothing can be mounted.
        reason: &'a str,
    },
    /// What is written has no bound, although one is wanted: the package is unpacked.
    Unbounded,
    /// All is ready and the program starts; nothing more is heard.
    Starting,
    /// A setup command begins.
    Setup {
        /// From 1.
        position: usize,
        /// How many there are.
        count: usize,
        /// The package's own words for it.
        title: &'a str,
    },
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A wish about slots cannot be met.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The work environment cannot be had.
    #[error(transparent)]
    Workenv(#[from] WorkenvError),
    /// Setup failed.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The session cannot be had.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl From<DiskError> for PrepareError {
    fn from(error: DiskError) -> Self {
        Self::Session(error.into())
    }
}

/// A live session of a prepared work environment.
#[derive(Debug)]
pub struct Prepared {
    /// The session.
    pub session: Session,
    /// Where the package's files are, as the program is told.
    pub content: PathBuf,
    /// What is planned for each slot.
    pub slots: Vec<SlotPlan>,
}

/// Joins or starts a session for `examined`, and does its setup where that was not done yet. `told` hears what
/// happens.
///
/// # Errors
/// Says what failed; nothing half done is left, or it is cleared by the next start.
pub fn prepare(
    examined: &Examined,
    wanted: &Wanted<'_>,
    told: &mut dyn FnMut(Step<'_>),
) -> Result<Prepared, PrepareError> {
    let slots = plan::slots(&examined.package, wanted.wishes, plan::machine())?;
    let (claimed, place, start) = claim(examined, wanted, told)?;
    let workenv = claimed.workenv.clone();
    let claim = claimed.claim.clone();
    let noted = if examined.package.metadata().setup_commands.is_empty() {
        claimed.is_noted_anew().then(|| sync_beside(claimed))
    } else {
        claimed.sync()?;
        None
    };
    let mountpoint = wanted.mountpoint.map_or_else(|| Mountpoint::usual(&workenv), Mountpoint::elsewhere);
    let mut preparation = Preparation { examined, wanted, slots, place, start, workenv, mountpoint };
    let session = preparation.session(&claim, told);
    noted.map_or(Ok(()), |wait| wait())?;
    let session = session?;
    if wanted.keep {
        preparation.place.keep()?;
    }
    let Preparation { mountpoint, slots, .. } = preparation;
    Ok(Prepared { session, content: mountpoint.shown, slots })
}

/// Returns SHA-256 of the stored bytes of every slot that setup or the program sees, in hexadecimal digits.
pub(super) fn digests(examined: &Examined, slots: &[SlotPlan]) -> Vec<String> {
    let seen = slots.iter().filter(|slot| slot.in_setup || slot.in_run);
    seen.filter_map(|slot| Some(examined.digest(slot.position)?.to_string())).collect()
}

/// Where a mount goes.
#[derive(Clone, Debug)]
struct Mountpoint {
    /// As the kernel's table will show it.
    path: PathBuf,
    /// As programs are told.
    shown: PathBuf,
    /// Whether it has to be made, and goes with the mount.
    made: bool,
    /// Whether it is where launchers look.
    usual: bool,
}

impl Mountpoint {
    fn usual(workenv: &Workenv) -> Self {
        let shown = workenv.content();
        Self { path: recover::resolved(&shown), shown, made: false, usual: true }
    }

    fn elsewhere(asked: &Path) -> Self {
        let path = recover::resolved(asked);
        // Asked of the directory above: the place itself may be a dead mount.
        let made =
            std::fs::symlink_metadata(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        Self { shown: path.clone(), path, made, usual: false }
    }
}

/// Everything that getting a session needs, while the start lock is held.
struct Preparation<'a> {
    examined: &'a Examined,
    wanted: &'a Wanted<'a>,
    slots: Vec<SlotPlan>,
    place: Place,
    start: StartLock,
    workenv: Workenv,
    mountpoint: Mountpoint,
}

impl Preparation<'_> {
    fn session(&mut self, claim: &Claim, told: &mut dyn FnMut(Step<'_>)) -> Result<Session, PrepareError> {
        let prepared = self.workenv.instance_state().is_prepared(&self.examined.facts);
        let lease = match self.join(prepared)? {
            Found::Live(session) if prepared => return Ok(*session),
            Found::Live(session) => return self.set_up_in(*session, told),
            Found::Vacant(lease) => lease,
        };
        recover::clear(&self.start, &self.place)?;
        Halfway::settle(&self.workenv, prepared)?;
        if let Claim::Rebuilt(previous) = claim {
            self.replace(previous, told)?;
            return self.set_up(lease, told);
        }
        if !prepared || !self.wanted.settings.reuse.value {
            return self.set_up(lease, told);
        }
        let session = self.start(lease, Purpose::Run)?;
        let program = self.program(&self.mountpoint);
        if session.record().request.read_only {
            return Ok(session);
        }
        launch::make_directories(&program)?;
        // Elsewhere the text to find may well be another one.
        if !self.mountpoint.usual || launch::passes_check(&program) {
            return Ok(session);
        }
        let lease = self.end(session)?;
        self.set_up(lease, told)
    }

    fn program<'a>(&'a self, mountpoint: &'a Mountpoint) -> Program<'a> {
        Program {
            metadata: self.examined.package.metadata(),
            package: &self.examined.facts.path,
            workenv: &mountpoint.shown,
            cache: &self.wanted.settings.cache_directory.value,
        }
    }

    /// Joins a live session that will do. One that a killed process began and did not prepare is waited for; one of which
    /// everything was taken back can be prepared as it is.
    fn join(&self, prepared: bool) -> Result<Found, PrepareError> {
        let name = self.workenv.name().to_string();
        let found = start::join(&self.start, &self.place, &name, self.wanted.patience)?;
        let Found::Live(session) = found else { return Ok(found) };
        let request = &session.record().request;
        let different = |other: String| {
            let mountpoint = request.mountpoint.clone();
            Err(SessionError::Different { workenv: name.clone(), mountpoint, other }.into())
        };
        if request.content != self.examined.facts.id.as_str() {
            return different(format!("another build of the package, `{}`", request.package.display()));
        }
        let is_reset =
            !prepared && request.serves_both && self.is_usual(request) && !Halfway::is_begun(&self.workenv);
        if !prepared && !is_reset || (request.purpose == Purpose::Setup && !request.serves_both) {
            let lease = self.end(*session)?;
            return Ok(Found::Vacant(lease));
        }
        if self.wanted.mountpoint.is_some() && request.mountpoint != self.mountpoint.path {
            return different("the same package".into());
        }
        let limit = self.wanted.settings.max_upper.value.map(|limit| limit.0);
        let served = request.spill.as_ref().and_then(|spill| spill.limit);
        if limit.is_some() && limit != served {
            return different("the same package, with another bound on what is written".into());
        }
        if self.wanted.settings.secure.value && !request.erase {
            return different("the same package, and does not overwrite what goes".into());
        }
        if self.wanted.wishes.access.is_some() || !self.wanted.wishes.slots.is_empty() {
            // Both are in the package's order.
            let served = |plan: &&SlotPlan| {
                let slot = request.slots.binary_search_by_key(&plan.position, |slot| slot.position);
                slot.ok()
                    .and_then(|slot| request.slots.get(slot))
                    .is_some_and(|slot| (slot.writable && !request.read_only) != plan.writable)
            };
            if let Some(other) = self.slots.iter().find(served) {
                return different(format!("the same package, with other access to slot `{}`", other.id));
            }
        }
        Ok(Found::Live(session))
    }

    /// Ends a session that will not do, and returns a lease for the next one.
    fn end(&self, session: Session) -> Result<Lease, PrepareError> {
        let mountpoint = session.record().request.mountpoint.clone();
        let limit = self.wanted.patience.leaving;
        let late = || SessionError::Leaving {
            workenv: self.workenv.name().to_string(),
            mountpoint: mountpoint.clone(),
            waited: limit,
        };
        self.place.keep_no_longer()?;
        if session.end(limit)? != Ended::Gone {
            return Err(late().into());
        }
        let name = self.workenv.name().to_string();
        match start::join(&self.start, &self.place, &name, self.wanted.patience)? {
            Found::Vacant(lease) => {
                recover::clear(&self.start, &self.place)?;
                Ok(lease)
            }
            Found::Live(_) => Err(late().into()),
        }
    }

    /// Hands the environment over from an earlier build of the package. What the package calls the user's own
    /// directories, slots that outlive upgrades, and what the user has changed in `config` slots are carried over.
    fn replace(&self, previous: &Record, told: &mut dyn FnMut(Step<'_>)) -> Result<(), PrepareError> {
        let kept = plan::kept_on_upgrade(&self.examined.package, &self.slots);
        let carries = |name: &std::ffi::OsStr| kept.iter().any(|kept| kept.as_os_str() == name);
        let mut upgraded = Upgraded::default();
        let mut carry_over = |aside: &Path, upper: &Path| {
            let Some(earlier) = Earlier::open(&self.workenv)? else { return Ok(()) };
            upgraded = earlier.carry_over(aside, upper, self.config_slots().as_ref())?;
            Ok(())
        };
        let carry_more = |aside: &Path, upper: &Path| {
            carry_over(aside, upper).or_else(|error: LayerError| match error {
                LayerError::Disk(error) => Err(error.into()),
                // Nothing is lost by that: it stays set aside.
                damaged @ LayerError::Corrupt { .. } => {
                    tracing::warn!("{damaged}");
                    Ok(())
                }
            })
        };
        let now = SystemTime::now();
        let replaced = self.workenv.replace(&self.examined.facts, previous, now, carries, carry_more)?;
        if !upgraded.is_empty() {
            told(Step::Upgraded { files: &upgraded });
        }
        if let Some(place) = &replaced.set_aside {
            told(Step::SetAside { place });
        }
        Ok(())
    }

    /// Opens the `config` slots of this build; `None` where they cannot be.
    fn config_slots(&self) -> Option<Stack> {
        let open = || -> Result<Stack, LayersError> {
            let home = layers::home(&self.workenv.cache().shared())?;
            let options = SlotOptions {
                limits: layers::limits(self.wanted.settings.limits()),
                owner: Some(own_ids()),
                ..SlotOptions::default()
            };
            let mut placed = Vec::new();
            let plans = self.slots.iter().filter(|plan| plan.in_run && plan.rules.keep_modified_on_upgrade);
            for slot in plans.filter_map(|plan| self.examined.package.slot(plan.position)) {
                let opened = OpenSlot::open(slot, &self.examined.verification, &home, &options)?;
                placed.push(opened.placed(slot, true));
            }
            Ok(Stack::new(placed))
        };
        open().inspect_err(|error| tracing::warn!("{error}")).ok()
    }

    /// Does setup, and returns the session for the program.
    fn set_up(&mut self, lease: Lease, told: &mut dyn FnMut(Step<'_>)) -> Result<Session, PrepareError> {
        // A launcher that is started meanwhile waits, instead of unpacking into the mount.
        let _peer = InstanceLock::acquire(&self.workenv, self.wanted.patience.preparing)?;
        self.workenv.forget_preparation()?;
        self.workenv.describe(&self.examined.facts)?;
        // Where no command runs, nothing can be half done: the directories that are made are made again.
        let may_be_half_done = !self.examined.package.metadata().setup_commands.is_empty()
            || !self.request(Purpose::Setup).serves_both;
        let halfway = may_be_half_done.then(|| Halfway::begin(&self.workenv)).transpose()?;
        let session = self.start(lease, Purpose::Setup)?;
        let session = match self.carry_out(told) {
            Ok(()) if session.record().request.serves_both => session,
            Ok(()) => {
                let lease = self.end(session)?;
                self.start(lease, Purpose::Run)?
            }
            Err(error) => {
                match session.end(self.wanted.patience.leaving) {
                    Ok(Ended::Gone) => halfway.map_or(Ok(()), Halfway::abandon)?,
                    // Undone by the next start, when nobody uses the mount any more.
                    Ok(Ended::Busy | Ended::Stays) => {}
                    Err(error) => tracing::warn!("{error}"),
                }
                // A command that lost its files under its feet says something else.
                return Err(beside::refusal(&self.place).map_or(error, refused));
            }
        };
        match halfway {
            Some(halfway) => {
                self.workenv.mark_prepared(&self.examined.facts)?;
                halfway.complete()?;
            }
            None => self.workenv.mark_prepared_unsynced(&self.examined.facts)?,
        }
        if self.mountpoint.usual {
            self.workenv.publish(&self.examined.facts)?;
        }
        Ok(session)
    }

    fn is_usual(&self, request: &ServeRequest) -> bool {
        !request.read_only && request.mountpoint == Mountpoint::usual(&self.workenv).path
    }

    /// Does setup in a session that serves the program, too, after everything was taken back in it.
    fn set_up_in(&self, session: Session, told: &mut dyn FnMut(Step<'_>)) -> Result<Session, PrepareError> {
        let _peer = InstanceLock::acquire(&self.workenv, self.wanted.patience.preparing)?;
        self.workenv.describe(&self.examined.facts)?;
        // What fails is undone by the next start, when nobody uses the mount any more.
        let halfway = Halfway::begin(&self.workenv)?;
        self.carry_out(told)?;
        self.workenv.mark_prepared(&self.examined.facts)?;
        halfway.complete()?;
        self.workenv.publish(&self.examined.facts)?;
        Ok(session)
    }

    /// Runs the package's setup commands, always where the program will usually be: they write that path into files.
    fn carry_out(&self, told: &mut dyn FnMut(Step<'_>)) -> Result<(), PrepareError> {
        let usual = Mountpoint::usual(&self.workenv);
        let program = self.program(&usual);
        launch::make_directories(&program)?;
        let setup = Setup::plan(&program, self.wanted.environment)?;
        let count = setup.steps().len();
        setup.run(&program, |step| {
            told(Step::Setup { position: step.position, count, title: &step.title });
        })?;
        if count > 0 {
            // What commands of a package have made counts only when it is known what they came from.
            if let Some(message) = beside::wait(&self.place)? {
                return Err(refused(message));
            }
            let upper = self.workenv.upper();
            plain::sync_file_system(&upper).map_err(|source| {
                slotfs_fs::disk::DiskError::new("sync the file system of", upper, source)
            })?;
        }
        Ok(())
    }

    fn start(&self, lease: Lease, purpose: Purpose) -> Result<Session, PrepareError> {
        // Before the server makes anything in the store: what nothing refers to is anybody's to remove.
        Served::note(&self.workenv, digests(self.examined, &self.slots), self.request(Purpose::Run))?;
        let request = self.request(purpose);
        if request.mountpoint_made {
            std::fs::create_dir(&request.mountpoint).context("create the directory", &request.mountpoint)?;
        }
        // Told before the mount is there: a launcher that starts in between fails once, where in the other order it
        // would unpack into the mount.
        if request.published && purpose == Purpose::Run {
            self.workenv.publish(&self.examined.facts)?;
        }
        let started = start::start(&self.start, &self.place, lease, &request, self.wanted.patience);
        if started.is_err() {
            if request.published
                && let Err(error) = self.workenv.withdraw()
            {
                tracing::warn!("{error}");
            }
            if request.mountpoint_made {
                let _ = std::fs::remove_dir(&request.mountpoint);
            }
        }
        Ok(started?)
    }

    /// Tells whether what is written now will always lie over the same layers, so that a copy may leave its content in
    /// them: no slot is ever left out, and nothing is carried over to the next build of the package.
    fn keeps_its_layers(&self) -> bool {
        let package = &self.examined.package;
        let production = Wishes { production: true, ..Wishes::default() };
        let always = plan::slots(package, &production, plan::machine())
            .is_ok_and(|slots| slots.iter().all(|slot| slot.in_setup && slot.in_run));
        let carried = self.slots.iter().any(|slot| slot.rules.keep_modified_on_upgrade)
            || !plan::kept_on_upgrade(package, &self.slots).is_empty();
        always && self.examined.identity().is_some() && !carried
    }

    fn request(&self, purpose: Purpose) -> ServeRequest {
        let is_in = |slot: &&SlotPlan| match purpose {
            Purpose::Setup => slot.in_setup,
            Purpose::Run => slot.in_run,
        };
        let slots: Vec<&SlotPlan> = self.slots.iter().filter(is_in).collect();
        let run_is_read_only = self.wanted.wishes.access == Some(Access::ReadOnly)
            && self.slots.iter().all(|slot| !slot.in_run || !slot.writable);
        // Setup has to write, whatever the program may.
        let serves_both = self.mountpoint.usual
            && !run_is_read_only
            && self.slots.iter().all(|slot| {
                slot.in_setup == slot.in_run && (slot.writable == slot.rules.writable || !slot.in_run)
            });
        let moment = match purpose {
            Purpose::Setup if !serves_both => Moment::SetupDone,
            // The mount for setup stays for the program, and ends when that does.
            Purpose::Setup | Purpose::Run => Moment::Exit,
        };
        let served = slots.into_iter().map(|slot| ServedSlot {
            position: slot.position,
            id: slot.id.clone(),
            digest: self.examined.digest(slot.position).map(|digest| digest.to_string()),
            checking: self.examined.checking(slot.position),
            writable: if purpose == Purpose::Setup { slot.rules.writable } else { slot.writable },
            drop_at_start: slot.drops_writes_at(Moment::Start),
            drop_at_end: slot.drops_writes_at(moment),
            drop_at_clean: slot.drops_writes_at(Moment::Clean),
            keep_in_store: slot.rules.keep_in_store,
            prefetch: slot.prefetch,
        });
        let mountpoint = match purpose {
            Purpose::Setup => Mountpoint::usual(&self.workenv),
            Purpose::Run => self.mountpoint.clone(),
        };
        let settings = self.wanted.settings;
        // What setup commands touch says nothing about later launches.
        let is_launch = serves_both && self.examined.package.metadata().setup_commands.is_empty();
        ServeRequest {
            version: VERSION,
            cache: settings.cache_directory.value.clone(),
            workenv: self.workenv.name().as_os_str().into(),
            package: self.examined.facts.path.clone(),
            identity: self.examined.identity(),
            content: self.examined.facts.id.to_string(),
            mountpoint: mountpoint.path,
            mountpoint_made: mountpoint.made,
            // A launcher is told of the tree for setup when setup is done.
            published: mountpoint.usual,
            purpose,
            serves_both,
            slots: served.collect(),
            spill: Some(Spill {
                upper: self.workenv.upper(),
                work: self.workenv.work(),
                limit: settings.max_upper.value.map(|limit| limit.0),
            }),
            bare_copies: self.keeps_its_layers().then_some(BARE_COPIES),
            erase: settings.secure.value,
            read_only: purpose == Purpose::Run && run_is_read_only,
            settled: self.wanted.settled,
            prefetch: settings.prefetch.value && (purpose == Purpose::Run || is_launch),
            mount: MountWishes { allow_other: false, passthrough: true, threads: None },
            limits: DecodeLimits::of(settings.limits()),
            log: settings.log.filter.value.clone(),
        }
    }
}

/// The failure of a package that turned out to be another one while it was served.
fn refused(message: String) -> PrepareError {
    SessionError::Refused { cause: FailureCause::Verification, message, hints: Vec::new() }.into()
}

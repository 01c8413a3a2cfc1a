//! Finding the environment of a package: which name, whether it is new, the same, or of an earlier build.
//!
//! A package keeps its environment as long as its identity or its path stays the same. Two packages with one
//! file name get two environments: the later one's name has its identity behind it. Nothing is removed here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use slotfs_fs::disk::lock::{FileLock, Mode};
use slotfs_fs::disk::{Context, DiskError, atomic};

use super::facts::{PackageFacts, PackageId};
use super::record::{NameAndVersion, Record};
use super::{Cache, Workenv, WorkenvError, WorkenvName};

/// How long one claim waits for another; each takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How an environment relates to the package that claims it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody had it.
    New,
    /// It is this package's already.
    Same,
    /// It belongs to an earlier build: the same path with other content, or the same package name where the
    /// earlier file is gone. [`Workenv::replace`] hands it over, once nobody uses it.
    Rebuilt(Record),
}

/// An environment and how it was come by.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The environment.
    pub workenv: Workenv,
    /// Its relation to the package.
    pub claim: Claim,
    /// Whether its note was written just now.
    is_noted_anew: bool,
}

impl Claimed {
    fn new(workenv: Workenv, claim: Claim) -> Self {
        Self { workenv, claim, is_noted_anew: false }
    }

    /// Tells whether there is anything to [`Self::sync`].
    #[must_use]
    pub fn is_noted_anew(&self) -> bool {
        self.is_noted_anew
    }

    /// Waits until the disk has what was noted: to be called before a program writes there, whose files would otherwise be
    /// without an owner after a power failure.
    ///
    /// # Errors
    /// The disk's, with the path.
    pub fn sync(&self) -> Result<(), DiskError> {
        if !self.is_noted_anew {
            return Ok(());
        }
        let note = self.workenv.record();
        std::fs::File::open(&note).and_then(|file| file.sync_all()).context("sync", &note)?;
        atomic::sync_directory(&self.workenv.own_directory())
    }
}

/// Which names will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// The launcher's name, or that with the identity where another package has it.
    Any,
    /// The launcher's name only, because a launcher is to find it.
    Launcher,
}

/// What is known about who has a name.
enum Owner {
    Nobody,
    Noted(Record),
    /// A launcher made it; what its files tell.
    Launcher {
        id: PackageId,
        package: NameAndVersion,
    },
    /// There are metadata, but they do not tell whose.
    Unknown,
}

impl Cache {
    /// Finds or takes the environment of a package. A new or adopted one is noted as this package's, see
    /// [`Claimed::sync`]; [`Claim::Rebuilt`] changes nothing yet, since somebody may be using it.
    ///
    /// # Errors
    /// [`WorkenvError::NameTaken`] when no allowed name is free; a lock not free within 10 s; the disk's.
    pub fn claim(
        &self,
        facts: &PackageFacts,
        rule: NameRule,
        now: SystemTime,
    ) -> Result<Claimed, WorkenvError> {
        let usual = self.workenv(WorkenvName::of(facts));
        // The common case needs no lock: a note is replaced whole, and an owner does not change by itself.
        if let Some(record) = Record::read(&usual)
            && record.id == facts.id
            && record.path == facts.path
        {
            return Ok(Claimed::new(usual, Claim::Same));
        }
        self.create()?;
        let _names = FileLock::acquire(&self.shared().join("names.lock"), Mode::Exclusive, PATIENCE)?;
        let mut claimed = self.decide(facts, usual, rule)?;
        if claimed.claim != Claim::New && claimed.claim != Claim::Same {
            return Ok(claimed);
        }
        let known = Record::read(&claimed.workenv);
        let record = Record::of(facts, known.as_ref().map_or(seconds(now), |known| known.created));
        if known.as_ref() != Some(&record) {
            record.write_unsynced(&claimed.workenv)?;
            claimed.is_noted_anew = true;
        }
        Ok(claimed)
    }

    fn decide(&self, facts: &PackageFacts, usual: Workenv, rule: NameRule) -> Result<Claimed, WorkenvError> {
        let owner = owner(&usual);
        if let Some(claim) = certain(&owner, facts) {
            return Ok(Claimed::new(usual, claim));
        }
        if rule == NameRule::Any
            && let Some(claimed) = self.under_another_name(facts, &usual)
        {
            return Ok(claimed);
        }
        if let Some(claim) = likely(&owner, facts) {
            return Ok(Claimed::new(usual, claim));
        }
        let with_identity = self.workenv(WorkenvName::with_identity(facts));
        if rule == NameRule::Any && with_identity != usual {
            let owner = self::owner(&with_identity);
            if let Some(claim) = certain(&owner, facts).or_else(|| likely(&owner, facts)) {
                return Ok(Claimed::new(with_identity, claim));
            }
        }
        let owner = match owner {
            Owner::Noted(record) => record.path,
            Owner::Launcher { package, .. } => format!("{} {}", package.name, package.version).into(),
            Owner::Nobody | Owner::Unknown => std::path::PathBuf::new(),
        };
        Err(WorkenvError::NameTaken { name: usual.name().to_string(), owner })
    }

    /// Looks for an environment that this package got when its usual name was taken.
    fn under_another_name(&self, facts: &PackageFacts, usual: &Workenv) -> Option<Claimed> {
        let wanted = usual.name().to_string();
        let mut rebuilt = None;
        // There may be thousands of environments: the name tells which to look at.
        let others = self.every_workenv().ok()?.into_iter();
        for workenv in others.filter(|workenv| workenv.name().is_another_of(usual.name())) {
            let Some(record) = Record::read(&workenv).filter(|record| record.usual_name == wanted) else {
                continue;
            };
            if record.id == facts.id {
                return Some(Claimed::new(workenv, Claim::Same));
            }
            if record.path == facts.path {
                rebuilt = Some(Claimed::new(workenv, Claim::Rebuilt(record)));
            }
        }
        rebuilt
    }
}

/// What follows without doubt from who has the name: the same identity, or the same file.
fn certain(owner: &Owner, facts: &PackageFacts) -> Option<Claim> {
    match owner {
        Owner::Noted(record) if record.id == facts.id => Some(Claim::Same),
        Owner::Noted(record) if record.path == facts.path => Some(Claim::Rebuilt(record.clone())),
        Owner::Launcher { id, .. } if *id == facts.id => Some(Claim::Same),
        Owner::Noted(_) | Owner::Launcher { .. } | Owner::Nobody | Owner::Unknown => None,
    }
}

/// What else is taken for an upgrade, or free.
fn likely(owner: &Owner, facts: &PackageFacts) -> Option<Claim> {
    match owner {
        Owner::Nobody => Some(Claim::New),
        // The earlier file is gone and the new one has its package name: somebody replaced it elsewhere.
        Owner::Noted(record) if record.name == facts.name && is_gone(&record.path) => {
            Some(Claim::Rebuilt(record.clone()))
        }
        // A launcher notes no path. The same package under the same file name is an upgrade to it, too.
        Owner::Launcher { id, package } if package.name == facts.name => Some(Claim::Rebuilt(Record {
            id: id.clone(),
            name: package.name.clone(),
            version: package.version.clone(),
            ..Record::of(facts, 0)
        })),
        Owner::Noted(_) | Owner::Launcher { .. } | Owner::Unknown => None,
    }
}

fn is_gone(path: &std::path::Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn owner(workenv: &Workenv) -> Owner {
    if let Some(record) = Record::read(workenv) {
        return Owner::Noted(record);
    }
    if is_gone(&workenv.metadata()) {
        // Files without metadata belong to nobody; the launchers unpack among them, slotfs mounts over them.
        return Owner::Nobody;
    }
    match (NameAndVersion::read(workenv), workenv.instance_state().checksum) {
        (Some(package), Some(checksum)) => {
            Owner::Launcher { id: PackageId::of(&package.name, &package.version, &checksum), package }
        }
        // Begun and never finished, by a launcher or by us: as good as nobody's.
        (None, None) => Owner::Nobody,
        (Some(package), None) => {
            Owner::Launcher { id: PackageId::of(&package.name, &package.version, ""), package }
        }
        (None, Some(_)) => Owner::Unknown,
    }
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

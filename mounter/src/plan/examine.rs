//! Opening a package for use: read, hashed, judged. Nothing of it is mounted, extracted or run before.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use slotfs_fs::disk::DiskError;
use slotfs_fs::disk::identity::FileIdentity;
use slotfs_fs::package::verified::Ledger;
use slotfs_fs::package::verify::{self, Progress, Verification};
use slotfs_fs::package::{Limits, Package, PackageError, PackageKind};
use slotfs_policy::trust::{Level, OperatorPolicy, Verdict};

use super::policies::{self, PolicyError};
use super::slots::machine;
use super::trust::{self, Circumstances, Judgement};
use super::{KeyStores, facts};
use crate::host::files;
use crate::settings::{Environment, Settings};
use crate::workenv::{Cache, PackageFacts};

/// The folder below `{cache}/.slotfs` that remembers verifications.
const LEDGER: &str = "verified-v1";

/// Why a package cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// It cannot be read.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A policy cannot be followed.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It can be read, and may not be used.
    #[error("`{}` is refused: {reason}", path.display())]
    Refused {
        /// Which package.
        path: PathBuf,
        /// Why.
        reason: String,
        /// What can be done about it.
        hint: String,
    },
}

/// A package that may be used.
#[derive(Debug)]
pub struct Examined {
    /// The package.
    pub package: Package,
    /// As its work environment sees it.
    pub facts: PackageFacts,
    /// What hashing its slots found, now or earlier.
    pub verification: Verification,
    /// The verdict, and what it rests on.
    pub judgement: Judgement,
}

impl Examined {
    /// Returns which file was hashed; `None` for a directory, which may change at any time.
    #[must_use]
    pub fn identity(&self) -> Option<FileIdentity> {
        (self.package.kind() != PackageKind::Directory).then(|| self.package.identity())
    }

    /// Returns what the user should be told about the package, a sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        match &self.judgement.verdict {
            Verdict::Warn(sentences) => sentences.clone(),
            Verdict::Proceed | Verdict::Refuse { .. } => Vec::new(),
        }
    }
}

/// Opens the package at `path`, hashes its slots unless that was done before, and judges it. `report` hears, from
/// any thread, how far hashing is.
///
/// # Errors
/// It cannot be read, or may not be used.
pub fn examine(
    path: &Path,
    settings: &Settings,
    environment: &Environment,
    report: &(dyn Fn(Progress) + Sync),
) -> Result<Examined, ExamineError> {
    let package = Package::open(path, &Limits::default())?;
    let verification = verification(&package, settings, report)?;
    let judgement = judgement(&package, &verification, settings, environment)?;
    if let Verdict::Refuse { reason, hint } = &judgement.verdict {
        let (reason, hint) = (reason.clone(), hint.clone());
        return Err(ExamineError::Refused { path: package.path().into(), reason, hint });
    }
    let facts = facts::facts(&package)?;
    Ok(Examined { package, facts, verification, judgement })
}

fn verification(
    package: &Package,
    settings: &Settings,
    report: &(dyn Fn(Progress) + Sync),
) -> Result<Verification, ExamineError> {
    let cache = Cache::new(&settings.cache_directory.value);
    let ledger = Ledger::new(cache.shared().join(LEDGER));
    if let Some(known) = ledger.recall(package) {
        return Ok(known);
    }
    let found = verify::verify(package, report)?;
    // A cache that cannot be written costs the next start another hashing, and this one nothing.
    let remembered = cache
        .create()
        .map_err(|error| error.to_string())
        .and_then(|()| ledger.record(package, &found).map_err(|error| error.to_string()));
    if let Err(error) = remembered {
        tracing::debug!("the verification is not remembered: {error}");
    }
    Ok(found)
}

fn judgement(
    package: &Package,
    verification: &Verification,
    settings: &Settings,
    environment: &Environment,
) -> Result<Judgement, PolicyError> {
    let operator: OperatorPolicy = policies::operator_policy(&settings.policy_files)?;
    let keys = KeyStores::read(&settings.trusted_keys.value);
    for (path, reason) in keys.problems() {
        tracing::warn!("`{}` is no trusted key: {reason}", path.display());
    }
    let circumstances = Circumstances {
        level: Level::from_name(settings.verify.value.as_str()).unwrap_or_default(),
        keys: &keys,
        operator: &operator,
        is_root: files::is_administrator(),
        machine: machine(),
        now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        variables: environment.variables(),
    };
    trust::judge(package, verification, &circumstances)
}

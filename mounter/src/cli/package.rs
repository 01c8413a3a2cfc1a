//! Opening a package for a command: read it, hash it, judge it, and tell the user what came of that.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use slotfs_fs::layer::slot::SlotHome;
use slotfs_fs::package::signature::SignatureState;
use slotfs_fs::package::verify::{self, Checking, Verification, VerifiedSlot};
use slotfs_fs::package::write::CHUNK;
use slotfs_fs::package::{Limits, Package, Slot};
use slotfs_fs::slot::index;
use slotfs_policy::trust::{Level, Trust, Verdict};

use super::context::Context;
use super::failure::{Failure, FailureKind};
use super::progress::Bars;
use crate::extract::layers;
use crate::extract::progress::Progress as _;
use crate::host::privilege;
use crate::plan::{self, Circumstances, Judgement, KeyStores, Pins};
use crate::settings::{TrustRule, VerifyTime};
use crate::workenv::Cache;

/// Whether to believe what an earlier verification of exactly this file found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    /// Believe it.
    Allowed,
    /// Believe it. Where it is not known and the settings want that, whoever serves the package hashes it.
    OrBeside,
    /// Hash again.
    Never,
}

/// Opens the package, archive or directory at `path`.
///
/// # Errors
/// It is none.
pub fn open(path: &Path) -> Result<Package, Failure> {
    Ok(Package::open(path, &Limits::default())?)
}

/// Hashes every slot, with a bar where a person watches, and remembers what was good.
///
/// # Errors
/// The package cannot be read.
pub fn hash(package: &Package, recall: Recall, context: &Context) -> Result<Verification, Failure> {
    let cache = Cache::new(&context.settings.cache_directory.value);
    let ledger = layers::ledger(&cache.shared());
    if recall != Recall::Never
        && let Some(known) = ledger.recall(package)
    {
        return Ok(known);
    }
    let bars = Bars::new(context.output);
    let total = package.slots().iter().map(|slot| slot.source.stored.len()).fold(0, u64::saturating_add);
    let name = package.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    bars.begin(0, &format!("Checking {name}"), total);
    let shown = AtomicU64::new(0);
    // What is checked as it is read is hashed only by who asks for that.
    let is_beside =
        recall == Recall::OrBeside && context.settings.verify_time.value == VerifyTime::WhileServing;
    let checking = |slot: &Slot| match recall {
        Recall::Never => Checking::Done,
        Recall::Allowed | Recall::OrBeside => match index::checking(slot) {
            // Without a full digest nobody knows which slot it is before it was hashed.
            Checking::Done if is_beside && slot.digest.is_some() => Checking::Beside,
            known @ (Checking::Done | Checking::Chunks | Checking::Beside) => known,
        },
    };
    let verification = verify::verify_rest(package, &checking, &|progress| {
        let before = shown.fetch_max(progress.done, Ordering::Relaxed);
        bars.advance(0, progress.done.saturating_sub(before));
    })?;
    bars.clear();
    // Only a cache that exists is written to: a check makes no cache.
    if cache.shared().is_dir()
        && is_worth_remembering(package, &verification)
        && let Err(error) = ledger.record(package, &verification)
    {
        tracing::debug!("cannot remember the verification: {error}");
    }
    Ok(verification)
}

/// Tells whether hashing again would take longer than to write down and sync what was found.
fn is_worth_remembering(package: &Package, verification: &Verification) -> bool {
    let is_hashed = |verified: &VerifiedSlot| verified.checking() == Checking::Done;
    let mut slots = package.slots().iter().zip(&verification.slots);
    verification.slots.iter().all(is_hashed)
        || slots.any(|(slot, verified)| is_hashed(verified) && slot.source.stored.len() > u64::from(CHUNK))
}

/// Puts what was found before the policies of this machine and of the package's author.
///
/// # Errors
/// A policy cannot be read or understood.
pub fn judge(
    package: &Package,
    verification: &Verification,
    context: &Context,
) -> Result<Judgement, Failure> {
    let settings = &context.settings;
    let keys = KeyStores::read(&settings.trusted_keys.value);
    for (path, reason) in keys.problems() {
        context.output.warn(&format!("`{}` holds no trusted key: {reason}", path.display()));
    }
    let pins = pins(context)?;
    let circumstances = Circumstances {
        trust: Trust::from_name(settings.trust.value.as_str()).unwrap_or_default(),
        pins: &pins,
        level: Level::from_name(settings.verify.value.as_str()).unwrap_or_default(),
        keys: &keys,
        operator: &plan::operator_policy(&settings.policy_files)?,
        is_root: privilege::is_root(),
        machine: plan::machine(),
        now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        variables: context.environment.variables(),
    };
    Ok(plan::judge(package, verification, &circumstances)?)
}

/// Returns the keys that are pinned, as far as they count.
fn pins(context: &Context) -> Result<Pins, Failure> {
    let settings = &context.settings;
    // Who accepts another key wants it pinned, and not compared.
    if settings.trust.value != TrustRule::Pinned || settings.accept_key {
        return Ok(Pins::default());
    }
    Ok(Pins::read(pins_path(context)?)?)
}

fn pins_path(context: &Context) -> Result<&Path, Failure> {
    context.settings.pins.as_deref().ok_or_else(|| {
        let message = "there is no place to keep pinned keys in";
        Failure::new(FailureKind::Configuration, message).hint("set HOME or XDG_CONFIG_HOME")
    })
}

/// Pins the key of a package that is used for the first time, where pinned keys count.
fn pin(package: &Package, context: &Context) -> Result<(), Failure> {
    let settings = &context.settings;
    if settings.trust.value != TrustRule::Pinned && !settings.accept_key {
        return Ok(());
    }
    let signed = package.evidence().filter(|evidence| evidence.signature == SignatureState::Valid);
    let Some(evidence) = signed else { return Ok(()) };
    let (path, key) = (pins_path(context)?, evidence.key_fingerprint.to_string());
    match Pins::pin(path, package.name(), &key, settings.accept_key)? {
        None => Ok(()),
        // Somebody else was the first meanwhile.
        Some(_) => {
            let shown = package.path().display();
            let message = format!("`{shown}` is not to be used: its key is not the one that was just pinned");
            Err(Failure::new(FailureKind::Verification, message))
        }
    }
}

/// Opens, hashes and judges the package at `path`; warnings are told.
///
/// # Errors
/// It cannot be used, or may not.
pub fn trusted(path: &Path, recall: Recall, context: &Context) -> Result<(Package, Verification), Failure> {
    let package = open(path)?;
    let verification = hash(&package, recall, context)?;
    accept(&package, &verification, context)?;
    Ok((package, verification))
}

/// Judges a package that was opened and hashed; warnings are told.
///
/// # Errors
/// It may not be used.
pub fn accept(package: &Package, verification: &Verification, context: &Context) -> Result<(), Failure> {
    let path = package.path().display();
    match judge(package, verification, context)?.verdict {
        Verdict::Proceed => {}
        Verdict::Warn(reasons) => {
            for reason in reasons {
                context.output.warn(&format!("`{path}`: {reason}"));
            }
        }
        Verdict::Refuse { reason, hint } => {
            let message = format!("`{path}` is not to be used: {reason}");
            return Err(Failure::new(FailureKind::Verification, message).hint(hint));
        }
    }
    pin(package, context)
}

/// Returns the shared store as the place for what is decoded, so that what is decoded here need not be decoded again; a cache that cannot be written is
/// no reason to fail.
///
/// # Errors
/// The store cannot be opened in a cache that can be written.
pub fn home(context: &Context) -> Result<SlotHome, Failure> {
    let cache = Cache::new(&context.settings.cache_directory.value);
    match cache.create() {
        Ok(()) => Ok(layers::home(&cache.shared())?),
        Err(error) => {
            context.output.warn(&format!("{error}; nothing will be remembered"));
            Ok(SlotHome { shared: cache.shared(), store: None })
        }
    }
}

//! A package that is served while it is hashed: what its server finds out, and how those hear of it who use the mount.
//!
//! *Files of the session*
//!
//! | file | what |
//! |---|---|
//! | `verifying` | there while the server hashes what it serves |
//! | `refused` | what was wrong with the package when it was served last |
//!
//! **Invariant:** after a mismatch nothing of the package is served: the mount is taken away and its server ends.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use slotfs_fs::disk::{Context, DiskError, atomic};
use slotfs_fs::driver;
use slotfs_fs::package::verify::{self, Checking};
use slotfs_fs::package::{Limits, Package};
use slotfs_fs::slot::index;

use crate::extract::layers;
use crate::host::process::ProcessHandle;
use crate::workenv::Cache;

use super::assemble::Layers;
use super::finish;
use super::place::Place;
use super::request::ServeRequest;

/// How often somebody who waits looks for the verdict.
const GLANCE: Duration = Duration::from_millis(20);

/// What is known about a package that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be, or nobody is finding out.
    None,
    /// It is being hashed.
    Pending,
    /// It is not what it should be.
    Refused(String),
}

fn pending(place: &Place) -> PathBuf {
    place.workenv().own_directory().join("verifying")
}

fn refused(place: &Place) -> PathBuf {
    place.workenv().own_directory().join("refused")
}

/// Returns what is known at this moment about what is served at `place`.
#[must_use]
pub fn verdict(place: &Place) -> Verdict {
    // In this order: the one comes before the other goes.
    let is_pending = pending(place).exists();
    match std::fs::read_to_string(refused(place)) {
        Ok(reason) => Verdict::Refused(reason),
        Err(_) if is_pending => Verdict::Pending,
        Err(_) => Verdict::None,
    }
}

/// Notes that what `request` names will be hashed, and forgets what was found earlier. Before anything is served.
pub(super) fn announce(request: &ServeRequest, place: &Place) -> Result<(), DiskError> {
    remove(refused(place))?;
    if !is_wanted(request) {
        return remove(pending(place));
    }
    let path = pending(place);
    std::fs::write(&path, b"").context("write", &path)
}

fn is_wanted(request: &ServeRequest) -> bool {
    request.slots.iter().any(|slot| slot.checking == Checking::Beside)
}

fn remove(path: PathBuf) -> Result<(), DiskError> {
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(DiskError::new("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Hashes what is served, on a thread of its own. When it is good, that is remembered; else the mount is taken away, and
/// this process ends without waiting for anybody who uses it.
pub(super) fn begin(request: &ServeRequest, place: &Place, layers: &Layers) {
    if !is_wanted(request) {
        return;
    }
    let (own_request, own_place, own_layers) = (request.clone(), place.clone(), layers.clone());
    let work = move || match check(&own_request, &own_layers, &own_place.workenv().cache()) {
        Ok(()) => {
            if let Err(error) = remove(pending(&own_place)) {
                tracing::warn!("{error}");
            }
        }
        Err(reason) => give_up(&own_request, &own_place, &own_layers, &reason),
    };
    if let Err(error) = super::thread("verify", work) {
        give_up(request, place, layers, &format!("cannot start a thread to hash it: {error}"));
    }
}

/// Hashes each slot that nobody has hashed, and says what is wrong.
fn check(request: &ServeRequest, layers: &Layers, cache: &Cache) -> Result<(), String> {
    let package = Package::open(&request.package, &Limits::default()).map_err(|error| error.to_string())?;
    if Some(package.identity()) != request.identity {
        return Err("it was changed after it was opened".to_owned());
    }
    let verified = verify::verify_rest(&package, &index::checking, &|_| {});
    let verification = verified.map_err(|error| error.to_string())?;
    let failures: Vec<String> = verification.failures().collect();
    if !failures.is_empty() {
        return Err(failures.join("; "));
    }
    layers.accept(verification.identity);
    if let Err(error) = layers::ledger(&cache.shared()).record(&package, &verification) {
        tracing::debug!("cannot remember the verification: {error}");
    }
    Ok(())
}

/// Takes the mount away and ends this process, so that the kernel cuts off whoever still uses the mount. What was to go with
/// the mount goes with the next start, as after a kill.
fn give_up(request: &ServeRequest, place: &Place, layers: &Layers, reason: &str) {
    layers.refuse();
    let message = format!("`{}` is not what it should be: {reason}", request.package.display());
    tracing::error!("{message}; its mount is taken away");
    let told = atomic::write(&refused(place), message.as_bytes()).and_then(|()| remove(pending(place)));
    if let Err(error) = told {
        tracing::error!("{error}");
    }
    if let Err(error) = driver::unmount(&request.mountpoint, true) {
        tracing::error!("{error}");
    }
    if let Err(error) = finish::finish(request, place) {
        tracing::error!("{error}");
    }
    std::process::exit(1);
}

/// Looks after a program while the package that it comes from is being hashed.
#[derive(Debug)]
pub(super) struct Watch {
    place: Place,
    found: Arc<Mutex<Option<String>>>,
}

impl Watch {
    /// Returns a watch over what is served at `place`.
    pub(super) fn new(place: Place) -> Self {
        Self { place, found: Arc::default() }
    }

    /// Kills the process with this number when the package is refused. The number is that of a child that nobody has waited
    /// for.
    pub(super) fn program(&self, number: i32) {
        if verdict(&self.place) == Verdict::None {
            return;
        }
        let handle = match ProcessHandle::open(number) {
            Ok(Some(handle)) => handle,
            Ok(None) => return,
            Err(error) => return tracing::error!("cannot watch the program: {error}"),
        };
        let (place, found) = (self.place.clone(), Arc::clone(&self.found));
        let watch = move || loop {
            match verdict(&place) {
                Verdict::None => return,
                Verdict::Pending => {}
                Verdict::Refused(reason) => {
                    *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
                    if let Err(error) = handle.kill() {
                        tracing::error!("cannot kill the program: {error}");
                    }
                    return;
                }
            }
            if handle.wait(GLANCE).unwrap_or(true) {
                return;
            }
        };
        if let Err(error) = super::thread("watch", watch) {
            tracing::error!("cannot watch the program: {error}");
        }
    }

    /// Waits for the verdict, and returns why the package was refused, if it was: nobody is to take what a program has done
    /// for good before it is known what the program was.
    pub(super) fn refusal(&self) -> Option<String> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).take();
        found.or_else(|| match wait(&self.place) {
            Ok(refusal) => refusal,
            Err(error) => Some(error.to_string()),
        })
    }
}

/// Returns why what was served at `place` was refused, if it was.
#[must_use]
pub fn refusal(place: &Place) -> Option<String> {
    match verdict(place) {
        Verdict::Refused(reason) => Some(reason),
        Verdict::None | Verdict::Pending => None,
    }
}

/// Waits until what is served at `place` was hashed; returns why it was refused, if it was.
pub(super) fn wait(place: &Place) -> Result<Option<String>, DiskError> {
    loop {
        match verdict(place) {
            Verdict::None => return Ok(None),
            Verdict::Refused(reason) => return Ok(Some(reason)),
            Verdict::Pending if !place.is_served()? => return Ok(refusal(place)),
            Verdict::Pending => std::thread::sleep(GLANCE),
        }
    }
}

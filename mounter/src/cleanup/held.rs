//! The right to remove an environment: every lock that anybody who uses it would need.
//!
//! **Invariant:** nothing is waited for. While this is held nobody starts, joins, serves or unpacks the environment.

use std::io::ErrorKind;
use std::time::Duration;

use slotfs_fs::disk::lock::{FileLock, Mode};
use slotfs_fs::disk::{Context, DiskError};

use super::CleanupError;
use super::environment::{InUse, foreign, mounted_inside};
use crate::host::users;
use crate::host::{files, mount_table};
use crate::session::place::{Place, StartLock};
use crate::session::recover;
use crate::workenv::{InstanceLock, Workenv, WorkenvError};

/// All locks of one environment that nobody uses.
#[derive(Debug)]
pub(super) struct Held {
    /// Against whoever starts it.
    pub(super) start: StartLock,
    _leases: FileLock,
    _serving: FileLock,
    /// Against launchers; none on a disk that is too full for it.
    launchers: Option<InstanceLock>,
}

impl Held {
    /// Lets go of the locks of an environment that was moved away.
    pub(super) fn moved_away(self) {
        if let Some(lock) = self.launchers {
            lock.moved_away();
        }
    }
}

/// Takes every lock of `workenv`, or tells who uses it.
///
/// # Errors
/// A lock file cannot be made.
pub(super) fn hold(workenv: &Workenv) -> Result<Result<Held, InUse>, CleanupError> {
    if let Some(path) = foreign(workenv) {
        return Ok(Err(InUse::Foreign { path }));
    }
    if let Some(reason) = super::environment::in_use(workenv, &mount_table::read()?) {
        return Ok(Err(reason));
    }
    // A launcher's environment has none yet, and slotfs may be about to start it.
    let own = workenv.own_directory();
    files::create_private_directories(&own).context("create the directory", &own)?;
    let place = Place::of(workenv.clone());
    let Some(start) = place.try_start_lock_unused()? else {
        return Ok(Err(InUse::Starting { holder: place.start_holder() }));
    };
    let Some(leases) = exclusive(&workenv.leases_lock())? else { return Ok(Err(InUse::Leased)) };
    let Some(serving) = place.try_serving_lock()? else { return Ok(Err(InUse::Served)) };
    let launchers = match InstanceLock::acquire(workenv, Duration::ZERO) {
        Ok(lock) => Some(lock),
        // No reason not to make room: nobody unpacked a moment ago, and a launcher would find no room either.
        Err(WorkenvError::Disk(error)) if is_full(&error) => None,
        Err(WorkenvError::Unpacking { process, .. }) => return Ok(Err(InUse::Unpacking { process })),
        Err(error) => return Err(error.into()),
    };
    // Once more, now that nobody can begin.
    if let Some(mountpoint) = mounted_inside(workenv, &mount_table::read()?) {
        return Ok(Err(InUse::Mounted { mountpoint }));
    }
    let users = users::of(&recover::resolved(&workenv.content()));
    if !users.users.is_empty() {
        return Ok(Err(InUse::Programs(users)));
    }
    Ok(Ok(Held { start, _leases: leases, _serving: serving, launchers }))
}

/// Tells whether the disk, or the user's share of it, is full.
pub(super) fn is_full(error: &DiskError) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn exclusive(path: &std::path::Path) -> Result<Option<FileLock>, DiskError> {
    FileLock::try_acquire(path, Mode::Exclusive)
}

//! Ending a mount because the user says so.
//!
//! **Invariant:** a mount that somebody holds a lease on, or that the kernel calls busy, is not taken away unless the
//! user asked for it to be detached.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use slotfs_fs::disk::DiskError;

use crate::host::mount_table;
use crate::host::unmount::{UnmountError, unmount};
use crate::workenv::{Cache, WorkenvError};

use super::error::SessionError;
use super::place::Place;
use super::profile::replay;
use super::record::SessionRecord;
use super::recover;

/// How long the server may take to tidy up after its mount is gone.
const TIDYING: Duration = Duration::from_secs(10);

/// Why a mount was not ended.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// No environment answers to what was typed, or several do.
    #[error(transparent)]
    Workenv(#[from] WorkenvError),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The session cannot be waited for.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Nothing of ours is mounted there.
    #[error("`{}` is not mounted", what.display())]
    NotMounted {
        /// What was asked for.
        what: PathBuf,
    },
    /// Something uses it.
    #[error("`{}` is in use", mountpoint.display())]
    Busy {
        /// The mount.
        mountpoint: PathBuf,
    },
    /// The kernel, or the program that may unmount, refused.
    #[error("{reason}")]
    Refused {
        /// What it says.
        reason: String,
    },
}

/// A mount to end.
#[derive(Clone, Debug)]
pub struct Target {
    mountpoint: PathBuf,
    /// Its session, if it is one of this cache.
    place: Option<Place>,
}

impl Target {
    /// Finds the mount that the user means: by its directory `path`, or by what was `typed` as the name or id of a work
    /// environment of `cache`.
    ///
    /// # Errors
    /// There is no such mount.
    pub fn find(cache: &Cache, typed: &Path, path: &Path) -> Result<Self, EndError> {
        let table = mount_table::read()?;
        let mounted = |path: &Path| mount_table::at(&table, path).is_some_and(mount_table::Mount::is_ours);
        let asked = recover::resolved(path);
        let sessions = sessions(cache);
        if mounted(&asked) {
            let place = sessions.into_iter().find(|(_, mountpoint)| *mountpoint == asked);
            return Ok(Self { mountpoint: asked, place: place.map(|(place, _)| place) });
        }
        let listed = match cache.find(typed) {
            Ok(listed) => listed,
            Err(WorkenvError::NotFound { .. }) => return Err(EndError::NotMounted { what: typed.into() }),
            Err(error) => return Err(error.into()),
        };
        let place = Place::of(listed.workenv);
        let mountpoint = match SessionRecord::read(&place) {
            Ok(Some(record)) => record.request.mountpoint,
            Ok(None) | Err(_) => recover::resolved(&place.workenv().content()),
        };
        if !mounted(&mountpoint) {
            return Err(EndError::NotMounted { what: typed.into() });
        }
        Ok(Self { mountpoint, place: Some(place) })
    }
}

/// Every session of `cache` that has a record, with its mountpoint.
fn sessions(cache: &Cache) -> Vec<(Place, PathBuf)> {
    let places = cache.all().unwrap_or_default().into_iter().map(|listed| Place::of(listed.workenv));
    places
        .filter_map(|place| {
            let record = SessionRecord::read(&place).ok().flatten()?;
            Some((place, record.request.mountpoint))
        })
        .collect()
}

/// Ends the mount, trying for `wait` while it is in use. `lazy` detaches it whoever uses it. Returns when its server has
/// tidied up, or, detached, at once.
///
/// # Errors
/// It is in use, or cannot be unmounted.
pub fn end(target: &Target, wait: Duration, lazy: bool) -> Result<(), EndError> {
    if let Some(place) = &target.place
        && place.is_served()?
        && let Ok(Some(record)) = SessionRecord::read(place)
    {
        replay::interrupt(record.pid);
    }
    if lazy {
        if let Some(place) = &target.place {
            place.keep_no_longer()?;
        }
        return unmount(&target.mountpoint, true).map_err(|error| refused(&error));
    }
    let end = Instant::now() + wait;
    let mut pause = Duration::from_millis(10);
    while !attempt(target)? {
        if Instant::now() >= end {
            return Err(EndError::Busy { mountpoint: target.mountpoint.clone() });
        }
        std::thread::sleep(pause.min(end.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(Duration::from_millis(500));
    }
    if let Some(place) = &target.place {
        place.wait_until_unserved(TIDYING)?;
    }
    Ok(())
}

/// Tries once; `false` means that it is in use.
fn attempt(target: &Target) -> Result<bool, EndError> {
    // Held while unmounting, so that nobody joins a mount that goes.
    let _nobody = match &target.place {
        Some(place) => match place.no_lease()? {
            Some(lock) => Some(lock),
            None => return Ok(!recover::is_mounted(&target.mountpoint)?),
        },
        None => None,
    };
    match unmount(&target.mountpoint, false) {
        Ok(()) | Err(UnmountError::NotMounted { .. }) => Ok(true),
        Err(UnmountError::Busy { .. }) => Ok(false),
        Err(error) => Err(refused(&error)),
    }
}

fn refused(error: &UnmountError) -> EndError {
    EndError::Refused { reason: error.to_string() }
}

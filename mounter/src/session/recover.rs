//! What killed processes left behind, found by the kernel's locks and mount table, and cleared.
//!
//! A session whose serving lock is free has no server, whatever its record says. Its mount, if there is one, is
//! dead: detached. What its server would have tidied up is tidied up.
//!
//! **Invariant:** nothing is cleared without the start lock and the serving lock in hand, so that no server can be
//! starting or living meanwhile; and no file system is asked anything that a hung server would have to answer.

use std::path::{Path, PathBuf};

use slotfs_fs::disk::{Context, DiskError};

use crate::host::health::{self, Health};
use crate::host::mount_table::{self, Mount};
use crate::host::unmount::unmount;
use crate::workenv::{Cache, WorkenvName};

use super::error::SessionError;
use super::finish;
use super::place::{Place, StartLock};
use super::record::{RecordError, SessionRecord};
use super::snapshot;

/// How long a mount may take to show whether it is dead.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// Tells whether one of our mounts is at `mountpoint`, dead or alive.
///
/// # Errors
/// The mount table cannot be read.
pub fn is_mounted(mountpoint: &Path) -> Result<bool, DiskError> {
    let table = mount_table::read()?;
    Ok(mount_table::at(&table, mountpoint).is_some_and(Mount::is_ours))
}

/// Tells whether one of our mounts is at `mountpoint` and has a server. One that takes long to answer has one.
///
/// # Errors
/// The mount table cannot be read, or the mountpoint cannot be asked.
pub(super) fn answers(mountpoint: &Path) -> Result<bool, DiskError> {
    Ok(is_mounted(mountpoint)?
        && health::health(mountpoint, PATIENCE).context("ask", mountpoint)? != Health::Dead)
}

/// Clears every crashed session of `cache` that shows in the mount table, and returns where their mounts were. To be
/// called by every command: when nothing crashed, it costs one look at the table.
///
/// One that cannot be cleared is logged, and left for whoever needs that very environment.
///
/// # Errors
/// The mount table cannot be read.
pub fn sweep(cache: &Cache) -> Result<Vec<PathBuf>, DiskError> {
    let table = mount_table::read()?;
    let mut ours = table.iter().filter(|mount| mount.is_ours()).peekable();
    if ours.peek().is_none() {
        return Ok(Vec::new());
    }
    // The table has paths as the kernel knows them.
    let directory = cache.directory().canonicalize().unwrap_or_else(|_| cache.directory().to_owned());
    let (inside, outside): (Vec<&Mount>, Vec<&Mount>) =
        ours.partition(|mount| mount.mountpoint.parent() == Some(&directory));
    let named = |mount: &&Mount| WorkenvName::new(mount.mountpoint.file_name()?);
    let mut places: Vec<Place> =
        inside.iter().filter_map(named).map(|name| Place::of(cache.workenv(name))).collect();
    if !outside.is_empty() {
        places.extend(mounted_elsewhere(cache));
    }
    let mut cleared = Vec::new();
    for place in places {
        match clear_if_crashed(&place) {
            Ok(mountpoints) => cleared.extend(mountpoints),
            Err(error) => tracing::warn!("{error}"),
        }
    }
    Ok(cleared)
}

/// Sessions whose mount is not in the cache are known by their records only.
fn mounted_elsewhere(cache: &Cache) -> Vec<Place> {
    let all = cache.all().unwrap_or_default();
    let places = all.into_iter().map(|listed| Place::of(listed.workenv));
    places.filter(|place| place.record().exists()).collect()
}

fn clear_if_crashed(place: &Place) -> Result<Vec<PathBuf>, SessionError> {
    if place.is_served()? {
        return Ok(Vec::new());
    }
    // Whoever has the lock is about to clear it, too.
    let Some(start) = place.try_start_lock()? else { return Ok(Vec::new()) };
    clear(&start, place)
}

/// Clears what a killed server left at `place`, if there is no server, and returns where its mounts were.
///
/// # Errors
/// A dead mount cannot be detached, or a file cannot be removed.
pub fn clear(_start: &StartLock, place: &Place) -> Result<Vec<PathBuf>, SessionError> {
    // Held until all is done: no server can begin.
    let Some(_serving) = place.try_serving_lock()? else { return Ok(Vec::new()) };
    snapshot::settle(place.workenv())?;
    let record = match SessionRecord::read(place) {
        Ok(record) => record,
        Err(error @ RecordError::Garbled { .. }) => {
            tracing::warn!("{error}");
            SessionRecord::remove(place)?;
            None
        }
        Err(error) => return Err(error.into()),
    };
    let mut cleared = Vec::new();
    let content = resolved(&place.workenv().content());
    let recorded = record.as_ref().map(|record| record.request.mountpoint.clone());
    let elsewhere = recorded.filter(|mountpoint| *mountpoint != content);
    for mountpoint in [content].into_iter().chain(elsewhere) {
        if detach(&mountpoint)? {
            tracing::info!("cleared the dead mount at `{}`", mountpoint.display());
            cleared.push(mountpoint);
        }
    }
    match record {
        Some(record) => finish::finish(&record.request, place)?,
        None if !cleared.is_empty() => withdraw(place)?,
        None => {}
    }
    Ok(cleared)
}

fn withdraw(place: &Place) -> Result<(), SessionError> {
    place.workenv().withdraw().map_err(|error| SessionError::Clear {
        mountpoint: place.workenv().content(),
        reason: error.to_string(),
    })
}

/// Detaches every dead mount of ours at `mountpoint`; tells whether there was one. A mount that answers has a server
/// that is not this session's, and stays.
pub(super) fn detach(mountpoint: &Path) -> Result<bool, SessionError> {
    let failed = |reason: String| SessionError::Clear { mountpoint: mountpoint.into(), reason };
    let mut detached = false;
    while is_mounted(mountpoint)? {
        match health::health(mountpoint, PATIENCE) {
            Ok(Health::Dead) => {}
            Ok(Health::Alive) => return Ok(detached),
            Ok(Health::Hung) => return Err(failed("its server does not answer".into())),
            Err(error) => return Err(failed(error.to_string())),
        }
        unmount(mountpoint, true).map_err(|error| failed(error.to_string()))?;
        detached = true;
    }
    Ok(detached)
}

/// Resolves links in everything but the last component, which is not asked: it may be a dead mount.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    parent.canonicalize().map_or_else(|_| path.to_owned(), |parent| parent.join(name))
}

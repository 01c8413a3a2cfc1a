//! The launchers' extraction lock: a file with a process number, made only by whoever finds none.
//!
//! Held by slotfs while it prepares a mounted environment, it makes a launcher that is started meanwhile wait
//! for `complete` (up to 60 s) instead of unpacking into the mount.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use slotfs_fs::disk::{Context, DiskError};

use super::record::read_small;
use super::{Workenv, WorkenvError};
use crate::host::{files, program};

/// The held lock; dropping it removes the file.
#[derive(Debug)]
pub struct InstanceLock {
    path: PathBuf,
}

impl InstanceLock {
    /// Takes the lock, waiting for at most `limit` for a launcher that unpacks. A lock whose process is gone,
    /// or that names none, is removed, as the launchers do.
    ///
    /// # Errors
    /// [`WorkenvError::Unpacking`] when the other process is still at it; else the disk's.
    pub fn acquire(workenv: &Workenv, limit: Duration) -> Result<Self, WorkenvError> {
        let path = workenv.extract_lock();
        if let Some(directory) = path.parent() {
            files::create_private_directories(directory).context("create the directory", directory)?;
        }
        let start = Instant::now();
        loop {
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    let lock = Self { path };
                    writeln!(file, "{}", std::process::id()).context("write", &lock.path)?;
                    return Ok(lock);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(DiskError::new("create", &path, error).into()),
            }
            match holder(&path)? {
                Some(process) if start.elapsed() >= limit => {
                    return Err(WorkenvError::Unpacking { process, lock: path });
                }
                Some(_) => std::thread::sleep(Duration::from_millis(20)),
                None => super::error::remove_if_there(&path)?,
            }
        }
    }
}

impl InstanceLock {
    /// Lets go of a lock whose environment was moved away: what has its name now is somebody else's.
    pub fn moved_away(mut self) {
        self.path = PathBuf::new();
    }
}

impl Workenv {
    /// Returns the living process that unpacks or prepares the environment, as the launchers' lock names it.
    #[must_use]
    pub fn unpacking_process(&self) -> Option<u32> {
        holder(&self.extract_lock()).ok().flatten()
    }
}

impl Drop for InstanceLock {
    fn drop(&mut self) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = super::error::remove_if_there(&self.path) {
            tracing::warn!(%error, "a launcher will wait until this process has ended");
        }
    }
}

/// Returns the living process that holds the lock.
fn holder(path: &std::path::Path) -> Result<Option<u32>, DiskError> {
    let Some(bytes) = read_small(path, 64)? else { return Ok(None) };
    let process = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok());
    Ok(process.filter(|process| program::is_alive(*process)))
}

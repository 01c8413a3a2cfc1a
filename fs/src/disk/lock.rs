//! Advisory locks on files: shared while in use, exclusive to change or remove, never waited for without end.
//!
//! The lock is the kernel's (`flock(2)`; `LockFileEx` on Windows), so a killed holder releases it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::DiskError;

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Takes the lock at once or tells that somebody else has it (`None`). The file is created when missing.
    ///
    /// # Errors
    /// Fails when the lock file cannot be opened or locked for another reason than a holder.
    pub fn try_acquire(path: &Path, mode: Mode) -> Result<Option<Self>, DiskError> {
        let failed = |error: io::Error| DiskError::new("lock", path, error);
        loop {
            let file = open(path).map_err(failed)?;
            let taken = match mode {
                Mode::Shared => file.try_lock_shared(),
                Mode::Exclusive => file.try_lock(),
            };
            match taken {
                // The holder before us may have removed the file: then this lock guards nothing.
                Ok(()) if still_there(&file, path) => return Ok(Some(Self { file, path: path.into() })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// Takes the lock, waiting for at most `limit`.
    ///
    /// # Errors
    /// `ErrorKind::TimedOut` when the holder kept it all that time; otherwise as [`Self::try_acquire`].
    pub fn acquire(path: &Path, mode: Mode, limit: Duration) -> Result<Self, DiskError> {
        let start = Instant::now();
        let mut pause = Duration::from_micros(200);
        loop {
            if let Some(lock) = Self::try_acquire(path, mode)? {
                return Ok(lock);
            }
            if start.elapsed() >= limit {
                let reason = format!("another process still holds it after {:.1} s", limit.as_secs_f32());
                return Err(DiskError::new("lock", path, io::Error::new(ErrorKind::TimedOut, reason)));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Waits without limit until the lock is free, then takes it. For a thread that has nothing else to do.
    ///
    /// # Errors
    /// As [`Self::try_acquire`].
    pub fn wait(path: &Path, mode: Mode) -> Result<Self, DiskError> {
        let failed = |error: io::Error| DiskError::new("lock", path, error);
        loop {
            let file = open(path).map_err(failed)?;
            match mode {
                Mode::Shared => file.lock_shared().map_err(failed)?,
                Mode::Exclusive => file.lock().map_err(failed)?,
            }
            if still_there(&file, path) {
                return Ok(Self { file, path: path.into() });
            }
        }
    }

    /// Returns the lock's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the open lock file, to hand the lock to a child process by its descriptor.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn still_there(file: &File, path: &Path) -> bool {
    use super::identity::FileIdentity;
    let (Ok(held), Ok(now)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    let (held, now) = (FileIdentity::of(&held), FileIdentity::of(&now));
    (held.device, held.inode) == (now.device, now.inode)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn an_exclusive_lock_keeps_others_out_and_a_wait_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let held = FileLock::try_acquire(&path, Mode::Exclusive).unwrap().unwrap();
        assert!(FileLock::try_acquire(&path, Mode::Shared).unwrap().is_none());
        let error = FileLock::acquire(&path, Mode::Shared, Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(held);
        let first = FileLock::try_acquire(&path, Mode::Shared).unwrap().unwrap();
        assert!(FileLock::try_acquire(&path, Mode::Shared).unwrap().is_some());
        assert!(FileLock::try_acquire(&path, Mode::Exclusive).unwrap().is_none());
        assert_eq!(first.path(), path);
    }

    #[test]
    fn a_removed_lock_file_is_not_mistaken_for_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let old = FileLock::try_acquire(&path, Mode::Exclusive).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(FileLock::try_acquire(&path, Mode::Exclusive).unwrap().is_some());
        drop(old);
    }
}

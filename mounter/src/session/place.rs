//! The locks and files of one session, in the own directory of its work environment.
//!
//! *Layout*
//!
//! | file | what |
//! |---|---|
//! | `start.lock` | exclusive while somebody starts, joins, sets up or clears the session; holds that process's number |
//! | `serving.lock` | exclusive while a process serves, until it has tidied up: whoever gets it knows that there is none |
//! | `leases.lock` | shared by every user of the mount; exclusive for the server that takes the mount away; its time is the end of the last use |
//! | `session.json` | what is being served; there while it is, and after a crash |
//! | `keep` | there when the mount is to stay although nobody holds a lease |
//! | `server.log` | what the serving process has to say |
//!
//! **Invariant:** all three locks are the kernel's, so whoever is killed lets go of them.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use slotfs_fs::disk::lock::{FileLock, Mode};
use slotfs_fs::disk::{Context, DiskError};

use crate::workenv::Workenv;

/// The files of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    workenv: Workenv,
}

impl Place {
    /// Returns the place of the session of `workenv`.
    #[must_use]
    pub fn of(workenv: Workenv) -> Self {
        Self { workenv }
    }

    /// Returns the work environment.
    #[must_use]
    pub fn workenv(&self) -> &Workenv {
        &self.workenv
    }

    /// Returns where the session record is.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.workenv.session_record()
    }

    /// Asks the mount to stay although nobody holds a lease, until it is unmounted.
    ///
    /// # Errors
    /// The mark cannot be made.
    pub fn keep(&self) -> Result<(), DiskError> {
        let path = self.keep_path();
        std::fs::write(&path, b"").context("write", &path)
    }

    /// Tells whether the mount is to stay although nobody holds a lease.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.keep_path().exists()
    }

    /// Lets the mount go with its last lease again.
    ///
    /// # Errors
    /// The mark is there and cannot be removed.
    pub fn keep_no_longer(&self) -> Result<(), DiskError> {
        let path = self.keep_path();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(DiskError::new("remove", path, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Returns where the serving process writes its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.workenv.server_log()
    }

    /// Takes the right to start, join, set up or clear; `None` when another process has it.
    ///
    /// # Errors
    /// The lock file cannot be opened or locked.
    pub fn try_start_lock(&self) -> Result<Option<StartLock>, DiskError> {
        Ok(FileLock::try_acquire(&self.workenv.start_lock(), Mode::Exclusive)?.map(StartLock::announce))
    }

    /// As [`Self::try_start_lock`], for somebody who looks after the environment without using it: the time of its last
    /// use stays.
    ///
    /// # Errors
    /// The lock file cannot be opened or locked.
    pub fn try_start_lock_unused(&self) -> Result<Option<StartLock>, DiskError> {
        let path = self.workenv.start_lock();
        let used = std::fs::symlink_metadata(&path).and_then(|known| known.modified()).ok();
        let Some(lock) = FileLock::try_acquire(&path, Mode::Exclusive)? else { return Ok(None) };
        let lock = StartLock::announce(lock);
        if let Some(used) = used {
            lock.lock.file().set_modified(used).context("set the times of", &path)?;
        }
        Ok(Some(lock))
    }

    /// Notes that the environment was in use until now.
    pub fn note_use(&self) {
        let path = self.workenv.leases_lock();
        let file = std::fs::File::options().write(true).open(&path);
        if let Err(error) = file.and_then(|file| file.set_modified(SystemTime::now())) {
            tracing::debug!("cannot note the use in `{}`: {error}", path.display());
        }
    }

    /// Takes the right to start, join, set up or clear, waiting for at most `limit`; `on_wait` hears once who has
    /// it when that takes longer than a moment.
    ///
    /// # Errors
    /// `ErrorKind::TimedOut` when the holder kept it all that time; or the lock file cannot be opened or locked.
    pub fn start_lock(&self, limit: Duration, on_wait: &mut dyn FnMut(&str)) -> Result<StartLock, DiskError> {
        const MOMENT: Duration = Duration::from_millis(700);
        if let Some(lock) = self.try_start_lock()? {
            return Ok(lock);
        }
        let began = Instant::now();
        let path = self.workenv.start_lock();
        match FileLock::acquire(&path, Mode::Exclusive, MOMENT.min(limit)) {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut && limit > MOMENT => {
                on_wait(&self.start_holder());
                let left = limit.saturating_sub(began.elapsed());
                FileLock::acquire(&path, Mode::Exclusive, left).map(StartLock::announce)
            }
            result => result.map(StartLock::announce),
        }
    }

    /// Describes who holds the start lock, as far as it can be known: `process 4711`.
    #[must_use]
    pub fn start_holder(&self) -> String {
        let note = std::fs::read_to_string(self.workenv.start_lock()).unwrap_or_default();
        match note.trim().parse::<u32>() {
            Ok(number) => format!("process {number}"),
            Err(_) => "another process".into(),
        }
    }

    /// Takes the lock that a serving process holds for its life; `None` when there is one.
    ///
    /// # Errors
    /// The lock file cannot be opened or locked.
    pub fn try_serving_lock(&self) -> Result<Option<FileLock>, DiskError> {
        FileLock::try_acquire(&self.workenv.serving_lock(), Mode::Exclusive)
    }

    /// Tells whether a serving process lives.
    ///
    /// # Errors
    /// The lock file cannot be opened or locked.
    pub fn is_served(&self) -> Result<bool, DiskError> {
        // Shared, so that two who ask at once do not take each other for a server.
        let lock = FileLock::try_acquire(&self.workenv.serving_lock(), Mode::Shared)?;
        Ok(lock.is_none())
    }

    /// Waits for at most `limit` until no process serves this work environment; tells whether that is so. The kernel
    /// wakes the waiting thread; nothing is asked again and again.
    ///
    /// # Errors
    /// The lock file cannot be opened or locked.
    pub fn wait_until_unserved(&self, limit: Duration) -> Result<bool, DiskError> {
        let path = self.workenv.serving_lock();
        if FileLock::try_acquire(&path, Mode::Shared)?.is_some() {
            return Ok(true);
        }
        let (tell, told) = std::sync::mpsc::channel();
        let waited = path.clone();
        // When the limit comes first, the thread is left behind with a lock that it gives back at once.
        let wait = move || drop(tell.send(FileLock::wait(&waited, Mode::Shared).map(drop)));
        super::thread("unserved", wait).map_err(|source| DiskError::new("wait for", &path, source))?;
        match told.recv_timeout(limit) {
            Ok(result) => result.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Takes a lease, which keeps the mount alive as long as it is held; `None` while the server takes the mount
    /// away.
    ///
    /// # Errors
    /// The lock file cannot be opened or locked.
    pub fn try_lease(&self) -> Result<Option<Lease>, DiskError> {
        Ok(FileLock::try_acquire(&self.workenv.leases_lock(), Mode::Shared)?.map(Lease))
    }

    /// Takes a lease, waiting for at most `limit` while a server takes its mount away.
    ///
    /// # Errors
    /// `ErrorKind::TimedOut` when that took longer; or the lock file cannot be opened or locked.
    pub fn lease(&self, limit: Duration) -> Result<Lease, DiskError> {
        FileLock::acquire(&self.workenv.leases_lock(), Mode::Shared, limit).map(Lease)
    }

    /// Keeps everybody from taking a lease; `None` when somebody holds one.
    ///
    /// # Errors
    /// The lock file cannot be opened or locked.
    pub fn no_lease(&self) -> Result<Option<FileLock>, DiskError> {
        // A server that hears that nobody holds a lease has the lock for a moment, too.
        const MOMENT: Duration = Duration::from_millis(100);
        match FileLock::acquire(&self.workenv.leases_lock(), Mode::Exclusive, MOMENT) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until nobody holds a lease and keeps everybody from taking one; for the server's watching thread.
    ///
    /// # Errors
    /// The lock file cannot be opened or locked.
    pub fn wait_for_no_lease(&self) -> Result<FileLock, DiskError> {
        FileLock::wait(&self.workenv.leases_lock(), Mode::Exclusive)
    }

    fn keep_path(&self) -> PathBuf {
        self.workenv.own_directory().join("keep")
    }
}

/// The right to start, join, set up or clear a session.
#[derive(Debug)]
pub struct StartLock {
    lock: FileLock,
}

impl StartLock {
    fn announce(lock: FileLock) -> Self {
        use std::os::unix::fs::FileExt;
        // Only for the message that somebody else may have to print; the lock itself is what counts. A fixed width
        // overwrites what an earlier holder with a longer number left.
        let note = format!("{:<10}\n", std::process::id());
        if let Err(error) = lock.file().write_all_at(note.as_bytes(), 0) {
            tracing::debug!("cannot note the holder in `{}`: {error}", lock.path().display());
        }
        Self { lock }
    }
}

/// Keeps a mount alive as long as it is held; a killed holder lets go of it.
#[derive(Debug)]
pub struct Lease(pub(super) FileLock);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
pub(crate) mod tests {
    use super::*;
    use crate::workenv::{Cache, WorkenvName};

    /// A session's place in a folder of its own.
    pub(crate) fn place() -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().unwrap();
        let workenv = Cache::new(folder.path()).workenv(WorkenvName::new("app".as_ref()).unwrap());
        workenv.create().unwrap();
        (folder, Place::of(workenv))
    }

    #[test]
    fn a_lease_keeps_the_server_and_a_leaving_server_keeps_new_leases_out() {
        let (_folder, place) = place();
        let (one, two) = (place.try_lease().unwrap().unwrap(), place.try_lease().unwrap().unwrap());
        let watcher = std::thread::spawn({
            let place = place.clone();
            move || place.wait_for_no_lease().unwrap()
        });
        drop(one);
        std::thread::sleep(Duration::from_millis(20));
        assert!(!watcher.is_finished());
        drop(two);
        let leaving = watcher.join().unwrap();
        assert!(place.try_lease().unwrap().is_none());
        drop(leaving);
        assert!(place.try_lease().unwrap().is_some());
    }

    #[test]
    fn the_start_lock_names_its_holder_and_the_wait_for_it_ends() {
        let (_folder, place) = place();
        assert_eq!(place.start_holder(), "another process");
        let held = place.try_start_lock().unwrap().unwrap();
        let expected = format!("process {}", std::process::id());
        assert_eq!(place.start_holder(), expected);
        let mut heard = Vec::new();
        let error = place
            .start_lock(Duration::from_millis(800), &mut |holder| heard.push(holder.to_owned()))
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(heard, [expected]);
        drop(held);
        assert!(place.try_start_lock().unwrap().is_some());
    }

    #[test]
    fn only_a_server_counts_as_one() {
        let (_folder, place) = place();
        assert!(!place.is_served().unwrap());
        let serving = place.try_serving_lock().unwrap().unwrap();
        assert!(place.is_served().unwrap());
        assert!(!place.wait_until_unserved(Duration::from_millis(5)).unwrap());
        drop(serving);
        assert!(place.wait_until_unserved(Duration::from_millis(5)).unwrap());
    }
}

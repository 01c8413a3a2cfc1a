//! A session as its user holds it: a lease on a live mount, and the end of it.
//!
//! **Invariant:** a session is dropped or ended, never leaked: the lease goes with it, and the mount with the last
//! lease.

use std::fs::TryLockError;
use std::time::Duration;

use slotfs_fs::disk::DiskError;

use super::error::SessionError;
use super::place::{Lease, Place};
use super::record::SessionRecord;
use super::recover;

/// A lease on a live mount.
#[derive(Debug)]
pub struct Session {
    pub(super) place: Place,
    pub(super) lease: Lease,
    pub(super) record: SessionRecord,
}

/// What became of a session that was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The mount is gone and tidied up after.
    Gone,
    /// Others use it, or it was asked to stay.
    Stays,
    /// Nobody holds a lease, but something keeps the mount busy; its server ends when that does.
    Busy,
}

impl Session {
    /// Returns what is being served.
    #[must_use]
    pub fn record(&self) -> &SessionRecord {
        &self.record
    }

    /// Returns the session's files.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Gives the lease back. When it was the last one, waits for at most `limit` until the mount is gone, its
    /// lifecycles are applied; its server may live on for as long as it takes to finish an index.
    ///
    /// # Errors
    /// The lock file cannot be used, or the server cannot be waited for.
    pub fn end(self, limit: Duration) -> Result<Ended, SessionError> {
        let last = self.lease.give_back(&self.place)?;
        if !last || self.place.is_kept() {
            return Ok(Ended::Stays);
        }
        let gone = self.place.wait_until_unserved(limit)?;
        if !gone {
            return Ok(Ended::Busy);
        }
        // A server that ended by itself took its record with it; one that was killed could not.
        if self.place.record().exists()
            && let Some(start) = self.place.try_start_lock()?
        {
            recover::clear(&start, &self.place)?;
        }
        Ok(Ended::Gone)
    }

    /// Leaves the mount to whoever else holds it, without waiting.
    pub fn leave(self) {
        drop(self.lease);
    }
}

impl Lease {
    /// Gives the lease back; tells whether it was the last one.
    ///
    /// Turning the shared lock into an exclusive one succeeds for the last holder alone. It may fail for the last
    /// one too, when the server was quicker: then no lease can be had any more.
    pub(super) fn give_back(self, place: &Place) -> Result<bool, DiskError> {
        let Self(lock) = self;
        match lock.file().try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(place.try_lease()?.is_none()),
            Err(TryLockError::Error(error)) => Err(DiskError::new("lock", lock.path(), error)),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::super::place::tests::place;

    #[test]
    fn only_the_last_lease_given_back_is_the_last() {
        let (_folder, place) = place();
        let (one, two) = (place.try_lease().unwrap().unwrap(), place.try_lease().unwrap().unwrap());
        assert!(!one.give_back(&place).unwrap());
        assert!(two.give_back(&place).unwrap());
        let leaving = place.wait_for_no_lease().unwrap();
        assert!(place.try_lease().unwrap().is_none());
        drop(leaving);
    }

    #[test]
    fn a_server_that_is_quicker_does_not_hide_that_the_lease_was_the_last() {
        let (_folder, place) = place();
        for _ in 0..200 {
            let lease = place.try_lease().unwrap().unwrap();
            std::thread::scope(|scope| {
                let (told, tell) = std::sync::mpsc::channel::<()>();
                let server = scope.spawn({
                    let place = &place;
                    move || {
                        let leaving = place.wait_for_no_lease().unwrap();
                        // As a server does: keeps everybody out until the caller has looked.
                        let _ = tell.recv();
                        drop(leaving);
                    }
                });
                assert!(lease.give_back(&place).unwrap());
                drop(told);
                server.join().unwrap();
            });
        }
    }
}

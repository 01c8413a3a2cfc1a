//! Taking a package's environment: its name, its start lock, its note on the disk.
//!
//! **Invariant:** nothing of what is in the environment is looked at or changed here.

use std::sync::Arc;
use std::time::SystemTime;

use slotfs_fs::disk::DiskError;
use slotfs_fs::worker;

use super::error::SessionError;
use super::place::{Place, StartLock};
use super::prepare::{PrepareError, Step, Wanted};
use crate::plan::Examined;
use crate::workenv::{Claim, Claimed, Record};

/// Has the disk keep what was noted about the environment while all else goes on, in a thread where that can be had; what is
/// returned waits for it.
pub(super) fn sync_beside(claimed: Claimed) -> impl FnOnce() -> Result<(), DiskError> {
    let claimed = Arc::new(claimed);
    let syncing = worker::spawn_small("slotfs-note", {
        let claimed = Arc::clone(&claimed);
        move || claimed.sync()
    });
    move || match syncing.map(std::thread::JoinHandle::join) {
        Ok(Ok(synced)) => synced,
        Ok(Err(_)) | Err(_) => claimed.sync(),
    }
}

/// Finds the package's environment and locks it. What was found is looked at again under the lock: another process
/// may have handed the environment over meanwhile.
pub(super) fn claim(
    examined: &Examined,
    wanted: &Wanted<'_>,
    told: &mut dyn FnMut(Step<'_>),
) -> Result<(Claimed, Place, StartLock), PrepareError> {
    let cache = crate::workenv::Cache::new(&wanted.settings.cache_directory.value);
    let facts = &examined.facts;
    let mut attempts = 100;
    loop {
        let claimed = cache.claim(facts, wanted.rule, SystemTime::now())?;
        claimed.workenv.create()?;
        let place = Place::of(claimed.workenv.clone());
        let limit = wanted.patience.preparing;
        let start = match place.start_lock(limit, &mut |holder| told(Step::Waiting { holder })) {
            // Somebody removed the environment meanwhile: it is made again.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && attempts > 0 => {
                attempts -= 1;
                continue;
            }
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                return Err(SessionError::Preparing {
                    workenv: claimed.workenv.name().to_string(),
                    holder: place.start_holder(),
                    waited: limit,
                }
                .into());
            }
            other => other?,
        };
        let owner = Record::read(&claimed.workenv).map(|record| record.id);
        let unchanged = match &claimed.claim {
            Claim::New | Claim::Same => owner.as_ref() == Some(&facts.id),
            Claim::Rebuilt(previous) => owner.is_none_or(|owner| owner == previous.id),
        };
        if unchanged {
            return Ok((claimed, place, start));
        }
    }
}

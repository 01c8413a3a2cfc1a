//! A work environment that nobody uses, and nobody can begin to use while this is held: for who changes what was
//! written from outside of a volume.
//!
//! **Invariant:** start lock, leases and serving lock are held together, taken in this order, so that no server lives
//! and none can start, and nobody runs from unpacked files.

use std::path::PathBuf;
use std::time::Duration;

use slotfs_fs::disk::DiskError;
use slotfs_fs::disk::lock::FileLock;

use super::error::SessionError;
use super::place::{Place, StartLock};
use super::record::SessionRecord;
use super::recover;

/// How long others may take to start or to tidy up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the environment is not still.
#[derive(Debug, thiserror::Error)]
pub enum StillError {
    /// It is mounted.
    #[error("`{workenv}` is mounted at `{}`", mountpoint.display())]
    Mounted {
        /// The environment.
        workenv: String,
        /// Where.
        mountpoint: PathBuf,
    },
    /// Somebody starts it, or runs from its unpacked files.
    #[error("`{workenv}` is in use by {holder}")]
    InUse {
        /// The environment.
        workenv: String,
        /// Who, as far as that is known.
        holder: String,
    },
    /// What a crash left cannot be cleared.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl From<DiskError> for StillError {
    fn from(error: DiskError) -> Self {
        Self::Session(error.into())
    }
}

/// A work environment that nobody uses.
#[derive(Debug)]
pub struct Still {
    _serving: FileLock,
    _leases: FileLock,
    _start: StartLock,
}

impl Still {
    /// Takes hold of the environment at `place`, and clears what a crash left there.
    ///
    /// # Errors
    /// Somebody uses it.
    pub fn hold(place: &Place) -> Result<Self, StillError> {
        let workenv = place.workenv().name().to_string();
        let in_use = |holder: String| StillError::InUse { workenv: workenv.clone(), holder };
        let start = match place.start_lock(PATIENCE, &mut |_| {}) {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                return Err(in_use(place.start_holder()));
            }
            other => other?,
        };
        recover::clear(&start, place)?;
        if let Some(mountpoint) = mounted(place)? {
            return Err(StillError::Mounted { workenv, mountpoint });
        }
        // A server whose mount has just gone is still tidying up.
        place.wait_until_unserved(PATIENCE)?;
        let leases = place.no_lease()?.ok_or_else(|| in_use("a running program".into()))?;
        let serving = place.try_serving_lock()?.ok_or_else(|| in_use("its server".into()))?;
        Ok(Self { _serving: serving, _leases: leases, _start: start })
    }
}

/// Returns where a living server has mounted the environment at `place`.
fn mounted(place: &Place) -> Result<Option<PathBuf>, DiskError> {
    if !place.is_served()? {
        return Ok(None);
    }
    let mountpoint = match SessionRecord::read(place) {
        Ok(Some(record)) => record.request.mountpoint,
        // One that just begins or ends.
        Ok(None) | Err(_) => recover::resolved(&place.workenv().content()),
    };
    Ok(recover::is_mounted(&mountpoint)?.then_some(mountpoint))
}

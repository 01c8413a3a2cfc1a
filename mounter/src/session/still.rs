//! A work environment that nobody uses, and nobody can begin to use while this is held: for who changes what was
//! written from outside of a volume. And one that is mounted and stays so, for who asks its server to do that.
//!
//! **Invariant:** start lock, leases and serving lock are held together, taken in this order, so that no server lives
//! and none can start, and nobody runs from unpacked files. Of a mounted one the start lock and a lease are held: its server
//! stays, and no other begins.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use slotfs_fs::disk::DiskError;
use slotfs_fs::disk::lock::FileLock;

use super::control::{ControlError, Line};
use super::error::SessionError;
use super::place::{Lease, Place, StartLock};
use super::record::SessionRecord;
use super::recover;

/// How long others may take to start or to tidy up.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a server may be mounted without listening.
const MOMENT: Duration = Duration::from_secs(2);

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
    /// Its server does not do it.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl From<DiskError> for StillError {
    fn from(error: DiskError) -> Self {
        Self::Session(error.into())
    }
}

/// A work environment whose server is there and stays.
#[derive(Debug)]
pub struct Live {
    /// The way to its server.
    pub line: Line,
    lease: Lease,
    _start: StartLock,
}

/// A work environment that nobody else begins to use, or stops using, meanwhile.
#[derive(Debug)]
pub enum Quiet {
    /// Nobody uses it.
    Still(Still),
    /// It is mounted.
    Live(Live),
}

impl Quiet {
    /// Takes hold of the environment at `place`, mounted or not.
    ///
    /// # Errors
    /// Somebody starts it, or runs from its unpacked files; or its server cannot be talked to.
    pub fn hold(place: &Place) -> Result<Self, StillError> {
        patiently(|| match Still::hold(place) {
            Err(StillError::Mounted { workenv, mountpoint }) => match Live::join(place, &workenv)? {
                Some(live) => Ok(Self::Live(live)),
                None => Err(StillError::Mounted { workenv, mountpoint }),
            },
            other => Ok(Self::Still(other?)),
        })
    }
}

/// Returns the way to the server of the environment at `place`; `None` where it is not mounted.
///
/// # Errors
/// It is mounted, and its server cannot be talked to.
pub fn line_to(place: &Place) -> Result<Option<Line>, StillError> {
    patiently(|| match (Line::to(place)?, mounted(place)?) {
        (None, Some(mountpoint)) => {
            Err(StillError::Mounted { workenv: place.workenv().name().to_string(), mountpoint })
        }
        (line, _) => Ok(line),
    })
}

/// Tries again for a moment what ended because the environment is mounted and nobody listens: a server listens a moment
/// after it has mounted, and goes a moment before its mount.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, StillError>) -> Result<T, StillError> {
    let end = Instant::now() + MOMENT;
    loop {
        match attempt() {
            Err(StillError::Mounted { .. }) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

impl Live {
    /// Lets others begin to use it, too; its server stays as long as the lease does.
    #[must_use]
    pub fn into_lease(self) -> Lease {
        self.lease
    }

    /// `None` when its server goes, or does not listen.
    fn join(place: &Place, workenv: &str) -> Result<Option<Self>, StillError> {
        let start = match place.start_lock(PATIENCE, &mut |_| {}) {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                return Err(StillError::InUse { workenv: workenv.into(), holder: place.start_holder() });
            }
            other => other?,
        };
        let Some(lease) = place.try_lease()? else { return Ok(None) };
        Ok(Line::to(place)?.map(|line| Self { line, lease, _start: start }))
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

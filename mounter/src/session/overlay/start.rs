//! Starting a server for given layers, and waiting until its mount is up.
//!
//! **Invariant:** no directory lies where it would be read or written through the mount or through another one; and
//! every wait ends.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slotfs_fs::disk::{Context, DiskError};

use super::request::OverlayRequest;
use super::serve::directories;
use crate::session::request::{ServeReply, Spill};
use crate::session::server::Server;
use crate::session::{SessionError, foreground, recover};

/// The argument of the hidden subcommand that makes it serve given layers.
pub const OVERLAY_ARGUMENT: &str = "--overlay";

/// Why there is no mount.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// Two directories are in each other's way.
    #[error("{what} `{}` lies in {within} `{}`", path.display(), other.display())]
    Overlap {
        /// What the inner one is.
        what: &'static str,
        /// The inner directory.
        path: PathBuf,
        /// What the outer one is.
        within: &'static str,
        /// The outer directory.
        other: PathBuf,
    },
    /// There is no server, or it refuses.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl From<DiskError> for OverlayError {
    fn from(error: DiskError) -> Self {
        Self::Session(error.into())
    }
}

/// A server that has mounted what it was asked for.
#[derive(Debug)]
pub struct Started {
    server: Server,
}

/// Starts a server for `request`, whose paths are absolute and exist, and waits until its mount is up, for at most
/// `limit`. A dead mount of slotfs at the mountpoint is cleared first. What the server has to say goes to `log`, else
/// to standard error.
///
/// # Errors
/// Directories lie in each other, or the server says why it cannot serve; nothing is mounted then.
pub fn start(request: &OverlayRequest, log: Option<&Path>, limit: Duration) -> Result<Started, OverlayError> {
    recover::detach(&request.mountpoint)?;
    check_places(request)?;
    let mut server = Server::spawn(log, &request.log, Some(OVERLAY_ARGUMENT))?;
    match server.converse(request, limit) {
        Ok(ServeReply::Ready { .. }) => Ok(Started { server }),
        Ok(ServeReply::Failed { cause, message, hints }) => {
            let _ = server.wait();
            Err(SessionError::Refused { cause, message, hints }.into())
        }
        Err(error) => {
            let log = log.unwrap_or(Path::new("standard error"));
            Err(server.give_up(log, error, limit).into())
        }
    }
}

impl Started {
    /// Waits until a signal asks this process to end, or the mount is gone. Then asks the server to end, and waits for
    /// at most `limit`; tells whether the mount is gone.
    ///
    /// # Errors
    /// The host refused to queue signals or to watch the server.
    pub fn wait(mut self, limit: Duration) -> io::Result<bool> {
        let pid = self.server.number();
        foreground::wait_for(pid)?;
        if self.server.has_ended()? {
            return Ok(true);
        }
        // A child that nobody has waited for: the number is still its own.
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        let Some(server) = crate::host::process::ProcessHandle::open(pid)? else { return Ok(true) };
        server.wait(limit)
    }
}

/// Resolves `path`, which exists.
///
/// # Errors
/// Names it.
pub fn resolved(path: &Path) -> Result<PathBuf, DiskError> {
    path.canonicalize().context("resolve", path)
}

/// Resolves where to mount. Whatever is mounted there already is not asked: it may be dead, or hang.
#[must_use]
pub fn resolved_mountpoint(path: &Path) -> PathBuf {
    // Of a directory the kernel knows by itself that it is no link.
    match std::fs::read_link(path) {
        Ok(_) => path.canonicalize().unwrap_or_else(|_| path.into()),
        Err(_) => recover::resolved(path),
    }
}

fn check_places(request: &OverlayRequest) -> Result<(), OverlayError> {
    const LOWER: &str = "the lower directory";
    const UPPER: &str = "the upper directory";
    const WORK: &str = "the work directory";
    const MOUNTPOINT: &str = "the mountpoint";
    let inside =
        |path: &PathBuf, other: &PathBuf, same: bool| path.starts_with(other) && (same || path != other);
    let refuse = |(what, path): (&'static str, &PathBuf), (within, other): (&'static str, &PathBuf)| {
        Err(OverlayError::Overlap { what, path: path.clone(), within, other: other.clone() })
    };
    for lower in directories(request) {
        if inside(&request.mountpoint, lower, false) {
            return refuse((MOUNTPOINT, &request.mountpoint), (LOWER, lower));
        }
    }
    let Some(Spill { upper, work, .. }) = &request.spill else { return Ok(()) };
    for (one, other) in [((UPPER, upper), (WORK, work)), ((WORK, work), (UPPER, upper))] {
        if inside(one.1, other.1, true) {
            return refuse(one, other);
        }
        if inside(&request.mountpoint, one.1, false) {
            return refuse((MOUNTPOINT, &request.mountpoint), one);
        }
        for lower in directories(request) {
            if inside(one.1, lower, true) {
                return refuse(one, (LOWER, lower));
            }
            if inside(lower, one.1, true) {
                return refuse((LOWER, lower), one);
            }
        }
    }
    Ok(())
}

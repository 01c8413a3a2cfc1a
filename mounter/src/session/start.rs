//! Joining a live session or starting one. The caller holds the start lock all the while.
//!
//! 1. A lease is taken first: a server that has one to respect does not leave. Where none is to be had, a server is
//!    taking its mount away: that is waited for.
//! 2. With the lease in hand, the serving lock tells whether there is a server. If so, its record tells what it
//!    serves. If not, what a killed one left is cleared ([`super::recover`]) and a new one is started.
//!
//! **Invariant:** every wait ends, and says what it waited for.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use slotfs_fs::disk::Context;

use crate::host::process;

use super::error::SessionError;
use super::live::Session;
use super::place::{Lease, Place, StartLock};
use super::record::SessionRecord;
use super::request::{FailureCause, ServeReply, ServeRequest};
use super::wire::{self, WireError};

/// The name of the hidden subcommand that serves.
pub const SERVE_COMMAND: &str = "__serve";

/// How long each wait may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For another process that prepares the same work environment.
    pub preparing: Duration,
    /// For an earlier session that is ending.
    pub leaving: Duration,
    /// For a new server to mount.
    pub ready: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // Setup commands of real packages install dozens of wheels; a mount takes milliseconds on an idle machine
        // and has been seen to take seconds on one that swaps.
        Self {
            preparing: Duration::from_mins(10),
            leaving: Duration::from_secs(10),
            ready: Duration::from_secs(30),
        }
    }
}

/// What there is to join.
#[derive(Debug)]
pub enum Found {
    /// A live session, joined.
    Live(Box<Session>),
    /// None, and none can start but the caller's. The lease keeps a server that is started with it.
    Vacant(Lease),
}

/// Joins the live session at `place`, if there is one.
///
/// # Errors
/// An earlier session does not end in time, or a disk operation fails.
pub fn join(
    _start: &StartLock,
    place: &Place,
    workenv: &str,
    patience: Patience,
) -> Result<Found, SessionError> {
    let end = Instant::now() + patience.leaving;
    let late = |mountpoint: Option<PathBuf>| SessionError::Leaving {
        workenv: workenv.into(),
        mountpoint: mountpoint.unwrap_or_default(),
        waited: patience.leaving,
    };
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let lease = match place.lease(left) {
            Ok(lease) => lease,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(late(SessionRecord::read(place)?.map(|record| record.request.mountpoint)));
            }
            Err(error) => return Err(error.into()),
        };
        if !place.is_served()? {
            return Ok(Found::Vacant(lease));
        }
        let record = SessionRecord::read(place)?;
        if let Some(record) = record
            && super::recover::answers(&record.request.mountpoint)?
        {
            return Ok(Found::Live(Box::new(Session { place: place.clone(), lease, record })));
        }
        // It lives but serves nothing: its mount was just taken away, or whoever started it was killed before it
        // was ready, or it was killed itself and the kernel has not closed all its files yet. Without our lease it ends
        // by itself.
        drop(lease);
        if Instant::now() >= end {
            return Err(late(None));
        }
        place.wait_until_unserved(Duration::from_millis(20))?;
    }
}

/// Starts a server for `request` and waits until it is ready.
///
/// Whoever held the start lock before may have been killed with a server just begun. Such a server finds its caller
/// gone and ends; when it was quicker than ours, it is waited for and ours is started again.
///
/// # Errors
/// It cannot be started, refuses, dies, or takes longer than `patience.ready`; then nothing of it is left but its
/// log.
pub fn start(
    start: &StartLock,
    place: &Place,
    mut lease: Lease,
    request: &ServeRequest,
    patience: Patience,
) -> Result<Session, SessionError> {
    let end = Instant::now() + patience.leaving;
    loop {
        let mut child = spawn(Some(&place.log()), &request.log, None)?;
        let answer = converse(&mut child, request, patience.ready);
        let pid = match answer {
            Ok(ServeReply::Ready { pid }) => pid,
            Ok(ServeReply::Failed { cause: FailureCause::Busy, .. }) if Instant::now() < end => {
                let _ = child.wait();
                // It cannot leave while we hold a lease.
                drop(lease);
                let left = end.saturating_duration_since(Instant::now());
                place.wait_until_unserved(left)?;
                lease = place.lease(left.max(Duration::from_millis(1)))?;
                super::recover::clear(start, place)?;
                continue;
            }
            Ok(ServeReply::Failed { cause, message, hints }) => {
                let _ = child.wait();
                return Err(SessionError::Refused { cause, message, hints });
            }
            Err(error) => return Err(give_up(child, &place.log(), error, patience.ready)),
        };
        let record = SessionRecord { pid, started: super::seconds_now(), request: request.clone() };
        return Ok(Session { place: place.clone(), lease, record });
    }
}

/// Starts this very program again as a server, with what it has to say appended to `log`, else on our standard error.
pub(super) fn spawn(log: Option<&Path>, filter: &str, kind: Option<&str>) -> Result<Child, SessionError> {
    let spawned = |source| SessionError::Spawn { source };
    let log = match log {
        Some(path) => OpenOptions::new().append(true).create(true).open(path).context("open", path)?.into(),
        None => Stdio::inherit(),
    };
    let mut command = Command::new(process::own_executable().map_err(spawned)?);
    std::os::unix::process::CommandExt::arg0(&mut command, "slotfs");
    command
        .arg(SERVE_COMMAND)
        .args(kind)
        .arg("--filter")
        .arg(filter)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log);
    command.spawn().map_err(spawned)
}

pub(super) fn converse(
    child: &mut Child,
    request: &impl Serialize,
    limit: Duration,
) -> Result<ServeReply, WireError> {
    if let Some(mut pipe) = child.stdin.take() {
        wire::send(&mut pipe, "serving process", request)?;
    }
    let Some(pipe) = child.stdout.take() else { return Err(WireError::Silent { from: "serving process" }) };
    let mut pipe = Patient { pipe, end: Instant::now() + limit };
    wire::receive(&mut pipe, "serving process")
}

/// Ends a server that did not answer, and says why it did not.
pub(super) fn give_up(mut child: Child, log: &Path, error: WireError, waited: Duration) -> SessionError {
    let late = matches!(&error, WireError::Pipe { source, .. } if source.kind() == io::ErrorKind::TimedOut);
    if late {
        // It is our child and not waited for yet, so its number is still its own.
        let _ = child.kill();
    }
    let status = child.wait();
    let log = log.to_path_buf();
    if late {
        return SessionError::NotReady { waited, log };
    }
    let reason = match status {
        Ok(status) => format!("{status}, {error}"),
        Err(wait) => format!("{wait}, {error}"),
    };
    SessionError::Died { reason, log }
}

/// A pipe whose reads end at a point in time.
struct Patient<P> {
    pipe: P,
    end: Instant,
}

impl<P: Read + AsFd> Read for Patient<P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait_for_input(self.pipe.as_fd(), self.end)?;
        self.pipe.read(buffer)
    }
}

fn wait_for_input(pipe: BorrowedFd<'_>, end: Instant) -> io::Result<()> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let timeout = PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe, PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn a_silent_pipe_is_not_waited_for_without_end() {
        let (reader, writer) = io::pipe().unwrap();
        let mut pipe = Patient { pipe: reader, end: Instant::now() + Duration::from_millis(10) };
        let error = wire::receive::<ServeReply>(&mut pipe, "serving process").unwrap_err();
        assert!(
            matches!(error, WireError::Pipe { ref source, .. } if source.kind() == io::ErrorKind::TimedOut)
        );
        drop(writer);
        let mut pipe = Patient { pipe: pipe.pipe, end: Instant::now() + Duration::from_secs(10) };
        let error = wire::receive::<ServeReply>(&mut pipe, "serving process").unwrap_err();
        assert!(matches!(error, WireError::Silent { .. }));
    }
}

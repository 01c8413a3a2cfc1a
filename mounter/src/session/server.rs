//! The serving process as the one sees it who starts it: its pipes, its answer, its end.
//!
//! **Invariant:** every wait ends, and says what it waited for; nothing is left of a server that did not answer in time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use slotfs_fs::disk::Context;

use crate::host::process;
use crate::host::standby::{self, Standby};

use super::error::SessionError;
use super::request::ServeReply;
use super::wire::{self, WireError};

/// The name of the hidden subcommand that serves.
pub const SERVE_COMMAND: &str = "__serve";

/// A process that was asked to serve, or is about to be.
#[derive(Debug)]
pub(super) enum Server {
    /// A copy of this process that stood by.
    Copy(Standby),
    /// This program, started again.
    Program(Child),
}

impl Server {
    /// Returns the copy of this process that stands by, else starts this program again. What it has to say goes to `log`,
    /// which the copy opens itself when it hears of it.
    ///
    /// # Errors
    /// It cannot be started, or the log cannot be opened.
    pub(super) fn start(log: &Path, filter: &str) -> Result<Self, SessionError> {
        match standby::take() {
            Some(copy) => {
                open_log(log)?;
                Ok(Self::Copy(copy))
            }
            None => Self::spawn(Some(log), filter, None),
        }
    }

    /// Starts this program again as a server, with what it has to say appended to `log`, else on our standard error.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(super) fn spawn(log: Option<&Path>, filter: &str, kind: Option<&str>) -> Result<Self, SessionError> {
        let spawned = |source| SessionError::Spawn { source };
        let log = log.map(open_log).transpose()?.map_or_else(Stdio::inherit, Stdio::from);
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
        command.spawn().map(Self::Program).map_err(spawned)
    }

    /// Asks it to serve, once, and waits for at most `limit` for what it answers.
    ///
    /// # Errors
    /// It does not answer in time, or not in a way that can be understood.
    pub(super) fn converse(
        &mut self,
        request: &impl Serialize,
        limit: Duration,
    ) -> Result<ServeReply, WireError> {
        let (input, output) = match self {
            Self::Copy(copy) => (copy.input.take(), copy.output.take()),
            Self::Program(child) => (
                child.stdin.take().map(|pipe| File::from(OwnedFd::from(pipe))),
                child.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe))),
            ),
        };
        if let Some(mut pipe) = input {
            wire::send(&mut pipe, "serving process", request)?;
        }
        let Some(pipe) = output else { return Err(WireError::Silent { from: "serving process" }) };
        let mut pipe = Patient { pipe, end: Instant::now() + limit };
        wire::receive(&mut pipe, "serving process")
    }

    /// Ends a server that did not answer, and says why it did not.
    pub(super) fn give_up(mut self, log: &Path, error: WireError, waited: Duration) -> SessionError {
        let late =
            matches!(&error, WireError::Pipe { source, .. } if source.kind() == io::ErrorKind::TimedOut);
        if late {
            // It is our child and not waited for yet, so its number is still its own.
            let _ = match &mut self {
                Self::Copy(copy) => copy.kill(),
                Self::Program(child) => child.kill(),
            };
        }
        let status = self.wait();
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

    /// Returns the number of the process.
    pub(super) fn number(&self) -> i32 {
        match self {
            Self::Copy(copy) => copy.number(),
            Self::Program(child) => child.id().cast_signed(),
        }
    }

    /// Tells whether it has ended.
    ///
    /// # Errors
    /// The system does not tell.
    pub(super) fn has_ended(&mut self) -> io::Result<bool> {
        match self {
            Self::Copy(copy) => copy.has_ended(),
            Self::Program(child) => Ok(child.try_wait()?.is_some()),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// The system does not tell.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Copy(copy) => copy.wait(),
            Self::Program(child) => child.wait(),
        }
    }
}

fn open_log(path: &Path) -> Result<File, SessionError> {
    Ok(OpenOptions::new().append(true).create(true).open(path).context("open", path)?)
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

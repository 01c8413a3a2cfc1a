//! Waiting, as the one who keeps a mount, until somebody wants it gone or it is gone.

use std::io;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

use crate::host::process::ProcessHandle;
use crate::host::signals::SignalQueue;

use super::live::Session;

/// Waits until a signal asks this process to end, or the server has ended.
///
/// # Errors
/// The host refused to queue signals or to watch the server.
pub fn wait(session: &Session) -> io::Result<()> {
    wait_for(session.record().pid)
}

/// As [`wait`], for the server with the number `pid`, which lives or is a child that nobody has waited for.
///
/// # Errors
/// As [`wait`].
pub fn wait_for(pid: i32) -> io::Result<()> {
    let signals = SignalQueue::open(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1])?;
    let Some(server) = ProcessHandle::open(pid)? else { return Ok(()) };
    let watch = move || {
        while matches!(server.wait(Duration::from_hours(1)), Ok(false)) {}
        // This process waits for signals alone, so it is told with one.
        if let Err(error) = kill(getpid(), Signal::SIGUSR1) {
            tracing::error!("cannot end: {error}");
        }
    };
    // It has the mask of this thread: the signal goes to the queue.
    super::thread("server", watch)?;
    signals.wait().map(drop)
}

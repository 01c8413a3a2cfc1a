//! The program as a child: its signals, its stops and its end are those of this process.
//!
//! **Invariant:** the program gets each signal once. What the terminal sends, it sends to the whole foreground
//! group, the program included; what another process sends to this one alone is passed on.

use std::io;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getsid};

use crate::host::signals::{Arrival, Origin, SignalQueue};
use crate::host::start::{Image, start};

/// What is passed on: every signal that can be caught and that the program does not cause itself.
const PASSED_ON: [Signal; 18] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGURG,
    Signal::SIGWINCH,
    Signal::SIGIO,
    Signal::SIGXCPU,
    Signal::SIGPIPE,
];

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It returned this exit code.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
}

impl Ending {
    /// Returns the exit code to pass on: the program's own, or 128 plus the number of the signal, as shells have it.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => u8::try_from(number).unwrap_or(127).saturating_add(128),
        }
    }
}

/// Starts the program as a child in the same process group, passes signals on to it, stops and continues with it, and
/// returns how it ended. `started` hears the program's number. A kill of this process kills the program too. Call it from
/// a thread that lives as long as the process.
///
/// # Errors
/// The program cannot be started (the error is that of `execve(2)`), or the host refused to queue signals.
pub fn run(image: &Image<'_>, started: impl FnOnce(i32)) -> io::Result<Ending> {
    let mut queued = PASSED_ON.to_vec();
    queued.push(Signal::SIGCHLD);
    let signals = SignalQueue::open(&queued)?;
    let child = start(image, signals.previous_mask())?;
    started(child.as_raw());
    let leads_session = getsid(None) == Ok(getpid());
    loop {
        let arrival = signals.wait()?;
        if arrival.signal == Signal::SIGCHLD {
            if let Some(ending) = follow(child, &signals)? {
                return Ok(ending);
            }
        } else if is_passed_on(arrival, leads_session) {
            match kill(child, arrival.signal) {
                // It has just ended; its SIGCHLD is on the way.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => {
                    tracing::warn!("cannot pass {} on to process {child}: {error}", arrival.signal);
                }
            }
        }
    }
}

/// Takes note of every change of the child's state; returns its end.
fn follow(child: Pid, signals: &SignalQueue) -> io::Result<Option<Ending>> {
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(_, code)) => {
                return Ok(Some(Ending::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX))));
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Some(Ending::Signal(signal as i32))),
            // A stop that the user asked for stops the job, this process included. `SIGSTOP` sent to the program
            // alone is somebody's business with the program, who could not continue it if this process slept too.
            Ok(WaitStatus::Stopped(_, signal @ (Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU))) => {
                signals.suffer(signal)?;
            }
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tells whether the program would miss a signal that this process got.
fn is_passed_on(arrival: Arrival, leads_session: bool) -> bool {
    match arrival.origin {
        Origin::Process(_) => true,
        // A closed terminal is told to the leader of the session alone.
        Origin::Kernel => leads_session && arrival.signal == Signal::SIGHUP,
        Origin::Unknown => !matches!(
            arrival.signal,
            Signal::SIGINT
                | Signal::SIGQUIT
                | Signal::SIGTSTP
                | Signal::SIGTTIN
                | Signal::SIGTTOU
                | Signal::SIGWINCH
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_become_the_codes_that_shells_show() {
        let table = [
            (Ending::Code(0), 0),
            (Ending::Code(255), 255),
            (Ending::Signal(15), 143),
            (Ending::Signal(9), 137),
            (Ending::Signal(200), 255),
        ];
        for (ending, code) in table {
            assert_eq!(ending.exit_code(), code, "{ending:?}");
        }
    }

    #[test]
    fn only_what_the_program_would_miss_is_passed_on() {
        let table = [
            (Signal::SIGTERM, Origin::Process(5), false, true),
            (Signal::SIGINT, Origin::Process(5), false, true),
            (Signal::SIGINT, Origin::Kernel, false, false),
            (Signal::SIGTSTP, Origin::Kernel, true, false),
            (Signal::SIGWINCH, Origin::Kernel, false, false),
            (Signal::SIGHUP, Origin::Kernel, false, false),
            (Signal::SIGHUP, Origin::Kernel, true, true),
            (Signal::SIGTERM, Origin::Unknown, false, true),
            (Signal::SIGINT, Origin::Unknown, false, false),
        ];
        for (signal, origin, leads_session, expected) in table {
            assert_eq!(
                is_passed_on(Arrival { signal, origin }, leads_session),
                expected,
                "{signal} {origin:?}"
            );
        }
    }
}

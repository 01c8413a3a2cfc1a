//! A copy of this process that stands by until it is needed. What it will do needs no program to be loaded any more,
//! and whoever needs it does not wait for it to start.
//!
//! **Invariant:** a copy is made only while this process has a single thread, and keeps nothing of it but standard error;
//! one that nobody needs ends when the process does that made it, however that ends.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};

use nix::unistd::{ForkResult, fork};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// A process has at most one copy that stands by.
static SPARE: Mutex<Option<Standby>> = Mutex::new(None);

/// Which of the two processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that was there before.
    Original,
    /// The copy. Standard input and output are pipes to the original.
    Copy,
}

/// A copy that waits for its first word on standard input.
#[derive(Debug)]
pub struct Standby {
    /// Its standard input.
    pub input: Option<File>,
    /// Its standard output.
    pub output: Option<File>,
    number: Pid,
    is_over: bool,
}

/// Makes a copy of this process, which [`take`] returns in the original.
///
/// # Errors
/// This process has several threads, or the system has no process or pipe to give.
#[expect(unsafe_code, reason = "the system knows no safe way to go on in two processes")]
pub fn split(name: &'static std::ffi::CStr) -> io::Result<Side> {
    if threads()? != 1 {
        return Err(io::Error::other("a process with several threads cannot be copied"));
    }
    let (input, far_input) = io::pipe()?;
    let (far_output, output) = io::pipe()?;
    // SAFETY: this process has one thread, so the copy finds no lock held and nothing half done, and may do whatever this
    // process may.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let is_heard =
                nix::unistd::dup2_stdin(&input).and_then(|()| nix::unistd::dup2_stdout(&output)).is_ok();
            if !is_heard {
                // There must not be two originals.
                std::process::exit(1);
            }
            take_name(name);
            Ok(Side::Copy)
        }
        ForkResult::Parent { child } => {
            let file = |end: OwnedFd| Some(File::from(end));
            let (input, output) = (file(far_input.into()), file(far_output.into()));
            let number = Pid::from_raw(child.as_raw()).ok_or(io::ErrorKind::Other)?;
            let standby = Standby { input, output, number, is_over: false };
            *SPARE.lock().unwrap_or_else(PoisonError::into_inner) = Some(standby);
            Ok(Side::Original)
        }
    }
}

/// Returns the copy that stands by, once. Dropped without a word, it ends.
#[must_use]
pub fn take() -> Option<Standby> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Counts the threads of this process: each has a directory (proc_pid_task(5)).
fn threads() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self/task")?.nlink().saturating_sub(2))
}

/// Names this process for those who look at the list of processes.
fn take_name(name: &std::ffi::CStr) {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_name(name);
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

impl Standby {
    /// Returns the number of the process.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.number.as_raw_nonzero().get()
    }

    /// Kills the copy, whatever it does.
    ///
    /// # Errors
    /// Passes on what `kill(2)` reports.
    pub fn kill(&mut self) -> io::Result<()> {
        // Nobody but us waits for it, so the number is still its own.
        Ok(if self.is_over { Ok(()) } else { kill_process(self.number, Signal::KILL) }?)
    }

    /// Waits until the copy has ended.
    ///
    /// # Errors
    /// Passes on what `waitpid(2)` reports.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            match waitpid(Some(self.number), WaitOptions::empty()) {
                Ok(Some((_, status))) => {
                    self.is_over = true;
                    return Ok(ExitStatus::from_raw(status.as_raw()));
                }
                Ok(None) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Tells whether the copy has ended.
    ///
    /// # Errors
    /// Passes on what `waitpid(2)` reports.
    pub fn has_ended(&mut self) -> io::Result<bool> {
        self.is_over = self.is_over || waitpid(Some(self.number), WaitOptions::NOHANG)?.is_some();
        Ok(self.is_over)
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        // Whoever spoke to it has its pipes, and it lives as long as it has something to do.
        if self.input.is_some() && self.kill().is_ok() {
            let _ = self.wait();
        }
    }
}

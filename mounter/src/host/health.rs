//! Whether a mount still has a server.
//!
//! The mount table lists dead mounts, and a path in one may even seem to exist, answered from the kernel's cache.
//! Only a request tells: ENOTCONN comes at once when nobody serves. But a server that hangs would hang whoever
//! asks, past any signal, so a child asks, and nobody waits for it longer than the limit.
#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "forking a process that only makes system calls")
)]

use std::io;
use std::path::Path;
use std::time::Duration;

/// How a mount answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers, or keeps this user out, which a server must be alive for in any case that matters here.
    Alive,
    /// Its server is gone.
    Dead,
    /// No answer within the limit.
    Hung,
}

/// How long [`is_dead`] waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells whether the server of the FUSE mount at `mountpoint` is gone. Does not hang when it hangs.
///
/// # Errors
/// The mount point cannot be looked at: it does not exist, for example.
pub fn is_dead(mountpoint: &Path) -> io::Result<bool> {
    Ok(health(mountpoint, PATIENCE)? == Health::Dead)
}

/// Asks the mount at `mountpoint` for a sign of life, waiting at most `limit`.
///
/// # Errors
/// The mount point cannot be looked at, or no child could be started.
pub fn health(mountpoint: &Path, limit: Duration) -> io::Result<Health> {
    platform::health(mountpoint, limit)
}

#[cfg(target_os = "linux")]
mod platform {
    use std::ffi::CString;
    use std::io;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::{ForkResult, Pid, fork};

    use super::Health;

    /// What the child's exit code says when the call worked.
    const ANSWERED: i32 = 0;

    pub(super) fn health(mountpoint: &Path, limit: Duration) -> io::Result<Health> {
        let path = CString::new(mountpoint.as_os_str().as_bytes())?;
        // SAFETY: between fork and exit the child makes system calls only: no allocation, no lock.
        match unsafe { fork() }? {
            ForkResult::Child => {
                let code = ask(&path);
                // SAFETY: ends the child at once, without running anything of this program.
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => wait(child, limit),
        }
    }

    /// Runs in the child; returns its exit code.
    fn ask(path: &CString) -> i32 {
        // A child that hangs must not keep our locks, pipes or FUSE connections alive.
        // SAFETY: closes descriptors that nothing in this process will use again.
        unsafe { libc::syscall(libc::SYS_close_range, 0_u32, u32::MAX, 0_u32) };
        match rustix::fs::statfs(path.as_c_str()) {
            Ok(_) => ANSWERED,
            // Error numbers are below 256 except for a few that statfs(2) does not give.
            Err(error) => error.raw_os_error(),
        }
    }

    fn is_about_the_path(code: i32) -> bool {
        matches!(code, libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ELOOP | libc::ENAMETOOLONG)
    }

    fn wait(child: Pid, limit: Duration) -> io::Result<Health> {
        let end = Instant::now() + limit;
        let mut pause = Duration::from_micros(50);
        loop {
            match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, ANSWERED)) => return Ok(Health::Alive),
                // The second when the connection was cut while it was asked.
                Ok(WaitStatus::Exited(_, libc::ENOTCONN | libc::ECONNABORTED)) => return Ok(Health::Dead),
                Ok(WaitStatus::Exited(_, code)) if is_about_the_path(code) => {
                    return Err(io::Error::from_raw_os_error(code));
                }
                // Whoever answers with an error of its own is alive.
                Ok(WaitStatus::Exited(..)) => return Ok(Health::Alive),
                Ok(WaitStatus::StillAlive) if Instant::now() < end => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                Ok(WaitStatus::StillAlive) => {
                    // It ends when the server answers or goes; until then not even this reaches it.
                    let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
                    return Ok(Health::Hung);
                }
                Ok(status) => return Err(io::Error::other(format!("the asking process ended: {status:?}"))),
                Err(nix::errno::Errno::EINTR) => {}
                // Somebody who waits for every child has taken the answer.
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::io;
    use std::path::Path;
    use std::time::Duration;

    use super::Health;

    /// slotfs makes no mounts here that could lose their server.
    pub(super) fn health(mountpoint: &Path, _limit: Duration) -> io::Result<Health> {
        std::fs::metadata(mountpoint).map(|_| Health::Alive)
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_disk_answers_and_a_missing_path_is_an_error() {
        assert_eq!(health(Path::new("/"), PATIENCE).unwrap(), Health::Alive);
        let error = is_dead(Path::new("/nonexistent/slotfs")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}

//! Starting programs and asking after processes, where systems differ.

use std::ffi::OsStr;
use std::process::Command;

/// Sets what the program sees as its own name (`argv[0]`); nothing outside Unix, where it is the executable.
pub fn set_own_name(command: &mut Command, name: &OsStr) {
    #[cfg(unix)]
    {
        let _ = std::os::unix::process::CommandExt::arg0(command, name);
    }
    #[cfg(not(unix))]
    {
        let _ = (command, name);
    }
}

/// Makes the program that `command` starts die with this process, even when that is killed. Call it, and start the
/// program, from a thread that waits for the program's end. Where the system has no way, the program outlives a killed
/// process.
pub fn die_with_this_process(command: &mut Command) {
    #[cfg(unix)]
    {
        let mask =
            nix::sys::signal::SigSet::thread_get_mask().unwrap_or_else(|_| nix::sys::signal::SigSet::empty());
        super::process::die_with_parent(command, mask);
    }
    #[cfg(not(unix))]
    {
        let _ = command;
    }
}

/// Tells whether a process exists, also another user's (`kill(2)` with signal 0). Where it cannot be asked,
/// every process counts as alive.
#[must_use]
pub fn is_alive(process: u32) -> bool {
    #[cfg(unix)]
    {
        let Some(process) = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw) else {
            return false;
        };
        // EPERM means that it exists and belongs to somebody else.
        !matches!(rustix::process::test_kill_process(process), Err(rustix::io::Errno::SRCH))
    }
    #[cfg(not(unix))]
    {
        let _ = process;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_impossible_ones_are_not() {
        assert!(is_alive(std::process::id()));
        if cfg!(unix) {
            assert!(!is_alive(0) && !is_alive(u32::MAX) && !is_alive(4_190_000_000));
        }
    }
}

//! Processes: a program that dies with its parent, a server that leaves the terminal, and waiting for the end of
//! a process that is not a child.
//!
//! **Invariant:** nothing but async-signal-safe calls happens between fork and exec, and no process is waited for
//! or signalled by a number that may have been given to another one since.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::SigSet;
use nix::unistd::{Pid, getpid, getppid};

/// Makes the program that `command` starts die with this process, however this process ends, and start with the
/// signal mask `mask`. The calling *thread* must live as long as the program: the kernel watches the thread
/// (`PR_SET_PDEATHSIG`, prctl(2)).
///
/// Where the kernel has no such watch (macOS) the program outlives a killed parent.
#[expect(unsafe_code, reason = "what happens between fork and exec cannot be said otherwise")]
pub fn die_with_parent(command: &mut Command, mask: SigSet) {
    use std::os::unix::process::CommandExt;
    let parent = getpid();
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe functions are
    // allowed: it calls prctl, getppid and sigprocmask, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || {
            watch_parent()?;
            // The parent may have died before the watch began; then nobody is told.
            if getppid() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            mask.thread_set_mask()?;
            Ok(())
        });
    }
}

#[cfg(target_os = "linux")]
fn watch_parent() -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn watch_parent() -> io::Result<()> {
    Ok(())
}

/// Starts a session of its own, without a terminal, and takes `/` as working directory, so that neither a closed
/// terminal nor a Ctrl-C reaches this process and it keeps no directory busy.
///
/// # Errors
/// Passes on what `setsid(2)` or `chdir(2)` reports.
pub fn leave_terminal() -> io::Result<()> {
    nix::unistd::setsid()?;
    nix::unistd::chdir("/")?;
    Ok(())
}

/// Closes every file that this process inherited besides its standard ones: a server must not keep somebody's lock or
/// pipe for its whole life. To be called before this process has opened anything itself.
///
/// Where the system cannot do it at once (Linux before 5.9, macOS), they stay open.
#[cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "files that belong to nobody in this program can be closed by number only")
)]
pub fn close_inherited_files() {
    #[cfg(target_os = "linux")]
    // SAFETY: close_range(2) takes no pointer. The caller is the first thing this process runs, so no value in it
    // owns a descriptor above 2.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32);
    }
}

/// Tells whether somebody still has the other end of the pipe that is standard output.
#[must_use]
pub fn is_output_read() -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let output = std::io::stdout();
    let mut watched = [PollFd::new(output.as_fd(), PollFlags::empty())];
    // POLLERR means that nobody can read any more (poll(2), "write end of a pipe").
    match poll(&mut watched, PollTimeout::ZERO) {
        Ok(_) => watched[0].revents().is_none_or(|events| !events.contains(PollFlags::POLLERR)),
        Err(_) => true,
    }
}

/// Returns a path of the program that this process runs, to start it again. `/proc/self/exe` is the running file even when
/// its name is gone.
///
/// # Errors
/// The system does not tell.
pub fn own_executable() -> io::Result<PathBuf> {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() { Ok(own) } else { std::env::current_exe() }
}

/// Lets every process that has something to do go first.
pub fn yield_to_others() {
    const NICE: i32 = 10;
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!("cannot lower the own priority: {error}");
    }
}

/// Takes hold of the process that started this one, if it is still `number`.
///
/// # Errors
/// Passes on what `pidfd_open(2)` reports.
pub fn parent(number: i32) -> io::Result<Option<ProcessHandle>> {
    let handle = ProcessHandle::open(number)?;
    // Asked after it was opened: as long as it is the parent, nobody else can have got its number.
    Ok(handle.filter(|_| getppid().as_raw() == number))
}

/// Points standard input and output at `/dev/null`; standard error stays.
///
/// # Errors
/// `/dev/null` cannot be opened, or `dup2(2)` failed.
pub fn close_input_and_output() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(())
}

/// Lets standard error go to the end of the file `log`; where that cannot be opened, nowhere.
pub fn write_errors_to(log: Option<&Path>) {
    let open = |path: &Path| File::options().append(true).create(true).open(path).ok();
    let file = log.and_then(open).or_else(|| File::options().write(true).open("/dev/null").ok());
    if let Some(file) = file {
        let _ = nix::unistd::dup2_stderr(&file);
    }
}

/// Raises the number of files this process may have open to what the system allows it. Returns the new limit.
///
/// # Errors
/// Passes on what `getrlimit(2)` or `setrlimit(2)` reports.
pub fn raise_open_file_limit() -> io::Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Makes this process's allocator keep less than it might need again: a server lives long and has little to do. To be called
/// before other threads start. Where the C library is not glibc, it stays as it is.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "the allocator's limits can be set through C only")
)]
pub fn keep_little_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // Each arena keeps what was freed in it. Blocks above the threshold go back to the
        // system when they are freed; left alone, glibc raises it to the largest block that was ever freed (mallopt(3)).
        const ARENAS: libc::c_int = 1;
        const LARGE: libc::c_int = 64 << 10;
        for (parameter, value) in
            [(libc::M_ARENA_MAX, ARENAS), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)]
        {
            // SAFETY: mallopt(3) takes two numbers and may be called at any time.
            if unsafe { libc::mallopt(parameter, value) } == 0 {
                tracing::debug!(parameter, "the allocator keeps its limit");
            }
        }
    }
}

/// Gives back to the system what was freed and is still kept. Takes milliseconds.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "the allocator's limits can be set through C only")
)]
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim(3) takes a number, may be called at any time and from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Returns the numbers of the children of the process `number`, where the system lists them (proc_pid_task_children(5),
/// Linux); else none. They are children of any of its threads.
#[must_use]
pub fn children(number: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{number}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// A process of the host, held so that its number cannot be mistaken for a later one's.
#[derive(Debug)]
pub struct ProcessHandle {
    number: Pid,
    watch: platform::Watch,
}

impl ProcessHandle {
    /// Takes hold of the process `number`; `None` when there is none. The caller must know by other means (a lock
    /// that this process holds) that the number is still the one it means.
    ///
    /// # Errors
    /// Passes on what `pidfd_open(2)` reports.
    pub fn open(number: i32) -> io::Result<Option<Self>> {
        Ok(platform::Watch::open(number)?.map(|watch| Self { number: Pid::from_raw(number), watch }))
    }

    /// Returns the process's number.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.number.as_raw()
    }

    /// Kills the process, whatever it does.
    ///
    /// # Errors
    /// Passes on what `pidfd_send_signal(2)` reports; that it has ended already is no error.
    pub fn kill(&self) -> io::Result<()> {
        match self.watch.kill() {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Waits for at most `limit` until the process has ended; tells whether it has.
    ///
    /// # Errors
    /// Passes on what `poll(2)` reports.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        self.watch.wait(limit)
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::time::{Duration, Instant};

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    #[derive(Debug)]
    pub(super) struct Watch(OwnedFd);

    impl Watch {
        pub(super) fn open(number: i32) -> io::Result<Option<Self>> {
            let Some(pid) = Pid::from_raw(number) else { return Ok(None) };
            match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(descriptor) => Ok(Some(Self(descriptor))),
                Err(rustix::io::Errno::SRCH) => Ok(None),
                Err(error) => Err(error.into()),
            }
        }

        pub(super) fn kill(&self) -> io::Result<()> {
            Ok(pidfd_send_signal(&self.0, Signal::KILL)?)
        }

        pub(super) fn wait(&self, limit: Duration) -> io::Result<bool> {
            let end = Instant::now() + limit;
            loop {
                // Rounded up, so that the last wait does not spin through a fraction of a millisecond.
                let left = end.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
                let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
                let mut watched = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
                match poll(&mut watched, timeout) {
                    Ok(0) if Instant::now() >= end => return Ok(false),
                    Ok(0) | Err(Errno::EINTR) => {}
                    Ok(_) => return Ok(true),
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::io;
    use std::time::{Duration, Instant};

    use nix::errno::Errno;
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    /// Without a descriptor for the process, its number is asked for again and again.
    #[derive(Debug)]
    pub(super) struct Watch(Pid);

    impl Watch {
        pub(super) fn open(number: i32) -> io::Result<Option<Self>> {
            let watch = Self(Pid::from_raw(number));
            Ok((!watch.wait(Duration::ZERO)?).then_some(watch))
        }

        pub(super) fn kill(&self) -> io::Result<()> {
            Ok(kill(self.0, Signal::SIGKILL)?)
        }

        pub(super) fn wait(&self, limit: Duration) -> io::Result<bool> {
            let end = Instant::now() + limit;
            loop {
                if kill(self.0, None) == Err(Errno::ESRCH) {
                    return Ok(true);
                }
                if Instant::now() >= end {
                    return Ok(false);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_waited_for_until_the_limit_and_until_its_end() {
        let mut child = Command::new("/bin/cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let handle = ProcessHandle::open(child.id().cast_signed()).unwrap().unwrap();
        assert_eq!(handle.number(), child.id().cast_signed());
        assert!(!handle.wait(Duration::from_millis(5)).unwrap());
        drop(child.stdin.take());
        assert!(handle.wait(Duration::from_secs(10)).unwrap());
        child.wait().unwrap();
        assert!(ProcessHandle::open(child.id().cast_signed()).unwrap().is_none());
    }

    #[test]
    fn the_open_file_limit_reaches_what_the_system_allows() {
        let limit = raise_open_file_limit().unwrap();
        let (soft, hard) =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((soft, hard), (limit, limit));
    }
}

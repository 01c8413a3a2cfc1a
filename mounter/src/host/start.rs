//! Starting a program without copying this process first.
//!
//! `fork(2)` copies the page tables of a process that is about to replace them all; `clone(2)` with `CLONE_VM` and
//! `CLONE_VFORK`, as `posix_spawn(3)` uses it, lends the child this process's memory until it has become the program. That
//! function cannot be used here, because it cannot ask for the parent-death signal.
//!
//! **Invariant:** until the program has started, the child calls only async-signal-safe functions, takes no signal and
//! writes to nothing but the place for its error.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use nix::sys::signal::SigSet;
use nix::unistd::Pid;

/// What to execute. The working directory and the standard streams are this process's own.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The file to execute.
    pub executable: &'a Path,
    /// What the program sees as its own name.
    pub name: &'a OsStr,
    /// Its other arguments.
    pub arguments: &'a [OsString],
    /// All its variables.
    pub environment: &'a std::collections::BTreeMap<OsString, OsString>,
}

/// Starts a program that dies with this process, however this process ends, and begins with the signal mask `mask`. The
/// calling *thread* must live as long as the program: the kernel watches the thread (`PR_SET_PDEATHSIG`, prctl(2)).
///
/// Where the kernel has no such watch (macOS) the program outlives a killed process.
///
/// # Errors
/// Passes on what `execve(2)` or `clone(2)` reports; an argument or variable with a NUL byte is invalid input.
pub fn start(image: &Image<'_>, mask: SigSet) -> io::Result<Pid> {
    platform::start(image, mask)
}

#[cfg(target_os = "linux")]
mod platform {
    use std::ffi::{CString, OsStr, c_char};
    use std::io;
    use std::os::unix::ffi::OsStrExt;
    use std::ptr;
    use std::sync::atomic::{AtomicI32, Ordering};

    use nix::errno::Errno;
    use nix::sched::{CloneFlags, clone};
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
    use nix::sys::wait::waitpid;
    use nix::unistd::{Pid, getpid, getppid};

    use super::Image;

    /// Room on the child's stack for what the C library does to start a script without a first line, apart from the copy
    /// of the arguments that it makes, in bytes.
    const STACK: usize = 256 << 10;

    /// Strings in the form that `execve(2)` takes: pointers, the last one null.
    struct Vector {
        pointers: Vec<*const c_char>,
        _strings: Vec<CString>,
    }

    impl Vector {
        fn new(strings: impl Iterator<Item = Vec<u8>>) -> io::Result<Self> {
            let strings = strings.map(CString::new).collect::<Result<Vec<_>, _>>()?;
            let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
            Ok(Self { pointers, _strings: strings })
        }
    }

    #[expect(unsafe_code, reason = "a child that shares this process's memory cannot be made otherwise")]
    pub(super) fn start(image: &Image<'_>, mask: SigSet) -> io::Result<Pid> {
        let executable = CString::new(image.executable.as_os_str().as_bytes())?;
        let words = [image.name].into_iter().chain(image.arguments.iter().map(|word| &**word));
        let arguments = Vector::new(words.map(|word: &OsStr| word.as_bytes().to_vec()))?;
        let variables = image.environment.iter();
        let environment =
            Vector::new(variables.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()))?;
        let mut stack = vec![0; STACK + size_of_val(&arguments.pointers[..])];
        let (parent, failure) = (getpid(), AtomicI32::new(0));
        let become_program = || {
            let prepared = prepare(parent, mask);
            if prepared.is_ok() {
                // SAFETY: the three are NUL-terminated, as are the strings in the latter two, and outlive the call: the
                // parent waits. Like execvp(3), which the standard library uses, it lets a shell run a script without
                // a first line.
                unsafe {
                    libc::execvpe(
                        executable.as_ptr(),
                        arguments.pointers.as_ptr(),
                        environment.pointers.as_ptr(),
                    );
                }
            }
            let error = prepared.err().unwrap_or_else(Errno::last);
            failure.store(error as i32, Ordering::Relaxed);
            127
        };
        // A handler of this process that ran in the child would run on its memory.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
        // SAFETY: this thread is suspended until the child has its own memory or has ended (CLONE_VFORK), so all that
        // the child borrows outlives it; the child allocates nothing and takes no lock, and its stack is its own.
        let child = unsafe { clone(Box::new(become_program), &mut stack, flags, Some(libc::SIGCHLD)) };
        before.thread_set_mask()?;
        let child = child?;
        match failure.load(Ordering::Relaxed) {
            0 => Ok(child),
            error => {
                let _ = waitpid(child, None);
                Err(io::Error::from_raw_os_error(error))
            }
        }
    }

    /// What the child does before it becomes the program.
    #[expect(unsafe_code, reason = "the standard library ignores SIGPIPE, and the program must not begin so")]
    fn prepare(parent: Pid, mask: SigSet) -> Result<(), Errno> {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the watch began; then nobody is told.
        if getppid() != parent {
            return Err(Errno::ESRCH);
        }
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: no handler is set, and the child's table of handlers is its own (no CLONE_SIGHAND).
        unsafe { sigaction(Signal::SIGPIPE, &default) }?;
        mask.thread_set_mask()
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::io;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use nix::sys::signal::SigSet;
    use nix::unistd::Pid;

    use super::super::process::die_with_parent;
    use super::Image;

    pub(super) fn start(image: &Image<'_>, mask: SigSet) -> io::Result<Pid> {
        let mut command = Command::new(image.executable);
        command.arg0(image.name).args(image.arguments).env_clear().envs(image.environment);
        die_with_parent(&mut command, mask);
        Ok(Pid::from_raw(command.spawn()?.id().cast_signed()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;

    fn run(executable: &Path, arguments: &[&str]) -> io::Result<WaitStatus> {
        let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        let environment = BTreeMap::from([("COLOUR".into(), "blue".into())]);
        let name = OsStr::new("a name");
        let image = Image { executable, name, arguments: &arguments, environment: &environment };
        start(&image, SigSet::empty()).map(|child| waitpid(child, None).unwrap())
    }

    #[test]
    fn a_program_gets_its_name_arguments_and_variables_and_nothing_else() {
        let says = r#"test "$0,$1,$COLOUR,$HOME" = "it,x y,blue," && test "$(tr '\0' ' ' </proc/$$/cmdline | cut -c-6)" = "a name""#;
        let status = run(Path::new("/bin/sh"), &["-c", says, "it", "x y"]).unwrap();
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    }

    #[test]
    fn a_script_without_a_first_line_is_run_by_a_shell() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        std::fs::write(&script, "exit 7\n").unwrap();
        assert_eq!(run(&script, &[]).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        // Another thread that starts a program at this moment may hold the file open for writing.
        let status = std::iter::repeat_with(|| run(&script, &[])).find_map(|result| match result {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => None,
            other => Some(other),
        });
        assert!(matches!(status.unwrap().unwrap(), WaitStatus::Exited(_, 7)));
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        assert_eq!(run(Path::new("/nowhere"), &[]).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(run(Path::new("/bin/sh"), &["a\0b"]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_closed_pipe_ends_the_program() {
        let status = run(Path::new("/bin/sh"), &["-c", "kill -PIPE $$"]).unwrap();
        assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGPIPE, _)), "{status:?}");
    }
}

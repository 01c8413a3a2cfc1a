//! Whether this user may make name spaces of their own and mount inside: what running without any trace needs.
//!
//! On some systems making one works and using it does not (Ubuntu's AppArmor rule), so a child does both.
#![expect(unsafe_code, reason = "the child must change name spaces between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

use super::Finding;

const NAME: &str = "user-namespaces";
const MEANING: &str = "a package can run in a mount that nobody else sees, without any privilege";

/// The kernel's switches that forbid it, and what says so.
const SWITCHES: &[(&str, &str, &str, &str)] = &[
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor takes the rights inside away from programs that it does not know",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0   (as root), or an AppArmor profile with `userns`",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "the kernel does not let ordinary users make them",
        "sysctl -w kernel.unprivileged_userns_clone=1   (as root)",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "the number of user name spaces is limited to none",
        "sysctl -w user.max_user_namespaces=10000   (as root)",
    ),
];

pub(super) fn finding() -> Finding {
    let Err(error) = try_in_child() else { return Finding::ok(NAME, "works", MEANING) };
    let refused = Finding::limited(NAME, "refused", MEANING);
    let reason = SWITCHES
        .iter()
        .find(|(path, value, ..)| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == *value));
    match reason {
        Some((_, _, cause, fix)) => refused.cause(*cause).fix(*fix),
        None if super::in_container() => {
            refused.cause(format!("the container's seccomp or capability rules forbid it: {error}"))
        }
        None => refused.cause(error.to_string()),
    }
}

/// Makes a user and a mount name space in a child and mounts an empty tmpfs there.
fn try_in_child() -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: the closure makes system calls only: no allocation, no lock. It never lets the program start: it
    // ends in an error in any case.
    unsafe { command.pre_exec(|| Err(outcome())) };
    match command.spawn() {
        Ok(mut child) => {
            let _ = child.wait();
            Err(io::Error::other("the child went on"))
        }
        Err(error) if error.raw_os_error() == Some(WORKED) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Stands for success in the only number that comes back from the child: no call here gives it.
const WORKED: i32 = libc::EDOM;

fn outcome() -> io::Error {
    match unshare_and_mount() {
        Ok(()) => io::Error::from_raw_os_error(WORKED),
        Err(error) => io::Error::from_raw_os_error(error.raw_os_error()),
    }
}

fn unshare_and_mount() -> rustix::io::Result<()> {
    // SAFETY: the child has one thread and nothing of it uses files or identities that this changes.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::mount::mount(c"none", c"/proc", c"tmpfs", MountFlags::empty(), None::<&std::ffi::CStr>)
}

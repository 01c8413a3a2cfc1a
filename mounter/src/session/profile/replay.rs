//! Asking for what earlier launches touched, ahead of the program: a process of its own that reads through the mount,
//! so that names, listings and content are in the kernel when the program comes for them.
//!
//! It is no thread of the server: whoever waits for an answer from a server that is killed holds the server's connection
//! to the kernel open, and then neither can end.
//!
//! **Invariant:** nothing is read but what the profile names inside the mount, at low priority, within a bound; the
//! process is gone before its server unmounts.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slotfs_fs::driver::touches::Touches;

use crate::host::ahead::Ahead;
use crate::host::process::{self, ProcessHandle};
use crate::workenv::Workenv;

use super::{Profile, What};

/// The name of the hidden subcommand that asks.
pub const PREFETCH_COMMAND: &str = "__prefetch";

/// How much of a file is asked for of which nothing is known but that it was opened.
const OPENED: u64 = 4 << 20;

/// A replay that may still go on.
#[derive(Debug)]
pub(in crate::session) struct Replay {
    child: Arc<Mutex<Option<Child>>>,
}

impl Replay {
    /// Starts to ask for what launches of `content` touched, where that is known and worth it. What it asks for is no part
    /// of `touches`.
    pub(in crate::session) fn begin(
        workenv: &Workenv,
        content: &str,
        mountpoint: &Path,
        touches: &Touches,
    ) -> Option<Self> {
        // One that is kept is worth it, and is read by whoever asks: a server has no time for that now.
        let profile = Profile::place(workenv);
        std::fs::symlink_metadata(&profile).ok().filter(std::fs::Metadata::is_file)?;
        let told = |error: std::io::Error| tracing::debug!("nothing is asked for in advance: {error}");
        let child = spawn(&profile, content, mountpoint).map_err(told).ok()?;
        touches.ignore(child.id());
        let handle = ProcessHandle::open(child.id().cast_signed()).ok().flatten();
        let child = Arc::new(Mutex::new(Some(child)));
        if let Some(handle) = handle {
            let waited = Arc::clone(&child);
            // So that it does not stay in the list of processes after its end.
            let reap = move || {
                while handle.wait(Duration::from_hours(1)).is_ok_and(|ended| !ended) {}
                end(&mut lock(&waited));
            };
            if let Err(error) = crate::session::thread("prefetch", reap) {
                tracing::debug!("{error}");
            }
        }
        Some(Self { child })
    }

    /// Ends it. Once this returns, it uses nothing any more.
    pub(in crate::session) fn end(&self) {
        end(&mut lock(&self.child));
    }
}

/// Ends the replay of the server `number`, of which the caller knows that it lives, so that it keeps no mount busy.
pub(in crate::session) fn interrupt(number: i32) {
    let is_asking = |child: i32| {
        let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).nth(1) == Some(PREFETCH_COMMAND.as_bytes())
    };
    for child in process::children(number) {
        let Ok(Some(handle)) = ProcessHandle::open(child) else { continue };
        // Asked when the number cannot be given to another process any more.
        if process::children(number).contains(&child) && is_asking(child) {
            let ended = handle.kill().and_then(|()| handle.wait(Duration::from_secs(1)));
            if let Err(error) = ended {
                tracing::debug!("cannot end the process that asks in advance: {error}");
            }
        }
    }
}

fn lock(child: &Mutex<Option<Child>>) -> MutexGuard<'_, Option<Child>> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        // It has ended already, as a rule.
        let _ = child.kill();
        if let Err(error) = child.wait() {
            tracing::debug!("cannot wait for the process that asks in advance: {error}");
        }
    }
}

fn spawn(profile: &Path, content: &str, mountpoint: &Path) -> std::io::Result<Child> {
    let mut command = Command::new(process::own_executable()?);
    std::os::unix::process::CommandExt::arg0(&mut command, "slotfs");
    command.arg(PREFETCH_COMMAND).arg(profile).arg(content).arg(mountpoint);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    process::die_with_parent(&mut command, nix::sys::signal::SigSet::empty());
    command.spawn()
}

/// Asks for everything that the profile in the file `profile` names in the mount at `mountpoint`, if it is of the build
/// `content`. For the hidden subcommand.
///
/// # Errors
/// The mountpoint cannot be opened. What is not there any more is no error.
pub fn replay(profile: &Path, content: &str, mountpoint: &Path) -> std::io::Result<()> {
    process::yield_to_others();
    let known = Profile::read_file(profile).filter(|profile| profile.content == content);
    let Some(profile) = known else { return Ok(()) };
    let mut ahead = Ahead::new(mountpoint)?;
    for entry in &profile.entries {
        let path = if entry.path.as_os_str().is_empty() { PathBuf::from(".") } else { entry.path.clone() };
        match &entry.what {
            What::Name => ahead.name(&path),
            What::Listing => ahead.listing(&path),
            What::Content { ranges } if ranges.is_empty() => ahead.content(&path, &[(0, OPENED)]),
            What::Content { ranges } => ahead.content(&path, ranges),
        }
        if ahead.is_over() {
            break;
        }
    }
    Ok(())
}

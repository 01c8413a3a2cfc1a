//! An ordinary user on a machine that lets ordinary users mount, whatever this one does.
//!
//! A mount namespace of its own has a `/dev/fuse` that everybody may open, as distributions install it. A process holds the
//! namespace; when the test ends, however it ends, the namespace and every mount in it go with the last process there.
#![expect(clippy::unwrap_used, reason = "a harness that cannot set up its test has to stop it")]

use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{Done, Home, Running, binary, skip};

/// The user called nobody.
pub const NOBODY: u32 = 65534;

/// A user without privileges, with a home and slotfs in it.
#[derive(Debug)]
pub struct Ordinary {
    /// Holds the namespace.
    holder: Running,
    home: Home,
    slotfs: PathBuf,
}

impl Ordinary {
    /// Makes one; `None` where this test cannot become somebody else, or nobody but root may mount.
    ///
    /// # Panics
    /// The home cannot be made.
    #[must_use]
    pub fn new() -> Option<Self> {
        Self::on_a_machine(false)
    }

    /// As [`Self::new`], where ordinary users may also let others into their mounts (`user_allow_other`).
    ///
    /// # Panics
    /// As there.
    #[must_use]
    pub fn letting_others_in() -> Option<Self> {
        Self::on_a_machine(true)
    }

    fn on_a_machine(lets_others_in: bool) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip("only root can become somebody else".into());
            return None;
        }
        let home = Home::new();
        std::fs::set_permissions(home.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
        // A link has the same identity, by which leftover servers are found.
        let slotfs = home.path("slotfs");
        if std::fs::hard_link(binary(), &slotfs).is_err() {
            std::fs::copy(binary(), &slotfs).unwrap();
        }
        let (device, configuration) = (home.path("fuse-device"), home.path("fuse.conf"));
        std::fs::write(&configuration, if lets_others_in { "user_allow_other\n" } else { "" }).unwrap();
        // The namespace begins as a copy: mounts of other tests would live on in it.
        let script = "sed -n 's/^[^ ]* \\([^ ]*\\) fuse[. ].*/\\1/p' /proc/self/mounts | xargs -r -n1 umount -l; \
                      mknod \"$0\" c 10 229 && chmod 666 \"$0\" && mount --bind \"$0\" /dev/fuse && \
                      touch /etc/fuse.conf && mount --bind \"$1\" /etc/fuse.conf && echo ready && read end";
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "--propagation", "private", "--", "sh", "-c", script])
            .args([&device, &configuration]);
        let mut holder = Running::start(&mut unshare);
        if holder.line() != "ready" {
            skip(format!("no mount namespace: {}", holder.finish().stderr));
            return None;
        }
        chown(home.root(), Some(NOBODY), Some(NOBODY)).unwrap();
        let user = Self { holder, home, slotfs };
        let done = user.run(["--version"]);
        if done.code != 0 {
            skip(format!("`{}` is not for everybody: {}", user.home.root().display(), done.stderr));
            return None;
        }
        Some(user)
    }

    /// Returns the user's home. What a test writes there itself belongs to root: see [`Self::own`].
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Gives a file to the user.
    ///
    /// # Panics
    /// It cannot be given away.
    pub fn own(&self, path: &Path) {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }

    /// Prepares a program that the user starts.
    pub fn program<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: I,
    ) -> Command {
        let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
        let mut command = self.program_of_root("setpriv", ids);
        command.args(["--clear-groups", "--"]).arg(program).args(arguments);
        command
    }

    /// Prepares a program that root starts on the user's machine.
    pub fn program_of_root<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: I,
    ) -> Command {
        let mut command = self.home.program("nsenter");
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.holder.pid());
        command.args([&namespace, "--"]).arg(program).args(arguments);
        command
    }

    /// Runs slotfs as root on the user's machine, to its end.
    pub fn run_as_root<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I) -> Done {
        Done::of(&mut self.program_of_root(&self.slotfs, arguments))
    }

    /// Runs slotfs as the user, to its end.
    pub fn run<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I) -> Done {
        Done::of(&mut self.program(&self.slotfs, arguments))
    }

    /// Runs a line of shell as the user, to its end.
    pub fn shell(&self, line: &str) -> Done {
        Done::of(&mut self.program("sh", ["-ec", line]))
    }

    /// Returns where slotfs is mounted in the user's namespace.
    ///
    /// # Panics
    /// The mount table cannot be read.
    #[must_use]
    pub fn mounts(&self) -> Vec<String> {
        let table = std::fs::read_to_string(format!("/proc/{}/mounts", self.holder.pid())).unwrap();
        let ours = table.lines().filter(|line| line.contains(" fuse.slotfs "));
        let places = ours.filter_map(|line| line.split(' ').nth(1)).map(str::to_owned);
        places.filter(|place| Path::new(place).starts_with(self.home.root())).collect()
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        let left = (self.mounts(), self.home.servers());
        for &server in &left.1 {
            let _ = kill(Pid::from_raw(server), Signal::SIGKILL);
        }
        // In the namespace only, so the test's own check of its mount table would not see it.
        if !std::thread::panicking() {
            assert!(left.0.is_empty(), "mounts were left: {:?}", left.0);
        }
    }
}

//! How a mount is made: what the mount table shows, who may enter, what the kernel refuses by itself.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::touches::Touches;

/// Whether other users than the one who mounts may use the mount. Permissions of files hold in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OtherUsers {
    /// They may not.
    Never,
    /// They may where this machine lets the mounting user say so: always for root, else with
    /// `user_allow_other` in `/etc/fuse.conf`.
    #[default]
    WherePossible,
    /// They must; mounting fails otherwise.
    Required,
}

/// How files are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OpenMode {
    /// An immutable volume is opened without asking us (the kernel then never asks again); in others, files
    /// that lie on the disk as they are go to the kernel where it takes them.
    #[default]
    Automatic,
    /// Every open is a request, reads are requests.
    Requests,
    /// Every open is a request; files that lie on the disk as they are go to the kernel.
    Passthrough,
}

/// An option that means the same for every file system, and that the kernel takes care of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenericFlag {
    /// Times of last access of directories are not kept.
    NoDirectoryAccessTimes,
    /// Times of last access are kept when they are older than those of changes.
    RelativeAccessTimes,
    /// Every access is noted.
    StrictAccessTimes,
    /// Times are written late.
    LazyTimes,
    /// Everything is written at once.
    Synchronous,
    /// Changes of names are written at once.
    DirectorySynchronous,
    /// Symbolic links are not followed.
    NoSymlinkFollowing,
}

impl GenericFlag {
    /// Every flag.
    pub const ALL: [Self; 7] = [
        Self::NoDirectoryAccessTimes,
        Self::RelativeAccessTimes,
        Self::StrictAccessTimes,
        Self::LazyTimes,
        Self::Synchronous,
        Self::DirectorySynchronous,
        Self::NoSymlinkFollowing,
    ];

    fn is_about_times(self) -> bool {
        match self {
            Self::NoDirectoryAccessTimes
            | Self::RelativeAccessTimes
            | Self::StrictAccessTimes
            | Self::LazyTimes => true,
            Self::Synchronous | Self::DirectorySynchronous | Self::NoSymlinkFollowing => false,
        }
    }

    /// Returns what mount(8) calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoDirectoryAccessTimes => "nodiratime",
            Self::RelativeAccessTimes => "relatime",
            Self::StrictAccessTimes => "strictatime",
            Self::LazyTimes => "lazytime",
            Self::Synchronous => "sync",
            Self::DirectorySynchronous => "dirsync",
            Self::NoSymlinkFollowing => "nosymfollow",
        }
    }
}

/// How a mount is made.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// What the mount table shows as the source: the package's path.
    pub source: OsString,
    /// The kernel refuses every change.
    pub read_only: bool,
    /// Who may use it.
    pub others: OtherUsers,
    /// Device nodes work as such.
    pub devices: bool,
    /// Set-id bits work.
    pub set_id: bool,
    /// Files may be executed.
    pub execute: bool,
    /// Times of last access are kept; as FUSE goes, the mount table shows it and nothing else changes.
    pub access_times: bool,
    /// What else the kernel is told.
    pub flags: Vec<GenericFlag>,
    /// How files are opened.
    pub open: OpenMode,
    /// How many threads answer requests; by default twice the processors, 4 to 8. At least two are needed for
    /// a volume whose lookups may wait.
    pub threads: Option<usize>,
    /// Hears what is asked for.
    pub touches: Option<Arc<Touches>>,
}

impl MountOptions {
    /// Returns the defaults: writable, executable, no devices, no set-id, others where possible.
    pub fn new(source: impl Into<OsString>) -> Self {
        Self {
            source: source.into(),
            read_only: false,
            others: OtherUsers::default(),
            devices: false,
            set_id: false,
            execute: true,
            access_times: false,
            flags: Vec::new(),
            open: OpenMode::default(),
            threads: None,
            touches: None,
        }
    }

    /// Returns how many threads answer requests. A lookup may wait for a slot's pass, so there are several
    /// even on one processor.
    pub(super) fn thread_count(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        self.threads.unwrap_or((processors * 2).clamp(4, 8)).max(1)
    }

    /// Returns the data of `mount(2)` after `fd=`: who mounts, and what the kernel checks by itself.
    pub(super) fn kernel_data(&self, user: u32, group: u32, others: bool) -> String {
        let mut data = format!("rootmode=40000,user_id={user},group_id={group},default_permissions");
        if others {
            data.push_str(",allow_other");
        }
        data
    }

    /// Returns the `-o` argument of `fusermount3`, which splits at commas and takes a backslash as escape.
    pub(super) fn helper_argument(&self, others: bool) -> OsString {
        use std::os::unix::ffi::OsStringExt;

        let mut bytes = b"fsname=".to_vec();
        for &byte in self.source.as_bytes() {
            if matches!(byte, b',' | b'\\') {
                bytes.push(b'\\');
            }
            bytes.push(byte);
        }
        let mut rest = String::from(",subtype=slotfs,default_permissions");
        let switches = [
            (!self.access_times, "noatime"),
            (self.read_only, "ro"),
            (!self.devices, "nodev"),
            (!self.set_id, "nosuid"),
            (!self.execute, "noexec"),
            (others, "allow_other"),
        ];
        for (_, name) in switches.into_iter().filter(|&(on, _)| on) {
            let _ = write!(rest, ",{name}");
        }
        // The helper knows few of them. Those about times change nothing for FUSE, so nothing is lost without them.
        for flag in self.flags.iter().filter(|flag| !flag.is_about_times()) {
            let _ = write!(rest, ",{}", flag.name());
        }
        bytes.extend_from_slice(rest.as_bytes());
        OsString::from_vec(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_helper_gets_a_source_it_cannot_misread() {
        let mut options = MountOptions::new("/a,b\\c d");
        options.read_only = true;
        options.flags = vec![GenericFlag::Synchronous, GenericFlag::LazyTimes];
        assert_eq!(
            options.helper_argument(true),
            "fsname=/a\\,b\\\\c d,subtype=slotfs,default_permissions,noatime,ro,nodev,nosuid,allow_other,sync"
        );
    }

    #[test]
    fn the_kernel_is_told_who_mounts() {
        let options = MountOptions::new("x");
        assert_eq!(
            options.kernel_data(1000, 100, false),
            "rootmode=40000,user_id=1000,group_id=100,default_permissions"
        );
    }

    #[test]
    fn there_are_threads_enough_for_a_lookup_that_waits() {
        let mut options = MountOptions::new("x");
        assert!((4..=8).contains(&options.thread_count()));
        options.threads = Some(0);
        assert_eq!(options.thread_count(), 1);
    }
}

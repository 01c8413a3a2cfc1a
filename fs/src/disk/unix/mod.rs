//! Files and directories of the host by descriptor: names are looked up one at a time in an open directory.
//!
//! **Invariant:** no symbolic link is ever followed and no path leaves the directory it starts in, so neither a
//! deep tree (`PATH_MAX`) nor a hostile one leads elsewhere.

mod content;
mod entry;
mod erase;
mod extended;
mod spot;
mod whole;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

pub use content::{
    allocate, begin_to_sync, clone_file, copy_inside, copy_range, data_from, hole_from, set_length, space,
    sync_file_system, write_sparse,
};
pub use entry::{Listed, NewSpecial};
pub use erase::Erasure;
pub use extended::{NO_ATTRIBUTE, XattrFlag};
pub use spot::{SetTimes, Spot, Stat, TimeChange};
pub use whole::TreeSize;

use super::{Context, DiskError};

/// Opens a directory without asking for more than passing through it.
#[cfg(target_os = "linux")]
const PASS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
#[cfg(not(target_os = "linux"))]
const PASS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// An open directory of the host; it stays the same directory wherever it is moved.
#[derive(Debug)]
pub struct Directory {
    descriptor: OwnedFd,
}

impl Directory {
    /// Opens the directory at `path`, following symbolic links as the host does.
    ///
    /// # Errors
    /// Names the path.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let flags = PASS.union(OFlags::CLOEXEC);
        let descriptor = rustix::fs::open(path, flags, Mode::empty()).context("open the directory", path)?;
        Ok(Self { descriptor })
    }

    /// Opens the directory `name` in this one; a symbolic link is not followed but refused.
    ///
    /// # Errors
    /// Names the directory.
    pub fn child(&self, name: &[u8]) -> Result<Self, DiskError> {
        let flags = PASS | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.descriptor, name, flags, Mode::empty());
        Ok(Self { descriptor: opened.context("open the directory", self.shown(name))? })
    }

    /// Returns the directory as a file, for `fsync(2)`, `flock(2)` and listing.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn readable(&self) -> Result<OwnedFd, DiskError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.descriptor, ".", flags, Mode::empty())
            .context("open the directory", self.shown(b"."))
    }

    /// Makes earlier changes of this directory's names durable.
    ///
    /// # Errors
    /// What `fsync(2)` reports.
    pub fn sync(&self) -> Result<(), DiskError> {
        rustix::fs::fsync(self.readable()?).context("sync the directory", self.shown(b"."))
    }
}

impl Directory {
    fn shown<'a>(&'a self, name: &'a [u8]) -> Shown<'a> {
        Shown { directory: self, name }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Tells whether this process may do what only root may.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Tells whether this process is in the group.
#[must_use]
pub fn is_in_group(group: u32) -> bool {
    rustix::process::getegid().as_raw() == group
        || rustix::process::getgroups().is_ok_and(|groups| groups.iter().any(|one| one.as_raw() == group))
}

/// Returns this process's effective user and group.
#[must_use]
pub fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Returns what tells this run of the machine from every other, where the host says so.
#[must_use]
pub fn boot_identity() -> Option<String> {
    let found = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(found.trim().to_owned()).filter(|found| !found.is_empty())
}

/// Makes a device number of `major` and `minor` as the host encodes it.
#[must_use]
pub fn device_number(major: u32, minor: u32) -> u64 {
    // 32 bits wide on some hosts, and never negative.
    rustix::fs::makedev(major, minor) as u64
}

/// Returns major and minor number of a device number as the host encodes it.
#[must_use]
pub fn device_parts(device: u64) -> (u32, u32) {
    // As narrow as the host has it.
    let device = device as rustix::fs::Dev;
    // Unsigned on some hosts, signed on others; never more than 32 bits.
    (rustix::fs::major(device) as u32, rustix::fs::minor(device) as u32)
}

/// A name in an open directory, which becomes a path when somebody has to be told.
struct Shown<'a> {
    directory: &'a Directory,
    name: &'a [u8],
}

impl From<Shown<'_>> for PathBuf {
    fn from(Shown { directory, name }: Shown<'_>) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(name);
        // Where the directory is now; elsewhere than on Linux, and where /proc is missing, the name has to do.
        match std::fs::read_link(directory.path_by_descriptor()) {
            Ok(path) if name == "." => path,
            Ok(path) => path.join(name),
            Err(_) => name.into(),
        }
    }
}

/// Returns `None` for `ENOENT`.
fn absent<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the error of a full disk, as the host reports it.
#[must_use]
pub fn no_space() -> io::Error {
    Errno::NOSPC.into()
}

/// Tells whether `error` says that permission bits forbid this (EACCES), and not that only root may do it (EPERM).
#[must_use]
pub fn is_access_denied(error: &DiskError) -> bool {
    error.source.raw_os_error() == Some(Errno::ACCESS.raw_os_error())
}

#[cfg(not(target_os = "linux"))]
fn unsupported() -> io::Error {
    Errno::NOTSUP.into()
}

/// Tells whether `error` says that the disk or the host cannot do this at all.
#[must_use]
pub fn is_unsupported(error: &DiskError) -> bool {
    let code = error.source.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::NOSYS | Errno::INVAL | Errno::XDEV | Errno::TXTBSY))
        || code == Some(Errno::NOTSUP)
        || code == Some(Errno::OPNOTSUPP)
        || code == Some(Errno::NOTTY)
        || error.kind() == io::ErrorKind::Unsupported
}

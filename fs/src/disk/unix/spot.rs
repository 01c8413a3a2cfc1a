//! One file-system object of the host: a name in an open directory, or the object itself without a name.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};

use super::{Directory, absent};
use crate::disk::{Context, DiskError};
use crate::node::{Attributes, Kind, Timestamp};

/// An object of the host.
#[derive(Clone, Debug)]
pub enum Spot {
    /// What is called `name` in `directory`; `.` is the directory itself. A symbolic link is the object itself.
    Named {
        /// The open directory.
        directory: Arc<Directory>,
        /// One name.
        name: Arc<[u8]>,
    },
    /// An object that may have no name any more.
    Open(Arc<OwnedFd>),
}

/// What `stat(2)` tells.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// Inode number on its disk.
    pub inode: u64,
    /// The disk.
    pub disk: u64,
    /// The rest.
    pub attributes: Attributes,
}

/// One of the two times of `utimensat(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeChange {
    /// `UTIME_OMIT`.
    Keep,
    /// `UTIME_NOW`.
    Now,
    /// This time.
    At(Timestamp),
}

/// Both times of `utimensat(2)`.
#[derive(Clone, Copy, Debug)]
pub struct SetTimes {
    /// Last access.
    pub accessed: TimeChange,
    /// Last modification.
    pub modified: TimeChange,
}

impl SetTimes {
    /// Both times as `attributes` has them.
    #[must_use]
    pub fn of(attributes: &Attributes) -> Self {
        let (accessed, modified) = (attributes.accessed, attributes.modified);
        Self { accessed: TimeChange::At(accessed), modified: TimeChange::At(modified) }
    }
}

impl TimeChange {
    fn as_timespec(self) -> Timespec {
        match self {
            Self::Keep => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            Self::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
            Self::At(time) => Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
        }
    }
}

impl Spot {
    /// Names `name` in `directory`.
    #[must_use]
    pub fn named(directory: &Arc<Directory>, name: &[u8]) -> Self {
        Self::Named { directory: Arc::clone(directory), name: name.into() }
    }

    /// `lstat(2)`; `None` when there is nothing.
    ///
    /// # Errors
    /// What the host reports.
    pub fn stat(&self) -> Result<Option<Stat>, DiskError> {
        match self {
            Self::Named { directory, name } => directory.stat(name),
            Self::Open(descriptor) => {
                Ok(Some(from_host(&rustix::fs::fstat(descriptor).context("stat", "an unlinked file")?)))
            }
        }
    }

    /// Opens the regular file for reading, or for reading and writing.
    ///
    /// # Errors
    /// What `open(2)` reports; `ELOOP` for a symbolic link.
    pub fn open_file(&self, write: bool, append: bool) -> Result<File, DiskError> {
        let mut flags = if write { OFlags::RDWR } else { OFlags::RDONLY };
        flags.set(OFlags::APPEND, append);
        // Non-blocking, as a fifo that took the place of a file would hang us; it means nothing for files.
        flags |= OFlags::CLOEXEC | OFlags::NONBLOCK;
        match self {
            Self::Named { directory, name } => {
                let flags = flags | OFlags::NOFOLLOW;
                let opened = rustix::fs::openat(directory.as_fd(), &**name, flags, Mode::empty());
                Ok(File::from(opened.context("open", directory.shown(name))?))
            }
            Self::Open(descriptor) => {
                let opened = rustix::fs::open(self_path(descriptor)?, flags, Mode::empty());
                Ok(File::from(opened.context("open", "an unlinked file")?))
            }
        }
    }

    /// Returns a descriptor that keeps the object after its last name is gone, without opening its content.
    ///
    /// # Errors
    /// What `open(2)` reports.
    pub fn pin(&self) -> Result<Arc<OwnedFd>, DiskError> {
        let (directory, name) = match self {
            Self::Open(descriptor) => return Ok(Arc::clone(descriptor)),
            Self::Named { directory, name } => (directory, name),
        };
        #[cfg(target_os = "linux")]
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        #[cfg(not(target_os = "linux"))]
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = rustix::fs::openat(directory.as_fd(), &**name, flags, Mode::empty());
        Ok(Arc::new(opened.context("open", directory.shown(name))?))
    }

    /// `chmod(2)`; never called on a symbolic link, which has no mode of its own on Linux.
    ///
    /// # Errors
    /// What the host reports.
    pub fn set_mode(&self, mode: u32) -> Result<(), DiskError> {
        // The type of `mode_t` is narrower on some hosts.
        let mode = Mode::from_raw_mode((mode & 0o7777) as rustix::fs::RawMode);
        match self {
            Self::Named { directory, name } => {
                rustix::fs::chmodat(directory.as_fd(), &**name, mode, AtFlags::empty())
                    .context("change the mode of", directory.shown(name))
            }
            Self::Open(descriptor) => rustix::fs::chmod(self_path(descriptor)?, mode)
                .context("change the mode of", "an unlinked file"),
        }
    }

    /// `lchown(2)`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn set_owner(&self, user: Option<u32>, group: Option<u32>) -> Result<(), DiskError> {
        // The largest number means "unchanged" to the system call.
        let user = user.filter(|user| *user != u32::MAX).map(Uid::from_raw);
        let group = group.filter(|group| *group != u32::MAX).map(Gid::from_raw);
        match self {
            Self::Named { directory, name } => {
                rustix::fs::chownat(directory.as_fd(), &**name, user, group, AtFlags::SYMLINK_NOFOLLOW)
                    .context("change the owner of", directory.shown(name))
            }
            Self::Open(descriptor) => rustix::fs::chown(self_path(descriptor)?, user, group)
                .context("change the owner of", "an unlinked file"),
        }
    }

    /// `utimensat(2)`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn set_times(&self, times: SetTimes) -> Result<(), DiskError> {
        let times = Timestamps {
            last_access: times.accessed.as_timespec(),
            last_modification: times.modified.as_timespec(),
        };
        match self {
            Self::Named { directory, name } => {
                rustix::fs::utimensat(directory.as_fd(), &**name, &times, AtFlags::SYMLINK_NOFOLLOW)
                    .context("change the times of", directory.shown(name))
            }
            Self::Open(descriptor) => {
                let path = self_path(descriptor)?;
                rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::empty())
                    .context("change the times of", "an unlinked file")
            }
        }
    }

    /// `readlink(2)`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn read_link(&self) -> Result<Vec<u8>, DiskError> {
        let target = match self {
            Self::Named { directory, name } => rustix::fs::readlinkat(directory.as_fd(), &**name, Vec::new())
                .context("read the link", directory.shown(name))?,
            Self::Open(descriptor) => rustix::fs::readlinkat(descriptor.as_fd(), "", Vec::new())
                .context("read the link", "an unlinked link")?,
        };
        Ok(target.into_bytes())
    }
}

impl Directory {
    /// `lstat(2)` of `name` in this directory (`.` is the directory itself); `None` when there is nothing.
    ///
    /// # Errors
    /// What the host reports.
    pub fn stat(&self, name: &[u8]) -> Result<Option<Stat>, DiskError> {
        let found = absent(rustix::fs::statat(self.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW));
        Ok(found.context("stat", self.shown(name))?.map(|found| from_host(&found)))
    }
}

/// A path that leads to an open object, whatever its name.
#[cfg(target_os = "linux")]
pub(super) fn self_path(descriptor: &OwnedFd) -> Result<String, DiskError> {
    use std::os::fd::AsRawFd;
    Ok(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn self_path(descriptor: &OwnedFd) -> Result<String, DiskError> {
    use std::os::fd::AsRawFd;
    Ok(format!("/dev/fd/{}", descriptor.as_raw_fd()))
}

#[cfg_attr(
    target_os = "linux",
    expect(clippy::unnecessary_cast, reason = "the types of `struct stat` differ between hosts")
)]
pub(super) fn from_host(stat: &rustix::fs::Stat) -> Stat {
    let time = |seconds: i64, nanoseconds: i64| Timestamp {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap_or_default(),
    };
    let kind = kind_of(FileType::from_raw_mode(stat.st_mode));
    let device = matches!(kind, Kind::CharacterDevice | Kind::BlockDevice);
    Stat {
        inode: stat.st_ino as u64,
        disk: stat.st_dev as u64,
        attributes: Attributes {
            kind,
            mode: stat.st_mode as u32 & 0o7777,
            user: stat.st_uid,
            group: stat.st_gid,
            size: stat.st_size as u64,
            blocks: stat.st_blocks as u64,
            links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            device: if device { stat.st_rdev as u64 } else { 0 },
            accessed: time(stat.st_atime as i64, stat.st_atime_nsec as i64),
            modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: time(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        },
    }
}

pub(super) fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharacterDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::RegularFile | FileType::Unknown => Kind::File,
    }
}

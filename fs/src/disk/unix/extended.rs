//! Extended attributes of the host's files, on the object itself and never on what a symbolic link names.

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::Spot;
use super::spot::self_path;
use crate::disk::{Context, DiskError};

/// What an absent attribute is reported as: ENODATA, which macOS and the BSDs call ENOATTR.
#[cfg(target_os = "linux")]
pub const NO_ATTRIBUTE: i32 = Errno::NODATA.raw_os_error();
/// What an absent attribute is reported as: ENODATA, which macOS and the BSDs call ENOATTR.
#[cfg(not(target_os = "linux"))]
pub const NO_ATTRIBUTE: i32 = Errno::NOATTR.raw_os_error();

/// `setxattr(2)` flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrFlag {
    /// Create or replace.
    Set,
    /// Fail when it exists.
    Create,
    /// Fail when it does not exist.
    Replace,
}

/// Longest value the Linux kernel takes (`XATTR_SIZE_MAX`), and longest list (`XATTR_LIST_MAX`).
const LARGEST: usize = 64 << 10;

impl Spot {
    /// `getxattr(2)`; `None` when it is not set, or when the disk or the kind of node has no such attributes.
    ///
    /// # Errors
    /// What the host reports.
    pub fn xattr(&self, name: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        let action = "read an extended attribute of";
        let path = self.xattr_path()?;
        // Most values are short; a second call is for the others.
        let mut value = vec![0; 256];
        loop {
            let outcome = match self {
                Self::Named { .. } => rustix::fs::lgetxattr(&*path, name, &mut value[..]),
                Self::Open(_) => rustix::fs::getxattr(&*path, name, &mut value[..]),
            };
            return match outcome {
                Ok(length) => {
                    value.truncate(length);
                    Ok(Some(value))
                }
                Err(Errno::RANGE) if value.len() < LARGEST => {
                    value.resize(LARGEST, 0);
                    continue;
                }
                Err(error) if error.raw_os_error() == NO_ATTRIBUTE => Ok(None),
                Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(None),
                Err(error) => Err(error).context(action, self.shown()),
            };
        }
    }

    /// `listxattr(2)`, in the disk's order.
    ///
    /// # Errors
    /// What the host reports.
    pub fn xattr_names(&self) -> Result<Vec<Vec<u8>>, DiskError> {
        let path = self.xattr_path()?;
        let mut list = vec![0; LARGEST];
        let outcome = match self {
            Self::Named { .. } => rustix::fs::llistxattr(&*path, &mut list[..]),
            Self::Open(_) => rustix::fs::listxattr(&*path, &mut list[..]),
        };
        match outcome {
            Ok(length) => {
                let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
                Ok(names.map(<[u8]>::to_vec).collect())
            }
            Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
            Err(error) => Err(error).context("list the extended attributes of", self.shown()),
        }
    }

    /// `setxattr(2)`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn set_xattr(&self, name: &[u8], value: &[u8], flag: XattrFlag) -> Result<(), DiskError> {
        let path = self.xattr_path()?;
        let flags = match flag {
            XattrFlag::Set => XattrFlags::empty(),
            XattrFlag::Create => XattrFlags::CREATE,
            XattrFlag::Replace => XattrFlags::REPLACE,
        };
        match self {
            Self::Named { .. } => rustix::fs::lsetxattr(&*path, name, value, flags),
            Self::Open(_) => rustix::fs::setxattr(&*path, name, value, flags),
        }
        .context("set an extended attribute of", self.shown())
    }

    /// `removexattr(2)`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn remove_xattr(&self, name: &[u8]) -> Result<(), DiskError> {
        let path = self.xattr_path()?;
        match self {
            Self::Named { .. } => rustix::fs::lremovexattr(&*path, name),
            Self::Open(_) => rustix::fs::removexattr(&*path, name),
        }
        .context("remove an extended attribute of", self.shown())
    }

    /// The system calls take paths, so the directory is named by its descriptor.
    fn xattr_path(&self) -> Result<Vec<u8>, DiskError> {
        match self {
            Self::Named { directory, name } => {
                let mut path = directory.path_by_descriptor().into_bytes();
                path.push(b'/');
                path.extend_from_slice(name);
                Ok(path)
            }
            Self::Open(descriptor) => self_path(descriptor).map(String::into_bytes),
        }
    }

    fn shown(&self) -> std::path::PathBuf {
        match self {
            Self::Named { directory, name } => directory.shown(name).into(),
            Self::Open(_) => "an unlinked file".into(),
        }
    }
}

impl super::Directory {
    pub(super) fn path_by_descriptor(&self) -> String {
        use std::os::fd::AsRawFd;
        let root = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
        format!("{root}/{}", self.descriptor.as_raw_fd())
    }
}

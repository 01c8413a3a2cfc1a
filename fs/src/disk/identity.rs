//! Which file this is and whether it is still the same: device, inode, size, both change times.
//!
//! A process that writes to a file cannot put its change time back, so an unchanged identity means unchanged
//! bytes on a healthy disk (see `stat(2)`, `st_ctim`).

use std::fs::Metadata;

/// What tells one state of one file from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct FileIdentity {
    /// Device number (0 where the host has none).
    pub device: u64,
    /// Inode number (0 where the host has none).
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last modification, nanoseconds since 1970.
    pub modified: i128,
    /// Last change of the inode, nanoseconds since 1970 (creation time on Windows).
    pub changed: i128,
}

impl FileIdentity {
    /// Returns the identity that `metadata` describes.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        platform::identity(metadata)
    }
}

#[cfg(unix)]
mod platform {
    use super::FileIdentity;
    use std::fs::Metadata;
    use std::os::unix::fs::MetadataExt;

    pub(super) fn identity(metadata: &Metadata) -> FileIdentity {
        let nanoseconds = |seconds: i64, part: i64| i128::from(seconds) * 1_000_000_000 + i128::from(part);
        FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(windows)]
mod platform {
    use super::FileIdentity;
    use std::fs::Metadata;
    use std::os::windows::fs::MetadataExt;

    pub(super) fn identity(metadata: &Metadata) -> FileIdentity {
        // FILETIME counts 100 ns steps since 1601; only equality matters here.
        FileIdentity {
            device: 0,
            inode: 0,
            size: metadata.len(),
            modified: i128::from(metadata.last_write_time()) * 100,
            changed: i128::from(metadata.creation_time()) * 100,
        }
    }
}

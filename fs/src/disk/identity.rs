//! Which file this is and whether it is still the same: device, inode, size, both change times.
//!
//! A process that writes to a file cannot put its change time back, so an unchanged identity means unchanged
//! bytes on a healthy disk (see `stat(2)`, `st_ctim`).

use std::fs::{File, Metadata};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

    /// Returns the identity of an open file at this moment.
    ///
    /// # Errors
    /// Passes on what `fstat(2)` reports.
    pub fn of_file(file: &File) -> io::Result<Self> {
        file.metadata().map(|metadata| Self::of(&metadata))
    }

    /// Returns how long to wait at `now` until a further write is sure to give the file another time: until two seconds
    /// after its last change where times seem to be kept in whole seconds, else more than any kernel's clock tick. What is
    /// read before that may be written over without a trace.
    #[must_use]
    pub fn unsettled_for(&self, now: SystemTime) -> Duration {
        const SECOND: i128 = 1_000_000_000;
        let changed = self.changed.max(self.modified);
        let tick = if changed % SECOND == 0 { Duration::from_secs(2) } else { Duration::from_millis(50) };
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let since = i128::try_from(now).unwrap_or(i128::MAX) - changed;
        // A time that is far ahead of the clock says nothing; nobody waits for it.
        let left = (tick.as_nanos() as i128 - since).clamp(0, tick.as_nanos() as i128);
        Duration::from_nanos(u64::try_from(left).unwrap_or(0))
    }

    /// Tells what happened to a file since `self` was taken, given its identity `now`.
    #[must_use]
    pub fn change_to(&self, now: &Self) -> Change {
        if self == now {
            Change::None
        } else if (self.device, self.inode, self.size, self.modified)
            == (now.device, now.inode, now.size, now.modified)
        {
            Change::Attributes
        } else {
            Change::Content
        }
    }
}

/// What two identities of one file say about the time between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing happened.
    None,
    /// Size and modification time are the same, but the inode changed: a chmod, a rename, a link, an unlink, or
    /// a write by somebody who then set the modification time back.
    Attributes,
    /// The content was written to, or it is another file.
    Content,
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_write_shows_and_a_rename_is_told_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one").unwrap();
        let before = FileIdentity::of_file(&file).unwrap();
        assert_eq!(before.change_to(&FileIdentity::of_file(&file).unwrap()), Change::None);
        std::fs::rename(&path, folder.path().join("b")).unwrap();
        assert_ne!(before.change_to(&FileIdentity::of_file(&file).unwrap()), Change::Content);
        file.write_all(b"two").unwrap();
        assert_eq!(before.change_to(&FileIdentity::of_file(&file).unwrap()), Change::Content);
    }
}

//! What a file is, whichever module holds it: kind, mode, owner, times.
//!
//! Plain data; nothing here touches a disk or a kernel.

/// The kind of a file-system node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Unix-domain socket.
    Socket,
    /// Character device.
    CharacterDevice,
    /// Block device.
    BlockDevice,
}

/// A point in time as POSIX `struct timespec` holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z; negative before it.
    pub seconds: i64,
    /// Nanoseconds, 0 ..= 999_999_999.
    pub nanoseconds: u32,
}

/// What `stat(2)` tells about a node, less its inode number, which the volume gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Kind of the node.
    pub kind: Kind,
    /// Permission bits including set-id and sticky, `0o0000 ..= 0o7777`.
    pub mode: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Size in bytes.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// Number of names (hard links).
    pub links: u32,
    /// Device number of a device node, else 0 (`makedev` encoding of the host).
    pub device: u64,
    /// Last access.
    pub accessed: Timestamp,
    /// Last modification of the content.
    pub modified: Timestamp,
    /// Last change of the node.
    pub changed: Timestamp,
}

impl Attributes {
    /// Returns those of a node that nothing is known about but its kind and its permission bits: root's, empty, with one
    /// name, from 1970.
    #[must_use]
    pub fn bare(kind: Kind, mode: u32) -> Self {
        let time = Timestamp::default();
        Self {
            kind,
            mode,
            user: 0,
            group: 0,
            size: 0,
            blocks: 0,
            links: 1,
            device: 0,
            accessed: time,
            modified: time,
            changed: time,
        }
    }
}

//! The plain data that goes in and out of a volume.

use std::fs::File;
use std::sync::Arc;

use crate::node::{Attributes, Kind, Timestamp};

/// A node of a volume; the root is [`NodeId::ROOT`]. A number is never given to another node, but what the layers have may
/// get the same one again after it was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The volume's root directory, as FUSE numbers it.
    pub const ROOT: Self = Self(1);

    /// Marks numbers that follow from an inode number of the layers; all others are counted up from the root's.
    const OF_LAYERS: u64 = 1 << 63;
    /// Bits that no inode number of the layers has.
    const NO_INODE: u64 = 3 << 62;

    /// Returns the number that follows from an inode number of the layers; `None` for any other inode number.
    pub(crate) fn of_layers(inode: u64) -> Option<Self> {
        (inode & Self::NO_INODE == 0).then_some(Self(Self::OF_LAYERS | inode))
    }

    /// Returns the inode number that this number follows from; `None` when it was counted up.
    pub(crate) fn inode_in_layers(self) -> Option<u64> {
        (self.0 & Self::OF_LAYERS != 0).then_some(self.0 & !Self::OF_LAYERS)
    }
}

/// An open file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

/// Who asks: the owner that new nodes get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Effective user.
    pub user: u32,
    /// Effective group.
    pub group: u32,
}

/// How a volume behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct VolumeOptions {
    /// Whether device nodes may be made and shown as such.
    pub devices: bool,
    /// How many bytes the files of the upper directory may take; `None` leaves that to the disk.
    pub limit: Option<u64>,
    /// Files of at least this many bytes are copied up without their content while only their attributes or names
    /// change; `None`: never. Whatever is said here, such copies of earlier times are read.
    pub bare_copies: Option<u64>,
}

/// A node's attributes and its stable inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What `stat(2)` shows as `st_ino`: the same through copy-up, rename and remount.
    pub inode: u64,
    /// The rest of `stat(2)`.
    pub attributes: Attributes,
    /// Whether the kernel may keep this without limit: every later change goes through this volume.
    pub lasting: bool,
}

/// A node as found by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The node; one reference was counted.
    pub node: NodeId,
    /// Its attributes.
    pub status: Status,
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A node.
    Found(Entry),
    /// Nothing. `lasting`: the kernel may remember that until something is made there through this volume.
    Absent {
        /// As [`Status::lasting`].
        lasting: bool,
    },
}

/// What an open file may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Every write goes to the end (`O_APPEND`).
    pub append: bool,
}

/// An open file.
#[derive(Clone, Debug)]
pub struct Opened {
    /// To be released by `Volume::release`.
    pub handle: HandleId,
    /// A host file that holds exactly this node's content for as long as the handle is open, whatever else is
    /// opened meanwhile: what kernel passthrough may be given.
    pub backing: Option<Arc<File>>,
    /// Whether cached pages of the node are still right.
    pub keep_cache: bool,
}

/// `setattr`: what is `Some` changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub user: Option<u32>,
    /// Group.
    pub group: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub accessed: Option<SetTime>,
    /// Last modification.
    pub modified: Option<SetTime>,
}

/// `utimensat(2)`'s two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// `UTIME_NOW`.
    Now,
    /// This time.
    At(Timestamp),
}

/// `renameat2(2)` flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace what is there.
    Replace,
    /// `RENAME_NOREPLACE`.
    NoReplace,
    /// `RENAME_EXCHANGE`.
    Exchange,
    /// `RENAME_WHITEOUT`: leave a 0/0 character device behind.
    Whiteout,
}

/// `setxattr(2)` flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Create or replace.
    Set,
    /// `XATTR_CREATE`.
    Create,
    /// `XATTR_REPLACE`.
    Replace,
}

/// One entry of a directory.
#[derive(Debug)]
pub struct DirectoryEntry<'a> {
    /// Where to go on after this entry.
    pub next_offset: u64,
    /// The entry's name.
    pub name: &'a [u8],
    /// `d_ino`, equal to `st_ino`.
    pub inode: u64,
    /// `d_type`.
    pub kind: Kind,
    /// For a `plus` listing, and never for `.` and `..`.
    pub entry: Option<Entry>,
}

/// `statvfs(3)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Size of a block in bytes.
    pub block_size: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Blocks free to ordinary users.
    pub blocks_available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Longest name in bytes.
    pub name_max: u64,
}

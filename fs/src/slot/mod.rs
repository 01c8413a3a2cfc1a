//! A slot as a tree of nodes whose bytes can be read at any position.
//!
//! `chain` undoes compressions, `scan` finds the entries of an archive, `tree` makes nodes of them while the
//! pass is still running, `index` keeps the finished tree on disk, `seek` reads from the middle of a compressed
//! slot, and `pass` drives all of them once over a slot's bytes.
//!
//! **Invariant:** stored bytes are hostile. Memory follows what is there and never what a field claims, and
//! no input makes this module panic or read outside the slot.

pub mod chain;
mod error;
pub mod index;
mod limits;
pub mod memory;
pub mod pass;
pub mod scan;
pub mod seek;
pub mod tree;

pub use error::SlotError;
pub use limits::Limits;

/// Something about an entry that the tree does not show as the archive has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The entry's path as the archive spells it.
    pub path: Vec<u8>,
    /// What happened to it.
    pub what: NoticeKind,
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NoticeKind {
    /// `..` in the path: refused.
    ParentInPath = 1,
    /// The path was absolute: placed below the root instead.
    Absolute = 2,
    /// The path leads through a symbolic link out of the tree: refused.
    LeavesThroughLink = 3,
    /// The path leads through something that is not a directory: refused.
    ParentNotDirectory = 4,
    /// A device node; shown only when asked for.
    Device = 5,
    /// Set-user-ID or set-group-ID bits; shown only when asked for.
    SetId = 6,
    /// A hard link to something that is not there (or to a directory): refused.
    DanglingHardLink = 7,
    /// Would replace a directory that is not empty: refused.
    DirectoryInTheWay = 8,
    /// A name over 255 bytes, a name with a NUL, a path deeper than the limit, or a symbolic link whose target is empty,
    /// holds a NUL or has over 4095 bytes: refused.
    BadName = 9,
    /// An extended attribute outside `user.`: dropped.
    AttributeDropped = 10,
    /// Encrypted, or compressed by an unknown method: refused.
    Unreadable = 11,
    /// A continuation of another volume or an unknown kind of entry: refused.
    UnknownKind = 12,
    /// Replaced by a later entry of the same name.
    Replaced = 13,
}

impl NoticeKind {
    /// Every kind, in the order of their codes.
    pub const ALL: [Self; 13] = [
        Self::ParentInPath,
        Self::Absolute,
        Self::LeavesThroughLink,
        Self::ParentNotDirectory,
        Self::Device,
        Self::SetId,
        Self::DanglingHardLink,
        Self::DirectoryInTheWay,
        Self::BadName,
        Self::AttributeDropped,
        Self::Unreadable,
        Self::UnknownKind,
        Self::Replaced,
    ];

    /// Returns the kind with this code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// Returns what happened, in words that follow the path.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::ParentInPath => "has `..` in its path: refused",
            Self::Absolute => "is absolute: placed below the root",
            Self::LeavesThroughLink => "leads out of the tree through a symbolic link: refused",
            Self::ParentNotDirectory => "lies below something that is not a directory: refused",
            Self::Device => "is a device node",
            Self::SetId => "has set-user-ID or set-group-ID bits",
            Self::DanglingHardLink => {
                "is a hard link to something that is not a file of the archive: refused"
            }
            Self::DirectoryInTheWay => "would replace a directory that is not empty: refused",
            Self::BadName => "has a name, depth or link target that no file system takes: refused",
            Self::AttributeDropped => "has an extended attribute outside `user.`: attribute dropped",
            Self::Unreadable => "is encrypted or compressed by an unknown method: refused",
            Self::UnknownKind => "is of an unknown kind: refused",
            Self::Replaced => "was replaced by a later entry of the same name",
        }
    }
}

//! The fixed-size records of which a tree consists, in memory and on disk alike (little-endian, no padding).

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::node::{Kind, Timestamp};
use crate::slot::scan::{Extent, ZipContent};

/// A node. Its number is its place in the table: the order in which the pass met it, 0 the root.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct NodeRecord {
    /// [`kind_code`].
    pub kind: u8,
    /// [`flags`].
    pub flags: u8,
    /// Permission bits as archived.
    pub mode: U16,
    /// Owner.
    pub user: U32,
    /// Group.
    pub group: U32,
    /// Number of names; for a directory 2 and one for each directory in it.
    pub links: U32,
    /// Length of the content, or of a link's target.
    pub size: U64,
    /// Modification time, seconds.
    pub seconds: I64,
    /// Modification time, nanoseconds.
    pub nanoseconds: U32,
    /// The directory in which the node was met first.
    pub parent: U32,
    /// Where the name is that it was met by.
    pub name: U32,
    /// Length of that name.
    pub name_length: U16,
    /// Zero.
    pub reserved: U16,
    /// Directory: first entry and, in the upper half, number of entries. File: decoded offset; with a flag, offset in
    /// the blob, or first row and, in the upper half, number of rows in a table. Symbolic link: offset in the blob.
    /// Device: minor and, in the upper half, major number.
    pub content: U64,
    /// 1 + row of the content's SHA-256, or 0 when it is not known.
    pub digest: U32,
    /// 1 + offset of the extended attributes, or 0 for none.
    pub attributes: U32,
}

/// Bits of [`NodeRecord::flags`].
pub mod flags {
    /// A directory that no entry describes.
    pub const IMPLIED: u8 = 1;
    /// The content is in the blob.
    pub const INLINE: u8 = 2;
    /// The content is given by rows of the extent table.
    pub const SPARSE: u8 = 4;
    /// The content is given by a row of the ZIP table.
    pub const ZIP: u8 = 8;
    /// The content belongs into the store, since it cannot be reached at random.
    pub const STORED: u8 = 16;
}

/// A name in a directory.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct EntryRecord {
    /// Which node.
    pub node: U32,
    /// Where the name is.
    pub name: U32,
    /// Length of the name.
    pub name_length: U16,
    /// The node's kind.
    pub kind: u8,
    /// Zero.
    pub reserved: u8,
    /// The first bytes of the name, padded with zeros: most comparisons need no more.
    pub prefix: [u8; 4],
}

/// A run of a sparse file's bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ExtentRecord {
    /// Where it is in the file.
    pub offset: U64,
    /// Where it is in the decoded bytes.
    pub decoded: U64,
    /// Its length.
    pub length: U64,
}

/// Where a file of a ZIP archive is; its length is in the node.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ZipRecord {
    /// Where the local header is.
    pub header: U64,
    /// Length of the compressed bytes.
    pub stored: U64,
    /// CRC-32 of the content.
    pub crc: U32,
    /// Compression method.
    pub method: U16,
    /// Zero.
    pub reserved: U16,
}

/// Returns the code by which a kind is stored.
#[must_use]
pub fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::File => 1,
        Kind::Directory => 2,
        Kind::Symlink => 3,
        Kind::Fifo => 4,
        Kind::Socket => 5,
        Kind::CharacterDevice => 6,
        Kind::BlockDevice => 7,
    }
}

/// Returns the kind with this code.
#[must_use]
pub fn kind_of(code: u8) -> Option<Kind> {
    match code {
        1 => Some(Kind::File),
        2 => Some(Kind::Directory),
        3 => Some(Kind::Symlink),
        4 => Some(Kind::Fifo),
        5 => Some(Kind::Socket),
        6 => Some(Kind::CharacterDevice),
        7 => Some(Kind::BlockDevice),
        _ => None,
    }
}

impl NodeRecord {
    /// Returns the kind, unless the code is damaged.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        kind_of(self.kind)
    }

    /// Tells whether a bit of [`flags`] is set.
    #[must_use]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The two halves of [`Self::content`], lower first.
    #[must_use]
    pub fn rows(&self) -> (u32, u32) {
        let value = self.content.get();
        (u32::try_from(value & 0xffff_ffff).unwrap_or(0), u32::try_from(value >> 32).unwrap_or(0))
    }

    /// Returns the modification time.
    #[must_use]
    pub fn modified(&self) -> Timestamp {
        Timestamp { seconds: self.seconds.get(), nanoseconds: self.nanoseconds.get().min(999_999_999) }
    }

    pub(crate) fn set_modified(&mut self, time: Timestamp) {
        self.seconds = time.seconds.into();
        self.nanoseconds = time.nanoseconds.into();
    }
}

/// Joins two halves of [`NodeRecord::content`].
#[must_use]
pub fn join(low: u32, high: u32) -> U64 {
    U64::new(u64::from(low) | u64::from(high) << 32)
}

impl EntryRecord {
    /// The first bytes of `name` as an entry keeps them.
    #[must_use]
    pub fn prefix_of(name: &[u8]) -> [u8; 4] {
        let mut prefix = [0; 4];
        let length = name.len().min(4);
        prefix[..length].copy_from_slice(&name[..length]);
        prefix
    }
}

impl From<Extent> for ExtentRecord {
    fn from(extent: Extent) -> Self {
        Self { offset: extent.offset.into(), decoded: extent.decoded.into(), length: extent.length.into() }
    }
}

impl From<ExtentRecord> for Extent {
    fn from(record: ExtentRecord) -> Self {
        Self { offset: record.offset.get(), decoded: record.decoded.get(), length: record.length.get() }
    }
}

impl From<ZipContent> for ZipRecord {
    fn from(zip: ZipContent) -> Self {
        Self {
            header: zip.header.into(),
            stored: zip.stored.into(),
            crc: zip.crc.into(),
            method: zip.method.into(),
            reserved: U16::ZERO,
        }
    }
}

impl ZipRecord {
    /// Returns the content with the node's length.
    #[must_use]
    pub fn with_size(&self, size: u64) -> ZipContent {
        ZipContent {
            header: self.header.get(),
            stored: self.stored.get(),
            size,
            method: self.method.get(),
            crc: self.crc.get(),
        }
    }
}

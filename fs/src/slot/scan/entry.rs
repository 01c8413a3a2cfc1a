//! What a scanner reports: one entry of an archive, as the archive has it.

use crate::node::{Kind, Timestamp};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path as spelled, unchecked.
    pub path: Vec<u8>,
    /// What it is.
    pub body: Body,
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Last modification of the content.
    pub modified: Timestamp,
    /// Extended attributes in the order given.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Regular file.
    File(Content),
    /// Another name of an earlier entry.
    HardLink(Vec<u8>),
    /// A file of its own with the content of this earlier entry.
    Copy(Vec<u8>),
    /// Symbolic link with this target.
    Symlink(Vec<u8>),
    /// Directory.
    Directory,
    /// Named pipe.
    Fifo,
    /// Character or block device.
    Device(Kind, DeviceNumber),
    /// Content that cannot be read (encrypted, unknown method).
    Unreadable,
    /// A kind that nothing here stands for.
    Unknown,
}

/// A device's two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNumber {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

/// Where a regular file's content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// One run of decoded bytes.
    Whole {
        /// Where it begins.
        decoded: u64,
        /// Its length.
        size: u64,
    },
    /// Several runs with holes between them.
    Sparse {
        /// In order, not overlapping.
        extents: Vec<Extent>,
        /// Length of the file, holes included.
        size: u64,
    },
    /// A file of a ZIP archive, compressed alone.
    Zip(ZipContent),
}

/// A run of a sparse file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it is in the file.
    pub offset: u64,
    /// Where it is in the decoded bytes.
    pub decoded: u64,
    /// Its length.
    pub length: u64,
}

/// Where a file of a ZIP archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZipContent {
    /// Where its local header begins.
    pub header: u64,
    /// Length of the compressed bytes.
    pub stored: u64,
    /// Length of the content.
    pub size: u64,
    /// Compression method (APPNOTE.TXT, section 4.4.5).
    pub method: u16,
    /// CRC-32 of the content.
    pub crc: u32,
}

impl Content {
    /// Returns the file's length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Whole { size, .. } | Self::Sparse { size, .. } => *size,
            Self::Zip(zip) => zip.size,
        }
    }
}

impl Entry {
    /// Returns the path for messages.
    #[must_use]
    pub fn shown_path(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

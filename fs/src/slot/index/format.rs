//! The layout of an index file, version 2.
//!
//! ```text
//! 0      header, 4096 bytes: Header, then the top sums, then zeros; its first field but the magic is its own SHA-256
//! 4096   sections, each at a multiple of 64: windows first (they are written while the pass runs), both sums last
//! ```
//!
//! Everything is little-endian. Blocks of 4096 bytes from 4096 on have a SHA-256 each in the section of sums, the blocks
//! of that section in the section of upper sums, and the blocks of that in the header ("top sums"). So whoever knows the
//! digest of the header knows every byte. A block is checked when it is first touched, so opening costs the same for every
//! size, and a damaged byte is found before it is used.

use std::ops::RangeInclusive;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::slot::tree::Table;

/// First bytes of an index file.
pub(super) const MAGIC: [u8; 8] = *b"slotidx\x02";
/// Unit of checking, and size of the header.
pub(super) const BLOCK: u64 = 4096;
/// Every section begins at a multiple of this, so that no record straddles two blocks.
pub(super) const ALIGNMENT: u64 = 64;
/// Longest chain text.
pub(super) const CHAIN_LENGTH: usize = 64;
/// How many top sums fit behind the fixed part: enough for an index of 7.1 GiB.
pub(super) const TOP_SUMS: usize = 115;
/// Length of a sum.
pub(super) const SUM: u64 = 32;
/// Sums in one block of a section of sums.
pub(super) const SUMS_IN_BLOCK: u64 = BLOCK / SUM;
/// How long chunks of stored bytes may be: what is hashed for one byte of them, and how many bits are kept for all.
pub(super) const CHUNK_LENGTHS: RangeInclusive<u64> = BLOCK..=16 << 20;
/// How many sections there are.
pub(super) const SECTIONS: usize = 14;

/// The parts of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Compressed decoder windows.
    Windows,
    /// A table that the growing tree has, too.
    Table(Table),
    /// Names in directories, grouped by directory and sorted.
    Entries,
    /// Notices.
    Notices,
    /// [`PointRecord`]s.
    Points,
    /// SHA-256 of each chunk of the slot's stored bytes.
    Chunks,
    /// SHA-256 of each block before this section.
    Sums,
    /// SHA-256 of each block of the sums.
    UpperSums,
}

impl Section {
    /// Every section, in the order in which they are in the file.
    pub(super) const ALL: [Self; SECTIONS] = [
        Self::Windows,
        Self::Table(Table::Nodes),
        Self::Entries,
        Self::Table(Table::Names),
        Self::Table(Table::Extents),
        Self::Table(Table::Zips),
        Self::Table(Table::Digests),
        Self::Table(Table::Blob),
        Self::Table(Table::Attributes),
        Self::Notices,
        Self::Points,
        Self::Chunks,
        Self::Sums,
        Self::UpperSums,
    ];

    pub(super) fn place(self) -> usize {
        match self {
            Self::Windows => 0,
            Self::Table(Table::Nodes) => 1,
            Self::Entries => 2,
            Self::Table(Table::Names) => 3,
            Self::Table(Table::Extents) => 4,
            Self::Table(Table::Zips) => 5,
            Self::Table(Table::Digests) => 6,
            Self::Table(Table::Blob) => 7,
            Self::Table(Table::Attributes) => 8,
            Self::Notices => 9,
            Self::Points => 10,
            Self::Chunks => 11,
            Self::Sums => 12,
            Self::UpperSums => 13,
        }
    }
}

/// Where a section is.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Span {
    pub(super) offset: U64,
    pub(super) length: U64,
}

/// The fixed part of the header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub(super) magic: [u8; 8],
    /// SHA-256 of the header block with this field zero.
    pub(super) sum: [u8; 32],
    /// SHA-256 of the slot's stored bytes.
    pub(super) slot: [u8; 32],
    /// Length of the stored bytes.
    pub(super) stored: U64,
    /// Length of the decoded bytes; 0 for a ZIP archive, which has no such stream.
    pub(super) decoded: U64,
    /// Length of this file.
    pub(super) length: U64,
    /// The chain as text, padded with zeros.
    pub(super) chain: [u8; CHAIN_LENGTH],
    pub(super) sections: [Span; SECTIONS],
    /// How many top sums follow.
    pub(super) top_sums: U32,
    /// Length of a chunk in bytes; 0 where chunks have no digests.
    pub(super) chunk: U32,
}

/// A point where decoding can start.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PointRecord {
    /// Decoded bytes before it.
    pub decoded: U64,
    /// Stored bits before it.
    pub stored_bits: U64,
    /// Where its window is in the section of windows.
    pub window: U64,
    /// Length of the window as stored: zstd-compressed; 0 for none.
    pub window_length: U32,
    /// Length of the block header in bits; 0 for none.
    pub header_length: U32,
    /// First stored bit of the block header.
    pub header_bits: U64,
    /// Zero.
    pub reserved: [u8; 24],
}

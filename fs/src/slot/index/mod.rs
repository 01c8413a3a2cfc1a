//! A slot's tree on disk: a file that is mapped, never parsed, and opens in constant time.
//!
//! **Invariant:** a damaged index gives a typed error, never a panic, an endless loop or wrong bytes; the index of one
//! slot is never taken for that of another.

mod blocks;
mod carried;
mod error;
mod format;
mod usage;
mod write;

use std::cmp::Ordering;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use zerocopy::FromBytes;

use self::blocks::{Backing, Blocks};
use self::format::{BLOCK, CHUNK_LENGTHS, Header, MAGIC, SUM, TOP_SUMS};
use super::chain::{BlockHeader, Bounds, Point};
use super::tree::record::{EntryRecord, NodeRecord, kind_of};
use super::tree::tables::{self, Table, Tables};
use super::{Notice, NoticeKind};
use crate::disk::digest::Digest;
use crate::disk::mapped::Mapping;
use crate::disk::{Context, DiskError};
use crate::node::Kind;
use crate::package::{CarriedIndex, Compression, Container, SlotSource};

pub use self::carried::checking;
pub use self::error::IndexError;
pub use self::format::{PointRecord, Section};
pub use self::usage::{Stored, check, contents, list, open};
pub use self::write::{Extras, IndexWriter, sweep};

/// Called for one directory entry: name, node number, kind.
pub type Visit<'a> = dyn FnMut(&[u8], u32, Kind) -> ControlFlow<()> + 'a;

/// The folder of indexes below the shared one.
pub const FOLDER: &str = "indexes-v1";
/// A window is zstd-compressed; the largest is this.
const LONGEST_WINDOW: usize = 64 << 10;

/// Which stored bytes an index describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// SHA-256 of the stored bytes.
    pub digest: Digest,
    /// Length of the stored bytes.
    pub stored: u64,
    /// The chain as text: container, then compressions in the order in which they were applied.
    pub chain: String,
}

impl Identity {
    /// Returns the identity of a slot whose stored bytes have this digest.
    #[must_use]
    pub fn of(source: &SlotSource, digest: Digest) -> Self {
        Self::new(&source.container, &source.compressions, source.stored.len(), digest)
    }

    /// Returns the identity of so many `stored` bytes with this digest; compressions in the order in which they are undone.
    #[must_use]
    pub fn new(container: &Container, compressions: &[Compression], stored: u64, digest: Digest) -> Self {
        let mut chain = match container {
            Container::File => "file",
            Container::Tar => "tar",
            Container::Zip => "zip",
            Container::Directory(_) => "directory",
        }
        .to_owned();
        for compression in compressions.iter().rev() {
            chain.push_str(match compression {
                Compression::Gzip => ".gzip",
                Compression::Bzip2 => ".bzip2",
                Compression::Xz => ".xz",
                Compression::Zstd => ".zstd",
            });
        }
        Self { digest, stored, chain }
    }

    /// Returns where the index is, or will be, below `shared`.
    #[must_use]
    pub fn path(&self, shared: &Path) -> PathBuf {
        shared.join(FOLDER).join(format!("{}-{}.idx", self.digest, self.chain))
    }

    /// Returns where the copy of an index is, or will be, that a package carries. It is not the place of the one that is
    /// made here: another package with the same slot must not be shown what this one's signer says about it.
    #[must_use]
    pub fn carried_path(&self, shared: &Path, carried: &CarriedIndex) -> PathBuf {
        shared.join(FOLDER).join(format!("{}-{}.{}.idx", self.digest, self.chain, carried.root))
    }
}

/// An opened index.
#[derive(Debug)]
pub struct Index {
    blocks: Blocks,
    header: Header,
    root: Digest,
}

impl Index {
    /// Opens the index at `path`; `None` when there is none.
    ///
    /// # Errors
    /// The file cannot be read, or is no index of this slot, or its header is damaged. What is behind the header is checked
    /// when it is first needed, so that opening takes no longer for a large index.
    pub fn open(path: &Path, identity: &Identity) -> Result<Option<Self>, IndexError> {
        match File::open(path) {
            Ok(file) => Self::open_file(&file, identity).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DiskError::new("open", path, error).into()),
        }
    }

    fn open_file(file: &File, identity: &Identity) -> Result<Self, IndexError> {
        let mapping = Mapping::of(file).context("map", "the slot index")?;
        Self::new(Backing::Mapped(mapping), identity)
    }

    /// Opens an index that is in memory.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn in_memory(bytes: Arc<Vec<u8>>, identity: &Identity) -> Result<Self, IndexError> {
        Self::new(Backing::Memory(bytes), identity)
    }

    fn new(backing: Backing, identity: &Identity) -> Result<Self, IndexError> {
        let Some(block) = backing.get(0, BLOCK) else { return Err(IndexError::OtherVersion) };
        let (header, rest) = Header::read_from_prefix(block).map_err(|_| IndexError::OtherVersion)?;
        if header.magic != MAGIC {
            return Err(IndexError::OtherVersion);
        }
        let mut unsummed = block.to_vec();
        unsummed[8..40].fill(0);
        if header.sum != <[u8; 32]>::from(Sha256::digest(&unsummed)) {
            return Err(IndexError::Damaged { what: "header", at: 0 });
        }
        let mut chain = identity.chain.clone().into_bytes();
        chain.resize(format::CHAIN_LENGTH, 0);
        if header.slot != identity.digest.0
            || header.stored.get() != identity.stored
            || header.chain[..] != chain
        {
            return Err(IndexError::OtherSlot);
        }
        let (sums, upper, top) = check_layout(&header, rest, backing.len())?;
        let root = Digest::of(block);
        Ok(Self { blocks: Blocks::new(backing, sums, upper, top), header, root })
    }

    /// Returns SHA-256 of the header. Every byte of the index follows from it, so a signed description names an index by
    /// it, and whoever opens one need not read it all.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.root
    }

    /// Tells whether the index is read from the package that carries it.
    #[must_use]
    pub fn is_in_package(&self) -> bool {
        matches!(self.blocks.backing(), Backing::Package(..))
    }

    /// Returns the length of the chunks of stored bytes whose digests it has; `None` for none.
    #[must_use]
    pub fn chunk_length(&self) -> Option<u64> {
        Some(u64::from(self.header.chunk.get())).filter(|&length| length > 0)
    }

    /// Returns SHA-256 of a chunk of the stored bytes.
    ///
    /// # Errors
    /// The index is damaged, or has no such digest.
    pub fn chunk(&self, number: u64) -> Result<Digest, IndexError> {
        let bytes = self.section(Section::Chunks, number.saturating_mul(SUM), SUM)?;
        let digest = bytes.try_into().map_err(|_| IndexError::Damaged { what: "chunk", at: number })?;
        Ok(Digest(digest))
    }

    /// Length of the decoded bytes.
    #[must_use]
    pub fn decoded(&self) -> u64 {
        self.header.decoded.get()
    }

    /// Number of nodes.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.rows::<NodeRecord>(Section::Table(Table::Nodes))).unwrap_or(u32::MAX)
    }

    /// Length of the index in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.header.length.get()
    }

    fn rows<T>(&self, section: Section) -> u64 {
        self.header.sections[section.place()].length.get() / size_of::<T>() as u64
    }

    fn section(&self, section: Section, offset: u64, length: u64) -> Result<&[u8], IndexError> {
        let span = self.header.sections[section.place()];
        let inside = offset.checked_add(length).is_some_and(|end| end <= span.length.get());
        if !inside {
            return Err(IndexError::Damaged { what: "offset in a section", at: offset });
        }
        self.blocks.get(span.offset.get() + offset, length)
    }

    fn entry(&self, number: u64) -> Result<EntryRecord, IndexError> {
        let size = size_of::<EntryRecord>() as u64;
        let bytes = self.section(Section::Entries, number.saturating_mul(size), size)?;
        EntryRecord::read_from_bytes(bytes).map_err(|_| IndexError::Damaged { what: "entry", at: number })
    }

    fn name(&self, entry: &EntryRecord) -> Result<&[u8], IndexError> {
        let (offset, length) = (u64::from(entry.name.get()), u64::from(entry.name_length.get()));
        self.section(Section::Table(Table::Names), offset, length)
    }

    /// The entries of a directory, as a range of the entry table.
    fn range(&self, directory: u32) -> Result<(u64, u64), IndexError> {
        let record = tables::record(self, directory)?;
        if record.kind() != Some(Kind::Directory) {
            return Ok((0, 0));
        }
        let (first, count) = record.rows();
        Ok((u64::from(first), u64::from(first) + u64::from(count)))
    }

    /// Returns the first entry of `[low, high)` whose name is not less than `name` (with `after`: greater).
    fn search(&self, mut low: u64, mut high: u64, name: &[u8], after: bool) -> Result<u64, IndexError> {
        let prefix = EntryRecord::prefix_of(name);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(middle)?;
            let order = match entry.prefix.cmp(&prefix) {
                Ordering::Equal => self.name(&entry)?.cmp(name),
                decided @ (Ordering::Less | Ordering::Greater) => decided,
            };
            if order == Ordering::Less || (after && order == Ordering::Equal) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Finds `name` in `directory`.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn lookup(&self, directory: u32, name: &[u8]) -> Result<Option<u32>, IndexError> {
        let (first, end) = self.range(directory)?;
        let at = self.search(first, end, name, false)?;
        if at >= end {
            return Ok(None);
        }
        let entry = self.entry(at)?;
        if self.name(&entry)? != name {
            return Ok(None);
        }
        let node = entry.node.get();
        let kind = tables::kind(&tables::record(self, node)?, node)?;
        if kind_of(entry.kind) != Some(kind) {
            return Err(IndexError::Damaged { what: "entry", at });
        }
        self.check_place(directory, &entry, kind, at)?;
        Ok(Some(node))
    }

    /// Checks that a directory is where its own record says. Each has one place then, so that no way through directories
    /// comes back to where it was: who signs packages is not trusted to know how to make indexes.
    fn check_place(
        &self,
        directory: u32,
        entry: &EntryRecord,
        kind: Kind,
        number: u64,
    ) -> Result<(), IndexError> {
        if kind != Kind::Directory {
            return Ok(());
        }
        let node = entry.node.get();
        let record = tables::record(self, node)?;
        let place = (record.parent.get(), record.name.get(), record.name_length.get());
        let is_there = node != 0 && place == (directory, entry.name.get(), entry.name_length.get());
        if is_there && record.kind() == Some(Kind::Directory) {
            Ok(())
        } else {
            Err(IndexError::Damaged { what: "entry", at: number })
        }
    }

    /// Visits the entries of `directory` behind `after` in byte order.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn entries(
        &self,
        directory: u32,
        after: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), IndexError> {
        let (first, end) = self.range(directory)?;
        let start = after.map_or(Ok(first), |name| self.search(first, end, name, true))?;
        let mut before = after;
        for number in start..end {
            let entry = self.entry(number)?;
            let name = self.name(&entry)?;
            let damaged = IndexError::Damaged { what: "entry", at: number };
            let is_next = before.is_none_or(|before| before < name);
            let Some(kind) = kind_of(entry.kind).filter(|_| is_next && is_name(name)) else {
                return Err(damaged);
            };
            self.check_place(directory, &entry, kind, number)?;
            if visit(name, entry.node.get(), kind).is_break() {
                break;
            }
            before = Some(name);
        }
        Ok(())
    }

    /// Returns the last point at or before the decoded byte `at`, and where the next one is (or the end).
    ///
    /// # Errors
    /// The index is damaged.
    pub fn point(&self, at: u64) -> Result<Option<(Point, u64)>, IndexError> {
        let Some((record, bounds)) = self.point_before(at)? else { return Ok(None) };
        let window = match u64::from(record.window_length.get()) {
            0 => Vec::new(),
            length => unpack_window(self.section(Section::Windows, record.window.get(), length)?)?,
        };
        Ok(Some((point_of(&record, window), bounds.decoded.end)))
    }

    /// Returns only where they are.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn bounds(&self, at: u64) -> Result<Option<Bounds>, IndexError> {
        Ok(self.point_before(at)?.map(|(_, bounds)| bounds))
    }

    fn point_before(&self, at: u64) -> Result<Option<(PointRecord, Bounds)>, IndexError> {
        let (mut low, mut high) = (0, self.rows::<PointRecord>(Section::Points));
        let count = high;
        while low < high {
            let middle = low + (high - low) / 2;
            if self.point_record(middle)?.decoded.get() <= at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(number) = low.checked_sub(1) else { return Ok(None) };
        let record = self.point_record(number)?;
        let behind = (low < count).then(|| self.point_record(low)).transpose()?;
        let bounds = bounds_of(&record, self.decoded(), behind.as_ref());
        Ok(Some((record, bounds)))
    }

    fn point_record(&self, number: u64) -> Result<PointRecord, IndexError> {
        let size = size_of::<PointRecord>() as u64;
        let bytes = self.section(Section::Points, number.saturating_mul(size), size)?;
        PointRecord::read_from_bytes(bytes).map_err(|_| IndexError::Damaged { what: "point", at: number })
    }

    /// Returns what was noticed when the slot was indexed.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn notices(&self) -> Result<Vec<Notice>, IndexError> {
        let length = self.header.sections[Section::Notices.place()].length.get();
        let mut bytes = self.section(Section::Notices, 0, length)?;
        let mut notices = Vec::new();
        let damaged = || IndexError::Damaged { what: "notice", at: length };
        while let Some((code, rest)) = bytes.split_first() {
            let (size, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
            let size = usize::try_from(u32::from_le_bytes(*size)).map_err(|_| damaged())?;
            let (path, rest) = rest.split_at_checked(size).ok_or_else(damaged)?;
            let what = NoticeKind::from_code(*code).ok_or_else(damaged)?;
            notices.push(Notice { path: path.to_vec(), what });
            bytes = rest;
        }
        Ok(notices)
    }

    /// Checks every block, not only those that are touched, and the root.
    ///
    /// # Errors
    /// Names the first damaged block.
    pub fn check(&self) -> Result<(), IndexError> {
        (0..self.blocks.count()).try_for_each(|block| self.blocks.check(block))?;
        tables::kind(&tables::record(self, 0)?, 0).map(drop)
    }

    /// Returns the whole file, unchecked; nothing where it cannot be read.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.blocks.backing().get(0, self.size()).unwrap_or_default()
    }
}

impl Tables for Index {
    fn bytes(&self, table: Table, offset: u64, length: u64) -> Result<&[u8], IndexError> {
        self.section(Section::Table(table), offset, length)
    }
}

/// Where sums and upper sums begin, and the top sums.
type Sums = (u64, u64, Vec<[u8; 32]>);

/// Checks in constant time that every section lies in the file, and returns where the sums are, and the top sums.
fn check_layout(header: &Header, rest: &[u8], length: u64) -> Result<Sums, IndexError> {
    let damaged = |what| IndexError::Damaged { what, at: 0 };
    if header.length.get() != length {
        return Err(damaged("length"));
    }
    for section in Section::ALL {
        let span = header.sections[section.place()];
        let end = span.offset.get().checked_add(span.length.get());
        if span.offset.get() < BLOCK || end.is_none_or(|end| end > length) {
            return Err(damaged("section"));
        }
    }
    let span = |section: Section| {
        let span = header.sections[section.place()];
        (span.offset.get(), span.length.get())
    };
    let ((sums, sums_length), (upper, upper_length)) = (span(Section::Sums), span(Section::UpperSums));
    let follow = sums + sums_length == upper && upper + upper_length == length;
    let complete = sums_length == (sums - BLOCK).div_ceil(BLOCK) * SUM
        && upper_length == sums_length.div_ceil(BLOCK) * SUM;
    if !follow || !complete {
        return Err(damaged("section of sums"));
    }
    let chunks = match u64::from(header.chunk.get()) {
        0 => 0,
        chunk if CHUNK_LENGTHS.contains(&chunk) => header.stored.get().div_ceil(chunk),
        _ => return Err(damaged("length of chunks")),
    };
    if chunks.checked_mul(SUM) != Some(span(Section::Chunks).1) {
        return Err(damaged("section of chunks"));
    }
    let count = usize::try_from(header.top_sums.get()).unwrap_or(usize::MAX);
    let groups = usize::try_from(upper_length.div_ceil(BLOCK)).unwrap_or(usize::MAX);
    let top = rest.as_chunks::<32>().0.get(..count).filter(|_| count <= TOP_SUMS && count == groups);
    Ok((sums, upper, top.ok_or_else(|| damaged("top sums"))?.to_vec()))
}

/// A name that no directory takes is longer (`NAME_MAX`).
const LONGEST_NAME: usize = 255;

fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && name.len() <= LONGEST_NAME
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// Compresses a window for the index.
#[must_use]
pub fn pack_window(window: &[u8]) -> Vec<u8> {
    if window.is_empty() {
        return Vec::new();
    }
    // Compression into memory fails only where there is none.
    zstd::bulk::compress(window, 1).unwrap_or_default()
}

/// Undoes [`pack_window`].
///
/// # Errors
/// The bytes are damaged.
pub fn unpack_window(bytes: &[u8]) -> Result<Vec<u8>, IndexError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    zstd::bulk::decompress(bytes, LONGEST_WINDOW).map_err(|_| IndexError::Damaged { what: "window", at: 0 })
}

/// Returns what lies between the point of a record and the one `behind` it, or the `end` of the decoded bytes.
#[must_use]
pub fn bounds_of(record: &PointRecord, end: u64, behind: Option<&PointRecord>) -> Bounds {
    let end = behind.map_or(end, |behind| behind.decoded.get());
    let stored_end = behind.map(|behind| behind.stored_bits.get().div_ceil(8));
    Bounds { decoded: record.decoded.get()..end, stored: (record.stored_bits.get() / 8, stored_end) }
}

/// Returns the point that a record describes.
#[must_use]
pub fn point_of(record: &PointRecord, window: Vec<u8>) -> Point {
    let length = record.header_length.get();
    Point {
        decoded: record.decoded.get(),
        stored_bits: record.stored_bits.get(),
        context: window,
        header: (length > 0).then(|| BlockHeader { stored_bits: record.header_bits.get(), length }),
    }
}

#[cfg(test)]
mod tests;

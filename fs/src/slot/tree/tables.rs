//! The tables of a tree, wherever they are, and what can be read from them.
//!
//! **Invariant:** every offset and number in a table is checked before use; a wrong one is an error, never a panic.

use zerocopy::FromBytes;

use super::record::{EntryRecord, ExtentRecord, NodeRecord, ZipRecord, flags};
use crate::disk::digest::Digest;
use crate::node::{Attributes, Kind};
use crate::slot::index::IndexError;
use crate::slot::scan::{Extent, ZipContent};

/// The tables that a tree and its index have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// [`NodeRecord`]s.
    Nodes,
    /// Names, one after the other.
    Names,
    /// [`ExtentRecord`]s.
    Extents,
    /// [`ZipRecord`]s.
    Zips,
    /// SHA-256 digests.
    Digests,
    /// Link targets and small contents.
    Blob,
    /// Extended attributes.
    Attributes,
}

/// Where a file's content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// Length in bytes.
    pub size: u64,
    /// Where the bytes are.
    pub place: Place,
    /// SHA-256 of the content, where known.
    pub digest: Option<Digest>,
    /// Whether the content belongs into the store.
    pub stored: bool,
}

/// Where bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Here.
    Inline(Vec<u8>),
    /// In the decoded bytes, in one run.
    Run(u64),
    /// In the decoded bytes, in several runs.
    Extents(Vec<Extent>),
    /// In a ZIP archive.
    Zip(ZipContent),
}

/// Extended attributes.
pub type NamesAndValues = Vec<(Vec<u8>, Vec<u8>)>;

/// Access to tables as bytes.
pub trait Tables {
    /// Returns bytes `[offset, offset + length)` of a table.
    ///
    /// # Errors
    /// The table is damaged or shorter.
    fn bytes(&self, table: Table, offset: u64, length: u64) -> Result<&[u8], IndexError>;
}

fn row<T: FromBytes>(
    tables: &(impl Tables + ?Sized),
    table: Table,
    number: u64,
    what: &'static str,
) -> Result<T, IndexError> {
    let size = size_of::<T>() as u64;
    let offset = number.checked_mul(size).ok_or(IndexError::Damaged { what, at: number })?;
    let bytes = tables.bytes(table, offset, size)?;
    T::read_from_bytes(bytes).map_err(|_| IndexError::Damaged { what, at: number })
}

/// Returns a node's record.
///
/// # Errors
/// There is no such node, or the table is damaged.
pub fn record(tables: &(impl Tables + ?Sized), node: u32) -> Result<NodeRecord, IndexError> {
    row(tables, Table::Nodes, u64::from(node), "node")
}

/// Returns a node's kind. The root, which is node 0, is a directory or, in the slot of one file, a file: whoever made the
/// index may say otherwise, but nothing else can be mounted.
///
/// # Errors
/// The record is damaged.
pub fn kind(record: &NodeRecord, node: u32) -> Result<Kind, IndexError> {
    match record.kind() {
        Some(kind) if node != 0 || matches!(kind, Kind::Directory | Kind::File) => Ok(kind),
        Some(_) => Err(IndexError::Damaged { what: "root", at: 0 }),
        None => Err(IndexError::Damaged { what: "node kind", at: u64::from(node) }),
    }
}

/// Returns the attributes of a node as archived.
///
/// # Errors
/// The tables are damaged.
pub fn attributes(tables: &(impl Tables + ?Sized), node: u32) -> Result<Attributes, IndexError> {
    let record = record(tables, node)?;
    let kind = kind(&record, node)?;
    let time = record.modified();
    let (minor, major) = record.rows();
    let is_device = matches!(kind, Kind::CharacterDevice | Kind::BlockDevice);
    let size = match kind {
        Kind::File | Kind::Symlink => record.size.get(),
        // A directory's size says roughly how much there is to read.
        Kind::Directory => u64::from(major).saturating_mul(size_of::<EntryRecord>() as u64),
        Kind::Fifo | Kind::Socket | Kind::CharacterDevice | Kind::BlockDevice => 0,
    };
    let used = if kind == Kind::File && record.has(flags::SPARSE) {
        extents(tables, &record, node)?.iter().fold(0, |sum: u64, extent| sum.saturating_add(extent.length))
    } else if kind == Kind::File {
        size
    } else {
        0
    };
    Ok(Attributes {
        kind,
        mode: u32::from(record.mode.get()) & 0o7777,
        user: record.user.get(),
        group: record.group.get(),
        size,
        blocks: used.div_ceil(512),
        links: record.links.get().max(1),
        device: if is_device { device_number(major, minor) } else { 0 },
        accessed: time,
        modified: time,
        changed: time,
    })
}

/// `makedev(3)` as Linux encodes it.
fn device_number(major: u32, minor: u32) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    (major & 0xffff_f000) << 32 | (major & 0xfff) << 8 | (minor & 0xffff_ff00) << 12 | (minor & 0xff)
}

fn extents(
    tables: &(impl Tables + ?Sized),
    record: &NodeRecord,
    node: u32,
) -> Result<Vec<Extent>, IndexError> {
    let (first, count) = record.rows();
    let size = size_of::<ExtentRecord>() as u64;
    let bytes = tables.bytes(Table::Extents, u64::from(first) * size, u64::from(count) * size)?;
    let rows = <[ExtentRecord]>::ref_from_bytes(bytes)
        .map_err(|_| IndexError::Damaged { what: "extents", at: u64::from(node) })?;
    Ok(rows.iter().map(|row| Extent::from(*row)).collect())
}

/// Returns where a file's content is.
///
/// # Errors
/// The node is no file, or the tables are damaged.
pub fn content(tables: &(impl Tables + ?Sized), node: u32) -> Result<FileContent, IndexError> {
    let record = record(tables, node)?;
    if record.kind() != Some(Kind::File) {
        return Err(IndexError::Damaged { what: "file", at: u64::from(node) });
    }
    let size = record.size.get();
    let offset = record.content.get();
    let place = if record.has(flags::INLINE) {
        Place::Inline(tables.bytes(Table::Blob, offset, size)?.to_vec())
    } else if record.has(flags::SPARSE) {
        Place::Extents(extents(tables, &record, node)?)
    } else if record.has(flags::ZIP) {
        let zip: ZipRecord = row(tables, Table::Zips, u64::from(record.rows().0), "zip entry")?;
        Place::Zip(zip.with_size(size))
    } else {
        Place::Run(offset)
    };
    Ok(FileContent { size, place, digest: digest(tables, &record)?, stored: record.has(flags::STORED) })
}

/// Returns the digest of a node's content, where known.
///
/// # Errors
/// The tables are damaged.
pub fn digest(tables: &(impl Tables + ?Sized), record: &NodeRecord) -> Result<Option<Digest>, IndexError> {
    match record.digest.get().checked_sub(1) {
        None => Ok(None),
        Some(number) => {
            row(tables, Table::Digests, u64::from(number), "digest").map(|bytes| Some(Digest(bytes)))
        }
    }
}

/// Returns the target of a symbolic link.
///
/// # Errors
/// The node is none, or the tables are damaged.
pub fn target(tables: &(impl Tables + ?Sized), node: u32) -> Result<Vec<u8>, IndexError> {
    let record = record(tables, node)?;
    if record.kind() != Some(Kind::Symlink) {
        return Err(IndexError::Damaged { what: "symbolic link", at: u64::from(node) });
    }
    Ok(tables.bytes(Table::Blob, record.content.get(), record.size.get())?.to_vec())
}

/// Returns the name of a node that has one name in one directory, and is none; `None` when there are more or none.
///
/// # Errors
/// The tables are damaged.
pub fn only_name(tables: &(impl Tables + ?Sized), node: u32) -> Result<Option<Vec<u8>>, IndexError> {
    let record = record(tables, node)?;
    if node == 0 || record.links.get() > 1 || kind(&record, node)? == Kind::Directory {
        return Ok(None);
    }
    let (offset, length) = (u64::from(record.name.get()), u64::from(record.name_length.get()));
    Ok(Some(tables.bytes(Table::Names, offset, length)?.to_vec()))
}

/// Returns the extended attributes of a node, sorted by name.
///
/// # Errors
/// The tables are damaged.
pub fn extended_attributes(tables: &(impl Tables + ?Sized), node: u32) -> Result<NamesAndValues, IndexError> {
    let record = record(tables, node)?;
    let Some(start) = record.attributes.get().checked_sub(1) else { return Ok(Vec::new()) };
    let mut at = u64::from(start);
    let mut take = |length: u64| {
        let bytes = tables.bytes(Table::Attributes, at, length)?;
        at += length;
        Ok::<_, IndexError>(bytes)
    };
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let count = number(take(4)?);
    let mut found = Vec::new();
    for _ in 0..count {
        let name = number(take(4)?);
        let value = number(take(4)?);
        found.push((take(name)?.to_vec(), take(value)?.to_vec()));
    }
    Ok(found)
}

/// Lays out extended attributes as [`extended_attributes`] reads them.
pub(crate) fn pack_attributes(list: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = number(list.len()).to_vec();
    for (name, value) in list {
        bytes.extend(number(name.len()));
        bytes.extend(number(value.len()));
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
    }
    bytes
}

/// Returns the path by which a node was met first, for messages.
#[must_use]
pub fn path(tables: &(impl Tables + ?Sized), node: u32) -> String {
    let mut parts = Vec::new();
    let mut at = node;
    // A damaged table may hold a ring of parents.
    while at != 0 && parts.len() < 64 {
        let Ok(record) = record(tables, at) else { break };
        let (offset, length) = (u64::from(record.name.get()), u64::from(record.name_length.get()));
        let Ok(name) = tables.bytes(Table::Names, offset, length) else { break };
        parts.push(String::from_utf8_lossy(name).into_owned());
        at = record.parent.get();
    }
    parts.reverse();
    parts.join("/")
}

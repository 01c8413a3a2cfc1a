//! Where large contents are cut: at places that follow from the bytes around them, so that what two versions of a file
//! share is cut alike, wherever it is in them. And the lists of the chunks that there are.
//!
//! The cuts are those of FastCDC (Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based
//! Storage Systems", IEEE TPDS 2020).
//!
//! **Invariant:** a list is a hint. Nothing is taken from where one leads without comparing the bytes.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use fastcdc::v2020::StreamCDC;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::layout;
use crate::disk::digest::Digest;
use crate::disk::{Context, DiskError, atomic};

/// Contents of so many bytes are cut.
pub(super) const LARGE: u64 = 4 << 20;
/// Contents of more bytes are not: what is known of their chunks while they are looked at takes memory, some 7 MB for this.
pub(super) const LARGEST: u64 = 4 << 30;
/// How long a chunk is: at least, most likely, at most. What one costs is 36 bytes of list, and a read of its own where
/// neighbours come from elsewhere.
const LENGTHS: (usize, usize, usize) = (16 << 10, 64 << 10, 256 << 10);
const MAGIC: [u8; 8] = *b"slotchk\x01";

/// A chunk: its digest and its length in bytes.
pub(super) type Chunk = (Digest, u32);

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    count: U64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Record {
    digest: [u8; 32],
    length: U32,
}

/// Cuts what `file` has from where it stands.
pub(super) fn cut(file: File) -> io::Result<Vec<Chunk>> {
    let (least, likely, most) = LENGTHS;
    let mut chunks = Vec::new();
    for chunk in StreamCDC::new(file, least, likely, most) {
        let chunk = chunk?;
        let length = u32::try_from(chunk.data.len()).map_err(|_| ErrorKind::InvalidData)?;
        chunks.push((Digest::of(&chunk.data), length));
    }
    Ok(chunks)
}

/// Reads a list of at most `most` bytes; `None` where there is nothing that is one.
pub(super) fn read_list(path: &Path, most: u64) -> Option<Vec<Chunk>> {
    // Opening a fifo would wait for a writer.
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    let (header, rest) = Header::ref_from_prefix(&bytes).ok()?;
    let records = <[Record]>::ref_from_bytes(rest).ok()?;
    if header.magic != MAGIC || header.count.get() != records.len() as u64 {
        return None;
    }
    Some(records.iter().map(|record| (Digest(record.digest), record.length.get())).collect())
}

/// Keeps the chunks of the object with this digest.
pub(super) fn write_list(root: &Path, digest: &Digest, chunks: &[Chunk]) -> Result<(), DiskError> {
    let path = layout::chunk_list(root, digest);
    let mut bytes = Header { magic: MAGIC, count: (chunks.len() as u64).into() }.as_bytes().to_vec();
    for (digest, length) in chunks {
        bytes.extend_from_slice(Record { digest: digest.0, length: (*length).into() }.as_bytes());
    }
    let folder = layout::chunk_lists(root);
    fs::create_dir_all(&folder).context("create the directory", &folder)?;
    atomic::write_unsynced(&path, &bytes)
}

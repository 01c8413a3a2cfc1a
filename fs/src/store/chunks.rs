//! Where large contents are cut: at places that follow from the bytes around them, so that what two versions of a file
//! share is cut alike, wherever it is in them. And the lists of the chunks that there are.
//!
//! The cuts are those of FastCDC (Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based
//! Storage Systems", IEEE TPDS 2020).
//!
//! **Invariant:** a list is a hint. Nothing is taken from where one leads without comparing the bytes.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use fastcdc::v2020::StreamCDC;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::layout;
use crate::disk::digest::Digest;
use crate::disk::{Context, DiskError, atomic};

/// Contents of so many bytes are cut.
pub(super) const LARGE: u64 = 4 << 20;
/// How long a chunk is: at least, most likely, at most. What one costs is 36 bytes of list, and a read of its own where
/// neighbours come from elsewhere.
const LENGTHS: (usize, usize, usize) = (16 << 10, 64 << 10, 256 << 10);
const MAGIC: [u8; 8] = *b"slotchk\x01";

/// Which file of an object has the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// The content itself.
    Whole,
    /// What an object in parts has of its own.
    Parts,
}

impl Form {
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Whole => 1,
            Self::Parts => 2,
        }
    }

    pub(super) fn of_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Whole),
            2 => Some(Self::Parts),
            _ => None,
        }
    }

    /// Returns where the file of the object with this digest is.
    pub(super) fn path(self, root: &Path, digest: &Digest) -> std::path::PathBuf {
        match self {
            Self::Whole => layout::object(root, digest),
            Self::Parts => layout::parts(root, digest),
        }
    }
}

/// A chunk: its digest and its length in bytes.
pub(super) type Chunk = (Digest, u32);

/// The chunks of a file, one after the other from its first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkList {
    pub(super) form: Form,
    pub(super) chunks: Vec<Chunk>,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    form: U32,
    count: U32,
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

impl ChunkList {
    /// Reads a list; `None` where there is none, or nothing that is one.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        let (header, rest) = Header::ref_from_prefix(&bytes).ok()?;
        let records = <[Record]>::ref_from_bytes(rest).ok()?;
        if header.magic != MAGIC || header.count.get() as usize != records.len() {
            return None;
        }
        let chunks = records.iter().map(|record| (Digest(record.digest), record.length.get())).collect();
        Some(Self { form: Form::of_code(header.form.get())?, chunks })
    }

    /// Keeps the list for the object with this digest.
    pub(super) fn write(&self, root: &Path, digest: &Digest) -> Result<(), DiskError> {
        let path = layout::chunk_list(root, digest);
        let count = u32::try_from(self.chunks.len()).unwrap_or(u32::MAX);
        let header = Header { magic: MAGIC, form: self.form.code().into(), count: count.into() };
        let mut bytes = header.as_bytes().to_vec();
        for (digest, length) in &self.chunks {
            bytes.extend_from_slice(Record { digest: digest.0, length: (*length).into() }.as_bytes());
        }
        let folder = layout::chunk_lists(root);
        fs::create_dir_all(&folder).context("create the directory", &folder)?;
        atomic::write_unsynced(&path, &bytes)
    }
}

//! Objects in parts: large contents of which other objects have most bytes. The file has the bytes that nobody else has,
//! and says where the others are.
//!
//! **Invariant:** what is read is what was put together when the object was made, or an error. Bytes are taken from whole objects
//! alone: what those hold follows from their names, whoever made them, and when. Each is sealed, and is kept open from the
//! moment it was looked at.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::layout;
use crate::disk::digest::Digest;
use crate::disk::range::FileRange;
use crate::disk::{Context, DiskError};

const MAGIC: [u8; 8] = *b"slotprt\x01";
/// The most parts that an object has, so that opening one takes less than a millisecond.
pub(super) const MOST_PARTS: usize = 1 << 14;
/// From how many other objects one takes bytes: each is kept open with it.
pub(super) const MOST_SOURCES: usize = 4;

/// Ends the file; before it come the records, and before those the bytes that nobody else has.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Trailer {
    magic: [u8; 8],
    /// Length of the content.
    length: U64,
    /// How many records there are.
    count: U64,
    /// Length of the bytes before the records.
    own: U64,
    /// SHA-256 of the records.
    sum: [u8; 32],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Record {
    /// The whole object that has the bytes; zeros for this one's own.
    source: [u8; 32],
    /// Where in that file.
    offset: U64,
    length: U64,
}

/// Stands for the object itself; nobody knows a content with this digest.
const OWN: [u8; 32] = [0; 32];
const TRAILER: u64 = size_of::<Trailer>() as u64;
const RECORD: u64 = size_of::<Record>() as u64;

/// A run of an object's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Which object has it; `None` for its own bytes.
    pub(super) source: Option<Digest>,
    /// Where in that file.
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// An object in parts, open.
#[derive(Debug)]
pub struct Parts {
    length: u64,
    files: Vec<Arc<File>>,
    pieces: Vec<Piece>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Where in the content it begins.
    start: u64,
    offset: u64,
    /// Which of the files.
    file: u8,
}

/// Why an object in parts cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenParts {
    /// Its own file.
    #[error("`{path}` is damaged: {what}")]
    Damaged { path: PathBuf, what: &'static str },
    /// One that it takes bytes from.
    #[error("`{path}` is missing or was written to")]
    Source { path: PathBuf },
    /// The host: nothing is wrong with the object.
    #[error(transparent)]
    Read(#[from] DiskError),
}

/// Appends `part`, to the last one where it goes on there.
pub(super) fn push(parts: &mut Vec<Part>, part: Part) {
    match parts.last_mut() {
        Some(last) if last.source == part.source && last.offset + last.length == part.offset => {
            last.length += part.length;
        }
        _ => parts.push(part),
    }
}

/// Returns what comes after `own` bytes in the file of an object of these parts.
pub(super) fn ending(parts: &[Part], own: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        let source = part.source.map_or(OWN, |source| source.0);
        let record = Record { source, offset: part.offset.into(), length: part.length.into() };
        bytes.extend_from_slice(record.as_bytes());
    }
    let trailer = Trailer {
        magic: MAGIC,
        length: parts.iter().map(|part| part.length).sum::<u64>().into(),
        count: (parts.len() as u64).into(),
        own: own.into(),
        sum: Digest::of(&bytes).0,
    };
    bytes.extend_from_slice(trailer.as_bytes());
    bytes
}

/// Reads the parts that an object's file names; with them the length of the content, and that of its own bytes.
fn table(file: &Arc<File>, path: &Path) -> Result<(Vec<Part>, u64, u64), BrokenParts> {
    let damaged = |what| BrokenParts::Damaged { path: path.to_owned(), what };
    let size = file.metadata().context("stat", path)?.len();
    let bytes_at = |offset: u64, count: u64| {
        let range = FileRange::new(Arc::clone(file), offset, count).ok_or_else(|| damaged("length"))?;
        let mut bytes = vec![0; usize::try_from(count).map_err(|_| damaged("length"))?];
        range.read_exact_at(0, &mut bytes).context("read", path)?;
        Ok::<_, BrokenParts>(bytes)
    };
    let end = size.checked_sub(TRAILER).ok_or_else(|| damaged("length"))?;
    let bytes = bytes_at(end, TRAILER)?;
    let trailer = Trailer::ref_from_bytes(&bytes).map_err(|_| damaged("trailer"))?;
    let (count, own) = (trailer.count.get(), trailer.own.get());
    if trailer.magic != MAGIC || count > MOST_PARTS as u64 || own.checked_add(count * RECORD) != Some(end) {
        return Err(damaged("trailer"));
    }
    let bytes = bytes_at(own, count * RECORD)?;
    let records = <[Record]>::ref_from_bytes(&bytes).map_err(|_| damaged("records"))?;
    if Digest::of(&bytes).0 != trailer.sum {
        return Err(damaged("records"));
    }
    let mut parts = Vec::with_capacity(records.len());
    let mut length = 0_u64;
    for record in records {
        let source = (record.source != OWN).then_some(Digest(record.source));
        let part = Part { source, offset: record.offset.get(), length: record.length.get() };
        length = length.checked_add(part.length).ok_or_else(|| damaged("records"))?;
        parts.push(part);
    }
    if length != trailer.length.get() {
        return Err(damaged("records"));
    }
    Ok((parts, length, own))
}

/// Opens a file of the store, if it is there and nobody has written to it since it was sealed.
pub(super) fn open_sealed(path: &Path, digest: &Digest) -> Result<Option<Arc<File>>, DiskError> {
    // Looked at before: opening a fifo would wait for a writer.
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Ok(found) if !found.is_file() => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(DiskError::new("stat", path, error)),
    }
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.context("open", path)?,
    };
    let modified = file.metadata().and_then(|metadata| metadata.modified()).context("stat", path)?;
    Ok((modified == layout::seal(digest)).then(|| Arc::new(file)))
}

/// Returns the objects that the one with this digest takes bytes from; none where it is not in parts.
pub(super) fn sources(root: &Path, digest: &Digest) -> Vec<Digest> {
    let path = layout::parts(root, digest);
    let Ok(Some(file)) = open_sealed(&path, digest) else { return Vec::new() };
    let Ok((parts, ..)) = table(&file, &path) else { return Vec::new() };
    let mut sources: Vec<Digest> = parts.iter().filter_map(|part| part.source).collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

impl Parts {
    /// Opens the object with this digest, and what it takes bytes from; `None` when it is not here, or not in parts.
    pub(super) fn open(root: &Path, digest: &Digest) -> Result<Option<Self>, BrokenParts> {
        let path = layout::parts(root, digest);
        if !path.exists() {
            return Ok(None);
        }
        let damaged = |what| BrokenParts::Damaged { path: path.clone(), what };
        let own_file = open_sealed(&path, digest)?.ok_or_else(|| damaged("it was written to"))?;
        let (parts, length, own) = table(&own_file, &path)?;
        let mut sources: Vec<(Option<Digest>, u64)> = vec![(None, own)];
        let mut files = vec![own_file];
        let mut pieces = Vec::with_capacity(parts.len());
        let mut start = 0;
        for part in parts {
            let known = sources.iter().position(|(source, _)| *source == part.source);
            let position = match (known, part.source) {
                (Some(position), _) => position,
                (None, Some(source)) if sources.len() <= MOST_SOURCES => {
                    let path = layout::object(root, &source);
                    let broken = || BrokenParts::Source { path: path.clone() };
                    let file = open_sealed(&path, &source)?.ok_or_else(broken)?;
                    sources.push((part.source, file.metadata().context("stat", &path)?.len()));
                    files.push(file);
                    sources.len() - 1
                }
                (None, _) => return Err(damaged("records")),
            };
            if part.offset.checked_add(part.length).is_none_or(|end| end > sources[position].1) {
                return Err(damaged("records"));
            }
            let file = u8::try_from(position).map_err(|_| damaged("records"))?;
            pieces.push(Piece { start, offset: part.offset, file });
            start += part.length;
        }
        Ok(Some(Self { length, files, pieces }))
    }

    /// Returns the length of the content in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Tells whether there is no content.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads everything, and returns its digest.
    pub(super) fn digest(&self) -> io::Result<Digest> {
        Digest::of_pieces(|offset, buffer| {
            let left = usize::try_from(self.length - offset).unwrap_or(usize::MAX);
            let count = left.min(buffer.len());
            self.read_exact_at(offset, &mut buffer[..count]).map(|()| count)
        })
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// What the host reports, and `UnexpectedEof` where the content ends before.
    pub fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.length);
        end.ok_or(ErrorKind::UnexpectedEof)?;
        let mut at = offset;
        let mut left = buffer;
        // The last piece that begins there or before.
        let mut piece = self.pieces.partition_point(|piece| piece.start <= offset).saturating_sub(1);
        while !left.is_empty() {
            let here = self.pieces.get(piece).ok_or(ErrorKind::UnexpectedEof)?;
            let next = self.pieces.get(piece + 1).map_or(self.length, |next| next.start);
            let count = usize::try_from(next - at).unwrap_or(usize::MAX).min(left.len());
            let (part, rest) = left.split_at_mut(count);
            let range = FileRange::new(
                Arc::clone(&self.files[usize::from(here.file)]),
                here.offset + (at - here.start),
                count as u64,
            );
            range.ok_or(ErrorKind::UnexpectedEof)?.read_exact_at(0, part)?;
            left = rest;
            at += count as u64;
            piece += 1;
        }
        Ok(())
    }
}

//! The decoded bytes of a slot, read at any position.

use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::cache;
use super::guard::Guard;
use super::plan::LONGEST_UNIT;
use crate::disk::digest::Digest;
use crate::disk::range::FileRange;
use crate::package::{Compression, SlotSource};
use crate::slot::chain::{self, Bounds, Decoded, Point, Run};
use crate::slot::index::Index;
use crate::slot::scan::{ZipContent, zip};
use crate::slot::{Limits, SlotError, memory};

/// Part of a span that is too long to be decoded whole.
const LONG_UNIT: u64 = 1 << 20;
/// Decoders stop at the end of a block: zstd's are at most so long (RFC 8878, section 3.1.1.2.4).
const LONGEST_BLOCK: u64 = 128 << 10;
/// Marks the unit keys of ZIP entries, which are named by their headers' positions.
const ZIP_UNITS: u64 = 1 << 63;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Where decoding can start.
pub trait Points {
    /// Returns the last point at or before decoded byte `at`, and where the next one is, or the end; `None` without any.
    ///
    /// # Errors
    /// The points are damaged, or the pass failed before it got there.
    fn span(&self, at: u64) -> Result<Option<(Point, u64)>, SlotError>;

    /// Returns only where they are.
    ///
    /// # Errors
    /// As [`Self::span`].
    fn bounds(&self, at: u64) -> Result<Option<Bounds>, SlotError>;

    /// Tells whether all that lies between points is known to decode.
    fn are_proven(&self) -> bool;
}

impl Points for Index {
    fn span(&self, at: u64) -> Result<Option<(Point, u64)>, SlotError> {
        Ok(self.point(at)?)
    }

    fn bounds(&self, at: u64) -> Result<Option<Bounds>, SlotError> {
        Ok(Index::bounds(self, at)?)
    }

    fn are_proven(&self) -> bool {
        true
    }
}

/// A slot's decoded bytes.
#[derive(Debug)]
pub struct Stream {
    number: u64,
    stored: FileRange,
    compressions: Vec<Compression>,
    limits: Limits,
    guard: Guard,
    /// The decoder in a long span, kept so that reading on from where it stands decodes each byte once.
    running: Mutex<Option<Running>>,
}

/// A decoder in the middle of a long span.
struct Running {
    /// The span, by its first unit's key.
    span: u64,
    /// How far it has come in the span.
    position: u64,
    reader: Decoded,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Running").field("position", &self.position).finish_non_exhaustive()
    }
}

/// Bytes between two places where decoding can start.
struct Span<'a> {
    /// Key of its first unit.
    key: u64,
    /// Its length.
    length: u64,
    /// As in [`Bounds`].
    stored: (u64, Option<u64>),
    /// Opens a decoder at its start.
    open: &'a dyn Fn() -> Result<Decoded, SlotError>,
    /// The same for spans that are not long.
    run: &'a dyn Fn() -> Result<Run, SlotError>,
}

impl Stream {
    /// Returns the decoded bytes of a slot whose stored bytes were verified against `digest`.
    ///
    /// # Errors
    /// The file's metadata cannot be read.
    pub fn new(source: &SlotSource, digest: Digest, limits: Limits) -> Result<Self, SlotError> {
        Ok(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            stored: source.stored.clone(),
            compressions: source.compressions.clone(),
            limits,
            guard: Guard::new(source.stored.clone(), digest)?,
            running: Mutex::new(None),
        })
    }

    /// The bytes as stored.
    #[must_use]
    pub fn stored(&self) -> &FileRange {
        &self.stored
    }

    /// Checks that the package file has not changed.
    ///
    /// # Errors
    /// [`SlotError::Changed`].
    pub fn check(&self) -> Result<(), SlotError> {
        self.guard.check()
    }

    /// Opens all decoded bytes from the start.
    #[must_use]
    pub fn open(&self) -> Decoded {
        chain::open(&self.stored, &self.compressions, &self.limits, None)
    }

    /// Fills `buffer` from decoded byte `at`.
    ///
    /// # Errors
    /// The bytes do not decode, end before, or the package file changed.
    pub fn read(&self, points: &dyn Points, mut at: u64, mut buffer: &mut [u8]) -> Result<(), SlotError> {
        if self.compressions.is_empty() {
            return self.read_stored(&self.stored, at, buffer);
        }
        while !buffer.is_empty() {
            let outside = || SlotError::Mismatch { what: "length" };
            let Bounds { decoded: Range { start, end }, stored } = points.bounds(at)?.ok_or_else(outside)?;
            if end <= at {
                return Err(outside());
            }
            let point = || Ok::<_, SlotError>(points.span(start)?.ok_or_else(outside)?.0);
            let open = || match self.compressions.as_slice() {
                [compression] => Ok(chain::resume(&self.stored, *compression, &point()?, &self.limits)),
                _ => Ok(self.open()),
            };
            let run = || match self.compressions.as_slice() {
                [compression] => {
                    let proven = points.are_proven();
                    Ok(Run::new(&self.stored, *compression, &point()?, &self.limits, proven))
                }
                _ => Ok(Run::Whole(self.open())),
            };
            let span = Span { key: start, length: end - start, stored, open: &open, run: &run };
            let count = self.read_span(&span, at - start, buffer)?;
            at += count as u64;
            buffer = &mut buffer[count..];
        }
        Ok(())
    }

    /// Fills `buffer` from byte `at` of a file of a ZIP archive.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_zip(&self, entry: &ZipContent, mut at: u64, mut buffer: &mut [u8]) -> Result<(), SlotError> {
        if entry.method == 0 && entry.size == entry.stored && entry.size > LONGEST_UNIT {
            return self.read_stored(&zip::stored_bytes(&self.stored, entry)?, at, buffer);
        }
        let open = || zip::open(&self.stored, entry, &self.limits);
        let run = || Ok(Run::Whole(open()?));
        let key = ZIP_UNITS | entry.header;
        let span = Span { key, length: entry.size, stored: (entry.header, None), open: &open, run: &run };
        while !buffer.is_empty() {
            let count = self.read_span(&span, at, buffer)?;
            at += count as u64;
            buffer = &mut buffer[count..];
        }
        Ok(())
    }

    fn read_stored(&self, range: &FileRange, at: u64, buffer: &mut [u8]) -> Result<(), SlotError> {
        let read = range.read_exact_at(at, buffer);
        // A file that was cut shows as a change, which says more than a short read.
        self.guard.check()?;
        read.map_err(SlotError::from_read)
    }

    /// Copies what one unit holds from `at` (in the span) on; at least one byte.
    fn read_span(&self, span: &Span<'_>, at: u64, buffer: &mut [u8]) -> Result<usize, SlotError> {
        let outside = || SlotError::Mismatch { what: "length" };
        let unit = if span.length <= LONGEST_UNIT { span.length } else { LONG_UNIT };
        let start = at.checked_div(unit).unwrap_or(0) * unit;
        let length = usize::try_from(unit.min(span.length.saturating_sub(start))).map_err(|_| outside())?;
        let from = usize::try_from(at - start).unwrap_or(usize::MAX).min(length);
        let count = buffer.len().min(length - from);
        if count == 0 {
            return Err(outside());
        }
        let key = (self.number, span.key + start);
        let unit = cache::get(key, length)?;
        let read = unit.read(from, &mut buffer[..count], |run, bytes, filled, needed| {
            let result = {
                let _turn = memory::turn();
                if bytes.len() as u64 == span.length {
                    self.grow(span, run, bytes, filled, needed)
                } else {
                    self.decode_part(span, start, bytes)
                }
            };
            // A decoder that fails over a changed file is not the one to blame.
            self.guard.check()?;
            let (end, count) = result?;
            cache::decoded(key, count, run.is_some());
            Ok(end)
        });
        if let Err(error) = read {
            cache::drop_failed(key, &unit);
            return Err(error);
        }
        Ok(count)
    }

    /// Decodes a whole unit of a long span. Returns where the bytes end that are there then, and how many were decoded.
    fn decode_part(
        &self,
        span: &Span<'_>,
        start: u64,
        bytes: &mut [u8],
    ) -> Result<(usize, usize), SlotError> {
        let length = bytes.len() as u64;
        let mut kept = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = match kept.take() {
            Some(running) if running.span == span.key && running.position <= start => running,
            _ => Running { span: span.key, position: 0, reader: (span.open)()? },
        };
        let skipped = start - running.position;
        let copied = std::io::copy(&mut (&mut running.reader).take(skipped), &mut std::io::sink());
        if copied.map_err(SlotError::from_read)? < skipped {
            return Err(SlotError::Mismatch { what: "length" });
        }
        running.reader.read_exact(bytes).map_err(too_short)?;
        running.position = start + length;
        if running.position < span.length {
            *kept = Some(running);
        }
        Ok((bytes.len(), bytes.len()))
    }

    /// Decodes on in a span, until `needed` bytes are there, or anew where no decoder was kept. Returns as
    /// [`Self::decode_part`].
    fn grow(
        &self,
        span: &Span<'_>,
        run: &mut Option<Run>,
        bytes: &mut [u8],
        filled: usize,
        needed: usize,
    ) -> Result<(usize, usize), SlotError> {
        let (mut decoder, from) = match run.take() {
            Some(decoder) => (decoder, filled),
            None => {
                self.expect(span, needed);
                ((span.run)()?, 0)
            }
        };
        let end = decoder.fill(bytes, from, needed).map_err(too_short)?;
        if end < bytes.len() {
            *run = Some(decoder);
        }
        Ok((end, end - from))
    }

    /// Lets the disk begin with all that the first `needed` bytes of a span are decoded of, about. It then reads that at once,
    /// and not what it guesses.
    fn expect(&self, span: &Span<'_>, needed: usize) {
        let (start, Some(end)) = span.stored else { return };
        let needed = (needed as u64).next_multiple_of(LONGEST_BLOCK).min(span.length);
        let part =
            u128::from(end.saturating_sub(start)) * u128::from(needed) / u128::from(span.length.max(1));
        self.stored.will_need(start, u64::try_from(part).unwrap_or(0));
    }
}

fn too_short(error: std::io::Error) -> SlotError {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return SlotError::Mismatch { what: "length" };
    }
    SlotError::from_read(error)
}

impl Drop for Stream {
    fn drop(&mut self) {
        cache::forget(self.number);
    }
}

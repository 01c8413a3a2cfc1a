//! A slot's stored bytes and its chain of compressions to a stream of decoded bytes, from the start or from a
//! point on the way.
//!
//! **Invariant:** memory is bounded by [`Limits::decoder_memory`] and a few buffers, whatever the data claims;
//! every step's output is bounded by [`Limits::decoded_from`].

mod buffer;
mod bzip2;
mod frame;
mod gzip;
mod limited;
mod run;
mod xz;
mod zstd;

use std::io::Read;
use std::ops::Range;

use super::Limits;
use crate::disk::range::FileRange;
use crate::package::Compression;

pub use gzip::POINT_INTERVAL;
pub use run::Run;

/// Decoded bytes; an error that is not the host's is a [`super::SlotError`] inside.
pub type Decoded = Box<dyn Read + Send>;

/// A place where decoding can start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// How many decoded bytes lie before it.
    pub decoded: u64,
    /// Where its first stored bit is. A multiple of 8 but for gzip and bzip2.
    pub stored_bits: u64,
    /// What the decoder must know beforehand. gzip: the last 32 KiB decoded, empty at the start of a member; behind a
    /// full flush, where nothing refers back, any one byte. xz: the header of the stream. Others: nothing.
    pub context: Vec<u8>,
    /// gzip, in the middle of a deflate block: where the block's header is.
    pub header: Option<BlockHeader>,
}

/// The bytes between two points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Which decoded bytes.
    pub decoded: Range<u64>,
    /// Of which stored bytes they are decoded; no end is known for the last ones.
    pub stored: (u64, Option<u64>),
}

/// The type and code tables at the start of a deflate block, which every later part of the block needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Its first stored bit.
    pub stored_bits: u64,
    /// Its length in bits.
    pub length: u32,
}

/// Told of each point that the decoder passes, in order; the first is at decoded byte 0.
pub type Observer = Box<dyn FnMut(Point) + Send>;

/// Returns the slot's decoded bytes from the start. `observe` is told of the points of a chain with exactly one
/// compression other than xz (whose points are in its own index).
#[must_use]
pub fn open(
    stored: &FileRange,
    compressions: &[Compression],
    limits: &Limits,
    mut observe: Option<Observer>,
) -> Decoded {
    let mut bytes: Decoded = Box::new(stored.reader(0));
    for compression in compressions {
        let observe = if compressions.len() == 1 { observe.take() } else { None };
        let decoder: Decoded = match compression {
            Compression::Gzip => Box::new(gzip::GzipReader::new(bytes, observe)),
            Compression::Bzip2 => Box::new(bzip2::Bzip2Reader::new(bytes, observe)),
            Compression::Xz => Box::new(xz::XzReader::new(bytes, limits)),
            Compression::Zstd => Box::new(zstd::ZstdReader::new(bytes, limits, observe)),
        };
        bytes = Box::new(limited::Limited::new(decoder, stored.len(), limits.decoded_from(stored.len())));
    }
    bytes
}

/// Returns the decoded bytes of a slot with this one compression from `point` on.
#[must_use]
pub fn resume(stored: &FileRange, compression: Compression, point: &Point, limits: &Limits) -> Decoded {
    let bytes = stored.reader(point.stored_bits / 8);
    let bit = u8::try_from(point.stored_bits % 8).unwrap_or(0);
    match compression {
        Compression::Gzip if point.context.is_empty() => Box::new(gzip::GzipReader::new(bytes, None)),
        Compression::Gzip => Box::new(gzip::GzipReader::resume(stored, point)),
        Compression::Bzip2 if bit == 0 && point.decoded == 0 => {
            Box::new(bzip2::Bzip2Reader::new(bytes, None))
        }
        Compression::Bzip2 => Box::new(bzip2::Bzip2Reader::resume(bytes, bit)),
        Compression::Xz => {
            Box::new(xz::XzReader::new(std::io::Cursor::new(point.context.clone()).chain(bytes), limits))
        }
        Compression::Zstd => Box::new(zstd::ZstdReader::new(bytes, limits, None)),
    }
}

/// Returns the bytes of one file that is compressed alone, as in a ZIP archive: raw deflate, bzip2, xz or zstd.
#[must_use]
pub fn single(stored: &FileRange, method: Single, limits: &Limits) -> Decoded {
    let bytes = stored.reader(0);
    match method {
        Single::Plain => Box::new(bytes),
        Single::Deflate => Box::new(gzip::GzipReader::raw(bytes)),
        Single::Bzip2 => Box::new(bzip2::Bzip2Reader::new(bytes, None)),
        Single::Xz => Box::new(xz::XzReader::new(bytes, limits)),
        Single::Zstd => Box::new(zstd::ZstdReader::new(bytes, limits, None)),
    }
}

/// Gives back memory that is kept for the next decoder.
pub fn release() {
    buffer::release();
    frame::release();
}

/// How one file of a ZIP archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Single {
    /// Not at all.
    Plain,
    /// Deflate without a wrapper.
    Deflate,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// zstd.
    Zstd,
}

#[cfg(test)]
pub(crate) mod tests;

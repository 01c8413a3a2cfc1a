//! Decoding from one point to the next into memory that keeps what came out, as far as it is wanted, and on from there later.

use std::io::{self, Read};

use super::frame::FrameRun;
use super::{Decoded, Point, resume};
use crate::disk::range::FileRange;
use crate::package::Compression;
use crate::slot::Limits;

/// Decoded ahead of what is wanted, so that small files next to each other are not each a call to the decoder.
const STEP: usize = 32 << 10;

/// A decoder that stands somewhere between two points.
pub enum Run {
    /// Of whole zstd frames.
    Frames(FrameRun),
    /// One that may be kept for whoever wants more: it takes little memory.
    Kept(Decoded),
    /// One that goes to the end at once: because it takes much memory, or because only then is it known that all was right.
    Whole(Decoded),
}

impl std::fmt::Debug for Run {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Frames(_) => "Frames",
            Self::Kept(_) => "Kept",
            Self::Whole(_) => "Whole",
        })
    }
}

impl Run {
    /// Starts at `point` of a slot with this one compression. `is_proven` says that everything up to the end of the run was
    /// decoded before, or is vouched for by a signature.
    #[must_use]
    pub fn new(
        stored: &FileRange,
        compression: Compression,
        point: &Point,
        limits: &Limits,
        is_proven: bool,
    ) -> Self {
        let bytes = || resume(stored, compression, point, limits);
        match compression {
            Compression::Zstd if is_proven => {
                Self::Frames(FrameRun::new(stored, point.stored_bits / 8, limits))
            }
            Compression::Gzip if is_proven => Self::Kept(bytes()),
            Compression::Gzip | Compression::Zstd | Compression::Bzip2 | Compression::Xz => {
                Self::Whole(bytes())
            }
        }
    }

    /// Decodes on in `bytes`, of which `filled` are there, until at least `needed` are. Returns how many are.
    ///
    /// # Errors
    /// The data is damaged or ends before; then nothing behind `filled` is to be used.
    pub fn fill(&mut self, bytes: &mut [u8], filled: usize, needed: usize) -> io::Result<usize> {
        let (reader, end) = match self {
            Self::Frames(frames) => return frames.fill(bytes, filled, needed),
            Self::Kept(reader) => (reader, needed.next_multiple_of(STEP).min(bytes.len())),
            Self::Whole(reader) => (reader, bytes.len()),
        };
        reader.read_exact(&mut bytes[filled..end])?;
        Ok(end)
    }
}

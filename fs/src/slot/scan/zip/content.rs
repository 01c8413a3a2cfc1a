//! The content of one ZIP entry as a stream that checks its length and CRC-32.

use std::io::{self, Read};

use super::directory::{u16_at, u32_at};
use super::{Limits, SlotError};
use crate::disk::range::FileRange;
use crate::slot::chain::{self, Decoded, Single};
use crate::slot::scan::ZipContent;

const LOCAL: u32 = 0x0403_4b50;
const LOCAL_LENGTH: usize = 30;

/// Returns how a compression method is undone, if it can be.
pub(super) fn method(code: u16) -> Option<Single> {
    match code {
        0 => Some(Single::Plain),
        8 => Some(Single::Deflate),
        12 => Some(Single::Bzip2),
        93 => Some(Single::Zstd),
        95 => Some(Single::Xz),
        _ => None,
    }
}

/// Returns where the compressed bytes of an entry are.
///
/// # Errors
/// The local header cannot be read or is none.
pub fn stored_bytes(stored: &FileRange, content: &ZipContent) -> Result<FileRange, SlotError> {
    let damaged =
        |reason| SlotError::Archive { format: "zip", at: content.header, entry: String::new(), reason };
    let mut header = [0; LOCAL_LENGTH];
    stored.read_exact_at(content.header, &mut header).map_err(SlotError::from_read)?;
    if u32_at(&header, 0) != LOCAL {
        return Err(damaged("no local header where the central directory says"));
    }
    let skipped = LOCAL_LENGTH as u64 + u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
    let start = content.header.saturating_add(skipped);
    stored.part(start, content.stored).ok_or_else(|| damaged("an entry lies outside the archive"))
}

/// Opens the content of an entry.
///
/// # Errors
/// The local header is damaged, or the method unknown. The reader fails when length or CRC-32 are not as recorded.
pub fn open(stored: &FileRange, content: &ZipContent, limits: &Limits) -> Result<Decoded, SlotError> {
    let bytes = stored_bytes(stored, content)?;
    let Some(method) = method(content.method) else {
        return Err(SlotError::Archive {
            format: "zip",
            at: content.header,
            entry: String::new(),
            reason: "an unknown compression method",
        });
    };
    let inner = chain::single(&bytes, method, limits);
    Ok(Box::new(Checked { inner, left: content.size, crc: flate2::Crc::new(), expected: content.crc }))
}

/// Checks what passes through against the recorded length and CRC-32, the CRC before the last bytes are handed out.
struct Checked {
    inner: Decoded,
    left: u64,
    crc: flate2::Crc,
    expected: u32,
}

impl Read for Checked {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(output.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut output[..wanted])?;
        if count == 0 {
            return Err(SlotError::Mismatch { what: "length" }.into_read());
        }
        self.crc.update(&output[..count]);
        self.left -= count as u64;
        if self.left == 0 && self.crc.sum() != self.expected {
            return Err(SlotError::Mismatch { what: "CRC-32" }.into_read());
        }
        Ok(count)
    }
}

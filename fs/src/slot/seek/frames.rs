//! The frames of a zstd stream, by hopping over their blocks (RFC 8878, section 3.1).

use super::plan::LONGEST_UNIT;
use crate::disk::range::FileRange;

const MAGIC: u32 = 0xFD2F_B528;
/// Skippable frames: 0x184D2A50 to 0x184D2A5F.
const SKIPPABLE: u32 = 0x184D_2A50;
/// Looked at before giving up: a stream of tiny blocks is not worth more.
const MOST_BLOCKS: u64 = 1 << 20;

struct Frame {
    length: u64,
    /// Upper bound of its decoded length; 0 for a skippable frame.
    decoded: u64,
}

/// Tells whether there are several frames with content, and none decodes to more than a unit.
pub(super) fn are_small(stored: &FileRange) -> bool {
    let (mut at, mut frames, mut budget) = (0, 0_u64, MOST_BLOCKS);
    while at < stored.len() {
        let Some(frame) = frame_at(stored, at, &mut budget) else { return false };
        if frame.decoded > LONGEST_UNIT {
            return false;
        }
        frames += u64::from(frame.decoded > 0);
        at += frame.length;
    }
    frames > 1
}

fn number_at(stored: &FileRange, at: u64, length: usize) -> Option<u64> {
    let mut bytes = [0; 8];
    stored.read_exact_at(at, &mut bytes[..length]).ok()?;
    Some(u64::from_le_bytes(bytes))
}

fn frame_at(stored: &FileRange, start: u64, budget: &mut u64) -> Option<Frame> {
    let magic = u32::try_from(number_at(stored, start, 4)?).ok()?;
    if magic & 0xffff_fff0 == SKIPPABLE {
        return Some(Frame { length: 8 + number_at(stored, start + 4, 4)?, decoded: 0 });
    }
    if magic != MAGIC {
        return None;
    }
    let descriptor = number_at(stored, start + 4, 1)?;
    let single_segment = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::try_from(descriptor & 3).ok()?];
    let size_length = match descriptor >> 6 {
        0 if single_segment => 1,
        0 => 0,
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let size_at = start + 5 + u64::from(!single_segment) + dictionary;
    let declared = match size_length {
        0 => None,
        // Two bytes count from 256.
        2 => Some(number_at(stored, size_at, 2)? + 256),
        length => Some(number_at(stored, size_at, length)?),
    };
    let mut at = size_at + size_length as u64;
    let mut decoded = 0_u64;
    loop {
        *budget = budget.checked_sub(1)?;
        let header = number_at(stored, at, 3)?;
        let (kind, size) = ((header >> 1) & 3, header >> 3);
        let (content, most) = match kind {
            0 => (size, size),
            // Run: one byte stands for `size`.
            1 => (1, size),
            // A compressed block decodes to at most 128 KiB.
            2 => (size, 128 << 10),
            _ => return None,
        };
        at += 3 + content;
        decoded += most;
        if at > stored.len() {
            return None;
        }
        if header & 1 != 0 {
            break;
        }
    }
    let checksum = if descriptor & 4 != 0 { 4 } else { 0 };
    Some(Frame { length: at + checksum - start, decoded: declared.unwrap_or(decoded) })
}

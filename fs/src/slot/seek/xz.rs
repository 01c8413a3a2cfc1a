//! The blocks of an xz file, from its own indexes (The .xz File Format 1.2.1, sections 2.1.2 and 4).

use super::plan::LONGEST_UNIT;
use crate::disk::range::FileRange;
use crate::slot::chain::Point;

const HEADER_MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
const FOOTER_MAGIC: [u8; 2] = *b"YZ";
const HEADER: u64 = 12;
const FOOTER: u64 = 12;
/// More blocks than this are not worth keeping as points.
const MOST_BLOCKS: usize = 1 << 20;

/// Returns the start of every block and the decoded length, when there are several blocks and each is small enough to be
/// decoded for a single byte. Anything odd gives `None`; the decoder will say what it is.
pub(super) fn blocks(stored: &FileRange) -> Option<(Vec<Point>, u64)> {
    let mut streams = Vec::new();
    let mut end = stored.len();
    let mut count = 0;
    while end > 0 {
        let mut padding = [0; 4];
        stored.read_exact_at(end.checked_sub(4)?, &mut padding).ok()?;
        if padding == [0; 4] {
            end -= 4;
            continue;
        }
        let stream = stream_before(stored, end)?;
        count += stream.blocks.len();
        end = stream.start;
        streams.push(stream);
        if count > MOST_BLOCKS {
            return None;
        }
    }
    let mut points = Vec::new();
    let mut decoded = 0_u64;
    for stream in streams.iter().rev() {
        let mut at = stream.start + HEADER;
        for (unpadded, size) in &stream.blocks {
            if *size > LONGEST_UNIT {
                return None;
            }
            if *size > 0 {
                points.push(Point {
                    decoded,
                    stored_bits: at * 8,
                    context: stream.header.to_vec(),
                    header: None,
                });
            }
            at = at.checked_add(unpadded.checked_next_multiple_of(4)?)?;
            decoded = decoded.checked_add(*size)?;
        }
    }
    (points.len() > 1).then_some((points, decoded))
}

struct Stream {
    start: u64,
    header: [u8; 12],
    /// Length without padding, and decoded length, of each block.
    blocks: Vec<(u64, u64)>,
}

/// Returns the stream whose footer ends at `end`.
fn stream_before(stored: &FileRange, end: u64) -> Option<Stream> {
    let footer_at = end.checked_sub(FOOTER)?;
    let mut footer = [0; 12];
    stored.read_exact_at(footer_at, &mut footer).ok()?;
    if footer[10..] != FOOTER_MAGIC {
        return None;
    }
    let backward = u32::from_le_bytes([footer[4], footer[5], footer[6], footer[7]]);
    let index_length = (u64::from(backward) + 1) * 4;
    let index_at = footer_at.checked_sub(index_length)?;
    if index_length > 16 * MOST_BLOCKS as u64 {
        return None;
    }
    let mut index = vec![0; usize::try_from(index_length).ok()?];
    stored.read_exact_at(index_at, &mut index).ok()?;
    let mut rest = index.strip_prefix(&[0])?;
    let count = number(&mut rest)?;
    let mut blocks = Vec::new();
    let mut length = 0_u64;
    for _ in 0..count {
        let block = (number(&mut rest)?, number(&mut rest)?);
        length = length.checked_add(block.0.checked_next_multiple_of(4)?)?;
        blocks.push(block);
    }
    let start = index_at.checked_sub(length)?.checked_sub(HEADER)?;
    let mut header = [0; 12];
    stored.read_exact_at(start, &mut header).ok()?;
    (header[..6] == HEADER_MAGIC).then_some(Stream { start, header, blocks })
}

/// Reads a variable-length integer (section 1.2).
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..9 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << (7 * place);
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

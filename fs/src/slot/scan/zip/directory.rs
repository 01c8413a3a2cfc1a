//! The central directory: where it is, and its records.

use crate::disk::range::FileRange;
use crate::slot::SlotError;

const END: [u8; 4] = *b"PK\x05\x06";
const END_LENGTH: usize = 22;
const END64_LOCATOR: [u8; 4] = *b"PK\x06\x07";
const END64: [u8; 4] = *b"PK\x06\x06";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const ENTRY_LENGTH: usize = 46;
/// The end record and the longest comment behind it.
const TAIL: u64 = 22 + 65535;
/// How much of the directory is read at once; an entry has at most 46 + 3 × 65535 bytes.
const CHUNK: usize = 256 << 10;

/// One record of the central directory.
#[derive(Debug)]
pub(super) struct Central {
    pub(super) host: u8,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) stored: u64,
    pub(super) size: u64,
    pub(super) external: u32,
    /// Where the local header is in the stored bytes.
    pub(super) header: u64,
    /// Seconds since 1970.
    pub(super) modified: i64,
    pub(super) name: Vec<u8>,
    pub(super) extra: Vec<u8>,
}

/// A cursor over the central directory.
#[derive(Debug)]
pub(super) struct Directory {
    position: u64,
    end: u64,
    /// What to add to every offset in the archive: bytes stand before it, as in a self-extracting one.
    base: u64,
    chunk: Vec<u8>,
    used: usize,
}

fn damaged(at: u64, entry: &str, reason: &'static str) -> SlotError {
    SlotError::Archive { format: "zip", at, entry: entry.into(), reason }
}

fn read(stored: &FileRange, at: u64, length: usize) -> Result<Vec<u8>, SlotError> {
    let mut bytes = vec![0; length];
    match stored.read_exact_at(at, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(damaged(at, "", "it ends too early"))
        }
        Err(error) => Err(SlotError::from_read(error)),
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |field| u16::from_le_bytes([field[0], field[1]]))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl Directory {
    pub(super) fn find(stored: &FileRange) -> Result<Self, SlotError> {
        let start = stored.len().saturating_sub(TAIL);
        let tail = read(stored, start, usize::try_from(stored.len() - start).unwrap_or(0))?;
        let found = (0..=tail.len().saturating_sub(END_LENGTH)).rev().find(|at| {
            tail[*at..].starts_with(&END)
                && *at + END_LENGTH + usize::from(u16_at(&tail, at + 20)) <= tail.len()
        });
        let Some(at) = found else { return Err(damaged(start, "", "no end of a central directory")) };
        let end = &tail[at..];
        let (mut length, mut offset) = (u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
        let mut behind = start + at as u64;
        if let Some(record) = find_end64(stored, behind)? {
            (length, offset, behind) = (record.length, record.offset, record.at);
        }
        let position = behind.checked_sub(length);
        let base = position.and_then(|position| position.checked_sub(offset));
        match (position, base) {
            (Some(position), Some(base)) => {
                Ok(Self { position, end: behind, base, chunk: Vec::new(), used: 0 })
            }
            _ => Err(damaged(behind, "", "the central directory does not fit before its end")),
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns `length` bytes from the cursor on without moving it, or `None` where the directory ends before.
    fn peek(&mut self, stored: &FileRange, length: usize) -> Result<Option<&[u8]>, SlotError> {
        if self.chunk.len() - self.used < length {
            let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
            if left < length {
                return Ok(None);
            }
            self.chunk = read(stored, self.position, left.min(CHUNK.max(length)))?;
            self.used = 0;
        }
        Ok(Some(&self.chunk[self.used..self.used + length]))
    }

    /// Returns the next record; `last` names the one before in errors.
    pub(super) fn next(&mut self, stored: &FileRange, last: &str) -> Result<Option<Central>, SlotError> {
        let (at, limit, base) = (self.position, self.end, self.base);
        let Some(fixed) = self.peek(stored, ENTRY_LENGTH)? else { return Ok(None) };
        if fixed[..4] != ENTRY {
            // A digital signature or the like may follow the entries.
            return if at + 4 <= limit && fixed[..2] == *b"PK" && fixed[..4] != *b"PK\x03\x04" {
                Ok(None)
            } else {
                Err(damaged(at, last, "no entry of the central directory where one must be"))
            };
        }
        let name = usize::from(u16_at(fixed, 28));
        let extra = usize::from(u16_at(fixed, 30));
        let length = ENTRY_LENGTH + name + extra + usize::from(u16_at(fixed, 32));
        let Some(bytes) = self.peek(stored, length)? else {
            return Err(damaged(at, last, "the central directory ends inside an entry"));
        };
        let extra_at = ENTRY_LENGTH + name;
        let mut central = Central {
            host: bytes[5],
            flags: u16_at(bytes, 8),
            method: u16_at(bytes, 10),
            crc: u32_at(bytes, 16),
            stored: u64::from(u32_at(bytes, 20)),
            size: u64::from(u32_at(bytes, 24)),
            external: u32_at(bytes, 38),
            header: u64::from(u32_at(bytes, 42)),
            modified: dos_time(u16_at(bytes, 14), u16_at(bytes, 12)),
            name: bytes[ENTRY_LENGTH..extra_at].to_vec(),
            extra: bytes[extra_at..extra_at + extra].to_vec(),
        };
        self.used += length;
        self.position += length as u64;
        central.read_extra();
        let fits = central
            .header
            .checked_add(base)
            .filter(|header| header.checked_add(central.stored).is_some_and(|end| end <= stored.len()));
        let Some(header) = fits else { return Err(damaged(at, last, "an entry lies outside the archive")) };
        central.header = header;
        Ok(Some(central))
    }
}

impl Central {
    /// Applies ZIP64 sizes (0x0001) and Info-ZIP's time in UTC (0x5455).
    fn read_extra(&mut self) {
        let fields: Vec<(u16, Vec<u8>)> = self.fields().map(|(id, field)| (id, field.to_vec())).collect();
        for (id, field) in fields {
            if id == 1 {
                let mut at = 0;
                for value in [&mut self.size, &mut self.stored, &mut self.header] {
                    if *value == u64::from(u32::MAX) && field.len() >= at + 8 {
                        *value = u64_at(&field, at);
                        at += 8;
                    }
                }
            } else if id == 0x5455 && field.len() >= 5 && field[0] & 1 != 0 {
                self.modified = i64::from(u32_at(&field, 1).cast_signed());
            }
        }
    }

    /// The extra fields: identifier and content.
    pub(super) fn fields(&self) -> impl Iterator<Item = (u16, &[u8])> {
        let mut rest = &self.extra[..];
        std::iter::from_fn(move || {
            let length = usize::from(u16_at(rest.get(..4)?, 2));
            let (id, field) = (u16_at(rest, 0), rest.get(4..4 + length)?);
            rest = &rest[4 + length..];
            Some((id, field))
        })
    }
}

struct End64 {
    at: u64,
    length: u64,
    offset: u64,
}

fn find_end64(stored: &FileRange, end: u64) -> Result<Option<End64>, SlotError> {
    let Some(locator_at) = end.checked_sub(20) else { return Ok(None) };
    let locator = read(stored, locator_at, 20)?;
    if !locator.starts_with(&END64_LOCATOR) {
        return Ok(None);
    }
    // Bytes before the archive shift it; then the record is where it must be, right before its locator.
    for at in [u64_at(&locator, 8), locator_at.saturating_sub(56)] {
        if at.checked_add(56).is_some_and(|behind| behind <= locator_at) {
            let record = read(stored, at, 56)?;
            if record.starts_with(&END64) {
                return Ok(Some(End64 { at, length: u64_at(&record, 40), offset: u64_at(&record, 48) }));
            }
        }
    }
    Err(damaged(locator_at, "", "the ZIP64 end of the central directory is missing"))
}

/// Converts an MS-DOS date and time to seconds since 1970; impossible fields count as their least value.
fn dos_time(date: u16, time: u16) -> i64 {
    let (year, month, day) = (1980 + i64::from(date >> 9), i64::from((date >> 5) & 15), i64::from(date & 31));
    let (month, day) = (month.clamp(1, 12), day.max(1));
    // Days from a civil date, with March as the first month (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year / 400;
    let year_of_era = shifted_year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let (hour, minute, second) = (time >> 11, (time >> 5) & 63, (time & 31) * 2);
    days * 86400 + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second)
}

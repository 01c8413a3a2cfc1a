//! The bytes of an index, checked block by block as they are first touched.
//!
//! **Invariant:** no byte behind the header leaves this file before its block's CRC-32 was found right.

use std::sync::atomic::{AtomicU64, Ordering};

use super::IndexError;
use super::format::{BLOCK, SUMS_IN_BLOCK};
use crate::disk::mapped::Mapping;

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Backing {
    /// In a published file.
    Mapped(Mapping),
    /// In memory, where no file could be written.
    Memory(Vec<u8>),
}

impl Backing {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(mapping) => mapping,
            Self::Memory(bytes) => bytes,
        }
    }
}

/// Checked access to an index's bytes.
#[derive(Debug)]
pub(super) struct Blocks {
    backing: Backing,
    /// A bit for each block of sections, then one for each block of sums: set once found right.
    checked: Vec<AtomicU64>,
    /// Where the sums begin and how many there are.
    sums: (u64, u64),
    top: Vec<u32>,
}

pub(super) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

impl Blocks {
    pub(super) fn new(backing: Backing, sums: (u64, u64), top: Vec<u32>) -> Self {
        let blocks = sums.1 + sums.1.div_ceil(SUMS_IN_BLOCK);
        let words = usize::try_from(blocks.div_ceil(64)).unwrap_or(0);
        let checked = std::iter::repeat_with(AtomicU64::default).take(words).collect();
        Self { backing, checked, sums, top }
    }

    pub(super) fn all(&self) -> &[u8] {
        self.backing.bytes()
    }

    /// Returns bytes `[start, start + length)` of the file, all of them behind the header and before the sums.
    pub(super) fn get(&self, start: u64, length: u64) -> Result<&[u8], IndexError> {
        let damaged = IndexError::Damaged { what: "offset", at: start };
        let end = start.checked_add(length).filter(|end| start >= BLOCK && *end <= self.sums.0);
        let Some(end) = end else { return Err(damaged) };
        if length > 0 {
            for block in start / BLOCK..=(end - 1) / BLOCK {
                self.check(block - 1)?;
            }
        }
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        range.and_then(|(start, end)| self.backing.bytes().get(start..end)).ok_or(damaged)
    }

    /// Checks one block of sections, unless that was done before.
    pub(super) fn check(&self, block: u64) -> Result<(), IndexError> {
        if self.is_checked(block) {
            return Ok(());
        }
        let damaged = IndexError::Damaged { what: "block", at: block };
        let start = (block + 1) * BLOCK;
        let bytes = self.raw(start, (start + BLOCK).min(self.sums.0)).ok_or(damaged)?;
        if self.sum_of(block)? != crc(bytes) {
            return Err(IndexError::Damaged { what: "block", at: block });
        }
        self.mark(block);
        Ok(())
    }

    /// Returns the recorded CRC-32 of a block, after checking the block of sums that holds it.
    fn sum_of(&self, block: u64) -> Result<u32, IndexError> {
        let damaged = || IndexError::Damaged { what: "checksum", at: block };
        let group = block / SUMS_IN_BLOCK;
        let (sums_start, count) = self.sums;
        if block >= count {
            return Err(damaged());
        }
        if !self.is_checked(count + group) {
            let start = sums_start + group * BLOCK;
            let end = (start + BLOCK).min(sums_start + count * 4);
            let bytes = self.raw(start, end).ok_or_else(damaged)?;
            let expected = usize::try_from(group).ok().and_then(|group| self.top.get(group));
            if expected != Some(&crc(bytes)) {
                return Err(damaged());
            }
            self.mark(count + group);
        }
        let at = sums_start + block * 4;
        let bytes = self.raw(at, at + 4).and_then(|bytes| bytes.try_into().ok()).ok_or_else(damaged)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn raw(&self, start: u64, end: u64) -> Option<&[u8]> {
        self.backing.bytes().get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    fn is_checked(&self, block: u64) -> bool {
        let word = usize::try_from(block / 64).ok().and_then(|word| self.checked.get(word));
        // Relaxed: the bytes never change, the bit only saves work.
        word.is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (block % 64) != 0)
    }

    fn mark(&self, block: u64) {
        let word = usize::try_from(block / 64).ok().and_then(|word| self.checked.get(word));
        if let Some(word) = word {
            word.fetch_or(1 << (block % 64), Ordering::Relaxed);
        }
    }
}

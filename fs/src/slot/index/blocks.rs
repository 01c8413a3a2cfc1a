//! The bytes of an index, checked block by block as they are first touched.
//!
//! **Invariant:** no byte behind the header leaves this file before its block's SHA-256 was found right, by way of the sums
//! above it that lead to the header.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::IndexError;
use super::format::{BLOCK, SUM, SUMS_IN_BLOCK};
use crate::disk::digest::Digest;
use crate::disk::mapped::{Filled, Mapping};
use crate::disk::range::FileRange;

/// How much is read of an index in a package at a time, in bytes.
pub(super) const PART: usize = 32 << 10;
/// The level of the section of upper sums.
const HIGHEST: usize = 2;

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Backing {
    /// In a published file.
    Mapped(Mapping),
    /// In memory, where no file could be written.
    Memory(Arc<Vec<u8>>),
    /// In a package, from which they come as they are needed: somebody may write to it, so it is not mapped.
    Package(FileRange, Filled),
}

impl Backing {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Mapped(mapping) => mapping.len() as u64,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Package(range, _) => range.len(),
        }
    }

    /// Returns bytes `[start, end)`, unchecked; of one kind of index, they stay what they are from then on.
    pub(super) fn get(&self, start: u64, end: u64) -> Option<&[u8]> {
        let (from, to) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
        match self {
            Self::Mapped(mapping) => mapping.get(from..to),
            Self::Memory(bytes) => bytes.get(from..to),
            Self::Package(range, memory) => {
                let fill = |at: usize, part: &mut [u8]| range.read_exact_at(at as u64, part);
                let got = memory.get(from, to, fill);
                got.inspect_err(|error| tracing::warn!("cannot read the index in the package: {error}")).ok()
            }
        }
    }
}

/// One kind of blocks: of sections, of sums, of upper sums.
#[derive(Clone, Copy, Debug)]
struct Level {
    start: u64,
    end: u64,
    /// Where its bits begin.
    bits: u64,
}

impl Level {
    fn count(&self) -> u64 {
        (self.end - self.start).div_ceil(BLOCK)
    }
}

/// Checked access to an index's bytes.
#[derive(Debug)]
pub(super) struct Blocks {
    backing: Backing,
    /// A bit for each block, set once it was found right.
    checked: Vec<AtomicU64>,
    levels: [Level; HIGHEST + 1],
    top: Vec<[u8; 32]>,
}

impl Blocks {
    /// Takes bytes whose sums begin at `sums` and upper sums at `upper`, where both are as long as they have to be.
    pub(super) fn new(backing: Backing, sums: u64, upper: u64, top: Vec<[u8; 32]>) -> Self {
        let mut bits = 0;
        let levels = [(BLOCK, sums), (sums, upper), (upper, backing.len())].map(|(start, end)| {
            let level = Level { start, end, bits };
            bits += level.count();
            level
        });
        let words = usize::try_from(bits.div_ceil(64)).unwrap_or(0);
        let checked = std::iter::repeat_with(AtomicU64::default).take(words).collect();
        Self { backing, checked, levels, top }
    }

    pub(super) fn backing(&self) -> &Backing {
        &self.backing
    }

    /// How many blocks of sections there are.
    pub(super) fn count(&self) -> u64 {
        self.levels[0].count()
    }

    /// Returns bytes `[start, start + length)` of the file, all of them behind the header and before the sums.
    pub(super) fn get(&self, start: u64, length: u64) -> Result<&[u8], IndexError> {
        let damaged = IndexError::Damaged { what: "offset", at: start };
        let sections = self.levels[0];
        let end = start.checked_add(length).filter(|end| start >= sections.start && *end <= sections.end);
        let Some(end) = end else { return Err(damaged) };
        if length > 0 {
            for block in start / BLOCK..=(end - 1) / BLOCK {
                self.check(block - 1)?;
            }
        }
        self.backing.get(start, end).ok_or(damaged)
    }

    /// Checks one block of sections, unless that was done before.
    pub(super) fn check(&self, block: u64) -> Result<(), IndexError> {
        self.check_at(0, block)
    }

    fn check_at(&self, height: usize, block: u64) -> Result<(), IndexError> {
        let level = self.levels[height];
        if self.is_checked(level.bits + block) {
            return Ok(());
        }
        let what = if height == 0 { "block" } else { "checksum" };
        let damaged = || IndexError::Damaged { what, at: block };
        let start = level.start + block * BLOCK;
        let end = (start + BLOCK).min(level.end);
        if start >= end {
            return Err(damaged());
        }
        let bytes = self.backing.get(start, end).ok_or_else(damaged)?;
        if self.sum_of(height, block)? != Digest::of(bytes).0 {
            return Err(damaged());
        }
        self.mark(level.bits + block);
        Ok(())
    }

    /// Returns the recorded digest of a block, after checking the block that holds it.
    fn sum_of(&self, height: usize, block: u64) -> Result<[u8; 32], IndexError> {
        let damaged = || IndexError::Damaged { what: "checksum", at: block };
        if height == HIGHEST {
            let sum = usize::try_from(block).ok().and_then(|block| self.top.get(block));
            return sum.copied().ok_or_else(damaged);
        }
        self.check_at(height + 1, block / SUMS_IN_BLOCK)?;
        let above = self.levels[height + 1];
        let at = above.start + block * SUM;
        if at + SUM > above.end {
            return Err(damaged());
        }
        self.backing.get(at, at + SUM).and_then(|sum| sum.try_into().ok()).ok_or_else(damaged)
    }

    fn is_checked(&self, bit: u64) -> bool {
        let word = usize::try_from(bit / 64).ok().and_then(|word| self.checked.get(word));
        // Relaxed: the bytes never change, the bit only saves work.
        word.is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (bit % 64) != 0)
    }

    fn mark(&self, bit: u64) {
        let word = usize::try_from(bit / 64).ok().and_then(|word| self.checked.get(word));
        if let Some(word) = word {
            word.fetch_or(1 << (bit % 64), Ordering::Relaxed);
        }
    }
}

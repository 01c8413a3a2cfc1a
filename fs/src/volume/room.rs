//! Room in the upper directory: what changes files is counted, and refused where the bound would be crossed.
//!
//! Far from the bound a change only keeps its size reserved while it is made. Near it, writes are made block by block by
//! one thread at a time, and a block that turns out to cross the bound is taken back.
//!
//! **Invariant:** what a write reported as written stays written; only bytes that were never there are taken back.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::table::{Freed, Node};
use super::{FsError, Space, Volume, lock};
use crate::disk::unix::{Spot, Stat, allocate, data_from, hole_from, no_space, set_length};
use crate::disk::{Context, DiskError};
use crate::node::Kind;
use crate::overlay::Upper;
use crate::overlay::allowance::{Allowance, Room};

/// What is written at a time where there is hardly any room left, in bytes.
const BLOCK: u64 = 4096;

/// `FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE`.
const PUNCH: i32 = 0x03;

/// `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE`: the modes that take no room.
const TAKES_NONE: i32 = 0x02 | 0x08 | 0x20;

impl Volume {
    /// Makes a change that is not bounded, and counts what came of it.
    pub(super) fn counted<T>(
        &self,
        file: &File,
        change: impl FnOnce() -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        let Some(allowance) = &self.allowance else { return change() };
        let _others = allowance.among_others();
        allowance.begin(Room::of_file(file)?);
        let result = change();
        allowance.settle(|| Room::of_file(file))?;
        result
    }

    /// Makes a change of extended attributes, which takes at most `bytes`, and counts it.
    pub(super) fn counted_attributes<T>(
        &self,
        spot: &Spot,
        bytes: usize,
        change: impl FnOnce() -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        let Some(allowance) = &self.allowance else { return change() };
        let look = || Ok(spot.stat()?.as_ref().and_then(Room::of_stat));
        let Some(room) = look()? else { return change() };
        let _reserved = match bytes {
            0 => None,
            bytes => Some(allowance.reserve(bytes as u64).ok_or_else(full)?),
        };
        allowance.begin(room);
        let result = change();
        allowance.settle(|| Ok(look()?.unwrap_or(room)))?;
        result
    }

    /// Counts what a prepared file takes before anything is written: the disk may need a block for its attributes.
    pub(super) fn count_new(&self, spot: &Spot) -> Result<(), FsError> {
        let Some(allowance) = &self.allowance else { return Ok(()) };
        let Some(room) = spot.stat()?.as_ref().and_then(Room::of_stat) else { return Ok(()) };
        if room.is_empty() {
            return Ok(());
        }
        let _reserved = allowance.reserve(0).ok_or_else(full)?;
        allowance.begin(room.emptied());
        allowance.settle(|| Ok(room)).map(drop)?;
        Ok(())
    }

    /// Writes as much of `bytes` as there is room for; at the end of a file opened to `append`.
    pub(super) fn write_bounded(
        &self,
        file: &File,
        (offset, append): (u64, bool),
        bytes: &[u8],
    ) -> Result<usize, FsError> {
        let Some(allowance) = &self.allowance else { return write_some(file, offset, bytes) };
        if let Some(_reserved) = allowance.reserve(bytes.len() as u64) {
            return self.counted(file, || write_some(file, offset, bytes));
        }
        let _alone = allowance.alone();
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            let at = if append { length(file)? } else { offset + done as u64 };
            match write_block(allowance, file, at, rest) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        if done == 0 && !bytes.is_empty() { Err(full()) } else { Ok(done) }
    }

    /// `fallocate(2)`, if what is not there yet has room.
    pub(super) fn allocate_bounded(
        &self,
        file: &File,
        mode: i32,
        offset: u64,
        length: u64,
    ) -> Result<(), FsError> {
        let change = || Ok(allocate(file, mode, offset, length)?);
        let Some(allowance) = self.allowance.as_ref().filter(|_| mode & TAKES_NONE == 0) else {
            return self.counted(file, change);
        };
        let _reserved = match allowance.reserve(length) {
            Some(reserved) => reserved,
            None => allowance.reserve(holes(file, offset, length)?).ok_or_else(full)?,
        };
        self.counted(file, change)
    }

    /// Notes that a node has lost a name, perhaps its last one. The names are held.
    pub(super) fn count_lost_name(&self, node: &Node) -> Result<(), FsError> {
        let Some(allowance) = &self.allowance else { return Ok(()) };
        let (detached, is_open) = {
            let table = lock(&self.table);
            let Some(slot) = table.slot(node.id) else { return Ok(()) };
            (slot.detached.clone(), slot.handles > 0)
        };
        if let Some(detached) = detached
            && let Some(room) = Spot::Open(detached).stat()?.as_ref().and_then(Room::of_stat)
        {
            allowance.lost(room, is_open);
        }
        Ok(())
    }

    /// Looks again at a file whose blocks the disk may have settled only now: it allocates late, takes back what it set
    /// aside for more, and needs blocks for its own tables. The names are held.
    pub(super) fn count_again(&self, node: &Node) {
        let Some(allowance) = self.allowance.as_ref().filter(|_| node.kind == Kind::File) else { return };
        let look = || Ok(self.spot(node)?.map(|spot| spot.stat()).transpose()?.flatten());
        let counted = look().and_then(|stat: Option<Stat>| match stat.as_ref().and_then(Room::of_stat) {
            Some(room) => Ok(allowance.settle(|| Ok(room)).map(drop)?),
            None => Ok(()),
        });
        if let Err(error) = counted {
            let error: FsError = error;
            tracing::debug!("{error}");
        }
    }

    /// Gives back the room of files that nobody has any more, and forgets what is kept aside of them, before the host may use their numbers again.
    pub(super) fn count_freed(&self, freed: Vec<Freed>) {
        let aside = self.upper.as_ref().map(Upper::aside).filter(|aside| aside.is_marked());
        if self.allowance.is_none() && aside.is_none() {
            return;
        }
        for Freed(file) in &freed {
            let inode = match Spot::Open(Arc::clone(file)).stat() {
                Ok(stat) => stat.map(|stat| stat.inode),
                Err(error) => {
                    tracing::warn!("{error}");
                    continue;
                }
            };
            if let (Some(allowance), Some(inode)) = (&self.allowance, inode) {
                allowance.closed(inode);
            }
            if let (Some(aside), Some(inode)) = (aside, inode) {
                aside.freed(inode);
            }
        }
    }

    /// Shows the bound where the disk has more.
    pub(super) fn bounded_space(&self, space: Space) -> Space {
        let Some(allowance) = &self.allowance else { return space };
        let size = space.block_size.max(1);
        let (all, left) = (allowance.limit() / size, allowance.left() / size);
        Space {
            blocks: space.blocks.min(all),
            blocks_free: space.blocks_free.min(left),
            blocks_available: space.blocks_available.min(left),
            ..space
        }
    }
}

/// Returns ENOSPC.
pub(super) fn full() -> FsError {
    DiskError::new("write to", "the upper directory, whose bound is reached", no_space()).into()
}

/// Writes all of `bytes`, or as much as the disk takes.
fn write_some(file: &File, offset: u64, bytes: &[u8]) -> Result<usize, FsError> {
    let mut done = 0;
    while done < bytes.len() {
        // The host ignores the offset of a file opened to append.
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) if done > 0 => break,
            Err(error) => return Err(DiskError::new("write", "a file", error).into()),
        }
    }
    Ok(done)
}

fn length(file: &File) -> Result<u64, FsError> {
    Ok(file.metadata().context("look at", "a written file")?.len())
}

/// Writes up to the end of one block, while nobody else changes a file; returns 0 when there is no room for it.
fn write_block(allowance: &Allowance, file: &File, offset: u64, bytes: &[u8]) -> Result<usize, FsError> {
    let before = Room::of_file(file)?;
    let length = length(file)?;
    let start = offset - offset % BLOCK;
    let piece = usize::try_from(start + BLOCK - offset).unwrap_or(1).min(bytes.len());
    let had_data = holes(file, start, BLOCK)? < BLOCK;
    allowance.begin(before);
    let written = write_some(file, offset, &bytes[..piece]);
    let grown = allowance.settle(|| Room::of_file(file))?;
    let written = written?;
    if grown <= 0 || !allowance.is_over() || had_data {
        return Ok(written);
    }
    // Nothing was there before, so nothing is lost.
    allocate(file, PUNCH, start, BLOCK)?;
    if offset + written as u64 > length {
        set_length(file, length)?;
    }
    allowance.settle(|| Room::of_file(file))?;
    Ok(0)
}

/// Returns how many bytes of a range hold no data yet; what was allocated and never written counts as such.
fn holes(file: &File, offset: u64, length: u64) -> Result<u64, FsError> {
    let end = offset.saturating_add(length);
    let (mut at, mut data) = (offset, 0);
    while at < end {
        let Some(start) = data_from(file, at)?.filter(|start| *start < end) else { break };
        let stop = hole_from(file, start)?.unwrap_or(end).min(end);
        if stop <= start {
            break;
        }
        data += stop - start;
        at = stop;
    }
    Ok(length.saturating_sub(data))
}

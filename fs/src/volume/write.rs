//! Content: writing, allocating, holes, copying ranges.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::handle::FileHandle;
use super::{FsError, HandleId, NodeId, Volume, lock};
use crate::disk::unix::{allocate, copy_range, data_from, hole_from, is_unsupported};
use crate::disk::{Context, DiskError};

/// How much is copied through memory at a time, in bytes.
const PIECE: u64 = 1 << 20;

impl Volume {
    /// `pwrite(2)`; writes all of `bytes` or reports why not.
    ///
    /// # Errors
    /// `ReadOnly`, `Unknown` for a handle that is not open for writing, or what the upper's disk reports.
    pub fn write(&self, node: NodeId, handle: HandleId, offset: u64, bytes: &[u8]) -> Result<usize, FsError> {
        let _ = node;
        let file = self.file_for_writing(handle)?;
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

    /// `fallocate(2)`; `mode` holds the Linux flag bits.
    ///
    /// # Errors
    /// `ReadOnly`, `Unknown` for a handle that is not open for writing, or what the upper's disk reports.
    pub fn allocate(
        &self,
        node: NodeId,
        handle: HandleId,
        offset: u64,
        length: u64,
        mode: i32,
    ) -> Result<(), FsError> {
        let _ = node;
        Ok(allocate(&*self.file_for_writing(handle)?, mode, offset, length)?)
    }

    /// `lseek(2)` with `SEEK_DATA` (`data`) or `SEEK_HOLE`.
    ///
    /// # Errors
    /// `NoMoreData`, `Unknown`, or what the upper's disk reports.
    pub fn seek(&self, node: NodeId, handle: HandleId, offset: u64, data: bool) -> Result<u64, FsError> {
        let open = self.file_handle(handle)?;
        if let Some(file) = self.current_file(&open)? {
            let found = if data { data_from(&file, offset)? } else { hole_from(&file, offset)? };
            return found.ok_or(FsError::NoMoreData);
        }
        // Layers do not tell where their holes are: all is data, and the end is a hole.
        let size = self.attributes(node)?.attributes.size;
        match (offset < size, data) {
            (false, _) => Err(FsError::NoMoreData),
            (true, true) => Ok(offset),
            (true, false) => Ok(size),
        }
    }

    /// `copy_file_range(2)`; may copy less than asked.
    ///
    /// # Errors
    /// As [`Self::read`] and [`Self::write`]; `Invalid` for ranges of one file that overlap.
    pub fn copy_range(
        &self,
        from: (NodeId, HandleId, u64),
        to: (NodeId, HandleId, u64),
        length: u64,
    ) -> Result<u64, FsError> {
        let (source_node, source, source_offset) = from;
        let (target_node, target, target_offset) = to;
        let overlap = source_offset.abs_diff(target_offset) < length;
        if source_node == target_node && overlap {
            return Err(FsError::Invalid("the ranges overlap"));
        }
        let into = self.file_for_writing(target)?;
        let open = self.file_handle(source)?;
        if let Some(file) = self.current_file(&open)? {
            match copy_range(&file, source_offset, &into, target_offset, length) {
                Err(error) if is_unsupported(&error) => {}
                other => return Ok(other?),
            }
        }
        let mut buffer = vec![0; usize::try_from(length.min(PIECE)).unwrap_or_default()];
        let count = self.read(source_node, Some(source), source_offset, &mut buffer)?;
        into.write_all_at(&buffer[..count], target_offset).context("write", "a file")?;
        Ok(count as u64)
    }

    fn file_for_writing(&self, handle: HandleId) -> Result<Arc<std::fs::File>, FsError> {
        self.writable_upper()?;
        let open = self.file_handle(handle)?;
        let file = lock(&open.file).clone();
        file.filter(|_| open.access.write).ok_or(FsError::Unknown(handle.0))
    }

    /// Returns the upper's file behind an open handle; `None` while only a layer has the content.
    pub(super) fn current_file(&self, open: &FileHandle) -> Result<Option<Arc<std::fs::File>>, FsError> {
        if let Some(file) = &*lock(&open.file) {
            return Ok(Some(Arc::clone(file)));
        }
        // Copied up by another handle since this one was opened.
        let file = {
            let _names = self.names();
            match self.spot(&open.node)? {
                Some(spot) => Arc::new(spot.open_file(false, false)?),
                None => return Ok(None),
            }
        };
        *lock(&open.file) = Some(Arc::clone(&file));
        Ok(Some(file))
    }
}

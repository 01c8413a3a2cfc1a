//! Content: writing, allocating, holes, copying ranges.

use std::sync::Arc;

use super::handle::FileHandle;
use super::{FsError, HandleId, NodeId, Volume, lock};
use crate::disk::unix::{copy_range, data_from, hole_from, is_unsupported};

/// How much is copied through memory at a time, in bytes.
const PIECE: u64 = 1 << 20;

impl Volume {
    /// `pwrite(2)`; writes all of `bytes`, as much as there is room for, or reports why not.
    ///
    /// # Errors
    /// `ReadOnly`, `Unknown` for a handle that is not open for writing, or what the upper's disk reports.
    pub fn write(&self, node: NodeId, handle: HandleId, offset: u64, bytes: &[u8]) -> Result<usize, FsError> {
        let _ = node;
        let file = self.file_for_writing(handle)?;
        let append = self.allowance.is_some() && self.file_handle(handle)?.access.append;
        self.write_bounded(&file, (offset, append), bytes)
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
        self.allocate_bounded(&*self.file_for_writing(handle)?, mode, offset, length)
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
        let reserved = self.allowance.as_ref().map(|allowance| allowance.reserve(length));
        // Where it might not fit, what fits is written.
        let file = if matches!(reserved, Some(None)) { None } else { self.current_file(&open)? };
        if let Some(file) = file {
            let copied =
                self.counted(&into, || Ok(copy_range(&file, source_offset, &into, target_offset, length)))?;
            match copied {
                Err(error) if is_unsupported(&error) => {}
                other => return Ok(other?),
            }
        }
        drop(reserved);
        let mut buffer = vec![0; usize::try_from(length.min(PIECE)).unwrap_or_default()];
        let count = self.read(source_node, Some(source), source_offset, &mut buffer)?;
        Ok(self.write_bounded(&into, (target_offset, false), &buffer[..count])? as u64)
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
        if self.bare(open.node.id).is_some() {
            return Ok(None);
        }
        // Copied up by another handle since this one was opened.
        let file = {
            let _names = self.names();
            match self.spot(&open.node)? {
                Some(spot) => Arc::new(self.open_to_read(&spot)?),
                None => return Ok(None),
            }
        };
        *lock(&open.file) = Some(Arc::clone(&file));
        Ok(Some(file))
    }
}

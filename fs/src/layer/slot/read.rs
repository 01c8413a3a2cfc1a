//! Reading a file: from the index itself, the store, the package or a decoder, in that order.

use std::sync::PoisonError;

use super::Inner;
use super::state::View;
use crate::disk::DiskError;
use crate::disk::digest::Digest;
use crate::slot::SlotError;
use crate::slot::scan::{Extent, ZipContent};
use crate::slot::seek::{Points, Stream};
use crate::slot::tree::tables;
use crate::slot::tree::{FileContent, Place};
use crate::store::Object;

/// Open objects kept, so that reading on does not look them up again.
const OPEN_OBJECTS: usize = 64;
/// A compressed ZIP entry that is larger is decoded once, into the store, when it is first read: it can only be decoded
/// from its start.
const LARGE_ENTRY: u64 = 4 << 20;

impl Inner {
    /// Returns where the content of `node` is.
    pub(super) fn content(&self, view: &View, node: u32) -> Result<FileContent, SlotError> {
        match view {
            View::Ready(index) => Ok(tables::content(&**index, node)?),
            View::Growing(growing) => {
                // The length of a single file is known when the pass has seen all of it.
                growing.tree.attributes(node)?;
                let content = growing.tree.content(node, growing.batch.is_some())?;
                Ok(FileContent { digest: content.digest.or(self.program), ..content })
            }
        }
    }

    /// Tells whether a content need not be in the store, because the package has its bytes as they are. A program's are
    /// worth a copy: the kernel maps a file of the store without asking, and keeps its pages from one mount to the next.
    pub(super) fn is_at_hand(&self, content: &FileContent) -> bool {
        self.is_direct && self.program.is_none() && content.place.is_decoded()
    }

    /// Fills `buffer` from `offset` unless the file ends first.
    pub(super) fn read(
        &self,
        view: &View,
        node: u32,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, SlotError> {
        let content = self.content(view, node)?;
        let left = content.size.saturating_sub(offset);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..count];
        if count == 0 {
            return Ok(0);
        }
        if let Place::Inline(bytes) = &content.place {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let source = start.checked_add(count).and_then(|end| bytes.get(start..end));
            buffer.copy_from_slice(source.ok_or(SlotError::Mismatch { what: "length" })?);
            return Ok(count);
        }
        if let Some(held) = self.object_for(view, node, &content)? {
            match held.read_exact_at(content.size, offset, buffer) {
                Ok(()) => return Ok(count),
                Err(error) => {
                    tracing::warn!(
                        "an object of the store cannot be read; its content is decoded again: {error}"
                    );
                }
            }
        }
        self.touch(node, &content);
        self.decode(view, &content, offset, buffer)?;
        Ok(count)
    }

    /// Fills `buffer` from the decoded bytes, past the store.
    pub(super) fn decode(
        &self,
        view: &View,
        content: &FileContent,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), SlotError> {
        let points: &dyn Points = match view {
            View::Ready(index) => &**index,
            View::Growing(growing) => &*growing.points,
        };
        match &content.place {
            Place::Inline(_) => Err(SlotError::Mismatch { what: "length" }),
            Place::Run(decoded) => self.stream.read(points, decoded.saturating_add(offset), buffer),
            Place::Extents(extents) => read_extents(&self.stream, points, extents, offset, buffer),
            Place::Zip(entry) => self.stream.read_zip(entry, offset, buffer),
        }
    }

    /// Returns the store's file for a content, if it has one or must get one now.
    fn object_for(&self, view: &View, node: u32, content: &FileContent) -> Result<Option<Object>, SlotError> {
        if self.home.store.is_none() || self.is_at_hand(content) {
            return Ok(None);
        }
        if let Some(held) = self.open_object(node, content)? {
            return Ok(Some(held));
        }
        let must_store = match content.place {
            Place::Zip(ZipContent { method, size, .. }) => method != 0 && size > LARGE_ENTRY,
            Place::Inline(_) | Place::Run(_) | Place::Extents(_) => content.stored,
        };
        if !must_store || !self.store_now(view, node, content) {
            return Ok(None);
        }
        Ok(self.open_object(node, content)?)
    }

    /// Opens the object of a content, if there is one.
    pub(super) fn open_object(&self, node: u32, content: &FileContent) -> Result<Option<Object>, DiskError> {
        let Some(digest) = content.digest.or_else(|| self.learned(node)) else { return Ok(None) };
        let mut open = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|(known, _)| *known == node) {
            let entry = open.remove(at);
            let held = entry.1.clone();
            open.push(entry);
            return Ok(Some(held));
        }
        drop(open);
        let Some(held) = self.find_object(&digest, content.size)? else { return Ok(None) };
        if !held.lasts() {
            return Ok(Some(held));
        }
        let mut open = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_OBJECTS {
            open.remove(0);
        }
        open.push((node, held.clone()));
        Ok(Some(held))
    }

    fn find_object(&self, digest: &Digest, size: u64) -> Result<Option<Object>, DiskError> {
        for batch in self.state.batch().into_iter().chain(self.staging()) {
            if let Some(held) = batch.staged(digest)? {
                return Ok(Some(held));
            }
        }
        let Some(store) = &self.home.store else { return Ok(None) };
        store.object_of(digest, size)
    }
}

/// Fills `buffer` from a file with holes.
fn read_extents(
    stream: &Stream,
    points: &dyn Points,
    extents: &[Extent],
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), SlotError> {
    buffer.fill(0);
    let end = offset.saturating_add(buffer.len() as u64);
    let first = extents.partition_point(|extent| extent.offset.saturating_add(extent.length) <= offset);
    for extent in extents[first..].iter().take_while(|extent| extent.offset < end) {
        let from = extent.offset.max(offset);
        let to = extent.offset.saturating_add(extent.length).min(end);
        let place = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX).min(buffer.len());
        let (start, stop) = (place(from), place(to.max(from)));
        stream.read(points, extent.decoded.saturating_add(from - extent.offset), &mut buffer[start..stop])?;
    }
    Ok(())
}

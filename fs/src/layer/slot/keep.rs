//! Putting contents into the store after the pass: what was read, what is too slow to reach, what went missing.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::Inner;
use super::state::View;
use crate::disk::DiskError;
use crate::disk::digest::Digest;
use crate::disk::mapped::Buffer;
use crate::node::Kind;
use crate::slot::SlotError;
use crate::slot::index::Index;
use crate::slot::tree::record::flags;
use crate::slot::tree::{FileContent, Place, tables};
use crate::store::Batch;

/// Content is passed on in pieces of this length.
const PIECE: u64 = 1 << 20;

/// What a layer remembers about contents that it stored.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Digests that the index does not know (the pass over a ZIP archive sees no contents).
    learned: HashMap<u32, Digest>,
    /// Stored but not published yet.
    staging: Option<Arc<Batch>>,
    /// Read since the layer was opened, and told to the keeper.
    touched: std::collections::HashSet<u32>,
}

impl Inner {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn learned(&self, node: u32) -> Option<Digest> {
        self.kept().learned.get(&node).copied()
    }

    pub(super) fn staging(&self) -> Option<Arc<Batch>> {
        self.kept().staging.clone()
    }

    /// Tells the keeper, once, that a file was read that the store does not have.
    pub(super) fn touch(&self, node: u32, content: &FileContent) {
        let Some(keeper) = &self.options.keeper else { return };
        let is_at_hand = content.stored || self.is_at_hand(content);
        keeper.note_activity();
        if !is_at_hand && content.size <= keeper.options().largest_file && self.kept().touched.insert(node) {
            let order = match &content.place {
                Place::Run(decoded) => *decoded,
                Place::Extents(extents) => extents.first().map_or(0, |extent| extent.decoded),
                Place::Zip(entry) => entry.header,
                Place::Inline(_) => return,
            };
            keeper.enqueue(self.this.clone(), node, order);
        }
    }

    /// Decodes the whole content of `node` into `take`, and checks it against its digest when that is known.
    pub(super) fn copy(
        &self,
        view: &View,
        node: u32,
        take: &mut dyn FnMut(&[u8]) -> Result<(), SlotError>,
    ) -> Result<u64, SlotError> {
        use sha2::{Digest as _, Sha256};
        let content = self.content(view, node)?;
        let mut hasher = Sha256::new();
        if let Place::Inline(bytes) = &content.place {
            hasher.update(bytes);
            take(bytes)?;
        } else {
            let length = usize::try_from(content.size.min(PIECE)).unwrap_or(0);
            let mut piece = Buffer::zeroed(length).map_err(|source| SlotError::Read { source })?;
            let mut at = 0;
            while at < content.size {
                let count = usize::try_from((content.size - at).min(PIECE)).unwrap_or(0);
                self.decode(view, &content, at, &mut piece[..count])?;
                hasher.update(&piece[..count]);
                take(&piece[..count])?;
                at += count as u64;
            }
        }
        let found = Digest(hasher.finalize().into());
        if content.digest.is_some_and(|digest| digest != found) {
            return Err(SlotError::Mismatch { what: "digest" });
        }
        Ok(content.size)
    }

    /// Decodes one file into the store's staging area; from then on it is read from there.
    pub(super) fn stage(&self, view: &View, node: u32) -> Result<(), SlotError> {
        let Some(batch) = self.open_staging()? else { return Ok(()) };
        let mut writer = batch.writer();
        self.copy(view, node, &mut |bytes| Ok(writer.write(bytes)?))?;
        let staged = writer.finish()?;
        let digest = staged.digest;
        batch.add(staged)?;
        self.kept().learned.insert(node, digest);
        self.stored.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn open_staging(&self) -> Result<Option<Arc<Batch>>, DiskError> {
        let Some(store) = &self.home.store else { return Ok(None) };
        if let Some(batch) = self.staging() {
            return Ok(Some(batch));
        }
        let batch = Arc::new(store.batch()?);
        let mut kept = self.kept();
        Ok(Some(Arc::clone(kept.staging.get_or_insert(batch))))
    }

    /// Publishes what was staged.
    pub(super) fn publish(&self) -> Result<(), DiskError> {
        let staging = self.kept().staging.take();
        staging.map_or(Ok(()), |batch| batch.publish())
    }

    /// Puts every content into the store that has one of these digests and can be decoded from the slot.
    pub(super) fn keep_all(&self, wanted: &BTreeSet<Digest>) -> Result<(), SlotError> {
        let view = self.state.view();
        let count = match &view {
            View::Ready(index) => index.count(),
            View::Growing(growing) => growing.tree.count(),
        };
        for node in 0..count {
            let is_file = self.kind(&view, node)? == Kind::File;
            if is_file && self.content(&view, node)?.digest.is_some_and(|digest| wanted.contains(&digest)) {
                self.keep(node)?;
            }
        }
        Ok(self.publish()?)
    }

    /// Puts a content into the store because it cannot be read well otherwise; `false` when that failed.
    pub(super) fn store_now(&self, view: &View, node: u32, content: &FileContent) -> bool {
        let _one_at_a_time = self.storing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.open_object(node, content).is_ok_and(|file| file.is_some()) {
            return true;
        }
        let result = match view {
            View::Ready(index) if content.stored => self.restore(index),
            // The pass is at it.
            View::Growing(_) if content.stored => return false,
            View::Ready(_) | View::Growing(_) => self.stage(view, node),
        };
        if let Err(error) = &result {
            tracing::warn!(slot = %self.slot, "contents are decoded for each read: {error}");
        }
        result.is_ok()
    }

    /// Makes every object anew that belongs to this slot and is missing: one pass over the slot, as the first time.
    fn restore(&self, index: &Index) -> Result<(), SlotError> {
        use std::io::Read;
        let Some(batch) = self.open_staging()? else { return Ok(()) };
        let mut missing = Vec::new();
        for node in 0..index.count() {
            let record = tables::record(index, node)?;
            if !record.has(flags::STORED) {
                continue;
            }
            let content = tables::content(index, node)?;
            if let (Place::Run(decoded), Some(digest)) = (&content.place, content.digest)
                && batch.object_of(&digest, content.size)?.is_none()
            {
                missing.push((*decoded, content.size, digest));
            }
        }
        missing.sort_unstable();
        tracing::warn!(slot = %self.slot, "{} contents are missing from the store and made anew", missing.len());
        let mut decoded = self.stream.open();
        let mut at = 0;
        let mut piece = vec![0; usize::try_from(PIECE).unwrap_or(0)];
        for (start, size, digest) in missing {
            let skipped = start.checked_sub(at).ok_or(SlotError::Mismatch { what: "length" })?;
            std::io::copy(&mut (&mut decoded).take(skipped), &mut std::io::sink())
                .map_err(SlotError::from_read)?;
            let mut writer = batch.writer();
            let mut left = size;
            while left > 0 {
                let count = usize::try_from(left.min(PIECE)).unwrap_or(0);
                decoded.read_exact(&mut piece[..count]).map_err(SlotError::from_read)?;
                writer.write(&piece[..count])?;
                left -= count as u64;
            }
            at = start + size;
            let staged = writer.finish()?;
            if staged.digest != digest {
                self.stream.check()?;
                return Err(SlotError::Mismatch { what: "digest" });
            }
            batch.add(staged)?;
        }
        self.stream.check()?;
        Ok(batch.publish()?)
    }
}

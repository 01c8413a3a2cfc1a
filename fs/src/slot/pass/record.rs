//! What the pass does with a file's content as it goes by: hash it, keep small ones, store those that cannot be reached
//! again at random.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::disk::DiskError;
use crate::disk::digest::Digest;
use crate::slot::SlotError;
use crate::slot::scan::{Content, Extent};
use crate::slot::tree::GrowingTree;
use crate::store::{Batch, ObjectWriter};

/// Files up to this length are kept in the index: reading one costs no decoding, and an object of its own would take a
/// block of the disk.
pub const INLINE: u64 = 512;
/// Holes in all of one file that are hashed (and stored) as zeros. A file with more has no digest.
const LONGEST_HOLES: u64 = 1 << 30;
const ZEROS: [u8; 4096] = [0; 4096];

/// Takes the content of one file after the other.
pub(super) struct Recorder {
    tree: Arc<GrowingTree>,
    /// Where contents go, if they cannot be reached otherwise.
    pub(super) batch: Option<Arc<Batch>>,
    /// Whether contents belong into the store, also where there is none now.
    stores: bool,
}

/// The content of one file.
pub(super) struct Recording<'a> {
    recorder: &'a mut Recorder,
    node: u32,
    size: u64,
    /// Runs of data that are still to come; none for a file without holes.
    extents: std::vec::IntoIter<Extent>,
    /// Bytes that the current run still lacks.
    run: u64,
    /// Where in the file the next byte goes.
    at: u64,
    sink: Sink,
}

enum Sink {
    Small(Vec<u8>),
    Hashed(Sha256),
    Stored(ObjectWriter),
    /// Too many holes.
    Nothing,
}

impl Recorder {
    pub(super) fn new(tree: Arc<GrowingTree>, batch: Option<Arc<Batch>>, stores: bool) -> Self {
        Self { tree, batch, stores }
    }

    /// Starts with the content of `node`.
    pub(super) fn start(&mut self, node: u32, content: &Content) -> Result<Recording<'_>, SlotError> {
        let size = content.size();
        let (extents, run) = match content {
            Content::Sparse { extents, .. } => (extents.clone(), 0),
            Content::Whole { .. } | Content::Zip(_) => (Vec::new(), size),
        };
        let data: u64 = extents.iter().fold(0, |sum: u64, extent| sum.saturating_add(extent.length));
        let holes = if matches!(content, Content::Sparse { .. }) { size.saturating_sub(data) } else { 0 };
        let sink = if holes > LONGEST_HOLES {
            Sink::Nothing
        } else if size <= INLINE {
            Sink::Small(Vec::new())
        } else {
            match &self.batch {
                Some(batch) => Sink::Stored(batch.writer()),
                None => Sink::Hashed(Sha256::new()),
            }
        };
        Ok(Recording { recorder: self, node, size, extents: extents.into_iter(), run, at: 0, sink })
    }

    /// Goes on without the store: a full disk must not keep anybody from reading.
    fn give_up_store(&mut self, error: &DiskError) {
        tracing::warn!("contents are not stored any more: {error}");
        self.batch = None;
    }
}

impl Recording<'_> {
    /// Takes the next stored bytes.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), SlotError> {
        while !bytes.is_empty() {
            if self.run == 0 {
                // Bytes behind the last run are padding of the archive.
                let Some(extent) = self.extents.next() else { return Ok(()) };
                self.hole(extent.offset.saturating_sub(self.at));
                self.run = extent.length;
            }
            let count = usize::try_from(self.run).unwrap_or(usize::MAX).min(bytes.len());
            let (now, rest) = bytes.split_at(count);
            self.data(now);
            self.run -= count as u64;
            bytes = rest;
        }
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) {
        self.at += bytes.len() as u64;
        let failed = match &mut self.sink {
            Sink::Small(kept) => {
                kept.extend_from_slice(bytes);
                None
            }
            Sink::Hashed(hasher) => {
                hasher.update(bytes);
                None
            }
            Sink::Stored(writer) => writer.write(bytes).err(),
            Sink::Nothing => None,
        };
        self.note(failed);
    }

    fn hole(&mut self, mut length: u64) {
        self.at += length;
        if let Sink::Stored(writer) = &mut self.sink {
            let failed = writer.hole(length).err();
            return self.note(failed);
        }
        while length > 0 && !matches!(self.sink, Sink::Nothing) {
            let step = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
            match &mut self.sink {
                Sink::Small(kept) => kept.extend_from_slice(&ZEROS[..step]),
                Sink::Hashed(hasher) => hasher.update(&ZEROS[..step]),
                Sink::Stored(_) | Sink::Nothing => {}
            }
            length -= step as u64;
        }
    }

    /// After a failure to write, the rest of this file's content is only passed by: its digest is lost with it.
    fn note(&mut self, failed: Option<DiskError>) {
        if let Some(error) = failed {
            self.recorder.give_up_store(&error);
            self.sink = Sink::Nothing;
        }
    }

    /// Says how long the content was after all.
    pub(super) fn end_at(&mut self, size: u64) {
        self.size = size;
    }

    /// Ends the content.
    pub(super) fn finish(mut self) -> Result<(), SlotError> {
        self.hole(self.size.saturating_sub(self.at));
        let (tree, stores) = (&self.recorder.tree, self.recorder.stores);
        match std::mem::replace(&mut self.sink, Sink::Nothing) {
            Sink::Small(bytes) => {
                tree.set_inline(self.node, &bytes);
                tree.set_digest(self.node, Digest::of(&bytes), false)
            }
            Sink::Hashed(hasher) => tree.set_digest(self.node, Digest(hasher.finalize().into()), stores),
            Sink::Stored(writer) => {
                let staged = match writer.finish() {
                    Ok(staged) => staged,
                    Err(error) => {
                        self.recorder.give_up_store(&error);
                        return Ok(());
                    }
                };
                let digest = staged.digest;
                let added = self.recorder.batch.as_ref().map(|batch| batch.add(staged));
                if let Some(Err(error)) = added {
                    self.recorder.give_up_store(&error);
                }
                self.recorder.tree.set_digest(self.node, digest, stores)
            }
            Sink::Nothing => Ok(()),
        }
    }
}

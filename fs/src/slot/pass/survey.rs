//! Indexing a slot while it is made: its content passes by once, on the way to the compressor.
//!
//! **Invariant:** the index is that which a pass over the finished slot would make, but for the points: those are known
//! from the making.

use std::sync::Arc;

use super::Scanning;
use super::ahead::Fed;
use crate::node::Timestamp;
use crate::package::write::{CHUNK, WrittenSlot};
use crate::package::{Compression, Container};
use crate::slot::chain::Point;
use crate::slot::index::{Extras, Identity, Index, IndexWriter};
use crate::slot::seek::PointLog;
use crate::slot::tree::GrowingTree;
use crate::slot::{Limits, SlotError};

/// A slot that is being made.
#[derive(Debug)]
pub struct Survey {
    tree: Arc<GrowingTree>,
    points: Arc<PointLog>,
    writer: Arc<IndexWriter>,
    is_tar: bool,
    limits: Limits,
}

impl Survey {
    /// Starts with a slot whose content will be a tar archive or a file.
    #[must_use]
    pub fn new(container: &Container, limits: Limits) -> Self {
        let is_tar = *container == Container::Tar;
        let tree = if is_tar {
            GrowingTree::of_archive(limits)
        } else {
            GrowingTree::of_file(0o644, Timestamp::default(), None, limits)
        };
        let writer = Arc::new(IndexWriter::in_memory());
        let points = Arc::new(PointLog::new(Arc::clone(&writer)));
        Self { tree: Arc::new(tree), points, writer, is_tar, limits }
    }

    /// Goes over the content and returns its length.
    ///
    /// # Errors
    /// It cannot be read, or goes beyond the limits.
    pub fn run(&self, content: Fed) -> Result<u64, SlotError> {
        let Fed(input) = content;
        let (tree, points) = (&self.tree, &*self.points);
        let scanning = Scanning { tree, points, batch: None, stores: false, limits: self.limits };
        let length = if self.is_tar { scanning.tar(input) } else { scanning.file(input) };
        // Nobody waits for it; whoever asks it afterwards must not either.
        self.tree.end(length.as_ref().map(drop));
        length
    }

    /// Returns the index, now that it is known how the content was stored.
    ///
    /// # Errors
    /// The index is too large.
    pub fn finish(
        self,
        identity: &Identity,
        compression: Option<Compression>,
        written: &WrittenSlot,
        length: u64,
    ) -> Result<Index, SlotError> {
        for piece in &written.pieces {
            // In gzip the first one begins at the member's header, the others behind a full flush.
            let is_gzip = compression == Some(Compression::Gzip);
            let is_first = piece.content == 0;
            self.points.add(&Point {
                decoded: piece.content,
                stored_bits: if is_first { 0 } else { piece.stored * 8 },
                context: if is_gzip && !is_first { vec![0] } else { Vec::new() },
                header: None,
            });
        }
        let points = self.points.records();
        let extras = Extras { points: &points, decoded: length, chunks: (CHUNK, &written.chunks) };
        Ok(self.writer.finish_with(identity, &self.tree.nodes(), &extras)?)
    }
}

//! Which files have the content of one that was written before.
//!
//! **Invariant:** a file counts as a repeat only if its bytes, read now, have the digest of bytes that were written.

use std::collections::{HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use super::walk::walk;
use super::{TreeError, TreeOptions, TreeReport};
use crate::disk::digest::Digest;
use crate::layer::{Layer, LayerError, LayerNode};
use crate::node::Kind;

/// Content of fewer bytes is written again: what says that it is a repeat would be as long once compressed.
const WORTHWHILE: u64 = 1024;
/// How much is read at a time, in bytes.
const PIECE: usize = 256 << 10;

/// What was written, as far as it may come again.
#[derive(Default)]
pub(super) struct Repeats {
    /// Lengths that several files have.
    lengths: HashSet<u64>,
    /// By length and digest: the path of the file that was written.
    known: HashMap<(u64, Digest), Vec<u8>>,
    /// Lengths of those.
    seen: HashSet<u64>,
    /// Of the file that is being written, if it may come again.
    hasher: Option<Sha256>,
}

impl Repeats {
    /// Finds out which files may be repeats, from their lengths.
    pub(super) fn survey(layer: &dyn Layer, options: &TreeOptions) -> Result<Self, TreeError> {
        let (mut once, mut lengths) = (HashSet::new(), HashSet::new());
        walk(layer, options, &mut TreeReport::default(), &mut |entry, _, is_further_name| {
            let size = entry.node.size;
            let may_repeat = entry.node.kind == Kind::File && !is_further_name && size >= WORTHWHILE;
            if may_repeat && !once.insert(size) {
                lengths.insert(size);
            }
            Ok(())
        })?;
        Ok(Self { lengths, ..Self::default() })
    }

    /// Returns the path of a file that was written with the content of `node`, which has `size` bytes. If there is none, the
    /// next bytes that pass are taken for those of `node`.
    pub(super) fn first_with(
        &mut self,
        layer: &dyn Layer,
        node: LayerNode,
        size: u64,
    ) -> Result<Option<Vec<u8>>, LayerError> {
        if !self.lengths.contains(&size) {
            return Ok(None);
        }
        if self.seen.contains(&size)
            && let Some(path) = self.known.get(&(size, digest(layer, node, size)?))
        {
            return Ok(Some(path.clone()));
        }
        self.hasher = Some(Sha256::new());
        Ok(None)
    }

    /// Takes bytes that were written.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
    }

    /// Notes that a file of `size` bytes was written at `path`.
    pub(super) fn written(&mut self, path: &[u8], size: u64) {
        if let Some(hasher) = self.hasher.take() {
            self.seen.insert(size);
            self.known.entry((size, Digest(hasher.finalize().into()))).or_insert_with(|| path.to_vec());
        }
    }
}

/// Hashes what a file has now. One that has become shorter has another digest than any of `size` bytes.
fn digest(layer: &dyn Layer, node: LayerNode, size: u64) -> Result<Digest, LayerError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        let wanted = usize::try_from(size - at).unwrap_or(PIECE).min(PIECE);
        let count = layer.read(node, at, &mut buffer[..wanted])?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        at += count as u64;
    }
    Ok(Digest(hasher.finalize().into()))
}

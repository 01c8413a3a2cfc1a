//! Which files have the content of one that was written before.
//!
//! **Invariant:** a file counts as a repeat only if its bytes, read now, have the digest of bytes that were written.

use std::collections::{HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use crate::disk::digest::Digest;
use crate::layer::{Layer, LayerError, LayerNode};

/// Content of fewer bytes is written again: what says that it is a repeat would be as long once compressed.
const WORTHWHILE: u64 = 1024;
/// How much is read at a time, in bytes.
const PIECE: usize = 256 << 10;

/// Lengths of the files of a tree.
#[derive(Debug, Default)]
pub(super) struct Lengths {
    once: HashSet<u64>,
    often: HashSet<u64>,
}

impl Lengths {
    /// Notes that there is a file of `size` bytes.
    pub(super) fn note(&mut self, size: u64) {
        if size >= WORTHWHILE && !self.once.insert(size) {
            self.often.insert(size);
        }
    }
}

/// What was written, as far as it may come again.
#[derive(Default)]
pub(super) struct Repeats<'a> {
    /// Of the files that may have the same content; none where it does not matter.
    lengths: Option<&'a Lengths>,
    /// By length and digest: the path of the file that was written.
    known: HashMap<(u64, Digest), Vec<u8>>,
    /// Lengths of those.
    seen: HashSet<u64>,
    /// Of the file that is being written, if it may come again.
    hasher: Option<Sha256>,
}

impl<'a> Repeats<'a> {
    /// Starts with a tree whose files have these lengths.
    pub(super) fn among(lengths: &'a Lengths) -> Self {
        Self { lengths: Some(lengths), ..Self::default() }
    }

    /// Returns the path of a file that was written with the content of `node`, which has `size` bytes. If there is none, the
    /// next bytes that pass are taken for those of `node`.
    pub(super) fn first_with(
        &mut self,
        layer: &dyn Layer,
        node: LayerNode,
        size: u64,
    ) -> Result<Option<Vec<u8>>, LayerError> {
        if !self.lengths.is_some_and(|lengths| lengths.often.contains(&size)) {
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

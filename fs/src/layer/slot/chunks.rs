//! Stored bytes of a slot that nobody has hashed: compared chunk by chunk with the index that the package carries.
//!
//! **Invariant:** where the digest of a chunk cannot be had, all stored bytes are compared with the slot's own digest before
//! any of them is used.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::digest::Digest;
use crate::disk::range::FileRange;
use crate::package::write::CHUNK;
use crate::package::{CarriedIndex, Slot};
use crate::slot::index::{Identity, Index, IndexError};

use super::SlotHome;

/// Where the digests of chunks are.
struct Chunks {
    slot: String,
    identity: Identity,
    carried: CarriedIndex,
    shared: PathBuf,
    index: Mutex<Option<Arc<Index>>>,
}

/// Returns the stored bytes of `slot` such that every byte is checked when it is read.
pub(super) fn checked(slot: &Slot, identity: &Identity, home: &SlotHome) -> FileRange {
    let stored = slot.source.stored.clone();
    let Some(carried) = slot.carried_index.clone() else {
        let none = |_| Err(io::Error::other("the package carries no index of the slot"));
        return stored.checked(identity.digest, CHUNK.into(), Box::new(none));
    };
    let (slot, identity, shared) = (slot.id.clone(), identity.clone(), home.shared.clone());
    let chunks = Chunks { slot, identity, carried, shared, index: Mutex::default() };
    let digest = chunks.identity.digest;
    let length = chunks.open().ok().and_then(|index| index.chunk_length()).unwrap_or(CHUNK.into());
    stored.checked(digest, length, Box::new(move |number| chunks.digest(number).map_err(io::Error::other)))
}

impl Chunks {
    fn open(&self) -> Result<Arc<Index>, IndexError> {
        let mut known = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = &*known {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(Index::open_carried(&self.shared, &self.identity, &self.carried)?);
        Ok(Arc::clone(known.insert(index)))
    }

    fn digest(&self, number: u64) -> Result<Digest, IndexError> {
        let index = self.open()?;
        match index.chunk(number) {
            // The copy is damaged; the package has it, too.
            Err(error) if !index.is_in_package() => {
                let copy = self.identity.carried_path(&self.shared, &self.carried);
                tracing::error!(slot = %self.slot, "`{}` is copied anew: {error}", copy.display());
                let _ = std::fs::remove_file(copy);
                let index = Arc::new(Index::open_in_package(&self.identity, &self.carried)?);
                *self.index.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&index));
                index.chunk(number)
            }
            other => other,
        }
    }
}

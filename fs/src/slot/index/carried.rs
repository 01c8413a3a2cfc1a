//! The index that a package carries: read from there at first, block by block, and copied to where indexes are when there
//! is time.
//!
//! **Invariant:** no byte of it is used that does not follow from the digest that the metadata state. What one package says
//! about a slot is shown to no other.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::blocks::{Backing, PART};
use super::write::create_locked;
use super::{Identity, Index, IndexError};
use crate::disk::mapped::Filled;
use crate::disk::{Context, DiskError};
use crate::package::verify::Checking;
use crate::package::{CarriedIndex, Slot};

/// How much is copied at a time, in bytes.
const PIECE: u64 = 1 << 20;

impl Index {
    /// Opens the index that a package carries: its copy below `shared` where there is one, else the package's own bytes,
    /// in a time that does not depend on its length.
    ///
    /// # Errors
    /// It is not the one that the metadata state, or not of this slot.
    pub fn open_carried(
        shared: &Path,
        identity: &Identity,
        carried: &CarriedIndex,
    ) -> Result<Self, IndexError> {
        let path = identity.carried_path(shared, carried);
        match Self::open(&path, identity)
            .and_then(|index| index.map(|index| stated(index, carried)).transpose())
        {
            Ok(Some(index)) => return Ok(index),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!("`{}` is copied anew: {error}", path.display());
                // It is made again from the package in any case.
                let _ = fs::remove_file(&path);
            }
        }
        Self::open_in_package(identity, carried)
    }

    /// Opens the index that a package carries where it is.
    ///
    /// # Errors
    /// As [`Self::open_carried`].
    pub fn open_in_package(identity: &Identity, carried: &CarriedIndex) -> Result<Self, IndexError> {
        let length = usize::try_from(carried.stored.len()).map_err(|_| IndexError::TooLarge)?;
        let memory = Filled::new(length, PART).context("find memory for", "the slot index")?;
        stated(Self::new(Backing::Package(carried.stored.clone(), memory), identity)?, carried)
    }

    /// Copies the index that a package carries to where indexes are, unless it is there. It is not synced: a copy that a
    /// crash has damaged is found out when it is opened or read.
    ///
    /// # Errors
    /// It cannot be written, or is damaged.
    pub fn keep_carried(
        shared: &Path,
        identity: &Identity,
        carried: &CarriedIndex,
    ) -> Result<(), IndexError> {
        let path = identity.carried_path(shared, carried);
        if path.exists() {
            return Ok(());
        }
        let (mut file, temporary) = create_locked(&path)?;
        let kept = (|| {
            copy(carried, &mut file).context("copy the package's index to", &temporary)?;
            stated(Self::open_file(&file, identity)?, carried)?.check()?;
            Ok(publish(&file, &temporary, &path)?)
        })();
        if kept.is_err() {
            // The first error is the one that counts.
            let _ = fs::remove_file(&temporary);
        }
        kept
    }
}

/// Tells how a slot's stored bytes can be checked at best: they need not be hashed before anything of them is used, where the
/// package carries the digest of each chunk of them in an index that its metadata name.
#[must_use]
pub fn checking(slot: &Slot) -> Checking {
    let Some((digest, carried)) = slot.digest.zip(slot.carried_index.as_ref()) else { return Checking::Done };
    match Index::open_in_package(&Identity::of(&slot.source, digest), carried) {
        Ok(index) if index.chunk_length().is_some() => Checking::Chunks,
        Ok(_) => Checking::Done,
        Err(error) => {
            tracing::info!(
                "slot `{}` is hashed whole, its index in the package is not used: {error}",
                slot.id
            );
            Checking::Done
        }
    }
}

/// Makes sure that an index is the one that the metadata state.
fn stated(index: Index, carried: &CarriedIndex) -> Result<Index, IndexError> {
    if index.root() == carried.root { Ok(index) } else { Err(IndexError::Damaged { what: "digest", at: 0 }) }
}

fn publish(file: &File, temporary: &Path, path: &Path) -> Result<(), DiskError> {
    let mut permissions = file.metadata().context("stat", temporary)?.permissions();
    permissions.set_readonly(true);
    file.set_permissions(permissions).context("set the permissions of", temporary)?;
    fs::rename(temporary, path).context("rename into place", path)
}

fn copy(carried: &CarriedIndex, out: &mut dyn Write) -> io::Result<()> {
    let mut piece = vec![0; usize::try_from(carried.stored.len().min(PIECE)).unwrap_or(0)];
    let mut at = 0;
    while at < carried.stored.len() {
        let count = usize::try_from((carried.stored.len() - at).min(PIECE)).unwrap_or(0);
        carried.stored.read_exact_at(at, &mut piece[..count])?;
        out.write_all(&piece[..count])?;
        at += count as u64;
    }
    Ok(())
}

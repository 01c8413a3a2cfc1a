//! Whether the file that holds a slot is still the one that was verified.

use std::sync::{Mutex, PoisonError};

use crate::disk::digest::Digest;
use crate::disk::identity::FileIdentity;
use crate::disk::range::FileRange;
use crate::slot::SlotError;

/// Watches the file of a slot's stored bytes.
///
/// A change of times alone (a rename, a new link, `touch`) changes no byte: then the slot is hashed once more, and goes on
/// being served when its digest is still right.
#[derive(Debug)]
pub struct Guard {
    stored: FileRange,
    digest: Digest,
    known: Mutex<Option<FileIdentity>>,
}

impl Guard {
    /// Starts watching; the bytes must have been verified against `digest` before.
    ///
    /// # Errors
    /// The file's metadata cannot be read.
    pub fn new(stored: FileRange, digest: Digest) -> Result<Self, SlotError> {
        let identity = identity(&stored)?;
        Ok(Self { stored, digest, known: Mutex::new(Some(identity)) })
    }

    /// Fails when the stored bytes may be others than at the start. To be called after bytes were read: writers change
    /// a file's times before its content.
    ///
    /// # Errors
    /// [`SlotError::Changed`], from then on always.
    pub fn check(&self) -> Result<(), SlotError> {
        // Such bytes are compared with their digests again after any change.
        if self.stored.is_checked() {
            return Ok(());
        }
        let now = identity(&self.stored)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == Some(now) {
            return Ok(());
        }
        if known.is_some() && Digest::of_range(&self.stored).is_ok_and(|digest| digest == self.digest) {
            // Taken before hashing, so that a change during it shows at the next check.
            *known = Some(now);
            return Ok(());
        }
        *known = None;
        Err(SlotError::Changed)
    }
}

fn identity(stored: &FileRange) -> Result<FileIdentity, SlotError> {
    let metadata = stored.file().metadata().map_err(|source| SlotError::Read { source })?;
    Ok(FileIdentity::of(&metadata))
}

//! File contents by digest, shared by every work environment of the machine.

use std::fs::File;
use std::path::Path;

use crate::disk::DiskError;
use crate::disk::digest::Digest;

/// The folder `objects-v1`: one read-only file per distinct content.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// Opens the store below `shared` (`{cache}/.slotfs`), creating what is missing.
    ///
    /// # Errors
    /// Names the folder that could not be made.
    pub fn open(shared: &Path) -> Result<Self, DiskError> {
        let _ = shared;
        todo!()
    }

    /// Opens the object with this digest, if it is here.
    ///
    /// # Errors
    /// Fails when it is here but cannot be opened.
    pub fn object(&self, digest: &Digest) -> Result<Option<File>, DiskError> {
        let _ = digest;
        todo!()
    }
}

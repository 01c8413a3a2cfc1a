//! The upper directory of one work environment, kept as kernel overlayfs keeps it.

use std::path::Path;

use crate::disk::DiskError;

/// The writable side of a volume: `upper/` holds what was written, `work/` what is being prepared.
#[derive(Debug)]
pub struct Upper {}

impl Upper {
    /// Opens (or makes) `upper` and `work`, which lie on one file system, and clears half-done work.
    ///
    /// # Errors
    /// Names what could not be made or opened.
    pub fn open(upper: &Path, work: &Path) -> Result<Self, DiskError> {
        let _ = (upper, work);
        todo!()
    }
}

//! Things being prepared in `work/`, which vanish unless they are published.

use std::sync::Arc;

use super::Upper;
use crate::disk::DiskError;
use crate::disk::unix::{Directory, Spot};

/// A name in `work/`; what it names is removed when this is dropped.
#[derive(Debug)]
pub struct Temporary<'a> {
    upper: &'a Upper,
    name: Vec<u8>,
}

impl Upper {
    /// Returns a fresh name in `work/`.
    #[must_use]
    pub fn temporary(&self) -> Temporary<'_> {
        Temporary { upper: self, name: self.next_name() }
    }
}

impl Temporary<'_> {
    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns what is being prepared.
    #[must_use]
    pub fn spot(&self) -> Spot {
        Spot::named(&self.upper.work, &self.name)
    }

    /// Moves what was prepared to `name` in `directory`, replacing what is no directory there.
    ///
    /// # Errors
    /// What `rename(2)` reports.
    pub fn publish(self, directory: &Arc<Directory>, name: &[u8]) -> Result<(), DiskError> {
        self.upper.work.rename(&self.name, directory, name)?;
        std::mem::forget(self);
        Ok(())
    }

    /// Exchanges what was prepared with `name` in `directory`; what was there is removed.
    ///
    /// # Errors
    /// What `renameat2(2)` reports.
    pub fn exchange(self, directory: &Arc<Directory>, name: &[u8]) -> Result<(), DiskError> {
        self.upper.work.exchange(&self.name, directory, name)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.upper.work.remove_tree(&self.name) {
            // The next start clears `work/`; until then it only takes space.
            tracing::warn!("{error}");
        }
    }
}

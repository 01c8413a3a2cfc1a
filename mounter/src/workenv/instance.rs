//! The launchers' marker files: what they say about an environment, and when slotfs lets them say it.
//!
//! **Invariant:** `package.checksum` exists only while the content directory really has the package's files,
//! because a launcher that finds it together with `complete` starts the program without looking further.
//! `complete` alone makes both launchers unpack again, and `flavor workenv list` show the environment.

use std::path::Path;

use slotfs_fs::disk::{Context, DiskError, atomic};

use super::error::remove_if_there;
use super::facts::{PackageFacts, PackageId};
use super::record::read_small;
use super::{Workenv, WorkenvError};
use crate::host::files;

/// Markers are a few bytes.
const LARGEST_MARKER: u64 = 4096;

/// What the marker files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceState {
    /// The completion marker is there.
    pub complete: bool,
    /// Content of `package.checksum`, trimmed.
    pub checksum: Option<String>,
    /// The package that slotfs did setup for.
    pub prepared_for: Option<PackageId>,
}

impl InstanceState {
    /// Tells whether a launcher of that package would start from the content as it is.
    #[must_use]
    pub fn launcher_would_start(&self, facts: &PackageFacts) -> bool {
        self.complete && self.checksum.as_deref() == Some(&facts.index.checksum_text())
    }

    /// Tells whether slotfs did setup for exactly this package.
    #[must_use]
    pub fn is_prepared(&self, facts: &PackageFacts) -> bool {
        self.prepared_for.as_ref() == Some(&facts.id)
    }
}

impl Workenv {
    /// Reads the marker files. What cannot be read counts as not there.
    #[must_use]
    pub fn instance_state(&self) -> InstanceState {
        let text = |path: &Path| {
            let bytes = read_small(path, LARGEST_MARKER).ok().flatten()?;
            Some(String::from_utf8(bytes).ok()?.trim().to_owned())
        };
        InstanceState {
            complete: std::fs::symlink_metadata(self.complete_marker()).is_ok(),
            checksum: text(&self.checksum_file()),
            prepared_for: text(&self.prepared_note()).and_then(|id| PackageId::parse(&id)),
        }
    }

    /// Writes `index.json` and `psp.json`, unless they say the same already.
    ///
    /// # Errors
    /// The disk's, with the path.
    pub fn describe(&self, facts: &PackageFacts) -> Result<(), WorkenvError> {
        self.create()?;
        for (path, bytes) in [
            (self.index_json(), facts.index.to_json().as_bytes()),
            (self.package_json(), facts.metadata_json.as_slice()),
        ] {
            let same = std::fs::metadata(&path).is_ok_and(|known| known.len() == bytes.len() as u64)
                && std::fs::read(&path).is_ok_and(|known| known == bytes);
            if !same {
                atomic::write_unsynced(&path, bytes)?;
            }
        }
        Ok(())
    }

    /// Notes that setup was done to the end, for slotfs and for `flavor workenv list`. The launchers do not
    /// trust the content before [`Self::publish`].
    ///
    /// # Errors
    /// The disk's, with the path.
    pub fn mark_prepared(&self, facts: &PackageFacts) -> Result<(), WorkenvError> {
        self.mark_prepared_for(&facts.id)
    }

    /// As [`Self::mark_prepared`] for setup that ran no command, without waiting for the disk: what a power failure may take
    /// is done again by the next start.
    ///
    /// # Errors
    /// The disk's, with the path.
    pub fn mark_prepared_unsynced(&self, facts: &PackageFacts) -> Result<(), WorkenvError> {
        write_unsynced(&self.prepared_note(), facts.id.as_str().as_bytes())?;
        write_unsynced(&self.complete_marker(), format!("{}\n", std::process::id()).as_bytes())?;
        Ok(())
    }

    /// As [`Self::mark_prepared`], for a package of which only the identity is known.
    ///
    /// # Errors
    /// The disk's, with the path.
    pub fn mark_prepared_for(&self, id: &PackageId) -> Result<(), WorkenvError> {
        atomic::write(&self.prepared_note(), id.as_str().as_bytes())?;
        write_unsynced(&self.complete_marker(), format!("{}\n", std::process::id()).as_bytes())?;
        Ok(())
    }

    /// Returns the identity of the package that setup was done for.
    #[must_use]
    pub fn prepared_for(&self) -> Option<PackageId> {
        PackageId::parse(std::fs::read_to_string(self.prepared_note()).ok()?.trim())
    }

    /// Lets the launchers start from the content: to be called when it is mounted or extracted, and prepared.
    ///
    /// # Errors
    /// The disk's, with the path.
    pub fn publish(&self, facts: &PackageFacts) -> Result<(), WorkenvError> {
        write_unsynced(&self.checksum_file(), facts.index.checksum_text().as_bytes())?;
        Ok(())
    }

    /// Takes [`Self::publish`] back where the content directory is empty, as it is after an unmount; a tree
    /// that was extracted stays published. To be called after every unmount and for every dead mount cleared.
    ///
    /// # Errors
    /// The disk's, with the path.
    pub fn withdraw(&self) -> Result<(), WorkenvError> {
        let content = self.content();
        let has_content = match std::fs::read_dir(&content) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(DiskError::new("list", &content, error).into()),
        };
        if !has_content {
            remove_if_there(&self.checksum_file())?;
        }
        Ok(())
    }

    /// Forgets that anything was prepared, so that the next start does setup again, whoever starts it.
    ///
    /// # Errors
    /// The disk's, with the path.
    pub fn forget_preparation(&self) -> Result<(), WorkenvError> {
        // The order matters to whoever looks in between: first nobody may start, then nothing is prepared.
        for path in [self.checksum_file(), self.complete_marker(), self.prepared_note()] {
            remove_if_there(&path)?;
        }
        Ok(())
    }
}

/// Replaces a small file without waiting for the disk. Losing it in a power cut costs the launchers an
/// unpacking and slotfs nothing; syncing it would cost every start several milliseconds.
fn write_unsynced(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    if let Some(directory) = path.parent() {
        files::create_private_directories(directory).context("create the directory", directory)?;
    }
    atomic::write_unsynced(path, bytes)
}

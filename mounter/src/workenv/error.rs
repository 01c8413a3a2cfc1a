//! What can go wrong with a work environment's files and names.

use std::io;
use std::path::{Path, PathBuf};

use slotfs_fs::disk::DiskError;

/// A work environment that cannot be named, found, read or written.
#[derive(Debug, thiserror::Error)]
pub enum WorkenvError {
    /// The disk refused.
    #[error(transparent)]
    Disk(DiskError),
    /// The launcher's name belongs to another package and the caller cannot do with another name.
    #[error("the work environment `{name}` belongs to another package, `{}`", owner.display())]
    NameTaken {
        /// The name.
        name: String,
        /// The package that has it; empty where it is not known.
        owner: PathBuf,
    },
    /// No environment answers to what the user typed.
    #[error("no work environment `{query}` in `{}`", cache.display())]
    NotFound {
        /// What was typed.
        query: String,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// Several environments answer.
    #[error("`{query}` could be any of {}", candidates.join(", "))]
    Ambiguous {
        /// What was typed.
        query: String,
        /// Their names in backticks, sorted.
        candidates: Vec<String>,
    },
    /// A launcher is unpacking into the environment, or was for longer than one waits.
    #[error("process {process} is unpacking into the work environment (`{}`)", lock.display())]
    Unpacking {
        /// The process that holds the lock.
        process: u32,
        /// The lock.
        lock: PathBuf,
    },
}

impl From<DiskError> for WorkenvError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// Removes a file; a missing one is fine.
pub(super) fn remove_if_there(path: &Path) -> Result<(), DiskError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DiskError::new("remove", path, error)),
        _ => Ok(()),
    }
}

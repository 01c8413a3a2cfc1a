//! Why a tree could not be written as files.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use slotfs_fs::disk::DiskError;
use slotfs_fs::layer::LayerError;

/// Why a tree could not be written as files. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// There is something at the destination already.
    #[error("cannot extract to `{}`: the directory is not empty", path.display())]
    NotEmpty {
        /// The destination.
        path: PathBuf,
    },
    /// The destination is not a directory.
    #[error("cannot extract to `{}`: it is not a directory", path.display())]
    NotDirectory {
        /// The destination.
        path: PathBuf,
    },
    /// The destination cannot be replaced, because somebody is in it.
    #[error("cannot extract to `{}`: {reason}", path.display())]
    InUse {
        /// The destination.
        path: PathBuf,
        /// Who is in it.
        reason: &'static str,
    },
    /// It will not fit.
    #[error("cannot extract to `{}`: it takes {needed} bytes and {available} are free", path.display())]
    NoSpace {
        /// The destination.
        path: PathBuf,
        /// Bytes that would be written.
        needed: u64,
        /// Bytes that may be written.
        available: u64,
    },
    /// It did not fit.
    #[error("cannot extract to `{}`: the disk is full ({source})", path.display())]
    DiskFull {
        /// The destination.
        path: PathBuf,
        /// What was being written.
        #[source]
        source: Box<DiskError>,
    },
    /// The content could not be read.
    #[error("cannot extract `{path}`: {source}")]
    Content {
        /// Path in the tree.
        path: String,
        /// Why.
        #[source]
        source: Box<LayerError>,
    },
    /// The content is shorter than its attributes say.
    #[error("cannot extract `{path}`: it ends after {found} of {expected} bytes")]
    Short {
        /// Path in the tree.
        path: String,
        /// Bytes it has.
        found: u64,
        /// Bytes it should have.
        expected: u64,
    },
    /// The user stopped it.
    #[error("extracting to `{}` was interrupted", path.display())]
    Interrupted {
        /// The destination.
        path: PathBuf,
    },
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl ExtractError {
    /// Says it in terms of `destination`: the user knows nothing of the directory `root` beside it, and a full
    /// disk is told from every other refusal.
    pub(super) fn seen_from(self, destination: &Path, root: &Path) -> Self {
        match self {
            Self::Interrupted { .. } => Self::Interrupted { path: destination.to_owned() },
            Self::Disk(mut source) => {
                if let Ok(below) = source.path.strip_prefix(root) {
                    source.path = destination.join(below);
                }
                if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
                    return Self::DiskFull { path: destination.to_owned(), source: Box::new(source) };
                }
                Self::Disk(source)
            }
            other @ (Self::NotEmpty { .. }
            | Self::NotDirectory { .. }
            | Self::InUse { .. }
            | Self::NoSpace { .. }
            | Self::DiskFull { .. }
            | Self::Content { .. }
            | Self::Short { .. }) => other,
        }
    }
}

//! Why no package was made.

use std::path::PathBuf;

use slotfs_fs::disk::DiskError;
use slotfs_fs::layer::archive::TreeError;
use slotfs_fs::package::PackageError;
use slotfs_fs::package::keys::KeyError;
use slotfs_fs::package::write::RelaunchError;
use slotfs_fs::slot::SlotError;

use crate::extract::layers::LayersError;

/// Why no package was made. Nothing of it is left then, and an older one is still there.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// What is wanted cannot be.
    #[error("{reason}")]
    Request {
        /// What is wrong, a sentence without a full stop.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The manifest cannot be used.
    #[error("the manifest `{}` cannot be used: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why, and where in it.
        reason: String,
    },
    /// A slot's source cannot be read.
    #[error(transparent)]
    Source(#[from] PackageError),
    /// A source that is an archive cannot be opened.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// A slot's content cannot be made an archive.
    #[error("cannot pack `{}`: {source}", path.display())]
    Tree {
        /// The slot's source.
        path: PathBuf,
        /// Why.
        #[source]
        source: TreeError,
    },
    /// What is packed cannot be indexed.
    #[error("cannot index `{}`: {source}", path.display())]
    Index {
        /// The slot's source.
        path: PathBuf,
        /// Why.
        #[source]
        source: SlotError,
    },
    /// A package cannot have another launcher.
    #[error("cannot put another launcher on `{}`: {source}", path.display())]
    Relaunch {
        /// The package.
        path: PathBuf,
        /// Why not.
        #[source]
        source: RelaunchError,
    },
    /// What was written is not a package that can be used, mostly because of a section of the manifest.
    #[error("this makes no package: {reason}")]
    Useless {
        /// What is wrong with it.
        reason: String,
    },
    /// The user wants it to stop.
    #[error("interrupted")]
    Interrupted,
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl PackError {
    /// Returns an error about what is wanted.
    pub fn request(reason: impl Into<String>) -> Self {
        Self::Request { reason: reason.into(), hint: None }
    }

    /// Returns an error about what is wanted, with what to do about it.
    pub fn hinted(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Request { reason: reason.into(), hint: Some(hint.into()) }
    }
}

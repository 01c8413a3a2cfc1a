//! From a request to a volume: the package is opened, checked to be the one that was verified, and its slots become
//! layers.

use slotfs_fs::disk::DiskError;
use slotfs_fs::overlay::Upper;
use slotfs_fs::package::{Limits, Package, PackageError, PackageKind};
use slotfs_fs::volume::{FsError, PlacedLayer, Volume, VolumeOptions};

use super::request::{FailureCause, ServeRequest};

/// Why a package cannot become a volume.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// It cannot be opened.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// It is not the file that was verified.
    #[error("`{}` was changed after it was verified", path.display())]
    Changed {
        /// Which package.
        path: std::path::PathBuf,
    },
    /// It does not have the slots that were planned for.
    #[error("`{}` has no slot `{slot}` at position {position}", path.display())]
    NoSuchSlot {
        /// Which package.
        path: std::path::PathBuf,
        /// The slot's id.
        slot: String,
        /// Where it should be.
        position: u32,
    },
    /// The upper directory, the store or an index cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The layers do not make a volume.
    #[error("cannot join the slots of `{}`: {source}", path.display())]
    Volume {
        /// Which package.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: FsError,
    },
}

impl AssembleError {
    /// Returns the kind of the failure as the caller is told it.
    #[must_use]
    pub fn cause(&self) -> FailureCause {
        match self {
            Self::Package(PackageError::Disk(_)) | Self::Disk(_) => FailureCause::Disk,
            Self::Package(_) => FailureCause::Format,
            Self::Changed { .. } | Self::NoSuchSlot { .. } => FailureCause::Verification,
            Self::Volume { .. } => FailureCause::Mount,
        }
    }
}

/// Makes the volume that `request` asks for.
///
/// # Errors
/// The package is not the one that was verified, or something that the volume needs cannot be opened.
pub(super) fn assemble(request: &ServeRequest) -> Result<Volume, AssembleError> {
    let package = Package::open(&request.package, &Limits::default())?;
    if package.kind() != PackageKind::Directory && Some(package.identity()) != request.identity {
        return Err(AssembleError::Changed { path: request.package.clone() });
    }
    let mut layers: Vec<PlacedLayer> = Vec::with_capacity(request.slots.len());
    for wanted in &request.slots {
        let slot =
            package.slots().iter().find(|slot| slot.position == wanted.position && slot.id == wanted.id);
        let _slot = slot.ok_or_else(|| AssembleError::NoSuchSlot {
            path: request.package.clone(),
            slot: wanted.id.clone(),
            position: wanted.position,
        })?;
    }
    let upper = match &request.spill {
        Some(spill) => Some(Upper::open(&spill.upper, &spill.work)?),
        None => None,
    };
    layers.shrink_to_fit();
    Volume::new(layers, upper, VolumeOptions::default())
        .map_err(|source| AssembleError::Volume { path: request.package.clone(), source })
}

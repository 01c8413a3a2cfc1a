//! The slots of a verified package as layers, for whoever joins them to a tree: extraction here, a mount elsewhere.
//!
//! **Invariant:** a slot is opened only with the digest that its stored bytes were found to have, or such that they are
//! checked as they are read.

use std::path::Path;
use std::sync::Arc;

use slotfs_fs::disk::DiskError;
use slotfs_fs::layer::Layer;
use slotfs_fs::layer::directory::DirectoryLayer;
use slotfs_fs::layer::slot::{SlotHome, SlotLayer, SlotOptions};
use slotfs_fs::layer::stack::PlacedLayer;
use slotfs_fs::package::verified::Ledger;
use slotfs_fs::package::verify::{Checking, Verification, VerifiedSlot};
use slotfs_fs::package::{Container, Slot};
use slotfs_fs::slot::{Limits, SlotError, memory};
use slotfs_fs::store::Store;

use crate::settings;

/// Why a slot cannot become a layer.
#[derive(Debug, thiserror::Error)]
pub enum LayersError {
    /// It was not hashed, so nothing of it may be shown.
    #[error("slot `{slot}` was not verified")]
    Unverified {
        /// The slot's id.
        slot: String,
    },
    /// It cannot be opened.
    #[error("cannot open slot `{slot}`: {source}")]
    Slot {
        /// The slot's id.
        slot: String,
        /// Why.
        #[source]
        source: SlotError,
    },
    /// The store or a directory of the host cannot be opened.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// An opened slot.
#[derive(Clone, Debug)]
pub enum OpenSlot {
    /// Stored in the package.
    Stored(SlotLayer),
    /// A directory of the host.
    Directory(Arc<DirectoryLayer>),
}

impl OpenSlot {
    /// Opens `slot` of a package that was found to be as `verification` says.
    ///
    /// # Errors
    /// The slot was not hashed, or cannot be opened.
    pub fn open(
        slot: &Slot,
        verification: &Verification,
        home: &SlotHome,
        options: &SlotOptions,
    ) -> Result<Self, LayersError> {
        if let Container::Directory(path) = &slot.source.container {
            return Ok(Self::Directory(Arc::new(DirectoryLayer::open(path)?)));
        }
        let name = || slot.id.clone();
        let verified = verification.slot(slot.position);
        let digest =
            verified.filter(|verified| verified.failure().is_none()).and_then(|verified| verified.digest);
        let digest = digest.ok_or_else(|| LayersError::Unverified { slot: name() })?;
        let checking = match verified.map(VerifiedSlot::checking).unwrap_or_default() {
            Checking::Done => Checking::Done,
            // Nobody hashes beside who reads here: it is done before.
            Checking::Chunks | Checking::Beside => Checking::Chunks,
        };
        let options = SlotOptions { checking, ..options.clone() };
        SlotLayer::open(slot, digest, home, options)
            .map(Self::Stored)
            .map_err(|source| LayersError::Slot { slot: name(), source })
    }

    /// Returns the slot as a layer at its target.
    #[must_use]
    pub fn placed(&self, slot: &Slot, writable: bool) -> PlacedLayer {
        let layer: Arc<dyn Layer> = match self {
            Self::Stored(layer) => Arc::new(layer.clone()),
            Self::Directory(layer) => Arc::<DirectoryLayer>::clone(layer),
        };
        PlacedLayer { name: slot.id.clone(), layer, target: slot.target.clone(), writable }
    }
}

/// Returns where it is remembered which packages were found good, below `shared` (`{cache}/.slotfs`).
#[must_use]
pub fn ledger(shared: &Path) -> Ledger {
    Ledger::new(shared.join("verified-v1"))
}

/// Returns where indexes and contents are kept below `shared` (`{cache}/.slotfs`).
///
/// # Errors
/// The store cannot be opened or made.
pub fn home(shared: &Path) -> Result<SlotHome, DiskError> {
    Ok(SlotHome { shared: shared.to_owned(), store: Some(Arc::new(Store::open(shared)?)) })
}

/// Returns the bounds of one slot, as the settings have them, and bounds what decoding takes in this process.
#[must_use]
pub fn limits(settings: settings::Limits) -> Limits {
    let usual = Limits::default();
    Limits {
        decoded_bytes: settings.decoded.0,
        entries: u32::try_from(settings.entries).unwrap_or(u32::MAX),
        decoder_memory: settings.memory.map_or(usual.decoder_memory, |memory| memory::bound(memory.0)),
        ..usual
    }
}

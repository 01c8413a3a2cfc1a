//! The file operations over layers and an upper directory, as plain logic without a kernel.
//!
//! **Invariant:** no lock is held while bytes are read, decoded or waited for.

mod access_list;
mod attribute;
mod bare;
mod change;
mod copy_up;
mod create;
pub(crate) mod dense;
mod directory;
mod error;
mod gate;
mod handle;
mod link;
mod look;
mod part;
mod place;
mod quiet;
mod read;
mod remove;
mod rename;
mod replace;
mod room;
mod sync;
mod synced;
mod table;
mod types;
mod write;
mod xattr;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

pub use bare::BareFile;
pub use error::FsError;
pub use gate::{Changing, Hold};
pub use part::VolumePart;
pub use replace::Forgotten;
pub use types::*;

use crate::disk::unix::{SetTimes, Spot};
pub use crate::layer::stack::PlacedLayer;
use crate::layer::stack::{Lower, Stack};
use crate::node::{Attributes, Kind};
use crate::overlay::Upper;
use crate::overlay::allowance::Allowance;
use crate::overlay::format::{self, Found};

/// The file operations. Every method takes `&self` and may be called from many threads at once.
#[derive(Debug)]
pub struct Volume {
    stack: Stack,
    upper: Option<Upper>,
    /// The bound on the upper, if there is one.
    allowance: Option<Allowance>,
    options: VolumeOptions,
    table: Mutex<table::Table>,
    handles: Mutex<handle::Handles>,
    listings: Mutex<directory::Listings>,
    /// Held to read while a path of the upper is used, to write while names change.
    names: RwLock<()>,
    /// Nodes that are being copied up.
    copying: copy_up::Copying,
    open_directories: Mutex<place::OpenDirectories>,
    /// Directories of the upper whose names are known to be on disk.
    synced: Mutex<synced::Synced>,
    /// Whether no layer is read-only, so that nobody asks whose a path is.
    all_writable: bool,
    /// Passed by every request that changes something.
    gate: Arc<gate::Gate>,
    /// Whether what was written was replaced since the beginning.
    replaced: AtomicBool,
}

/// Locks `mutex`; what a panicking thread left behind is still consistent, as nothing under our locks panics
/// half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Volume {
    /// Joins `layers` (later ones lie over earlier ones; a directory in several is merged) with `upper`.
    /// Without an upper the volume is read-only.
    ///
    /// # Errors
    /// What a layer or the upper's disk reports about the root.
    pub fn new(
        layers: Vec<PlacedLayer>,
        upper: Option<Upper>,
        options: VolumeOptions,
    ) -> Result<Self, FsError> {
        Self::over(Stack::new(layers), upper, options)
    }

    /// As [`Self::new`], with layers that were joined already.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn over(stack: Stack, upper: Option<Upper>, options: VolumeOptions) -> Result<Self, FsError> {
        let all_writable = stack.is_writable();
        let lower = stack.root()?;
        let state = match &upper {
            Some(upper) => Some(bind(&stack, upper, &lower)?),
            None => None,
        };
        let allowance = match (&upper, options.limit) {
            (Some(upper), Some(limit)) => Some(Allowance::new(limit, upper.used()?)),
            _ => None,
        };
        let root = table::NewNode {
            kind: Kind::Directory,
            inode: lower.inode(),
            lower: Some(lower),
            lower_path: None,
            upper: state,
            bare: None,
        };
        Ok(Self {
            allowance,
            stack,
            upper,
            options,
            table: Mutex::new(table::Table::new(root)),
            handles: Mutex::default(),
            listings: Mutex::default(),
            names: RwLock::new(()),
            copying: copy_up::Copying::default(),
            open_directories: Mutex::default(),
            synced: Mutex::default(),
            all_writable,
            gate: Arc::default(),
            replaced: AtomicBool::new(false),
        })
    }

    /// Tells whether there is an upper directory that takes changes.
    pub fn is_writable(&self) -> bool {
        self.upper.is_some()
    }

    /// Tells whether nothing in this volume can change: no upper, and every layer settled.
    pub fn is_immutable(&self) -> bool {
        self.upper.is_none() && self.stack.is_settled()
    }

    /// Tells whether every layer is settled, so that only what goes through this volume changes anything.
    pub fn layers_are_settled(&self) -> bool {
        self.stack.is_settled()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let (Some(upper), Some(allowance)) = (&self.upper, &self.allowance)
            && let Err(error) = upper.keep_number(allowance.used())
        {
            // It is counted again then.
            tracing::debug!("{error}");
        }
    }
}

/// Tells the upper which layers it lies over; a new upper gets the root's attributes.
fn bind(stack: &Stack, upper: &Upper, root: &Lower) -> Result<table::UpperState, FsError> {
    upper.bind(&stack.fingerprint())?;
    let spot = Spot::named(upper.root(), b".");
    if spot.xattr(format::INODE)?.is_none() {
        let attributes = stack.attributes(root)?;
        upper.give_owner(&spot, &attributes)?;
        // Where that is not root's, the upper directory belongs to whoever has it, as with overlayfs.
        let owner = if upper.is_plain() { None } else { spot.stat()?.map(|stat| stat.attributes) };
        let Attributes { user, group, .. } = owner.unwrap_or(attributes);
        upper.give_mode(&spot, &Attributes { user, group, ..attributes })?;
        spot.set_times(SetTimes::of(&attributes))?;
        upper.write_number(&spot, root.inode())?;
    }
    match upper.examine(upper.root(), b".", false)? {
        Found::Entry(entry) => {
            Ok(table::UpperState { inode: entry.inode, opaque: entry.opaque, impure: entry.impure })
        }
        Found::Nothing | Found::Whiteout => Err(FsError::NotFound),
    }
}

//! How a slot is shown, and where what is made of it is kept.

use std::path::PathBuf;
use std::sync::Arc;

use super::Keeper;
use crate::package::verify::Checking;
use crate::slot::Limits;
use crate::store::Store;

/// Where indexes and contents are kept.
#[derive(Clone, Debug)]
pub struct SlotHome {
    /// The folder shared by all work environments (`{cache}/.slotfs`).
    pub shared: PathBuf,
    /// Contents; `None` where nothing can be written. Then what cannot be reached at random is decoded from the start.
    pub store: Option<Arc<Store>>,
}

/// How a slot is shown. The index holds what the archive says; these are applied to each answer.
#[derive(Clone, Debug, Default)]
pub struct SlotOptions {
    /// What reading the slot may cost.
    pub limits: Limits,
    /// User and group that everything belongs to; `None` shows those of the archive.
    pub owner: Option<(u32, u32)>,
    /// Whether set-user-ID and set-group-ID bits are shown.
    pub set_id: bool,
    /// Whether device nodes are shown.
    pub devices: bool,
    /// How the stored bytes are known to be right.
    pub checking: Checking,
    /// Puts what is read into the store, when all is quiet.
    pub keeper: Option<Arc<Keeper>>,
}

/// Facts about one opened slot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SlotStatistics {
    /// The index was there already.
    pub index_existed: bool,
    /// Nodes known now.
    pub nodes: u32,
    /// Length of the index in bytes; 0 while there is none.
    pub index_bytes: u64,
    /// Length of the decoded bytes; 0 while it is not known and for ZIP archives.
    pub decoded_bytes: u64,
    /// How long the pass took, once it is over.
    pub pass_seconds: Option<f64>,
    /// Contents that were put into the store after the pass.
    pub kept: u64,
}

//! The file operations over layers and an upper directory, as plain logic without a kernel.
//!
//! **Invariant:** no lock is held while bytes are read, decoded or waited for.

mod attribute;
mod directory;
mod error;
mod handle;
mod look;
mod read;
mod table;
mod types;
mod xattr;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use error::FsError;
pub use types::*;

pub use crate::layer::stack::PlacedLayer;
use crate::layer::stack::Stack;
use crate::node::Kind;
use crate::overlay::Upper;

/// The file operations. Every method takes `&self` and may be called from many threads at once.
#[derive(Debug)]
pub struct Volume {
    stack: Stack,
    upper: Option<Upper>,
    options: VolumeOptions,
    table: Mutex<table::Table>,
    handles: Mutex<handle::Handles>,
    listings: Mutex<directory::Listings>,
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
        let stack = Stack::new(layers);
        let lower = stack.root()?;
        let root = table::NewNode {
            kind: Kind::Directory,
            inode: lower.inode(),
            lower: Some(lower),
            lower_path: None,
            upper: None,
        };
        Ok(Self {
            stack,
            upper,
            options,
            table: Mutex::new(table::Table::new(root)),
            handles: Mutex::default(),
            listings: Mutex::default(),
        })
    }

    /// Tells whether nothing in this volume can change: no upper, and every layer settled.
    pub fn is_immutable(&self) -> bool {
        self.upper.is_none() && self.stack.is_settled()
    }
}
#[expect(unused_variables, clippy::missing_errors_doc, reason = "the volume is read-only so far")]
impl Volume {
    /// `chmod`, `chown`, `truncate`, `utimensat` in one; copies up what it must.
    pub fn set_attributes(
        &self,
        caller: Caller,
        node: NodeId,
        handle: Option<HandleId>,
        changes: &SetAttributes,
    ) -> Result<Status, FsError> {
        Err(FsError::ReadOnly)
    }

    /// `mknod(2)`: an empty file, fifo, socket or device node. Counts a reference.
    pub fn make_node(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
        kind: Kind,
        mode: u32,
        device: u64,
    ) -> Result<Entry, FsError> {
        Err(FsError::ReadOnly)
    }

    /// `mkdir(2)`. Counts a reference.
    pub fn make_directory(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
    ) -> Result<Entry, FsError> {
        Err(FsError::ReadOnly)
    }

    /// `symlink(2)`. Counts a reference.
    pub fn make_symlink(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
        target: &[u8],
    ) -> Result<Entry, FsError> {
        Err(FsError::ReadOnly)
    }

    /// `link(2)`. Counts a reference.
    pub fn link(&self, node: NodeId, parent: NodeId, name: &[u8]) -> Result<Entry, FsError> {
        Err(FsError::ReadOnly)
    }

    /// `unlink(2)`.
    pub fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<(), FsError> {
        Err(FsError::ReadOnly)
    }

    /// `rmdir(2)`.
    pub fn remove_directory(&self, parent: NodeId, name: &[u8]) -> Result<(), FsError> {
        Err(FsError::ReadOnly)
    }

    /// `renameat2(2)`.
    pub fn rename(
        &self,
        parent: NodeId,
        name: &[u8],
        new_parent: NodeId,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), FsError> {
        Err(FsError::ReadOnly)
    }

    /// `open(2)` with `O_CREAT | O_EXCL`. Counts a reference.
    pub fn create(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        access: Access,
    ) -> Result<(Entry, Opened), FsError> {
        Err(FsError::ReadOnly)
    }

    /// `pwrite(2)`; writes all of `bytes` or reports why not.
    pub fn write(&self, node: NodeId, handle: HandleId, offset: u64, bytes: &[u8]) -> Result<usize, FsError> {
        Err(FsError::ReadOnly)
    }

    /// `fsync(2)`, or `fdatasync(2)` with `data_only`: afterwards content, name and the directories that lead
    /// to it survive a crash.
    pub fn sync(&self, node: NodeId, handle: Option<HandleId>, data_only: bool) -> Result<(), FsError> {
        Err(FsError::ReadOnly)
    }

    /// `fsync(2)` on a directory.
    pub fn sync_directory(&self, node: NodeId) -> Result<(), FsError> {
        Err(FsError::ReadOnly)
    }

    /// `syncfs(2)`: everything written so far survives a crash.
    pub fn sync_all(&self) -> Result<(), FsError> {
        Err(FsError::ReadOnly)
    }

    /// `statvfs(3)` of the disk that takes the writes; zeros when read-only.
    pub fn space(&self) -> Result<Space, FsError> {
        Err(FsError::ReadOnly)
    }

    /// `setxattr(2)`.
    pub fn set_extended_attribute(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), FsError> {
        Err(FsError::ReadOnly)
    }

    /// `removexattr(2)`.
    pub fn remove_extended_attribute(&self, node: NodeId, name: &[u8]) -> Result<(), FsError> {
        Err(FsError::ReadOnly)
    }

    /// `fallocate(2)`; `mode` holds the Linux flag bits.
    pub fn allocate(
        &self,
        node: NodeId,
        handle: HandleId,
        offset: u64,
        length: u64,
        mode: i32,
    ) -> Result<(), FsError> {
        Err(FsError::ReadOnly)
    }

    /// `lseek(2)` with `SEEK_DATA` (`data`) or `SEEK_HOLE`.
    pub fn seek(&self, node: NodeId, handle: HandleId, offset: u64, data: bool) -> Result<u64, FsError> {
        Err(FsError::ReadOnly)
    }

    /// `copy_file_range(2)`; may copy less than asked.
    pub fn copy_range(
        &self,
        from: (NodeId, HandleId, u64),
        to: (NodeId, HandleId, u64),
        length: u64,
    ) -> Result<u64, FsError> {
        Err(FsError::ReadOnly)
    }
}

//! The file operations over layers and an upper directory, as plain logic without a kernel.
//!
//! **Invariant:** no lock is held while bytes are read, decoded or waited for.

mod error;
mod types;

use std::sync::Arc;

pub use error::FsError;
pub use types::*;

use crate::layer::Layer;
use crate::node::Kind;
use crate::overlay::Upper;

/// A layer and where it lies in the volume.
#[derive(Debug)]
pub struct PlacedLayer {
    /// The slot's id: names the layer in logs, and the owner of what is written over it.
    pub name: String,
    /// The tree.
    pub layer: Arc<dyn Layer>,
    /// Where its root appears; empty is the volume's root. Missing parents are made, mode 0755.
    pub target: Vec<Vec<u8>>,
    /// Whether the overlay may change what lies in this layer.
    pub writable: bool,
}

/// The file operations. Every method takes `&self` and may be called from many threads at once.
#[derive(Debug)]
pub struct Volume {}

#[expect(unused_variables, clippy::missing_errors_doc, clippy::todo, reason = "signatures first")]
impl Volume {
    /// Joins `layers` (later ones lie over earlier ones; a directory in several is merged) with `upper`.
    /// Without an upper the volume is read-only.
    pub fn new(
        layers: Vec<PlacedLayer>,
        upper: Option<Upper>,
        options: VolumeOptions,
    ) -> Result<Self, FsError> {
        todo!()
    }

    /// Tells whether nothing in this volume can change: no upper, and every layer settled.
    pub fn is_immutable(&self) -> bool {
        todo!()
    }

    /// Finds `name` in `parent` and counts one reference to the node found (see [`Self::forget`]).
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Lookup, FsError> {
        todo!()
    }

    /// Takes back `count` references; a node without references and names is dropped.
    pub fn forget(&self, node: NodeId, count: u64) {
        todo!()
    }

    /// `stat(2)`.
    pub fn attributes(&self, node: NodeId) -> Result<Status, FsError> {
        todo!()
    }

    /// `chmod`, `chown`, `truncate`, `utimensat` in one; copies up what it must.
    pub fn set_attributes(
        &self,
        caller: Caller,
        node: NodeId,
        handle: Option<HandleId>,
        changes: &SetAttributes,
    ) -> Result<Status, FsError> {
        todo!()
    }

    /// `readlink(2)`.
    pub fn read_link(&self, node: NodeId) -> Result<Vec<u8>, FsError> {
        todo!()
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
        todo!()
    }

    /// `mkdir(2)`. Counts a reference.
    pub fn make_directory(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
    ) -> Result<Entry, FsError> {
        todo!()
    }

    /// `symlink(2)`. Counts a reference.
    pub fn make_symlink(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
        target: &[u8],
    ) -> Result<Entry, FsError> {
        todo!()
    }

    /// `link(2)`. Counts a reference.
    pub fn link(&self, node: NodeId, parent: NodeId, name: &[u8]) -> Result<Entry, FsError> {
        todo!()
    }

    /// `unlink(2)`.
    pub fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<(), FsError> {
        todo!()
    }

    /// `rmdir(2)`.
    pub fn remove_directory(&self, parent: NodeId, name: &[u8]) -> Result<(), FsError> {
        todo!()
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
        todo!()
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
        todo!()
    }

    /// `open(2)` of an existing file; opening for writing copies up, with `truncate` without the content.
    pub fn open(&self, node: NodeId, access: Access, truncate: bool) -> Result<Opened, FsError> {
        todo!()
    }

    /// `pread(2)`: fills `buffer` unless the file ends first. Without a handle the node is read as it is now.
    pub fn read(
        &self,
        node: NodeId,
        handle: Option<HandleId>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, FsError> {
        todo!()
    }

    /// `pwrite(2)`; writes all of `bytes` or reports why not.
    pub fn write(&self, node: NodeId, handle: HandleId, offset: u64, bytes: &[u8]) -> Result<usize, FsError> {
        todo!()
    }

    /// Last `close(2)` of an open file.
    pub fn release(&self, handle: HandleId) {
        todo!()
    }

    /// `fsync(2)`, or `fdatasync(2)` with `data_only`: afterwards content, name and the directories that lead
    /// to it survive a crash.
    pub fn sync(&self, node: NodeId, handle: Option<HandleId>, data_only: bool) -> Result<(), FsError> {
        todo!()
    }

    /// `opendir(3)`: the handle keeps one consistent listing.
    pub fn open_directory(&self, node: NodeId) -> Result<HandleId, FsError> {
        todo!()
    }

    /// `readdir(3)` from `offset` (0 starts anew), `.` and `..` included. `plus` entries count a reference each
    /// except `.` and `..`. Stops when `visit` answers `false`, without counting that entry. Without a handle
    /// the listing of an immutable directory is used.
    pub fn read_directory(
        &self,
        node: NodeId,
        handle: Option<HandleId>,
        offset: u64,
        plus: bool,
        visit: &mut dyn FnMut(&DirectoryEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        todo!()
    }

    /// `closedir(3)`.
    pub fn release_directory(&self, handle: HandleId) {
        todo!()
    }

    /// `fsync(2)` on a directory.
    pub fn sync_directory(&self, node: NodeId) -> Result<(), FsError> {
        todo!()
    }

    /// `syncfs(2)`: everything written so far survives a crash.
    pub fn sync_all(&self) -> Result<(), FsError> {
        todo!()
    }

    /// `statvfs(3)` of the disk that takes the writes; zeros when read-only.
    pub fn space(&self) -> Result<Space, FsError> {
        todo!()
    }

    /// `getxattr(2)`.
    pub fn extended_attribute(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>, FsError> {
        todo!()
    }

    /// `listxattr(2)`: names in order.
    pub fn extended_attribute_names(&self, node: NodeId) -> Result<Vec<Vec<u8>>, FsError> {
        todo!()
    }

    /// `setxattr(2)`.
    pub fn set_extended_attribute(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), FsError> {
        todo!()
    }

    /// `removexattr(2)`.
    pub fn remove_extended_attribute(&self, node: NodeId, name: &[u8]) -> Result<(), FsError> {
        todo!()
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
        todo!()
    }

    /// `lseek(2)` with `SEEK_DATA` (`data`) or `SEEK_HOLE`.
    pub fn seek(&self, node: NodeId, handle: HandleId, offset: u64, data: bool) -> Result<u64, FsError> {
        todo!()
    }

    /// `copy_file_range(2)`; may copy less than asked.
    pub fn copy_range(
        &self,
        from: (NodeId, HandleId, u64),
        to: (NodeId, HandleId, u64),
        length: u64,
    ) -> Result<u64, FsError> {
        todo!()
    }
}

//! Open files and directories.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex};

use super::directory::Listing;
use super::table::Node;
use super::{Access, FsError, HandleId, Volume, lock};

/// An open file. While `file` is empty the node's content is that of a layer.
#[derive(Debug)]
pub(super) struct FileHandle {
    pub(super) node: Arc<Node>,
    pub(super) access: Access,
    pub(super) file: Mutex<Option<Arc<File>>>,
}

/// An open directory and the listing it reads.
#[derive(Debug)]
pub(super) struct DirectoryHandle {
    pub(super) node: Arc<Node>,
    pub(super) listing: Mutex<Option<Arc<Listing>>>,
}

#[derive(Clone, Debug)]
enum Handle {
    File(Arc<FileHandle>),
    Directory(Arc<DirectoryHandle>),
}

/// All open handles; a number is never used again.
#[derive(Debug, Default)]
pub(super) struct Handles {
    open: HashMap<u64, Handle>,
    last: u64,
}

impl Handles {
    fn add(&mut self, handle: Handle) -> HandleId {
        self.last += 1;
        self.open.insert(self.last, handle);
        HandleId(self.last)
    }
}

impl Volume {
    pub(super) fn add_file_handle(
        &self,
        node: &Arc<Node>,
        access: Access,
        file: Option<Arc<File>>,
    ) -> HandleId {
        lock(&self.table).opened(node.id);
        let handle = FileHandle { node: Arc::clone(node), access, file: Mutex::new(file) };
        lock(&self.handles).add(Handle::File(Arc::new(handle)))
    }

    pub(super) fn add_directory_handle(&self, node: &Arc<Node>) -> HandleId {
        lock(&self.table).opened(node.id);
        let handle = DirectoryHandle { node: Arc::clone(node), listing: Mutex::new(None) };
        lock(&self.handles).add(Handle::Directory(Arc::new(handle)))
    }

    pub(super) fn file_handle(&self, handle: HandleId) -> Result<Arc<FileHandle>, FsError> {
        match lock(&self.handles).open.get(&handle.0) {
            Some(Handle::File(file)) => Ok(Arc::clone(file)),
            Some(Handle::Directory(_)) | None => Err(FsError::Unknown(handle.0)),
        }
    }

    pub(super) fn directory_handle(&self, handle: HandleId) -> Result<Arc<DirectoryHandle>, FsError> {
        match lock(&self.handles).open.get(&handle.0) {
            Some(Handle::Directory(directory)) => Ok(Arc::clone(directory)),
            Some(Handle::File(_)) | None => Err(FsError::Unknown(handle.0)),
        }
    }

    /// Last `close(2)` of an open file.
    pub fn release(&self, handle: HandleId) {
        let closed = lock(&self.handles).open.remove(&handle.0);
        let (node, written) = match &closed {
            Some(Handle::File(file)) => (Arc::clone(&file.node), file.access.write),
            Some(Handle::Directory(directory)) => (Arc::clone(&directory.node), false),
            None => return,
        };
        drop(closed);
        if written && self.allowance.is_some() {
            let _names = self.names();
            self.count_again(&node);
        }
        let freed = lock(&self.table).closed(node.id);
        self.count_freed(freed);
    }

    /// `closedir(3)`.
    pub fn release_directory(&self, handle: HandleId) {
        self.release(handle);
    }

    /// Returns how many files and directories are open.
    #[must_use]
    pub fn open_handles(&self) -> usize {
        lock(&self.handles).open.len()
    }
}

//! A tree of one file that lies on the disk as it is: what the probe of passthrough mounts.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_fs::layer::{Layer, LayerError, LayerNode, Visit};
use slotfs_fs::node::{Attributes, Kind};

/// The name of the file.
pub(super) const NAME: &str = "file";

/// A tree in memory whose one file can be given to the kernel.
#[derive(Debug)]
pub(super) struct Backed {
    tree: MemoryLayer,
    file: Arc<File>,
}

impl Backed {
    /// Returns a tree over `file`, which holds `content`.
    pub(super) fn new(file: File, content: &[u8]) -> Option<Self> {
        let tree = MemoryLayer::builder().file(NAME, 0o644, content.to_vec()).build().ok()?;
        Some(Self { tree, file: Arc::new(file) })
    }
}

impl Layer for Backed {
    fn root(&self) -> LayerNode {
        self.tree.root()
    }

    fn lookup(&self, directory: LayerNode, name: &[u8]) -> Result<Option<LayerNode>, LayerError> {
        self.tree.lookup(directory, name)
    }

    fn attributes(&self, node: LayerNode) -> Result<Attributes, LayerError> {
        self.tree.attributes(node)
    }

    fn read_directory(
        &self,
        directory: LayerNode,
        after: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), LayerError> {
        self.tree.read_directory(directory, after, visit)
    }

    fn read_link(&self, node: LayerNode) -> Result<Vec<u8>, LayerError> {
        self.tree.read_link(node)
    }

    fn extended_attributes(&self, node: LayerNode) -> Result<Vec<(Vec<u8>, Vec<u8>)>, LayerError> {
        self.tree.extended_attributes(node)
    }

    fn read(&self, node: LayerNode, offset: u64, buffer: &mut [u8]) -> Result<usize, LayerError> {
        // Answered from the file: the tree's copy must not hide that the file was not used.
        match self.tree.attributes(node)?.kind {
            Kind::File => Ok(self.file.read_at(buffer, offset).unwrap_or(0)),
            Kind::Directory
            | Kind::Symlink
            | Kind::Fifo
            | Kind::Socket
            | Kind::CharacterDevice
            | Kind::BlockDevice => self.tree.read(node, offset, buffer),
        }
    }

    fn host_file(&self, _node: LayerNode) -> Result<Option<Arc<File>>, LayerError> {
        Ok(Some(Arc::clone(&self.file)))
    }

    fn is_settled(&self) -> bool {
        true
    }
}

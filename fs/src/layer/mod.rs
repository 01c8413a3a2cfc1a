//! A read-only tree: one slot, a directory of the host, or memory.
//!
//! **Invariant:** a layer never changes what it has once answered, except that a layer that is still being
//! indexed may replace an entry by a later one of the same name; see [`Layer::is_settled`].

pub mod archive;
pub mod directory;
pub mod index;
pub mod marks;
pub mod memory;
pub mod override_stat;
pub mod slot;
pub mod stack;
pub(crate) mod tar;
pub mod without;

use std::fmt::Debug;
use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::disk::DiskError;
use crate::node::{Attributes, Kind};

use self::marks::Marks;
pub use self::slot::{Keeper, KeeperOptions, SlotHome, SlotLayer, SlotOptions, SlotStatistics};

/// A node of one layer. The same content gives the same numbers in every process and at every mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerNode(pub u32);

/// Called for one directory entry: name, node, kind.
pub type Visit<'a> = dyn FnMut(&[u8], LayerNode, Kind) -> ControlFlow<()> + 'a;

/// Called for one directory entry: name, node, attributes.
pub type VisitWhole<'a> = dyn FnMut(&[u8], LayerNode, Attributes) + 'a;

/// Names and values of extended attributes.
pub type ExtendedAttributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Why a layer could not answer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The stored bytes do not decode, or are not those that were verified. The reader gets EIO.
    #[error("{} is damaged: {reason}", place(slot, path))]
    Corrupt {
        /// The slot's id.
        slot: String,
        /// Path inside the slot; empty for its root, and where no path can be told.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The host refused a file operation.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Names a place in a slot.
fn place(slot: &str, path: &str) -> String {
    if path.is_empty() { format!("slot `{slot}`") } else { format!("`{path}` in slot `{slot}`") }
}

/// A read-only tree of nodes.
pub trait Layer: Send + Sync + Debug {
    /// Returns the root: a directory, or the one file of a file slot.
    fn root(&self) -> LayerNode;

    /// Finds `name` in `directory`. While the layer is being indexed this waits until the pass has met the
    /// name or has ended.
    ///
    /// # Errors
    /// The pass failed before it could answer.
    fn lookup(&self, directory: LayerNode, name: &[u8]) -> Result<Option<LayerNode>, LayerError>;

    /// Returns the attributes of `node`.
    ///
    /// # Errors
    /// The layer is damaged, or the host refused.
    fn attributes(&self, node: LayerNode) -> Result<Attributes, LayerError>;

    /// Visits the entries of `directory` whose name is greater than `after`, in byte order, without `.` and
    /// `..`, until told to stop. While the layer is being indexed this waits until all its names are known.
    ///
    /// # Errors
    /// The layer is damaged, or the host refused.
    fn read_directory(
        &self,
        directory: LayerNode,
        after: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), LayerError>;

    /// Visits all entries of `directory` in byte order, with the attributes that they have now; what is gone meanwhile was not
    /// there. Waits until the layer is settled.
    ///
    /// # Errors
    /// The layer is damaged, or the host refused.
    fn read_whole_directory(
        &self,
        directory: LayerNode,
        visit: &mut VisitWhole<'_>,
    ) -> Result<(), LayerError> {
        let mut names = Vec::new();
        self.read_directory(directory, None, &mut |name, _, _| {
            names.push(name.to_vec());
            ControlFlow::Continue(())
        })?;
        for name in names {
            let Some(node) = self.lookup(directory, &name)? else { continue };
            visit(&name, node, self.attributes(node)?);
        }
        Ok(())
    }

    /// Returns the target of the symbolic link `node`.
    ///
    /// # Errors
    /// The layer is damaged, or the host refused.
    fn read_link(&self, node: LayerNode) -> Result<Vec<u8>, LayerError>;

    /// Returns the extended attributes of `node`, sorted by name.
    ///
    /// # Errors
    /// The layer is damaged, or the host refused.
    fn extended_attributes(&self, node: LayerNode) -> Result<ExtendedAttributes, LayerError>;

    /// Reads file content at `offset`: fills `buffer` unless the file ends first; 0 at the end.
    ///
    /// # Errors
    /// [`LayerError::Corrupt`] when the bytes do not decode or verify; never hands out such bytes.
    fn read(&self, node: LayerNode, offset: u64, buffer: &mut [u8]) -> Result<usize, LayerError>;

    /// Hears that the file `node`, of `size` bytes, will be read soon from its start. It waits for nothing but names.
    fn expect(&self, node: LayerNode, size: u64) {
        let _ = (node, size);
    }

    /// Returns a host file that holds exactly the content of `node`, if there is one at this moment.
    ///
    /// # Errors
    /// The host refused.
    fn host_file(&self, node: LayerNode) -> Result<Option<Arc<File>>, LayerError>;

    /// Tells whether nodes may carry the marks of overlayfs, which then hide what lies below.
    fn has_marks(&self) -> bool {
        false
    }

    /// Returns the marks of `node`, whose attributes are `attributes`.
    ///
    /// # Errors
    /// The host refused.
    fn marks(&self, node: LayerNode, attributes: &Attributes) -> Result<Marks, LayerError> {
        let _ = (node, attributes);
        Ok(Marks::default())
    }

    /// Returns the name of `node` where nothing else in this layer leads to it: it is no directory, and has one name in one
    /// directory. `None` where there are more, or the layer does not tell. To be asked once the layer is settled.
    ///
    /// # Errors
    /// The layer is damaged, or the host refused.
    fn only_name(&self, node: LayerNode) -> Result<Option<Vec<u8>>, LayerError> {
        let _ = node;
        Ok(None)
    }

    /// Waits until what reading has made, such as an index, is where it stays. For whoever ends then: everything can be read
    /// before.
    fn finish(&self) {}

    /// Tells whether names and attributes are final, so that the kernel may keep them for ever. A host
    /// directory is never settled.
    fn is_settled(&self) -> bool;

    /// Returns a text that tells this layer's content from every other, such as its digest; `None` when there
    /// is none. It says whether numbers that were written down are about this layer.
    fn identity(&self) -> Option<String> {
        None
    }
}

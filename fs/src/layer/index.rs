//! A slot of which only the index is left, as after its package was replaced: names and attributes, no content.
//!
//! **Invariant:** nothing is made up: content that is not there any more is an error, never zeros.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ExtendedAttributes, Layer, LayerError, LayerNode, Visit};
use crate::disk::DiskError;
use crate::disk::digest::Digest;
use crate::node::Attributes;
use crate::slot::index::{self, Index, IndexError};
use crate::slot::tree::tables;

/// What an index tells about its slot.
#[derive(Debug)]
pub struct IndexLayer {
    index: Index,
    path: PathBuf,
    owner: (u32, u32),
}

impl IndexLayer {
    /// Opens the index at `path`, whose nodes all belong to `owner` (user and group); `None` when it is not there.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn open(path: &Path, owner: (u32, u32)) -> Result<Option<Self>, LayerError> {
        let index = index::open(path).map_err(|error| damaged(path, error))?;
        Ok(index.map(|index| Self { index, path: path.to_owned(), owner }))
    }

    /// Returns SHA-256 of the content of the file `node`, where the index knows it.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn digest(&self, node: LayerNode) -> Result<Option<Digest>, LayerError> {
        let record = tables::record(&self.index, node.0).map_err(|error| self.damaged(error))?;
        tables::digest(&self.index, &record).map_err(|error| self.damaged(error))
    }

    fn damaged(&self, error: IndexError) -> LayerError {
        damaged(&self.path, error)
    }
}

fn damaged(path: &Path, error: IndexError) -> LayerError {
    match error {
        IndexError::Disk(error) => LayerError::Disk(error),
        other @ (IndexError::Damaged { .. }
        | IndexError::OtherVersion
        | IndexError::OtherSlot
        | IndexError::TooLarge) => LayerError::Corrupt {
            slot: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            path: String::new(),
            reason: other.to_string(),
        },
    }
}

impl Layer for IndexLayer {
    fn root(&self) -> LayerNode {
        LayerNode(0)
    }

    fn lookup(&self, directory: LayerNode, name: &[u8]) -> Result<Option<LayerNode>, LayerError> {
        let found = self.index.lookup(directory.0, name).map_err(|error| self.damaged(error))?;
        Ok(found.map(LayerNode))
    }

    fn attributes(&self, node: LayerNode) -> Result<Attributes, LayerError> {
        let attributes = tables::attributes(&self.index, node.0).map_err(|error| self.damaged(error))?;
        let (user, group) = self.owner;
        Ok(Attributes { mode: attributes.mode & 0o1777, user, group, ..attributes })
    }

    fn read_directory(
        &self,
        directory: LayerNode,
        after: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), LayerError> {
        self.index
            .entries(directory.0, after, &mut |name, node, kind| visit(name, LayerNode(node), kind))
            .map_err(|error| self.damaged(error))
    }

    fn read_link(&self, node: LayerNode) -> Result<Vec<u8>, LayerError> {
        tables::target(&self.index, node.0).map_err(|error| self.damaged(error))
    }

    fn extended_attributes(&self, node: LayerNode) -> Result<ExtendedAttributes, LayerError> {
        tables::extended_attributes(&self.index, node.0).map_err(|error| self.damaged(error))
    }

    fn read(&self, _: LayerNode, _: u64, _: &mut [u8]) -> Result<usize, LayerError> {
        Err(DiskError::new("read the slot described by", &self.path, ErrorKind::NotFound).into())
    }

    fn host_file(&self, _: LayerNode) -> Result<Option<Arc<File>>, LayerError> {
        Ok(None)
    }

    fn is_settled(&self) -> bool {
        true
    }
}

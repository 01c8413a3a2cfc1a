//! Content: opening and reading.

use super::{Access, FsError, HandleId, NodeId, Opened, Volume};
use crate::node::Kind;

impl Volume {
    /// `open(2)` of an existing file; opening for writing copies up, with `truncate` without the content.
    ///
    /// # Errors
    /// `IsDirectory`, `ReadOnly`, `Unknown`, or what a layer or the upper's disk reports.
    pub fn open(&self, node: NodeId, access: Access, truncate: bool) -> Result<Opened, FsError> {
        let node = self.node(node)?;
        match node.kind {
            Kind::File => {}
            Kind::Directory => return Err(FsError::IsDirectory),
            Kind::Symlink | Kind::Fifo | Kind::Socket | Kind::CharacterDevice | Kind::BlockDevice => {
                return Err(FsError::Invalid("only regular files have content"));
            }
        }
        if access.write || truncate {
            return Err(FsError::ReadOnly);
        }
        let top = node.lower.as_ref().and_then(|lower| lower.top());
        let backing = match top {
            Some((layer, at)) => self.stack.layer(layer).layer.host_file(at)?,
            None => None,
        };
        Ok(Opened { handle: self.add_file_handle(&node, access, None), backing, keep_cache: true })
    }

    /// `pread(2)`: fills `buffer` unless the file ends first. Without a handle the node is read as it is now.
    ///
    /// # Errors
    /// `IsDirectory`, `Unknown`, or what a layer or the upper's disk reports.
    pub fn read(
        &self,
        node: NodeId,
        handle: Option<HandleId>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, FsError> {
        let _ = handle;
        let node = self.node(node)?;
        if node.kind == Kind::Directory {
            return Err(FsError::IsDirectory);
        }
        let Some((layer, at)) = node.lower.as_ref().and_then(|lower| lower.top()) else { return Ok(0) };
        Ok(self.stack.layer(layer).layer.read(at, offset, buffer)?)
    }

    /// `readlink(2)`.
    ///
    /// # Errors
    /// `Invalid` when it is no symbolic link, `Unknown`, or what a layer or the upper's disk reports.
    pub fn read_link(&self, node: NodeId) -> Result<Vec<u8>, FsError> {
        let node = self.node(node)?;
        if node.kind != Kind::Symlink {
            return Err(FsError::Invalid("not a symbolic link"));
        }
        let Some((layer, at)) = node.lower.as_ref().and_then(|lower| lower.top()) else {
            return Err(FsError::Unknown(node.id.0));
        };
        Ok(self.stack.layer(layer).layer.read_link(at)?)
    }
}

//! Content: opening and reading.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::copy_up::Need;
use super::table::Node;
use super::{Access, FsError, HandleId, NodeId, Opened, Volume};
use crate::disk::DiskError;
use crate::disk::unix::{Spot, set_length};
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
            self.check_writable(&node)?;
            self.copy_up(&node, if truncate { Need::Beginning(0) } else { Need::Content })?;
        }
        let file = match self.bare(node.id) {
            Some(_) => None,
            None => {
                let _names = self.names();
                match self.spot(&node)? {
                    Some(spot) if access.write => Some(Arc::new(self.open_to_write(&spot, access.append)?)),
                    Some(spot) => Some(Arc::new(self.open_to_read(&spot)?)),
                    None => None,
                }
            }
        };
        if truncate {
            match &file {
                Some(file) if access.write => self.counted(file, || Ok(set_length(file, 0)?))?,
                _ => {
                    let _names = self.names();
                    let file = self.open_to_write(&self.upper_spot(&node)?, false)?;
                    self.counted(&file, || Ok(set_length(&file, 0)?))?;
                }
            }
        }
        let backing = match &file {
            // What the kernel writes by itself is not counted, and one who reads so makes others write so.
            Some(_) if self.allowance.is_some() => None,
            Some(file) => Some(Arc::clone(file)),
            None => self.lasting_host_file(&node)?,
        };
        let keep_cache = !truncate && (file.is_some() || self.is_settled(&node));
        Ok(Opened { handle: self.add_file_handle(&node, access, file), backing, keep_cache })
    }

    /// Opens a file of the upper directory; who is asking was found to be allowed to.
    pub(super) fn open_to_read(&self, spot: &Spot) -> Result<File, FsError> {
        Ok(self.writable_upper()?.with_rights(spot, || spot.open_file(false, false))?)
    }

    /// As [`Self::open_to_read`], for writing: what lets the file do more than its user goes.
    pub(super) fn open_to_write(&self, spot: &Spot, append: bool) -> Result<File, FsError> {
        let upper = self.writable_upper()?;
        let file = upper.with_rights(spot, || spot.open_file(true, append))?;
        upper.drop_capability(spot)?;
        Ok(file)
    }

    fn is_settled(&self, node: &Node) -> bool {
        node.lower.as_ref().is_some_and(|lower| self.stack.is_node_settled(lower))
    }

    /// Returns the host file behind a node of a layer, if the node can never be copied up while it is open.
    fn lasting_host_file(&self, node: &Node) -> Result<Option<Arc<File>>, FsError> {
        match node.lower.as_ref().and_then(|lower| lower.content()) {
            // A bare copy gets its content as soon as somebody writes.
            _ if self.bare(node.id).is_some() => Ok(None),
            Some((layer, at)) if self.upper.is_none() || !self.stack.layer(layer).writable => {
                Ok(self.stack.layer(layer).layer.host_file(at)?)
            }
            _ => Ok(None),
        }
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
        let node = self.node(node)?;
        if node.kind == Kind::Directory {
            return Err(FsError::IsDirectory);
        }
        let file = match handle {
            Some(handle) => {
                let open = self.file_handle(handle)?;
                self.current_file(&open)?
            }
            None if self.bare(node.id).is_some() => None,
            None => {
                let _names = self.names();
                match self.spot(&node)? {
                    Some(spot) => Some(Arc::new(self.open_to_read(&spot)?)),
                    None => None,
                }
            }
        };
        match file {
            Some(file) => read_all(&file, offset, buffer),
            None => self.read_layers(&node, offset, buffer),
        }
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
        {
            let _names = self.names();
            if let Some(spot) = self.spot(&node)? {
                return Ok(spot.read_link()?);
            }
        }
        let Some((layer, at)) = node.lower.as_ref().and_then(|lower| lower.top()) else {
            return Err(FsError::Unknown(node.id.0));
        };
        Ok(self.stack.layer(layer).layer.read_link(at)?)
    }
}

fn read_all(file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DiskError::new("read", "a file", error).into()),
        }
    }
    Ok(done)
}

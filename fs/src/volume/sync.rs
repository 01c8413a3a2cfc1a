//! What survives a power failure, and room on the disk.

use std::sync::Arc;

use super::table::Node;
use super::{FsError, HandleId, NodeId, Space, Volume, lock};
use crate::disk::Context;
use crate::disk::unix::{Directory, space, sync_file_system};
use crate::node::Kind;

impl Volume {
    /// `fsync(2)`, or `fdatasync(2)` with `data_only`: afterwards content, name and the directories that lead
    /// to it survive a crash.
    ///
    /// # Errors
    /// `Unknown`, or what the upper's disk reports.
    pub fn sync(&self, node: NodeId, handle: Option<HandleId>, data_only: bool) -> Result<(), FsError> {
        let node = self.node(node)?;
        let Some(upper) = &self.upper else { return Ok(()) };
        upper.sync_aside()?;
        if node.kind == Kind::Directory {
            return self.sync_directory(node.id);
        }
        // What only the layers have needs no sync, but a directory above it may have been renamed.
        if node.kind == Kind::File && self.is_upper(node.id) {
            let open = handle.and_then(|handle| self.file_handle(handle).ok());
            let current = match open {
                Some(open) => self.current_file(&open)?,
                None => None,
            };
            let file = match current {
                Some(file) => Some(file),
                None => {
                    let _names = self.names();
                    Some(Arc::new(self.open_to_read(&self.upper_spot(&node)?)?))
                }
            };
            if let Some(file) = file {
                let synced = if data_only { file.sync_data() } else { file.sync_all() };
                synced.context("sync", "a file")?;
            }
        }
        self.sync_names(&node)
    }

    /// `fsync(2)` on a directory.
    ///
    /// # Errors
    /// `Unknown`, or what the upper's disk reports.
    pub fn sync_directory(&self, node: NodeId) -> Result<(), FsError> {
        let node = self.node(node)?;
        let Some(upper) = &self.upper else { return Ok(()) };
        upper.sync_aside()?;
        if self.is_upper(node.id) {
            let (directory, version) = {
                let _names = self.names();
                let version = lock(&self.table).slot(node.id).map(|slot| (slot.version, slot.removed));
                match version {
                    Some((version, false)) => (self.upper_directory(node.id)?, version),
                    Some((_, true)) | None => return Ok(()),
                }
            };
            directory.sync()?;
            lock(&self.synced).note(node.id, version);
        }
        self.sync_names(&node)
    }

    /// `syncfs(2)`: everything written so far survives a crash.
    ///
    /// # Errors
    /// What the upper's disk reports.
    pub fn sync_all(&self) -> Result<(), FsError> {
        let Some(upper) = &self.upper else { return Ok(()) };
        Ok(upper.root().readable().and_then(sync_file_system)?)
    }

    /// `statvfs(3)` of the disk that takes the writes, within the bound on them; zeros when read-only.
    ///
    /// # Errors
    /// What the upper's disk reports.
    pub fn space(&self) -> Result<Space, FsError> {
        let Some(upper) = &self.upper else { return Ok(Space::default()) };
        let found = space(&**upper.root())?;
        Ok(self.bounded_space(Space {
            block_size: found.block_size,
            blocks: found.blocks,
            blocks_free: found.blocks_free,
            blocks_available: found.blocks_available,
            files: found.files,
            files_free: found.files_free,
            name_max: found.name_max,
        }))
    }

    /// Makes the names that lead to `node` durable: every directory on the way that is not known to be synced.
    fn sync_names(&self, node: &Node) -> Result<(), FsError> {
        let mut waiting = Vec::new();
        let indexed = {
            let _names = self.names();
            let mut ways = lock(&self.table).parents(node.id).to_vec();
            self.collect_unsynced(&mut ways, &mut waiting)?;
            let table = lock(&self.table);
            let state = table.slot(node.id).and_then(|slot| slot.upper);
            self.upper
                .as_ref()
                .filter(|upper| state.is_some_and(|state| upper.indexed_number(state.inode).is_some()))
        };
        if let Some(upper) = indexed {
            upper.index_directory().sync()?;
        }
        for (id, directory, version) in waiting {
            directory.sync()?;
            lock(&self.synced).note(id, version);
        }
        Ok(())
    }

    /// Finds the directories from `ways` up to the root that may not be synced. The names are held.
    fn collect_unsynced(
        &self,
        ways: &mut Vec<NodeId>,
        waiting: &mut Vec<(NodeId, Arc<Directory>, u64)>,
    ) -> Result<(), FsError> {
        while let Some(id) = ways.pop() {
            let (version, is_upper) = {
                let table = lock(&self.table);
                let Some(slot) = table.slot(id) else { continue };
                ways.extend(slot.names.first().map(|(parent, _)| *parent));
                (slot.version, slot.upper.is_some())
            };
            let known = lock(&self.synced).has(id, version) || waiting.iter().any(|(known, ..)| *known == id);
            if is_upper && !known {
                waiting.push((id, self.upper_directory(id)?, version));
            }
        }
        Ok(())
    }
}

//! `stat(2)` and what changes it.

use super::copy_up::Need;
use super::table::Node;
use super::{Caller, FsError, HandleId, NodeId, SetAttributes, SetTime, Status, Volume, lock};
use crate::disk::unix::{SetTimes, Spot, TimeChange, set_length};
use crate::node::{Attributes, Kind};
use crate::overlay::OwnerChange;

impl Volume {
    /// `stat(2)`.
    ///
    /// # Errors
    /// `Unknown`, or what a layer or the upper's disk reports.
    pub fn attributes(&self, node: NodeId) -> Result<Status, FsError> {
        let node = self.node(node)?;
        self.status(&node)
    }

    /// `chmod`, `chown`, `truncate`, `utimensat` in one; copies up what it must.
    ///
    /// # Errors
    /// `ReadOnly`, `IsDirectory`, `Invalid`, `NotSupported`, `Unknown`, or what a layer or the upper's disk
    /// reports.
    pub fn set_attributes(
        &self,
        caller: Caller,
        node: NodeId,
        handle: Option<HandleId>,
        changes: &SetAttributes,
    ) -> Result<Status, FsError> {
        // Who may do this is the kernel's business (`default_permissions`), or the caller's.
        let _ = caller;
        let node = self.node(node)?;
        let SetAttributes { mode, user, group, size, accessed, modified } = *changes;
        if [mode, user, group] == [None; 3] && size.is_none() && accessed.is_none() && modified.is_none() {
            return self.status(&node);
        }
        if mode.is_some() && node.kind == Kind::Symlink {
            return Err(FsError::NotSupported("a symbolic link has no mode of its own"));
        }
        self.check_writable(&node)?;
        if let Some(size) = size {
            self.set_size(&node, handle, size)?;
        } else {
            self.copy_up(&node, Need::Attributes)?;
        }
        // Bringing the content changes times, too, and puts back those that it found.
        let _alone = self.bare(node.id).map(|_| self.copying.begin(node.id));
        let _names = self.names();
        let spot = self.upper_spot(&node)?;
        if [mode, user, group] != [None; 3] {
            let (upper, change) = (self.writable_upper()?, OwnerChange { user, group, mode });
            let room = upper.room_for(&spot, &change)?;
            self.counted_attributes(&spot, room, || Ok(upper.change_owner(&spot, &change)?))?;
        }
        if accessed.is_some() || modified.is_some() {
            let (accessed, modified) = (time_change(accessed), time_change(modified));
            spot.set_times(SetTimes { accessed, modified })?;
        }
        self.upper_status(&node, &spot)
    }

    fn set_size(
        &self,
        node: &std::sync::Arc<Node>,
        handle: Option<HandleId>,
        size: u64,
    ) -> Result<(), FsError> {
        match node.kind {
            Kind::File => {}
            Kind::Directory => return Err(FsError::IsDirectory),
            Kind::Symlink | Kind::Fifo | Kind::Socket | Kind::CharacterDevice | Kind::BlockDevice => {
                return Err(FsError::Invalid("only regular files have a length"));
            }
        }
        if i64::try_from(size).is_err() {
            return Err(FsError::Invalid("the length is too large"));
        }
        self.copy_up(node, Need::Beginning(size))?;
        let open = handle.and_then(|handle| self.file_handle(handle).ok()).filter(|open| open.access.write);
        let file = match open.and_then(|open| lock(&open.file).clone()) {
            Some(file) => file,
            None => {
                let _names = self.names();
                std::sync::Arc::new(self.open_to_write(&self.upper_spot(node)?, false)?)
            }
        };
        self.counted(&file, || Ok(set_length(&file, size)?))
    }

    pub(super) fn status(&self, node: &Node) -> Result<Status, FsError> {
        {
            let _names = self.names();
            if let Some(spot) = self.spot(node)? {
                return self.upper_status(node, &spot);
            }
        }
        let lower = node.lower.as_ref().ok_or(FsError::Unknown(node.id.0))?;
        let mut attributes = self.stack.attributes(lower)?;
        if node.kind != Kind::Directory {
            attributes.links = self.lower_links(node, attributes.links);
        }
        Ok(Status { inode: node.inode, attributes, lasting: self.stack.is_node_settled(lower) })
    }

    /// Returns how many names of a node that only the layers hold are left.
    pub(super) fn lower_links(&self, node: &Node, links: u32) -> u32 {
        let counted = self.upper.as_ref().and_then(|upper| upper.names_left(node.inode));
        match counted {
            Some(left) => left,
            None if lock(&self.table).slot(node.id).is_some_and(|slot| slot.names.is_empty()) => 0,
            None => links,
        }
    }

    /// `stat(2)` of a node in the upper directory. The names are held.
    pub(super) fn upper_status(&self, node: &Node, spot: &Spot) -> Result<Status, FsError> {
        let stat = spot.stat()?.ok_or(FsError::NotFound)?;
        let mut attributes = match &self.upper {
            Some(upper) => upper.aside().shown(spot, &stat)?,
            None => stat.attributes,
        };
        attributes.links = self.upper_links(node, stat.inode, &attributes);
        if let Some(bare) = self.bare(node.id) {
            attributes.blocks = bare.blocks;
        }
        Ok(Status { inode: node.inode, attributes, lasting: true })
    }

    fn upper_links(&self, node: &Node, inode: u64, attributes: &Attributes) -> u32 {
        if node.kind == Kind::Directory {
            let table = lock(&self.table);
            let Some(slot) = table.slot(node.id) else { return attributes.links };
            if slot.removed {
                return 0;
            }
            let merged = node.lower.is_some() && !slot.upper.is_some_and(|upper| upper.opaque);
            return if merged { 1 } else { attributes.links };
        }
        let Some(upper) = &self.upper else { return attributes.links };
        let links = attributes.links.saturating_sub(upper.aside().extra_links(inode));
        match upper.indexed_number(inode) {
            Some(number) => links.saturating_sub(1).saturating_add(upper.names_left(number).unwrap_or(0)),
            None => links,
        }
    }
}

fn time_change(time: Option<SetTime>) -> TimeChange {
    match time {
        None => TimeChange::Keep,
        Some(SetTime::Now) => TimeChange::Now,
        Some(SetTime::At(time)) => TimeChange::At(time),
    }
}

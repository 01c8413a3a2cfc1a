//! `unlink(2)` and `rmdir(2)`.
//!
//! What is still held after its last name is gone is kept by an open descriptor, so a crash leaves no litter.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::copy_up::Need;
use super::look::DirectoryView;
use super::table::Node;
use super::{FsError, NodeId, Volume, lock};
use crate::disk::unix::Directory;
use crate::node::Kind;
use crate::overlay::Upper;
use crate::overlay::format::Found;

impl Volume {
    /// `unlink(2)`.
    ///
    /// # Errors
    /// `NotFound`, `IsDirectory`, `NotDirectory`, `NameTooLong`, `ReadOnly`, or what the upper's disk reports.
    pub fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<(), FsError> {
        let upper = self.writable_upper()?;
        loop {
            let view = self.live_directory(parent)?;
            let node = self.find_to_change(parent, name)?.ok_or(FsError::NotFound)?;
            if node.kind == Kind::Directory {
                return Err(FsError::IsDirectory);
            }
            self.check_writable_name(parent, name)?;
            let below = self.shines_through(&view, name)?;
            if below {
                self.copy_up(&view.node, Need::Attributes)?;
            }
            let links = self.original_links(&node)?;
            let Some(_names) = self.names_if_unchanged(&[&view]) else { continue };
            let directory = self.upper_directory(parent)?;
            let fate = self.before_unlink(upper, &node, links, &directory, name)?;
            if below {
                self.expect_whiteout(parent, &directory)?;
                upper.cover(&directory, name)?;
            } else {
                directory.unlink(name)?;
            }
            self.touched(parent);
            lock(&self.table).detach(parent, name);
            return self.after_unlink(upper, &node, fate);
        }
    }

    /// `rmdir(2)`.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`, `NotEmpty`, `NameTooLong`, `ReadOnly`, or what the upper's disk reports.
    pub fn remove_directory(&self, parent: NodeId, name: &[u8]) -> Result<(), FsError> {
        let upper = self.writable_upper()?;
        loop {
            let view = self.live_directory(parent)?;
            let node = self.find_to_change(parent, name)?.ok_or(FsError::NotFound)?;
            let own = self.directory_view(node.id)?;
            if !self.list(&own)?.entries.is_empty() {
                return Err(FsError::NotEmpty);
            }
            self.check_writable_name(parent, name)?;
            let below = self.shines_through(&view, name)?;
            if below {
                self.copy_up(&view.node, Need::Attributes)?;
            }
            let Some(_names) = self.names_if_unchanged(&[&view, &own]) else { continue };
            let directory = self.upper_directory(parent)?;
            let pinned = self.pin(&node)?;
            if below {
                self.expect_whiteout(parent, &directory)?;
            }
            match (below, self.is_upper(node.id)) {
                (true, true) => upper.cover_directory(&directory, name)?,
                (true, false) => upper.cover(&directory, name)?,
                (false, _) => take_away(upper, &directory, name)?,
            }
            self.touched(parent);
            lock(&self.table).detach(parent, name);
            self.mark_removed(&node, pinned);
            return Ok(());
        }
    }

    /// Makes the listing of a directory look for whiteouts, where they look like files.
    pub(super) fn expect_whiteout(&self, id: NodeId, directory: &Arc<Directory>) -> Result<(), FsError> {
        match &self.upper {
            Some(upper) if upper.hides_whiteouts() => self.mark_impure(id, directory),
            _ => Ok(()),
        }
    }

    /// Notes that a directory has been removed or replaced.
    pub(super) fn mark_removed(&self, node: &Node, pinned: Option<Arc<OwnedFd>>) {
        if let Some(slot) = lock(&self.table).slot_mut(node.id) {
            slot.removed = true;
            slot.version += 1;
            slot.detached = pinned;
        }
        lock(&self.open_directories).remove(node.id);
    }

    /// Keeps the node's file for those who hold the node, as far as descriptors last.
    pub(super) fn pin(&self, node: &Node) -> Result<Option<Arc<OwnedFd>>, FsError> {
        Ok(self.spot(node)?.and_then(|spot| spot.pin().ok()))
    }

    /// Returns how many names the layers give a node that is no directory; 0 when they do not have it.
    pub(super) fn original_links(&self, node: &Node) -> Result<u32, FsError> {
        match &node.lower {
            Some(lower) if node.kind != Kind::Directory => Ok(self.stack.attributes(lower)?.links),
            _ => Ok(0),
        }
    }

    /// Finds out what losing `name` means for the node, which has `links` names in the layers. The names are
    /// held, nothing has changed yet.
    pub(super) fn before_unlink(
        &self,
        upper: &Upper,
        node: &Node,
        links: u32,
        directory: &Arc<Directory>,
        name: &[u8],
    ) -> Result<Fate, FsError> {
        let last = lock(&self.table).slot(node.id).is_none_or(|slot| slot.names.len() <= 1);
        let pinned = if last { self.pin(node)? } else { None };
        let in_upper = matches!(upper.examine(directory, name, false)?, Found::Entry(_));
        let mut left = None;
        // A name that only the layers have: their node shows under one name less.
        if !in_upper {
            let counted = upper.names_left(node.inode).or((links > 1).then_some(links));
            left = counted.map(|names| names.saturating_sub(1));
        }
        Ok(Fate { pinned, left })
    }

    /// Settles the counts, and lets go of a copy that no name leads to any more.
    pub(super) fn after_unlink(&self, upper: &Upper, node: &Node, fate: Fate) -> Result<(), FsError> {
        if let Some(left) = fate.left {
            upper.set_names_left(node.inode, left)?;
        }
        let (inode, is_held) = {
            let mut table = lock(&self.table);
            let Some(slot) = table.slot_mut(node.id) else { return Ok(()) };
            if slot.names.is_empty() {
                slot.detached = fate.pinned;
            }
            (slot.upper.map(|state| state.inode), slot.detached.is_some())
        };
        if let Some(number) = inode.and_then(|inode| upper.indexed_number(inode)) {
            let links = upper.indexed_spot(number).stat()?.map_or(0, |stat| stat.attributes.links);
            let own = 1 + inode.map_or(0, |inode| upper.aside().extra_links(inode));
            if links <= own && upper.names_left(number).unwrap_or(0) == 0 {
                upper.drop_indexed(number)?;
            }
        }
        if let Some(inode) = inode {
            upper.lost_name(inode, node.kind, is_held)?;
        }
        self.count_lost_name(node)
    }

    /// Makes an empty directory of the upper physically empty, in an order that shows nothing meanwhile.
    pub(super) fn clear_marks(
        &self,
        view: &DirectoryView,
        directory: &Arc<Directory>,
    ) -> Result<(), FsError> {
        use crate::disk::unix::{Spot, XattrFlag};
        use crate::overlay::format::OPAQUE;
        if view.node.lower.is_some() {
            Spot::named(directory, b".").set_xattr(OPAQUE, b"y", XattrFlag::Set)?;
        }
        for mark in directory.list()? {
            directory.unlink(&mark.name)?;
        }
        Ok(())
    }
}

/// What becomes of a node that loses a name.
#[derive(Debug)]
pub(super) struct Fate {
    pinned: Option<Arc<OwnedFd>>,
    left: Option<u32>,
}

/// Removes a directory below which no layer has anything, with the marks that may be in it.
fn take_away(upper: &Upper, directory: &Arc<Directory>, name: &[u8]) -> Result<(), FsError> {
    match directory.remove_directory(name) {
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
            let doomed = upper.temporary();
            Ok(directory.rename(name, upper.work(), doomed.name())?)
        }
        other => Ok(other?),
    }
}

impl Fate {
    /// Returns what keeps the node's file.
    pub(super) fn into_pinned(self) -> Option<Arc<OwnedFd>> {
        self.pinned
    }
}

impl Volume {
    /// Tells whether `node` is `ancestor` or somewhere in it.
    pub(super) fn is_within(&self, node: NodeId, ancestor: NodeId) -> bool {
        let table = lock(&self.table);
        let mut at = node;
        loop {
            if at == ancestor {
                return true;
            }
            match table.slot(at).and_then(|slot| slot.names.first()) {
                Some((parent, _)) => at = *parent,
                None => return false,
            }
        }
    }
}

//! Listings of directories.
//!
//! A listing is taken once, when a handle is first read from its start, and never changes under its reader, so
//! offsets stay right while names come and go.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::look::DirectoryView;
use super::{DirectoryEntry, FsError, HandleId, Lookup, NodeId, Volume, lock};
use crate::node::Kind;

/// How many listings of directories that are read without a handle are kept.
const KEPT_LISTINGS: usize = 8;

/// The names of a directory at one moment.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) entries: Vec<ListingEntry>,
}

#[derive(Debug)]
pub(super) struct ListingEntry {
    pub(super) name: Box<[u8]>,
    pub(super) inode: u64,
    pub(super) kind: Kind,
}

/// The latest listings that were read without a handle, newest last.
#[derive(Debug, Default)]
pub(super) struct Listings(VecDeque<(NodeId, Arc<Listing>)>);

impl Listings {
    fn get(&self, node: NodeId) -> Option<Arc<Listing>> {
        self.0.iter().find(|(id, _)| *id == node).map(|(_, listing)| Arc::clone(listing))
    }

    fn put(&mut self, node: NodeId, listing: &Arc<Listing>) {
        self.0.retain(|(id, _)| *id != node);
        if self.0.len() >= KEPT_LISTINGS {
            self.0.pop_front();
        }
        self.0.push_back((node, Arc::clone(listing)));
    }
}

impl Volume {
    /// `opendir(3)`: the handle keeps one consistent listing.
    ///
    /// # Errors
    /// `NotDirectory` or `Unknown`.
    pub fn open_directory(&self, node: NodeId) -> Result<HandleId, FsError> {
        let view = self.directory_view(node)?;
        Ok(self.add_directory_handle(&view.node))
    }

    /// `readdir(3)` from `offset` (0 starts anew), `.` and `..` included. `plus` entries count a reference each
    /// except `.` and `..`. Stops when `visit` answers `false`, without counting that entry. Without a handle
    /// the listing of an immutable directory is used.
    ///
    /// # Errors
    /// `NotDirectory`, `Unknown`, or what a layer or the upper's disk reports.
    pub fn read_directory(
        &self,
        node: NodeId,
        handle: Option<HandleId>,
        offset: u64,
        plus: bool,
        visit: &mut dyn FnMut(&DirectoryEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        let view = self.directory_view(node)?;
        let listing = self.listing_for(&view, handle, offset)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, name) in [&b"."[..], b".."].into_iter().enumerate().skip(start) {
            let inode = if index == 0 { view.node.inode } else { self.node(self.parent_of(node)?)?.inode };
            let next_offset = index as u64 + 1;
            let entry = DirectoryEntry { next_offset, name, inode, kind: Kind::Directory, entry: None };
            if !visit(&entry) {
                return Ok(());
            }
        }
        for (index, listed) in listing.entries.iter().enumerate().skip(start.saturating_sub(2)) {
            let mut shown = DirectoryEntry {
                next_offset: index as u64 + 3,
                name: &listed.name,
                inode: listed.inode,
                kind: listed.kind,
                entry: None,
            };
            // A name that is gone or damaged meanwhile is still listed; whoever opens it hears why.
            if plus && let Ok(Lookup::Found(entry)) = self.lookup(node, &listed.name) {
                (shown.inode, shown.kind) = (entry.status.inode, entry.status.attributes.kind);
                shown.entry = Some(entry);
            }
            if !visit(&shown) {
                if let Some(entry) = shown.entry {
                    self.forget(entry.node, 1);
                }
                return Ok(());
            }
        }
        Ok(())
    }

    fn listing_for(
        &self,
        view: &DirectoryView,
        handle: Option<HandleId>,
        offset: u64,
    ) -> Result<Arc<Listing>, FsError> {
        let Some(handle) = handle else {
            let kept = lock(&self.listings).get(view.node.id);
            if let Some(kept) = kept.filter(|_| offset != 0 || self.is_immutable()) {
                return Ok(kept);
            }
            let listing = Arc::new(self.list(view)?);
            lock(&self.listings).put(view.node.id, &listing);
            return Ok(listing);
        };
        let handle = self.directory_handle(handle)?;
        let kept = lock(&handle.listing).clone();
        if let Some(kept) = kept.filter(|_| offset != 0) {
            return Ok(kept);
        }
        let listing = Arc::new(self.list(view)?);
        *lock(&handle.listing) = Some(Arc::clone(&listing));
        Ok(listing)
    }

    /// Lists `view`: what the upper directory holds, then what shows of the layers.
    pub(super) fn list(&self, view: &DirectoryView) -> Result<Listing, FsError> {
        let mut entries = Vec::new();
        if let Some(lower) = view.lower() {
            self.stack.list(lower, &mut |name, inode, kind| {
                entries.push(ListingEntry { name: name.into(), inode, kind });
                ControlFlow::Continue(())
            })?;
        }
        Ok(Listing { entries })
    }
}

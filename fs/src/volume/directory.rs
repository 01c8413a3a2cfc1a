//! Listings of directories.
//!
//! A listing is taken once, when a handle is first read from its start, and never changes under its reader, so
//! offsets stay right while names come and go.

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::look::{DirectoryView, upper_inode};
use super::{DirectoryEntry, FsError, HandleId, Lookup, NodeId, Volume, lock};
use crate::disk::unix::{Directory, Listed};
use crate::node::Kind;
use crate::overlay::Upper;
use crate::overlay::format::Found;

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

    /// Lists `view`: what the upper directory holds, and what shows of the layers, sorted by name.
    pub(super) fn list(&self, view: &DirectoryView) -> Result<Listing, FsError> {
        let mut entries = Vec::new();
        let mut covered = HashSet::new();
        if let (Some(upper), Some(state), false) = (&self.upper, view.upper, view.removed) {
            let _names = self.names();
            let directory = self.upper_directory(view.node.id)?;
            for listed in directory.list()? {
                covered.insert(listed.name.clone());
                if let Some(entry) = list_upper(upper, &directory, listed, state.impure)? {
                    entries.push(entry);
                }
            }
        }
        if let Some(lower) = view.lower() {
            self.stack.list(lower, &mut |name, inode, kind| {
                if !covered.contains(name) {
                    entries.push(ListingEntry { name: name.into(), inode, kind });
                }
                ControlFlow::Continue(())
            })?;
        }
        if !covered.is_empty() {
            entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        }
        Ok(Listing { entries })
    }
}

/// Describes one name of the upper directory; `None` for a whiteout. In a directory that is not impure the
/// listing itself tells all, so that nothing needs a look at the file.
fn list_upper(
    upper: &Upper,
    directory: &Arc<Directory>,
    listed: Listed,
    impure: bool,
) -> Result<Option<ListingEntry>, FsError> {
    let name = listed.name.into_boxed_slice();
    match listed.kind {
        Some(kind) if !impure && kind != Kind::CharacterDevice => {
            let inode = upper.indexed_number(listed.inode).unwrap_or_else(|| upper_inode(listed.inode));
            Ok(Some(ListingEntry { name, inode, kind }))
        }
        _ => match upper.examine(directory, &name, impure)? {
            Found::Nothing | Found::Whiteout => Ok(None),
            Found::Entry(entry) => {
                let inode = entry.number.unwrap_or_else(|| upper_inode(entry.inode));
                Ok(Some(ListingEntry { name, inode, kind: entry.attributes.kind }))
            }
        },
    }
}

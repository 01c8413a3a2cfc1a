//! Listings of directories.
//!
//! A listing is taken once, when a directory is read from its start, and never changes under its reader. Offsets say which
//! listing they belong to, so that several readers of a directory that changes each go on where they were, with a handle or
//! without.
//!
//! **Invariant:** an offset leads into the listing it came from as long as that is kept; a listing is given to a second
//! reader only while the names are still those that it has.

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::look::{DirectoryView, upper_inode};
use super::{DirectoryEntry, FsError, HandleId, Lookup, NodeId, Volume, lock};
use crate::disk::unix::{Directory, Listed};
use crate::node::Kind;
use crate::overlay::Upper;
use crate::overlay::format::Found;

/// How many listings are kept for readers without a handle, besides the newest one: as many directories can be read at
/// once while they change.
const KEPT_LISTINGS: usize = 64;
/// How many entries the kept listings may have together, besides the newest one.
const KEPT_ENTRIES: usize = 1 << 14;

/// The names of a directory at one moment.
#[derive(Debug)]
pub(super) struct Listing {
    /// Which of the volume's listings this is.
    serial: u64,
    /// What [`DirectoryView::version`] was before the names were read.
    version: u64,
    pub(super) entries: Vec<ListingEntry>,
}

#[derive(Debug)]
pub(super) struct ListingEntry {
    pub(super) name: Box<[u8]>,
    pub(super) inode: u64,
    pub(super) kind: Kind,
}

/// Where a reader is: behind so many entries of a listing, `.` and `..` counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offset {
    serial: u64,
    position: u32,
}

impl Offset {
    /// `.` and `..` are the same in every listing.
    const DOTS: u32 = 2;

    fn decode(offset: u64) -> Self {
        Self { serial: offset >> 32, position: (offset & u64::from(u32::MAX)) as u32 }
    }

    fn encode(self) -> u64 {
        self.serial << 32 | u64::from(self.position)
    }
}

/// The latest listings, newest last.
#[derive(Debug, Default)]
pub(super) struct Listings {
    kept: VecDeque<(NodeId, Arc<Listing>)>,
    entries: usize,
    taken: u64,
}

impl Listings {
    /// Serial numbers stay below 2^31: to C programs an offset is a signed number.
    fn next_serial(&mut self) -> u64 {
        self.taken = (self.taken + 1) & (u64::from(u32::MAX) >> 1);
        self.taken
    }

    fn newest(&self, node: NodeId) -> Option<&Arc<Listing>> {
        self.kept.iter().rev().find(|(id, _)| *id == node).map(|(_, listing)| listing)
    }

    fn get(&self, node: NodeId, serial: u64) -> Option<&Arc<Listing>> {
        let wanted = |(id, listing): &&(NodeId, Arc<Listing>)| *id == node && listing.serial == serial;
        self.kept.iter().find(wanted).map(|(_, listing)| listing)
    }

    fn put(&mut self, node: NodeId, listing: &Arc<Listing>) {
        while self.kept.len() >= KEPT_LISTINGS || self.entries > KEPT_ENTRIES {
            let Some((_, oldest)) = self.kept.pop_front() else { break };
            self.entries -= oldest.entries.len();
        }
        self.entries += listing.entries.len();
        self.kept.push_back((node, Arc::clone(listing)));
    }

    /// Takes note that a reader has come to the end: nobody keeps a huge listing for the case that another comes.
    fn read_to_end(&mut self, node: NodeId, serial: u64) {
        self.kept.retain(|(id, listing)| {
            let goes = *id == node && listing.serial == serial && listing.entries.len() > KEPT_ENTRIES;
            if goes {
                self.entries -= listing.entries.len();
            }
            !goes
        });
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
    /// the listing is one of those kept for everybody.
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
        let from = Offset::decode(offset);
        let listing = self.listing_for(&view, handle, from)?;
        for (position, name) in (1..).zip([&b"."[..], b".."]).skip(from.position as usize) {
            let inode = if position == 1 { view.node.inode } else { self.node(self.parent_of(node)?)?.inode };
            let next_offset = Offset { serial: listing.serial, position }.encode();
            let entry = DirectoryEntry { next_offset, name, inode, kind: Kind::Directory, entry: None };
            if !visit(&entry) {
                return Ok(());
            }
        }
        let begin = from.position.saturating_sub(Offset::DOTS) as usize;
        if from.position > 0 && begin >= listing.entries.len() {
            lock(&self.listings).read_to_end(node, listing.serial);
        }
        for (position, listed) in (Offset::DOTS + 1..).zip(&listing.entries).skip(begin) {
            let mut shown = DirectoryEntry {
                next_offset: Offset { serial: listing.serial, position }.encode(),
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

    /// Returns the listing that `from` leads into, or a new one. The kernel keeps listings, too, and gives the offsets of
    /// one reader to others, so a handle may be asked for an offset that is not of its own listing.
    fn listing_for(
        &self,
        view: &DirectoryView,
        handle: Option<HandleId>,
        from: Offset,
    ) -> Result<Arc<Listing>, FsError> {
        let handle = handle.map(|handle| self.directory_handle(handle)).transpose()?;
        if from.position > 0 {
            let own = handle.as_ref().and_then(|handle| lock(&handle.listing).clone());
            if let Some(own) = own.filter(|own| own.serial == from.serial) {
                return Ok(own);
            }
            if let Some(kept) = lock(&self.listings).get(view.node.id, from.serial) {
                return Ok(Arc::clone(kept));
            }
        }
        // See `show_known_numbers`: who is known may be another one by now.
        let lasting = self.is_final(view) && !self.replaced.load(Ordering::Relaxed);
        let current = |listing: &&Arc<Listing>| listing.version == view.version && lasting;
        let known = lock(&self.listings).newest(view.node.id).filter(current).map(Arc::clone);
        let listing = match known {
            Some(known) => known,
            None => {
                let listing = Arc::new(self.list(view)?);
                lock(&self.listings).put(view.node.id, &listing);
                listing
            }
        };
        if let Some(handle) = handle {
            *lock(&handle.listing) = Some(Arc::clone(&listing));
        }
        Ok(listing)
    }

    /// Tells whether the names in a directory change through this volume alone.
    pub(super) fn is_final(&self, view: &DirectoryView) -> bool {
        view.lower().is_none_or(|lower| self.stack.is_node_settled(lower))
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
        if self.replaced.load(Ordering::Relaxed) {
            self.show_known_numbers(view.node.id, &mut entries);
        }
        if !covered.is_empty() {
            entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        }
        Ok(Listing { serial: lock(&self.listings).next_serial(), version: view.version, entries })
    }

    /// What was moved away from a name that was taken back since gave up its number on disk, and shows it as long as it is
    /// known.
    fn show_known_numbers(&self, directory: NodeId, entries: &mut [ListingEntry]) {
        let table = lock(&self.table);
        let Some(slot) = table.slot(directory) else { return };
        for entry in entries {
            let known = slot.children.get(&entry.name).and_then(|child| table.slot(child));
            if let Some(child) = known {
                entry.inode = child.node.inode;
            }
        }
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

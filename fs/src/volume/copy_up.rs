//! First changes: bringing what a layer holds into the upper directory.
//!
//! A copy is prepared in `work/` and appears complete, by one rename, where the original shows; the node keeps
//! its numbers. Parents come first. One lock per node: copying a large file blocks nobody who does not change
//! that same file.
//!
//! **Invariant:** content is on disk before the copy hides the original, so a power failure loses neither.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::table::{Bare, Node, UpperState};
use super::{FsError, NodeId, Volume, lock};
use crate::disk::DiskError;
use crate::disk::unix::{Directory, SetTimes, Spot, XattrFlag};
use crate::layer::stack::Lower;
use crate::node::{Attributes, Kind};
use crate::overlay::allowance::Room;
use crate::overlay::{Temporary, Upper, format};

impl Volume {
    /// Makes sure that `node` is in the upper directory with what is needed of it, and the directories that lead to it.
    pub(super) fn copy_up(&self, node: &Arc<Node>, need: Need) -> Result<(), FsError> {
        let upper = self.writable_upper()?;
        self.expand(node.id)?;
        while !self.is_upper(node.id) {
            for directory in self.ancestors_to_copy(node.id) {
                self.copy_up_one(upper, &directory, Need::Attributes)?;
            }
            if self.copy_up_one(upper, node, need)? {
                break;
            }
        }
        match need {
            Need::Attributes => Ok(()),
            Need::Content => self.fill(node, None),
            Need::Beginning(keep) => self.fill(node, Some(keep)),
        }
    }

    pub(super) fn is_upper(&self, id: NodeId) -> bool {
        lock(&self.table).slot(id).is_some_and(|slot| slot.upper.is_some() || slot.detached.is_some())
    }

    /// Returns the directories above `id` that are not in the upper directory yet, outermost first.
    fn ancestors_to_copy(&self, id: NodeId) -> Vec<Arc<Node>> {
        let table = lock(&self.table);
        let mut missing = Vec::new();
        let mut at = id;
        while let Some((parent, _)) = table.slot(at).and_then(|slot| slot.names.first()) {
            match table.slot(*parent) {
                Some(slot) if slot.upper.is_none() => missing.push(Arc::clone(&slot.node)),
                _ => break,
            }
            at = *parent;
        }
        missing.reverse();
        missing
    }

    /// Copies up `node` alone; `false` when its parents are not there (any more).
    fn copy_up_one(&self, upper: &Upper, node: &Arc<Node>, need: Need) -> Result<bool, FsError> {
        let _alone = self.copying.begin(node.id);
        if self.is_upper(node.id) {
            return Ok(true);
        }
        let lower = node.lower.as_ref().ok_or(FsError::Unknown(node.id.0))?;
        let attributes = self.stack.attributes(lower)?;
        let prepared = upper.temporary();
        let (built, bare) = match self.copy_node(upper, node, (lower, &attributes, need), &prepared) {
            Ok(bare) => (self.copy_attributes(upper, node, &prepared.spot(), &attributes), bare),
            Err(error) => (Err(error), None),
        };
        let counted = match &self.allowance {
            Some(allowance) => {
                let room = prepared.spot().stat()?.as_ref().and_then(Room::of_stat);
                room.map(|room| allowance.settle(|| Ok(room)).map(|_| (allowance, room))).transpose()?
            }
            None => None,
        };
        let published = built.and_then(|()| self.publish_copy(upper, node, prepared, &attributes, bare));
        if let Some((allowance, room)) = counted.filter(|_| !matches!(published, Ok(true))) {
            allowance.abandoned(room);
        }
        published
    }

    /// Prepares a copy with the content that is needed; returns whether it has none.
    fn copy_node(
        &self,
        upper: &Upper,
        node: &Node,
        (lower, attributes, need): (&Lower, &Attributes, Need),
        prepared: &Temporary<'_>,
    ) -> Result<Option<Bare>, FsError> {
        match (node.kind, lower.top()) {
            (Kind::File, Some(_)) => {
                if need == Need::Attributes
                    && let Some(bare) = self.prepare_bare(upper, node, prepared, attributes)?
                {
                    return Ok(Some(bare));
                }
                self.copy_content(upper, prepared, lower, attributes.size, need)?;
            }
            (Kind::Directory, _) => upper.work().make_directory(prepared.name(), 0o700)?,
            (Kind::Symlink, Some((layer, at))) => {
                let target = self.stack.layer(layer).layer.read_link(at)?;
                upper.work().make_symlink(prepared.name(), &target)?;
            }
            (kind, _) => {
                let new = crate::disk::unix::NewSpecial { kind, mode: 0o600, device: attributes.device };
                self.make_special(upper, prepared, new)?;
            }
        }
        Ok(None)
    }

    fn copy_content(
        &self,
        upper: &Upper,
        prepared: &Temporary<'_>,
        lower: &Lower,
        size: u64,
        need: Need,
    ) -> Result<(), FsError> {
        let target = upper.work().create_file(prepared.name(), 0o600)?;
        if let Some(allowance) = &self.allowance {
            allowance.begin(Room::of_file(&target)?);
        }
        let length = match need {
            Need::Beginning(keep) => keep.min(size),
            Need::Attributes | Need::Content => size,
        };
        if length == 0 {
            return Ok(());
        }
        self.bring(lower, &target, length)
    }

    /// Gives the copy what the original has. Attributes come before the mode, which may forbid setting them.
    fn copy_attributes(
        &self,
        upper: &Upper,
        node: &Node,
        spot: &Spot,
        attributes: &Attributes,
    ) -> Result<(), FsError> {
        upper.give_owner(spot, attributes)?;
        for (name, value) in self.lower_xattrs(node)? {
            if let Err(error) = upper.set_attribute(spot, &name, &value, XattrFlag::Set) {
                tracing::debug!("an extended attribute is lost in copying up: {error}");
            }
        }
        if matches!(node.kind, Kind::File | Kind::Directory) {
            upper.write_number(spot, node.inode)?;
        }
        upper.give_mode(spot, attributes)?;
        Ok(spot.set_times(SetTimes::of(attributes))?)
    }

    /// Lets the copy appear. The node's names are looked at now: they may have changed while it was prepared.
    fn publish_copy(
        &self,
        upper: &Upper,
        node: &Arc<Node>,
        prepared: Temporary<'_>,
        attributes: &Attributes,
        bare: Option<Bare>,
    ) -> Result<bool, FsError> {
        let _names = self.names_mut();
        let name = match self.place_for_copy(node.id)? {
            Place::Missing => return Ok(false),
            Place::Nowhere => None,
            Place::At(parent, name) => Some((parent, name)),
        };
        let inode = prepared.spot().stat()?.ok_or(FsError::NotFound)?.inode;
        let state = UpperState { inode, opaque: false, impure: false };
        let left = upper.names_left(node.inode).unwrap_or(attributes.links);
        let is_linked = node.kind != Kind::Directory && attributes.links > 1;
        if is_linked || !matches!(node.kind, Kind::File | Kind::Directory) {
            if !is_linked && name.is_none() {
                return self.keep_nameless(node, &prepared, bare);
            }
            if is_linked {
                upper.set_names_left(node.inode, left)?;
            }
            upper.publish_indexed(prepared, node.inode, inode)?;
            lock(&self.table).copied_up(node.id, state, bare);
            self.link_known_names(upper, node, is_linked.then_some(left))?;
            return Ok(true);
        }
        let Some((parent, name)) = name else {
            return self.keep_nameless(node, &prepared, bare);
        };
        let directory = self.upper_directory(parent)?;
        self.mark_impure(parent, &directory)?;
        keeping_times(&directory, || prepared.publish(&directory, &name))?;
        lock(&self.table).copied_up(node.id, state, bare);
        self.touched(parent);
        Ok(true)
    }

    fn place_for_copy(&self, id: NodeId) -> Result<Place, FsError> {
        let table = lock(&self.table);
        let slot = table.slot(id).ok_or(FsError::Unknown(id.0))?;
        let Some((parent, name)) = slot.names.first() else { return Ok(Place::Nowhere) };
        match table.slot(*parent) {
            Some(directory) if directory.upper.is_some() => Ok(Place::At(*parent, Arc::clone(name))),
            // A directory without a name never gets into the upper directory, and nothing in it.
            Some(directory) if directory.detached.is_some() => Ok(Place::Nowhere),
            _ => Ok(Place::Missing),
        }
    }

    /// The node has lost its last name: the copy lives as long as the node does.
    fn keep_nameless(
        &self,
        node: &Node,
        prepared: &Temporary<'_>,
        bare: Option<Bare>,
    ) -> Result<bool, FsError> {
        let pinned = prepared.spot().pin()?;
        if let Some(allowance) = &self.allowance
            && let Some(room) = prepared.spot().stat()?.as_ref().and_then(Room::of_stat)
        {
            allowance.lost(room.without_names(), true);
        }
        lock(&self.table).copied_nameless(node.id, pinned, bare);
        Ok(true)
    }

    /// Gives the copy in the index the names that are known to show it, so that other tools see them too.
    fn link_known_names(&self, upper: &Upper, node: &Node, mut left: Option<u32>) -> Result<(), FsError> {
        let names = lock(&self.table).slot(node.id).map(|slot| slot.names.clone()).unwrap_or_default();
        for (parent, name) in names {
            if lock(&self.table).slot(parent).is_none_or(|slot| slot.upper.is_none()) {
                continue;
            }
            let directory = self.upper_directory(parent)?;
            keeping_times(&directory, || directory.link(&upper.indexed_spot(node.inode), &name))?;
            self.touched(parent);
            if let Some(left) = &mut left {
                *left = left.saturating_sub(1);
                upper.set_names_left(node.inode, *left)?;
            }
        }
        Ok(())
    }

    /// Marks the directory as one whose listing must look for inode numbers.
    pub(super) fn mark_impure(&self, id: NodeId, directory: &Arc<Directory>) -> Result<(), FsError> {
        if lock(&self.table).slot(id).and_then(|slot| slot.upper).is_some_and(|upper| upper.impure) {
            return Ok(());
        }
        Spot::named(directory, b".").set_xattr(format::IMPURE, b"y", XattrFlag::Set)?;
        if let Some(slot) = lock(&self.table).slot_mut(id)
            && let Some(upper) = &mut slot.upper
        {
            upper.impure = true;
        }
        Ok(())
    }
}

/// Which nodes are being copied up, or get what is missing in their copies: one thread at a time does that with each, and
/// blocks nobody else.
#[derive(Debug, Default)]
pub(super) struct Copying {
    nodes: Mutex<HashSet<NodeId>>,
    ended: Condvar,
}

/// A node that nobody else copies up meanwhile. Never taken twice by one thread.
#[derive(Debug)]
pub(super) struct Alone<'a> {
    copying: &'a Copying,
    node: NodeId,
}

impl Copying {
    /// Waits until nobody else copies up `node`.
    pub(super) fn begin(&self, node: NodeId) -> Alone<'_> {
        let is_busy = |nodes: &mut HashSet<NodeId>| nodes.contains(&node);
        let free = self.ended.wait_while(lock(&self.nodes), is_busy);
        free.unwrap_or_else(PoisonError::into_inner).insert(node);
        Alone { copying: self, node }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        lock(&self.copying.nodes).remove(&self.node);
        self.copying.ended.notify_all();
    }
}

/// What is needed of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Attributes and names; a file's content may stay where it is.
    Attributes,
    /// All of the content.
    Content,
    /// Of the content only so many bytes from its beginning.
    Beginning(u64),
}

enum Place {
    /// A parent is not in the upper directory.
    Missing,
    /// The node has no known name.
    Nowhere,
    At(NodeId, Arc<[u8]>),
}

/// Copying up is no change that a user made, so the directory's times stay.
fn keeping_times(
    directory: &Arc<Directory>,
    action: impl FnOnce() -> Result<(), DiskError>,
) -> Result<(), FsError> {
    let spot = Spot::named(directory, b".");
    let before = spot.stat()?;
    action()?;
    if let Some(before) = before {
        spot.set_times(SetTimes::of(&before.attributes))?;
    }
    Ok(())
}

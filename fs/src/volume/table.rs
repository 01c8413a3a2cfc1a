//! Which nodes are known, under which names, and who still needs them.
//!
//! A node has a slot, or it is quiet (see [`super::quiet`]): then its name is where the layers have it, it was never changed,
//! and only its references are counted. It gets a slot, and keeps its number, before anything else is noted about it.
//!
//! *Concurrency:* the table lies behind one mutex that is held for map operations only, never across I/O.
//!
//! **Invariant:** a node stays as long as the kernel holds a reference, a handle is open or a known child needs
//! it as its parent; its number is never given to another node.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use smallvec::SmallVec;

use super::quiet::QuietNodes;
use super::types::NodeId;
use crate::layer::stack::Lower;
use crate::node::Kind;

/// A name in the layers: where a directory's content comes from, whatever it is called now.
#[derive(Debug)]
pub(super) struct LowerPath {
    pub(super) parent: Option<Arc<LowerPath>>,
    pub(super) name: Box<[u8]>,
}

/// What never changes about a node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) kind: Kind,
    /// What `stat(2)` shows.
    pub(super) inode: u64,
    /// What the layers hold, if anything.
    pub(super) lower: Option<Lower>,
    /// Of a directory: where `lower` is in the layers; `None` is their root.
    pub(super) lower_path: Option<Arc<LowerPath>>,
}

/// What is known about a node that has something in the upper directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UpperState {
    /// Inode number of the file in the upper directory.
    pub(super) inode: u64,
    /// A directory that hides what the layers hold.
    pub(super) opaque: bool,
    /// A directory that holds entries with inode numbers of their own.
    pub(super) impure: bool,
}

/// The names of a node: the directory, and what it is called there. Nearly every node has exactly one.
pub(super) type Names = SmallVec<[(NodeId, Arc<[u8]>); 1]>;

/// The known names in a directory. Most nodes are files and have none, so that costs a word.
#[derive(Debug, Default)]
pub(super) struct Children(Option<Box<KnownChildren>>);

#[derive(Debug, Default)]
struct KnownChildren {
    /// Those that have slots.
    names: HashMap<Arc<[u8]>, NodeId>,
    /// How many are quiet.
    quiet: u64,
}

impl Children {
    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the child that has this name, unless that is quiet.
    pub(super) fn get(&self, name: &[u8]) -> Option<NodeId> {
        self.0.as_ref()?.names.get(name).copied()
    }

    /// Returns the name as it is kept, to share it.
    pub(super) fn kept_name(&self, name: &[u8]) -> Option<&Arc<[u8]>> {
        self.0.as_ref()?.names.get_key_value(name).map(|(kept, _)| kept)
    }

    /// Returns the children that are not quiet.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<[u8]>, NodeId)> {
        self.0.iter().flat_map(|children| children.names.iter().map(|(name, id)| (name, *id)))
    }

    fn insert(&mut self, name: Arc<[u8]>, child: NodeId) -> Option<NodeId> {
        self.0.get_or_insert_default().names.insert(name, child)
    }

    fn remove(&mut self, name: &[u8]) -> Option<NodeId> {
        let removed = self.0.as_mut()?.names.remove(name);
        self.tidy();
        removed
    }

    fn add_quiet(&mut self) {
        self.0.get_or_insert_default().quiet += 1;
    }

    fn remove_quiet(&mut self) {
        if let Some(children) = &mut self.0 {
            children.quiet = children.quiet.saturating_sub(1);
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        self.0 = self.0.take().filter(|children| children.quiet > 0 || !children.names.is_empty());
    }
}

/// A file in the upper directory that has attributes only: its content is that of the node in the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bare {
    /// How much of the content is shown, in bytes; less than all of it after a crash while it was cut.
    pub(super) size: u64,
    /// What the content takes, in units of 512 bytes.
    pub(super) blocks: u64,
}

/// What changes about a node.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) node: Arc<Node>,
    /// Known names, oldest first.
    pub(super) names: Names,
    pub(super) children: Children,
    /// Counts changes of the names in this directory.
    pub(super) version: u64,
    pub(super) upper: Option<UpperState>,
    /// Whether the file in the upper directory has attributes only.
    pub(super) bare: Option<Bare>,
    /// Without a known name: the file itself, kept for those who still hold the node.
    pub(super) detached: Option<Arc<OwnedFd>>,
    /// A directory that was removed.
    pub(super) removed: bool,
    references: u64,
    pub(super) handles: u64,
}

/// What a new node starts with.
#[derive(Debug)]
pub(super) struct NewNode {
    pub(super) kind: Kind,
    pub(super) inode: u64,
    pub(super) lower: Option<Lower>,
    pub(super) lower_path: Option<Arc<LowerPath>>,
    pub(super) upper: Option<UpperState>,
    pub(super) bare: Option<Bare>,
}

/// All known nodes. The kernel may know millions, so a node is kept small, and none moves when the table grows.
#[derive(Debug)]
pub(super) struct Table {
    slots: HashMap<NodeId, Box<Slot>>,
    quiet: QuietNodes,
    by_lower: HashMap<u64, NodeId>,
    by_upper: HashMap<u64, NodeId>,
    next: u64,
}

/// A file without a name that nobody has any more; the host lets go of it when this is dropped.
#[derive(Debug)]
pub(super) struct Freed(pub(super) Arc<OwnedFd>);

impl Table {
    /// A table that holds the root alone.
    pub(super) fn new(root: NewNode) -> Self {
        let mut table = Self {
            slots: HashMap::new(),
            quiet: QuietNodes::default(),
            by_lower: HashMap::new(),
            by_upper: HashMap::new(),
            next: NodeId::ROOT.0,
        };
        let root = table.insert(root);
        if let Some(slot) = table.slots.get_mut(&root.id) {
            slot.references = 1;
        }
        table
    }

    pub(super) fn slot(&self, id: NodeId) -> Option<&Slot> {
        self.slots.get(&id).map(Box::as_ref)
    }

    pub(super) fn slot_mut(&mut self, id: NodeId) -> Option<&mut Slot> {
        self.slots.get_mut(&id).map(Box::as_mut)
    }

    /// Returns every node that is not quiet.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values().map(Box::as_ref)
    }

    /// Returns the node that this thing of the layers or of the upper directory has already.
    pub(super) fn known(&self, new: &NewNode) -> Option<&Slot> {
        let id = match (new.upper, &new.lower) {
            (Some(upper), _) => self.by_upper.get(&upper.inode),
            (None, Some(lower)) => self.by_lower.get(&lower.inode()),
            (None, None) => None,
        }?;
        self.slots.get(id).map(Box::as_ref).filter(|slot| slot.node.kind == new.kind)
    }

    /// Adds a node without names and references.
    pub(super) fn insert(&mut self, new: NewNode) -> Arc<Node> {
        let id = NodeId(self.next);
        self.next += 1;
        self.insert_as(id, new, (0, 0))
    }

    fn insert_as(&mut self, id: NodeId, new: NewNode, (references, handles): (u64, u64)) -> Arc<Node> {
        match (new.upper, &new.lower) {
            (Some(upper), _) => self.by_upper.insert(upper.inode, id),
            (None, Some(lower)) => self.by_lower.insert(lower.inode(), id),
            (None, None) => None,
        };
        let node = Arc::new(Node {
            id,
            kind: new.kind,
            inode: new.inode,
            lower: new.lower,
            lower_path: new.lower_path,
        });
        let slot = Slot {
            node: Arc::clone(&node),
            names: Names::new(),
            children: Children::default(),
            version: 0,
            upper: new.upper,
            bare: new.bare,
            detached: None,
            removed: false,
            references,
            handles,
        };
        self.slots.insert(id, Box::new(slot));
        node
    }

    /// Notes that `id` is called `name` in `parent` from now on.
    pub(super) fn attach(&mut self, parent: NodeId, name: &Arc<[u8]>, id: NodeId) {
        let Some(directory) = self.slots.get_mut(&parent) else { return };
        let before = directory.children.insert(Arc::clone(name), id);
        if before == Some(id) {
            return;
        }
        if let Some(before) = before {
            self.unname(before, parent, name);
        }
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.names.push((parent, Arc::clone(name)));
            slot.detached = None;
        }
    }

    /// Notes that nothing is known under `name` in `parent` any more; returns what was.
    pub(super) fn detach(&mut self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let directory = self.slots.get_mut(&parent)?;
        let child = directory.children.remove(name)?;
        self.unname(child, parent, name);
        Some(child)
    }

    fn unname(&mut self, child: NodeId, parent: NodeId, name: &[u8]) {
        if let Some(slot) = self.slots.get_mut(&child) {
            slot.names.retain(|(at, known)| *at != parent || **known != *name);
        }
    }

    /// Notes that names in `directory` have changed on disk.
    pub(super) fn changed(&mut self, directory: NodeId) {
        if let Some(slot) = self.slots.get_mut(&directory) {
            slot.version += 1;
        }
    }

    /// Notes that a node of the layers now lives in the upper directory.
    pub(super) fn copied_up(&mut self, id: NodeId, upper: UpperState, bare: Option<Bare>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.bare = bare;
        slot.upper = Some(upper);
        self.by_upper.insert(upper.inode, id);
        self.part_from_layers(id);
    }

    /// Notes that a node of the layers that has no name any more has a copy of its own, `file`.
    pub(super) fn copied_nameless(&mut self, id: NodeId, file: Arc<OwnedFd>, bare: Option<Bare>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.detached = Some(file);
        slot.bare = bare;
        self.part_from_layers(id);
    }

    /// What the layers have is not this node any more, should somebody find it there again.
    fn part_from_layers(&mut self, id: NodeId) {
        let lower = self.slots.get(&id).and_then(|slot| slot.node.lower.as_ref()).map(Lower::inode);
        if let Some(inode) = lower
            && self.by_lower.get(&inode) == Some(&id)
        {
            self.by_lower.remove(&inode);
        }
    }

    /// Notes that a directory of the layers has something else in the upper directory, or nothing.
    pub(super) fn recopied(&mut self, id: NodeId, upper: Option<UpperState>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.version += 1;
        if let Some(before) = std::mem::replace(&mut slot.upper, upper)
            && self.by_upper.get(&before.inode) == Some(&id)
        {
            self.by_upper.remove(&before.inode);
        }
        match (upper, &slot.node.lower) {
            (Some(upper), _) => {
                self.by_upper.insert(upper.inode, id);
                self.part_from_layers(id);
            }
            (None, Some(lower)) => drop(self.by_lower.entry(lower.inode()).or_insert(id)),
            (None, None) => {}
        }
    }

    /// Notes that a node has lost a name. When it was the last one, `pinned` keeps it for those who still hold the node,
    /// and what takes its place on the disk is not it.
    pub(super) fn parted(&mut self, id: NodeId, pinned: Option<&Arc<OwnedFd>>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.version += 1;
        if !slot.names.is_empty() {
            return;
        }
        let is_directory = slot.node.kind == Kind::Directory;
        slot.removed = is_directory;
        if let Some(upper) = slot.upper {
            slot.detached = pinned.map(Arc::clone);
            if self.by_upper.get(&upper.inode) == Some(&id) {
                self.by_upper.remove(&upper.inode);
            }
        }
        // What the layers have in it is found in another directory, if at all.
        if is_directory {
            self.part_from_layers(id);
        }
    }

    pub(super) fn is_quiet(&self, id: NodeId) -> bool {
        self.quiet_parent(id).is_some()
    }

    /// Returns the directory that a quiet node is in; `None` when there is no such quiet node.
    pub(super) fn quiet_parent(&self, id: NodeId) -> Option<NodeId> {
        self.quiet.parent(id)
    }

    /// Returns the quiet nodes in these directories.
    pub(super) fn quiet_in(&self, directories: &HashSet<NodeId>) -> Vec<NodeId> {
        self.quiet.iter().filter(|(_, parent)| directories.contains(parent)).map(|(id, _)| id).collect()
    }

    /// Returns the directories that the node is known to be in.
    pub(super) fn parents(&self, id: NodeId) -> SmallVec<[NodeId; 1]> {
        match self.slots.get(&id) {
            Some(slot) => slot.names.iter().map(|(parent, _)| *parent).collect(),
            None => self.quiet.parent(id).into_iter().collect(),
        }
    }

    /// Counts a reference to the quiet node `id` in `parent`, making it known; `false` when it cannot be quiet, or not there.
    pub(super) fn acquire_quiet(&mut self, id: NodeId, parent: NodeId) -> bool {
        if self.slots.contains_key(&id) {
            return false;
        }
        let Some(directory) = self.slots.get_mut(&parent) else { return false };
        let is_new = self.quiet.parent(id).is_none();
        let counted = self.quiet.acquire(id, parent);
        if counted && is_new {
            directory.children.add_quiet();
        }
        counted
    }

    /// Gives a quiet node its slot. `new` and `name` are what the layers have.
    pub(super) fn expand(&mut self, id: NodeId, new: NewNode, name: &[u8]) {
        let Some((parent, counts)) = self.quiet.remove(id) else { return };
        self.insert_as(id, new, counts);
        self.attach(parent, &Arc::from(name), id);
        if let Some(directory) = self.slots.get_mut(&parent) {
            directory.children.remove_quiet();
        }
    }

    pub(super) fn acquire(&mut self, id: NodeId, count: u64) -> Option<Arc<Node>> {
        let slot = self.slots.get_mut(&id)?;
        slot.references += count;
        Some(Arc::clone(&slot.node))
    }

    pub(super) fn release(&mut self, id: NodeId, count: u64) -> Vec<Freed> {
        let Some(slot) = self.slots.get_mut(&id) else {
            let without = self.quiet.release(id, count);
            return self.lost_quiet(without);
        };
        slot.references = slot.references.saturating_sub(count);
        self.drop_unused(id)
    }

    /// Notes that a quiet child of `directory` is not known any more.
    fn lost_quiet(&mut self, directory: Option<NodeId>) -> Vec<Freed> {
        let Some(directory) = directory else { return Vec::new() };
        if let Some(slot) = self.slots.get_mut(&directory) {
            slot.children.remove_quiet();
        }
        self.drop_unused(directory)
    }

    pub(super) fn opened(&mut self, id: NodeId) {
        match self.slots.get_mut(&id) {
            Some(slot) => slot.handles += 1,
            None => self.quiet.opened(id),
        }
    }

    pub(super) fn closed(&mut self, id: NodeId) -> Vec<Freed> {
        let Some(slot) = self.slots.get_mut(&id) else {
            let without = self.quiet.closed(id);
            return self.lost_quiet(without);
        };
        slot.handles = slot.handles.saturating_sub(1);
        // Without a name and not open any more, it is as good as gone, even if somebody still remembers it.
        let closed = slot.detached.clone().filter(|_| slot.handles == 0).map(Freed);
        let mut freed = self.drop_unused(id);
        freed.extend(closed);
        freed
    }

    /// Returns how many nodes are known, and how many of them have slots; the root is always one.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.slots.len() + self.quiet.len(), self.slots.len())
    }

    /// Drops what nobody needs any more; returns the files without a name among them, which go when that is dropped.
    fn drop_unused(&mut self, id: NodeId) -> Vec<Freed> {
        let mut freed = Vec::new();
        let mut candidates = vec![id];
        while let Some(id) = candidates.pop() {
            let unused = |slot: &Slot| slot.references == 0 && slot.handles == 0 && slot.children.is_empty();
            if id == NodeId::ROOT || !self.slots.get(&id).is_some_and(|slot| unused(slot)) {
                continue;
            }
            let Some(slot) = self.slots.remove(&id) else { continue };
            freed.extend(slot.detached.map(Freed));
            if let Some(upper) = slot.upper
                && self.by_upper.get(&upper.inode) == Some(&id)
            {
                self.by_upper.remove(&upper.inode);
            }
            if let Some(lower) = &slot.node.lower
                && self.by_lower.get(&lower.inode()) == Some(&id)
            {
                self.by_lower.remove(&lower.inode());
            }
            for (parent, name) in slot.names {
                if let Some(directory) = self.slots.get_mut(&parent) {
                    directory.children.remove(&name);
                    candidates.push(parent);
                }
            }
        }
        freed
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn upper_file(inode: u64) -> NewNode {
        let upper = UpperState { inode, opaque: false, impure: false };
        NewNode { kind: Kind::File, inode, lower: None, lower_path: None, upper: Some(upper), bare: None }
    }

    #[test]
    fn a_node_lives_as_long_as_somebody_needs_it() {
        let mut table = Table::new(NewNode { kind: Kind::Directory, ..upper_file(2) });
        let directory = table.insert(NewNode { kind: Kind::Directory, ..upper_file(3) }).id;
        let file = table.insert(upper_file(4)).id;
        table.attach(NodeId::ROOT, &Arc::from(&b"d"[..]), directory);
        table.attach(directory, &Arc::from(&b"f"[..]), file);
        table.acquire(directory, 1);
        table.acquire(file, 2);
        table.opened(file);
        table.release(directory, 1);
        assert_eq!(table.len(), (3, 3), "the child keeps its parent");
        table.release(file, 2);
        assert!(table.known(&upper_file(4)).is_some(), "the handle keeps the file");
        table.closed(file);
        assert_eq!(table.len(), (1, 1));
        assert!(table.slot(NodeId::ROOT).unwrap().children.is_empty());
        assert_eq!(table.insert(upper_file(4)).id, NodeId(4), "numbers are not used again");
    }
}

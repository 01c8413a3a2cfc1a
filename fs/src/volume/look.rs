//! From names to nodes, and back to nothing when the kernel forgets them.
//!
//! *Concurrency:* a lookup may wait for a layer that is still being indexed, so it holds no lock; it notes the
//! directory's version before and starts again when a change came in between.

use std::sync::Arc;

use super::table::{LowerPath, NewNode, Node, Slot, UpperState};
use super::{Entry, FsError, Lookup, NodeId, Volume, lock};
use crate::layer::stack::Lower;
use crate::node::Kind;
use crate::overlay::format::{Found, UpperEntry};

/// Longest name in bytes (`NAME_MAX`).
const NAME_MAX: usize = 255;

/// A node with a reference that is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Held<'a> {
    /// Who takes the reference back; `None` when somebody else gives it back.
    volume: Option<&'a Volume>,
    node: Arc<Node>,
}

/// What a directory looked like at one moment.
#[derive(Clone, Debug)]
pub(super) struct DirectoryView {
    pub(super) node: Arc<Node>,
    pub(super) upper: Option<UpperState>,
    pub(super) removed: bool,
    pub(super) version: u64,
}

/// The number of a node that only the upper directory has.
pub(super) fn upper_inode(inode: u64) -> u64 {
    UPPER_ONLY | inode
}

/// Tells whether a directory that holds `node` must look at its entries to list them right: the number is one
/// of the layers, or the device may be kept aside.
pub(super) fn needs_look(node: &Node) -> bool {
    node.inode & UPPER_ONLY == 0 || matches!(node.kind, Kind::CharacterDevice | Kind::BlockDevice)
}

/// Marks inode numbers that no layer gives.
const UPPER_ONLY: u64 = 1 << 63;

impl Held<'_> {
    /// Leaves the reference to the caller, who gives it back by `forget`.
    pub(super) fn keep(mut self) -> NodeId {
        self.volume = None;
        self.node.id
    }
}

impl std::ops::Deref for Held<'_> {
    type Target = Arc<Node>;

    fn deref(&self) -> &Arc<Node> {
        &self.node
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(volume) = self.volume {
            let freed = lock(&volume.table).release(self.node.id, 1);
            volume.count_freed(freed);
        }
    }
}

impl DirectoryView {
    fn of(slot: &Slot) -> Self {
        Self { node: Arc::clone(&slot.node), upper: slot.upper, removed: slot.removed, version: slot.version }
    }

    /// What of the layers shows in this directory.
    pub(super) fn lower(&self) -> Option<&Lower> {
        if self.removed || self.upper.is_some_and(|upper| upper.opaque) {
            return None;
        }
        self.node.lower.as_ref()
    }
}

/// Refuses names that no file can have.
pub(super) fn check_name(name: &[u8]) -> Result<(), FsError> {
    if name.len() > NAME_MAX {
        return Err(FsError::NameTooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return Err(FsError::Invalid("not a file name"));
    }
    Ok(())
}

impl Volume {
    /// Finds `name` in `parent` and counts one reference to the node found (see [`Self::forget`]). `.` and `..`
    /// are understood.
    ///
    /// # Errors
    /// `NotDirectory`, `NameTooLong`, or what a layer or the upper's disk reports; absence is no error.
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Lookup, FsError> {
        loop {
            let before = self.version(parent);
            let held = match name {
                b"." => Some(self.hold(parent)?),
                b".." => Some(self.hold(self.parent_of(parent)?)?),
                _ if name.len() > NAME_MAX => return Err(FsError::NameTooLong),
                _ if check_name(name).is_err() => None,
                _ => self.find(parent, name)?,
            };
            let Some(held) = held else {
                let view = self.directory_view(parent)?;
                return Ok(Lookup::Absent { lasting: self.is_final(&view) });
            };
            match self.status(&held) {
                Ok(status) => return Ok(Lookup::Found(Entry { node: held.keep(), status })),
                // Something else may have the name by now.
                Err(_) if self.version(parent) != before => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns what counts the changes of the names in a known directory.
    fn version(&self, directory: NodeId) -> Option<u64> {
        lock(&self.table).slot(directory).map(|slot| slot.version)
    }

    /// Takes back `count` references; a node without references and names is dropped.
    pub fn forget(&self, node: NodeId, count: u64) {
        if node != NodeId::ROOT {
            let freed = lock(&self.table).release(node, count);
            self.count_freed(freed);
        }
    }

    /// Returns how many nodes are known now; the root is always one.
    #[must_use]
    pub fn known_nodes(&self) -> usize {
        lock(&self.table).len().0
    }

    /// Returns of how many nodes more than references is kept now: what the layers alone have takes a few bytes.
    #[must_use]
    pub fn kept_nodes(&self) -> usize {
        lock(&self.table).len().1
    }

    /// Returns the node, which must be known.
    pub(super) fn node(&self, id: NodeId) -> Result<Arc<Node>, FsError> {
        {
            let table = lock(&self.table);
            if let Some(slot) = table.slot(id) {
                return Ok(Arc::clone(&slot.node));
            }
            if !table.is_quiet(id) {
                return Err(FsError::Unknown(id.0));
            }
        }
        self.quiet_node(id)
    }

    /// Counts a reference to a known node, which may be changed.
    pub(super) fn hold(&self, id: NodeId) -> Result<Held<'_>, FsError> {
        self.expand(id)?;
        let node = lock(&self.table).acquire(id, 1).ok_or(FsError::Unknown(id.0))?;
        Ok(Held { volume: Some(self), node })
    }

    pub(super) fn directory_view(&self, id: NodeId) -> Result<DirectoryView, FsError> {
        let table = lock(&self.table);
        if table.is_quiet(id) {
            return Err(FsError::NotDirectory);
        }
        let slot = table.slot(id).ok_or(FsError::Unknown(id.0))?;
        if slot.node.kind != Kind::Directory {
            return Err(FsError::NotDirectory);
        }
        Ok(DirectoryView::of(slot))
    }

    /// Returns the directory that `id` is in; the root is in itself, and so is what was removed.
    pub(super) fn parent_of(&self, id: NodeId) -> Result<NodeId, FsError> {
        let table = lock(&self.table);
        if table.slot(id).is_none() && !table.is_quiet(id) {
            return Err(FsError::Unknown(id.0));
        }
        Ok(table.parents(id).first().copied().unwrap_or(id))
    }

    /// Returns a path that leads to `id` from the root at this moment, without a slash at the beginning; empty for the root.
    /// `None` when no known name leads there.
    #[must_use]
    pub fn path_of(&self, id: NodeId) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = id;
        if let Some((parent, name)) = self.quiet_name(id) {
            names.push(name);
            at = parent;
        }
        {
            let table = lock(&self.table);
            while at != NodeId::ROOT {
                let (parent, name) = table.slot(at)?.names.first()?;
                names.push(Arc::clone(name));
                at = *parent;
            }
        }
        names.reverse();
        Some(names.join(&b'/'))
    }

    /// Finds the node called `name` in `parent`, making it known.
    pub(super) fn find(&self, parent: NodeId, name: &[u8]) -> Result<Option<Held<'_>>, FsError> {
        check_name(name)?;
        loop {
            let view = {
                let mut table = lock(&self.table);
                if table.is_quiet(parent) {
                    return Err(FsError::NotDirectory);
                }
                let slot = table.slot(parent).ok_or(FsError::Unknown(parent.0))?;
                if slot.node.kind != Kind::Directory {
                    return Err(FsError::NotDirectory);
                }
                let view = DirectoryView::of(slot);
                let child = slot.children.get(name);
                if let Some(child) = child.filter(|child| self.is_name_final(&table, *child))
                    && let Some(node) = table.acquire(child, 1)
                {
                    return Ok(Some(Held { volume: Some(self), node }));
                }
                view
            };
            if view.removed {
                return Ok(None);
            }
            let new = match self.search(&view, name) {
                Ok(Some(new)) => new,
                Ok(None) => return Ok(None),
                // The directory may have been replaced meanwhile.
                Err(_) if self.version(parent).is_some_and(|version| version != view.version) => continue,
                Err(error) => return Err(error),
            };
            let quiet = self.quiet_number(&new, name)?;
            match self.enter(&view, name, new, quiet) {
                Entered::Known(node) => return Ok(Some(Held { volume: Some(self), node })),
                Entered::Needs(id) => self.expand(id)?,
                Entered::Again => {}
            }
        }
    }

    /// As [`Self::find`], for what may lose or get a name: whoever changes names in the table finds it there.
    pub(super) fn find_to_change(&self, parent: NodeId, name: &[u8]) -> Result<Option<Held<'_>>, FsError> {
        let found = self.find(parent, name)?;
        if let Some(found) = &found {
            self.expand(found.id)?;
        }
        Ok(found)
    }

    /// Tells whether the name of a known child can only change through this volume.
    fn is_name_final(&self, table: &super::table::Table, child: NodeId) -> bool {
        table.slot(child).is_some_and(|slot| {
            slot.upper.is_some()
                || slot.node.lower.as_ref().is_none_or(|lower| self.stack.is_node_settled(lower))
        })
    }

    /// Looks in the upper directory, then in the layers.
    fn search(&self, view: &DirectoryView, name: &[u8]) -> Result<Option<NewNode>, FsError> {
        if let (Some(upper), Some(state)) = (&self.upper, view.upper) {
            let found = {
                let _names = self.names();
                upper.examine(&self.upper_directory(view.node.id)?, name, state.impure)?
            };
            match found {
                Found::Nothing => {}
                Found::Whiteout => return Ok(None),
                Found::Entry(entry) => return self.upper_node(view, name, &entry).map(Some),
            }
        }
        let Some(within) = view.lower() else { return Ok(None) };
        let Some(lower) = self.stack.lookup(within, name)? else { return Ok(None) };
        let mut new = self.lower_node(view, name, lower);
        // A copy in the index shows under every name of the original.
        if let Some(upper) = &self.upper
            && let Some(inode) = upper.indexed_file(new.inode)
        {
            new.upper = Some(UpperState { inode, opaque: false, impure: false });
            new.bare = self.bare_of_index(upper, &new)?;
        }
        Ok(Some(new))
    }

    /// Describes what the upper directory holds; a directory may go on in the layers.
    fn upper_node(&self, view: &DirectoryView, name: &[u8], entry: &UpperEntry) -> Result<NewNode, FsError> {
        let kind = entry.attributes.kind;
        let state = UpperState { inode: entry.inode, opaque: entry.opaque, impure: entry.impure };
        let (mut lower, mut lower_path) = (None, None);
        let mut bare = None;
        if kind == Kind::Directory && !entry.opaque {
            let redirect = entry.redirect.as_deref();
            (lower, lower_path) = self.lower_of(view, name, redirect, Kind::Directory)?;
        } else if let Some(copy) = &entry.bare {
            let (content, _) = self.lower_of(view, name, copy.path.as_deref(), Kind::File)?;
            (lower, bare) = self.bare_from(content, copy, entry.attributes.size)?;
        }
        let inode = entry.number.unwrap_or_else(|| upper_inode(entry.inode));
        Ok(NewNode { kind, inode, lower, lower_path, upper: Some(state), bare })
    }

    /// Finds what of the layers, if it is of this kind, shows in something of the upper: under its redirect, else under
    /// its name.
    fn lower_of(
        &self,
        view: &DirectoryView,
        name: &[u8],
        redirect: Option<&[u8]>,
        kind: Kind,
    ) -> Result<(Option<Lower>, Option<Arc<LowerPath>>), FsError> {
        let (lower, path) = match redirect {
            Some(path) if path.first() == Some(&b'/') => {
                let parts: Vec<_> =
                    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
                let step = |parent, name: &&[u8]| Some(Arc::new(LowerPath { parent, name: (*name).into() }));
                (self.stack.walk(parts.iter().copied())?, parts.iter().fold(None, step))
            }
            redirect => {
                let Some(within) = view.lower() else { return Ok((None, None)) };
                let name = redirect.unwrap_or(name);
                let path = LowerPath { parent: view.node.lower_path.clone(), name: name.into() };
                (self.stack.lookup(within, name)?, Some(Arc::new(path)))
            }
        };
        match lower {
            Some(lower) if lower.kind == kind => Ok((Some(lower), path)),
            _ => Ok((None, None)),
        }
    }

    /// Describes a node that only the layers hold.
    fn lower_node(&self, view: &DirectoryView, name: &[u8], lower: Lower) -> NewNode {
        let lower_path = (lower.kind == Kind::Directory)
            .then(|| Arc::new(LowerPath { parent: view.node.lower_path.clone(), name: name.into() }));
        NewNode {
            kind: lower.kind,
            inode: lower.inode(),
            lower: Some(lower),
            lower_path,
            upper: None,
            bare: None,
        }
    }

    /// Makes what was found known, unless the directory has changed since `view` was taken. `quiet` is the number that the
    /// node may have without a slot.
    fn enter(&self, view: &DirectoryView, name: &[u8], new: NewNode, quiet: Option<NodeId>) -> Entered {
        // Whoever replaces names knows all that are known.
        let _names = self.upper.as_ref().map(|_| self.names());
        let mut table = lock(&self.table);
        let Some(parent) = table.slot(view.node.id) else { return Entered::Again };
        if parent.version != view.version || parent.removed {
            return Entered::Again;
        }
        // Copied up under another of its names meanwhile.
        if new.upper.is_none()
            && self.upper.as_ref().is_some_and(|upper| upper.indexed_file(new.inode).is_some())
        {
            return Entered::Again;
        }
        if table.known(&new).is_none() {
            if let Some(id) = quiet
                && table.acquire_quiet(id, view.node.id)
            {
                return Entered::Known(new.into_quiet(id));
            }
            // Known by another name or in another directory, or it has too many references.
            if let Some(id) = NodeId::of_layers(new.inode).filter(|id| table.is_quiet(*id)) {
                return Entered::Needs(id);
            }
        }
        let Some(parent) = table.slot(view.node.id) else { return Entered::Again };
        let name = parent.children.kept_name(name).map_or_else(|| Arc::from(name), Arc::clone);
        let id = match table.known(&new) {
            Some(slot) => slot.node.id,
            None => table.insert(new).id,
        };
        table.attach(view.node.id, &name, id);
        table.acquire(id, 1).map_or(Entered::Again, Entered::Known)
    }
}

/// What came of a node that was found.
enum Entered {
    /// It is known, and has a reference more.
    Known(Arc<Node>),
    /// This node needs a slot first.
    Needs(NodeId),
    /// What was found is not so any more.
    Again,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use crate::layer::memory::MemoryLayer;
    use crate::layer::stack::PlacedLayer;
    use crate::volume::VolumeOptions;

    #[test]
    fn nothing_is_left_of_a_node_that_was_forgotten() {
        let layer = Arc::new(MemoryLayer::builder().directory("directory", 0o755).build().unwrap());
        let placed = PlacedLayer { name: "slot".into(), layer, target: Vec::new(), writable: true };
        let volume = Volume::new(vec![placed], None, VolumeOptions::default()).unwrap();
        let Lookup::Found(entry) = volume.lookup(NodeId::ROOT, b"directory").unwrap() else { panic!() };
        let description = Arc::downgrade(&volume.node(entry.node).unwrap());
        assert!(description.upgrade().is_some());
        volume.forget(entry.node, 1);
        assert!(description.upgrade().is_none());
    }
}

//! Nodes that only the layers have, as they were found there: all that is kept of one is who needs it.
//!
//! A walk over a package makes every file known, and the kernel may hold all of them. So a node that is no directory, lies in
//! one settled layer under one name and was never changed has no slot in the table. Its number follows from its inode number,
//! its kind and name are looked up in the layer again, and its directory is noted here. It gets a slot, with the same number,
//! before it is copied up or gets or loses a name, also by [`Volume::replace`], and when it turns up a second time elsewhere.
//! From then on it keeps that until it is forgotten.
//!
//! **Invariant:** a quiet node is in its directory under the name that its layer gives it, and nothing of it is in the upper
//! directory.

use std::collections::HashMap;
use std::sync::Arc;

use super::dense::DenseMap;
use super::table::{NewNode, Node};
use super::{FsError, NodeId, Volume, lock};
use crate::layer::stack::Lower;
use crate::node::Kind;

/// Who needs a quiet node.
#[derive(Clone, Copy, Debug, Default)]
struct Needed {
    references: u32,
    /// The number of its directory, which was counted up.
    parent: u32,
}

/// All quiet nodes, by inode number.
#[derive(Debug, Default)]
pub(super) struct QuietNodes {
    needed: DenseMap<Needed>,
    /// How often each is open, if it is.
    handles: HashMap<u64, u64>,
}

impl QuietNodes {
    pub(super) fn len(&self) -> usize {
        self.needed.len()
    }

    /// Returns every node, and which directory it is in.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, NodeId)> {
        let of_layers =
            |(inode, needed): (u64, Needed)| Some((NodeId::of_layers(inode)?, needed.parent_id()));
        self.needed.iter().filter_map(of_layers)
    }

    /// Returns the directory that the node is in; `None` when there is no such quiet node.
    pub(super) fn parent(&self, id: NodeId) -> Option<NodeId> {
        self.needed.get(id.inode_in_layers()?).map(|needed| needed.parent_id())
    }

    /// Counts a reference to the node in `parent`, making it known; `false` when that cannot be counted here.
    pub(super) fn acquire(&mut self, id: NodeId, parent: NodeId) -> bool {
        let (Some(inode), Ok(parent)) = (id.inode_in_layers(), u32::try_from(parent.0)) else { return false };
        let Some(needed) = self.needed.get_mut(inode) else {
            self.needed.insert(inode, Needed { references: 1, parent });
            return true;
        };
        let counted = needed.references.checked_add(1).filter(|_| needed.parent == parent);
        needed.references = counted.unwrap_or(needed.references);
        counted.is_some()
    }

    /// Takes back references; returns the directory that has a quiet node less.
    pub(super) fn release(&mut self, id: NodeId, count: u64) -> Option<NodeId> {
        let needed = self.needed.get_mut(id.inode_in_layers()?)?;
        needed.references = needed.references.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        self.drop_unused(id)
    }

    pub(super) fn opened(&mut self, id: NodeId) {
        if let Some(inode) = id.inode_in_layers().filter(|inode| self.needed.get(*inode).is_some()) {
            *self.handles.entry(inode).or_default() += 1;
        }
    }

    /// As [`Self::release`].
    pub(super) fn closed(&mut self, id: NodeId) -> Option<NodeId> {
        let inode = id.inode_in_layers()?;
        let handles = self.handles.get_mut(&inode)?;
        *handles -= 1;
        if *handles == 0 {
            self.handles.remove(&inode);
        }
        self.drop_unused(id)
    }

    fn drop_unused(&mut self, id: NodeId) -> Option<NodeId> {
        let inode = id.inode_in_layers()?;
        let needed = self.needed.get(inode)?;
        if needed.references > 0 || self.handles.contains_key(&inode) {
            return None;
        }
        self.needed.remove(inode).map(|needed| needed.parent_id())
    }

    /// Takes the node out; returns its directory, its references and how often it is open.
    pub(super) fn remove(&mut self, id: NodeId) -> Option<(NodeId, (u64, u64))> {
        let inode = id.inode_in_layers()?;
        let needed = self.needed.remove(inode)?;
        let handles = self.handles.remove(&inode).unwrap_or(0);
        Some((needed.parent_id(), (u64::from(needed.references), handles)))
    }
}

impl Needed {
    fn parent_id(self) -> NodeId {
        NodeId(u64::from(self.parent))
    }
}

impl NewNode {
    fn of_layers(lower: Lower) -> Self {
        let (kind, inode) = (lower.kind, lower.inode());
        Self { kind, inode, lower: Some(lower), lower_path: None, upper: None, bare: None }
    }

    /// Describes the node for those who work with it; the table has no such description of it.
    pub(super) fn into_quiet(self, id: NodeId) -> Arc<Node> {
        Arc::new(Node { id, kind: self.kind, inode: self.inode, lower: self.lower, lower_path: None })
    }
}

impl Volume {
    /// Returns the number that `new`, found as `name`, has without a slot; `None` when it must have one.
    pub(super) fn quiet_number(&self, new: &NewNode, name: &[u8]) -> Result<Option<NodeId>, FsError> {
        match &new.lower {
            Some(lower) if new.upper.is_none() && new.kind != Kind::Directory => {
                let is_only = self.stack.only_name(lower)?.is_some_and(|only| only == name);
                Ok(NodeId::of_layers(new.inode).filter(|_| is_only))
            }
            _ => Ok(None),
        }
    }

    /// Describes a node that had no slot just now. What is described does not change when it gets one.
    pub(super) fn quiet_node(&self, id: NodeId) -> Result<Arc<Node>, FsError> {
        let (new, _) = self.in_layers(id)?;
        Ok(new.into_quiet(id))
    }

    /// Returns the directory and the name of a quiet node.
    pub(super) fn quiet_name(&self, id: NodeId) -> Option<(NodeId, Arc<[u8]>)> {
        let parent = lock(&self.table).quiet_parent(id)?;
        let (_, name) = self.in_layers(id).ok()?;
        // It may have got another one meanwhile.
        lock(&self.table).is_quiet(id).then(|| (parent, name.into()))
    }

    /// Gives the node a slot if it is quiet. To be called before anything is noted about it, without the names held.
    pub(super) fn expand(&self, id: NodeId) -> Result<(), FsError> {
        if !lock(&self.table).is_quiet(id) {
            return Ok(());
        }
        let (new, name) = self.in_layers(id)?;
        lock(&self.table).expand(id, new, &name);
        Ok(())
    }

    /// Finds a quiet node in its layer again.
    fn in_layers(&self, id: NodeId) -> Result<(NewNode, Vec<u8>), FsError> {
        let unknown = FsError::Unknown(id.0);
        let inode = id.inode_in_layers().ok_or(unknown)?;
        let found = self.stack.named_node(inode)?;
        found.map(|(lower, name)| (NewNode::of_layers(lower), name)).ok_or(FsError::Unknown(id.0))
    }
}

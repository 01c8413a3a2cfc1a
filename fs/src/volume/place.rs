//! Where a node is in the upper directory.
//!
//! A path in the upper directory is the path in the volume, so it follows from the known names. Whoever uses
//! it holds the names still meanwhile: [`Volume::names`] for looking and changing content, [`Volume::names_mut`]
//! for changing names.
//!
//! **Invariant:** neither guard is held while a layer is read or waited for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};

use super::table::Node;
use super::{FsError, NodeId, Volume, lock};
use crate::disk::unix::{Directory, Spot};
use crate::overlay::Upper;

/// How many directories of the upper are kept open.
const KEPT_OPEN: usize = 128;

/// Open directories of the upper, by node; they stay right when a directory is moved.
#[derive(Debug, Default)]
pub(super) struct OpenDirectories {
    open: HashMap<NodeId, Arc<Directory>>,
    order: VecDeque<NodeId>,
}

impl OpenDirectories {
    fn put(&mut self, id: NodeId, directory: &Arc<Directory>) {
        if self.open.insert(id, Arc::clone(directory)).is_none() {
            self.order.push_back(id);
        }
        while self.open.len() > KEPT_OPEN {
            let Some(oldest) = self.order.pop_front() else { break };
            self.open.remove(&oldest);
        }
    }

    /// Lets go of a directory that was removed.
    pub(super) fn remove(&mut self, id: NodeId) {
        if self.open.remove(&id).is_some() {
            self.order.retain(|kept| *kept != id);
        }
    }
}

impl Volume {
    /// Returns the upper, without which nothing can be changed.
    pub(super) fn writable_upper(&self) -> Result<&Upper, FsError> {
        self.upper.as_ref().ok_or(FsError::ReadOnly)
    }

    /// Keeps all names as they are. Never taken twice by one thread.
    pub(super) fn names(&self) -> RwLockReadGuard<'_, ()> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps all names to oneself.
    pub(super) fn names_mut(&self) -> RwLockWriteGuard<'_, ()> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the open directory of the upper that holds the entries of `id`. The names are held.
    pub(super) fn upper_directory(&self, id: NodeId) -> Result<Arc<Directory>, FsError> {
        let upper = self.writable_upper()?;
        let mut steps = Vec::new();
        let mut current = {
            let table = lock(&self.table);
            let open = lock(&self.open_directories);
            let mut at = id;
            loop {
                if at == NodeId::ROOT {
                    break Arc::clone(upper.root());
                }
                if let Some(directory) = open.open.get(&at) {
                    break Arc::clone(directory);
                }
                let slot = table.slot(at).ok_or(FsError::Unknown(at.0))?;
                let (parent, name) = slot.names.first().ok_or(FsError::NotFound)?;
                steps.push((at, Arc::clone(name)));
                at = *parent;
            }
        };
        for (id, name) in steps.into_iter().rev() {
            upper.open_up(&current, &name)?;
            current = Arc::new(current.child(&name)?);
            lock(&self.open_directories).put(id, &current);
        }
        Ok(current)
    }

    /// Returns where `node` is in the upper directory; `None` while only the layers hold it. The names are held.
    pub(super) fn spot(&self, node: &Node) -> Result<Option<Spot>, FsError> {
        let Some(upper) = &self.upper else { return Ok(None) };
        if node.id == NodeId::ROOT {
            return Ok(Some(Spot::named(upper.root(), b".")));
        }
        let (parent, name) = {
            let table = lock(&self.table);
            if table.is_quiet(node.id) {
                return Ok(None);
            }
            let slot = table.slot(node.id).ok_or(FsError::Unknown(node.id.0))?;
            if let Some(detached) = &slot.detached {
                return Ok(Some(Spot::Open(Arc::clone(detached))));
            }
            let Some(state) = slot.upper else { return Ok(None) };
            if let Some(number) = upper.indexed_number(state.inode) {
                return Ok(Some(upper.indexed_spot(number)));
            }
            slot.names.first().cloned().ok_or(FsError::NotFound)?
        };
        Ok(Some(Spot::Named { directory: self.upper_directory(parent)?, name }))
    }

    /// As [`Self::spot`], of a node that was copied up.
    pub(super) fn upper_spot(&self, node: &Node) -> Result<Spot, FsError> {
        self.spot(node)?.ok_or(FsError::NotFound)
    }
}

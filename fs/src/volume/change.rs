//! What all changes of names have in common: may it be, is it still so, and who must hear of it.
//!
//! *Concurrency:* a change looks everything up and copies up what it needs without holding the names, then
//! takes them and goes on only if the directories are as they were; else it looks again.

use std::sync::RwLockWriteGuard;

use super::look::DirectoryView;
use super::table::Node;
use super::{FsError, NodeId, Volume, lock};
use crate::overlay::owner;

impl Volume {
    /// Returns the directory, which must not have been removed.
    pub(super) fn live_directory(&self, id: NodeId) -> Result<DirectoryView, FsError> {
        let view = self.directory_view(id)?;
        if view.removed { Err(FsError::NotFound) } else { Ok(view) }
    }

    /// Tells whether the layers hold `name` where it shows in the directory.
    pub(super) fn shines_through(&self, view: &DirectoryView, name: &[u8]) -> Result<bool, FsError> {
        match view.lower() {
            Some(within) => Ok(self.stack.lookup(within, name)?.is_some()),
            None => Ok(false),
        }
    }

    /// Takes the names if nothing has changed in these directories since they were looked at.
    pub(super) fn names_if_unchanged(&self, views: &[&DirectoryView]) -> Option<RwLockWriteGuard<'_, ()>> {
        let names = self.names_mut();
        let unchanged = {
            let table = lock(&self.table);
            views.iter().all(|view| {
                table.slot(view.node.id).is_some_and(|slot| slot.version == view.version && !slot.removed)
            })
        };
        unchanged.then_some(names)
    }

    /// Notes that names in the upper directory of `id` have changed.
    pub(super) fn touched(&self, id: NodeId) {
        lock(&self.table).changed(id);
    }

    /// Refuses changes of nodes that belong to a read-only slot.
    pub(super) fn check_writable(&self, node: &Node) -> Result<(), FsError> {
        if self.upper.is_none() {
            return Err(FsError::ReadOnly);
        }
        if self.all_writable {
            return Ok(());
        }
        self.expand(node.id)?;
        let first = lock(&self.table).slot(node.id).and_then(|slot| slot.names.first().cloned());
        match first {
            Some((parent, name)) => self.check_writable_name(parent, &name),
            None => Ok(()),
        }
    }

    /// Refuses changes of what is, was or will be called `name` in `parent`, if that belongs to a read-only slot.
    pub(super) fn check_writable_name(&self, parent: NodeId, name: &[u8]) -> Result<(), FsError> {
        if self.all_writable {
            return Ok(());
        }
        let mut path = vec![name.to_vec()];
        {
            let table = lock(&self.table);
            let mut at = parent;
            while let Some((above, name)) = table.slot(at).and_then(|slot| slot.names.first()) {
                path.push(name.to_vec());
                at = *above;
            }
        }
        let owner = owner::owner(&self.stack, path.iter().rev().map(Vec::as_slice))?;
        match owner {
            Some(layer) if !self.stack.layer(layer).writable => Err(FsError::ReadOnly),
            _ => Ok(()),
        }
    }

    /// Refuses moving a directory into which a read-only slot is merged.
    pub(super) fn check_movable(&self, node: &Node) -> Result<(), FsError> {
        use crate::layer::stack::Source;
        let fixed = node.lower.as_ref().is_some_and(|lower| {
            lower.sources().iter().any(|source| match source {
                Source::Layer { layer, .. } => !self.stack.layer(*layer).writable,
                Source::Place { .. } => false,
            })
        });
        if fixed { Err(FsError::ReadOnly) } else { Ok(()) }
    }
}

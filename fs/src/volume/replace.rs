//! Replacing what is written while the volume is in use: taking it back, or putting something else in its place.
//!
//! What goes is like what was removed: who has it open keeps it, and nobody finds it any more. A directory that the layers
//! have at the same place stays the same directory. The kernel knows names by itself; what it has to forget is told.
//!
//! **Invariant:** afterwards no known name leads to what is not there. Whoever calls keeps changes out meanwhile; see
//! [`Volume::hold_up`].

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::table::{LowerPath, Node, Table, UpperState};
use super::{FsError, NodeId, Volume, lock};
use crate::disk::unix::Spot;
use crate::layer::LayerError;
use crate::layer::stack::Stack;
use crate::node::Kind;
use crate::overlay::allowance::Room;
use crate::overlay::format::{Found, UpperEntry};
use crate::overlay::take_back::{self, TakeBackError};
use crate::overlay::{Scope, Upper, View, changes};

/// What the kernel may know and has to forget.
#[derive(Clone, Debug, Default)]
pub struct Forgotten {
    /// Names: the directory and its inode number, and what is called so there or was.
    pub names: Vec<(NodeId, u64, Vec<u8>)>,
    /// Directories whose attributes and listings are others, with their inode numbers.
    pub directories: Vec<(NodeId, u64)>,
}

/// A known name that may go.
struct Suspect {
    parent: NodeId,
    name: Arc<[u8]>,
    node: Arc<Node>,
}

impl Volume {
    /// Takes back what was written in `scope`, as [`take_back`] does it at rest.
    ///
    /// # Errors
    /// As there. What the kernel has to forget is told in any case.
    pub fn take_back(&self, scope: &Scope) -> (Result<(), TakeBackError>, Forgotten) {
        self.replace(scope, |upper, stack| {
            if scope.is_everything() { Ok(upper.clear()?) } else { take_back::take_back(upper, stack, scope) }
        })
    }

    /// Lets `act` replace what is written in `scope`, and forgets what is known of that.
    ///
    /// # Errors
    /// Those of `act`, of a layer or of the upper's disk.
    pub fn replace<E: From<LayerError>>(
        &self,
        scope: &Scope,
        act: impl FnOnce(&Upper, &Stack) -> Result<(), E>,
    ) -> (Result<(), E>, Forgotten) {
        let mut forgotten = Forgotten::default();
        let result = self.replace_in(scope, act, &mut forgotten);
        (result, forgotten)
    }

    fn replace_in<E: From<LayerError>>(
        &self,
        scope: &Scope,
        act: impl FnOnce(&Upper, &Stack) -> Result<(), E>,
        forgotten: &mut Forgotten,
    ) -> Result<(), E> {
        let upper = self.writable_upper().map_err(as_layer_error)?;
        let _names = self.names_mut();
        let mut paths = self.changed_paths(upper, scope)?;
        self.replaced.store(true, Ordering::Relaxed);
        self.expand_within(scope, &paths).map_err(as_layer_error)?;
        let suspects = self.suspects(upper, scope, &paths);
        let pinned = self.pin_all(&suspects);
        let done = act(upper, &self.stack);
        // Copies that no name leads to any more go, as at each start.
        upper.look_again().map_err(LayerError::from)?;
        let settled = self.settle(upper, scope, &suspects, pinned, forgotten).map_err(as_layer_error);
        let after = self.changed_paths(upper, scope);
        paths.extend(after.as_ref().into_iter().flatten().cloned());
        self.forget_paths(&paths, forgotten);
        done?;
        settled?;
        after?;
        Ok(())
    }

    /// Returns the paths that differ from the layers, and other names of the same files.
    fn changed_paths(&self, upper: &Upper, scope: &Scope) -> Result<Vec<Vec<Vec<u8>>>, LayerError> {
        let view = View::of(upper)?;
        let mut paths = Vec::new();
        changes(&view, Some(&self.stack), scope, &mut |change| {
            paths.push(change.path.clone());
            ControlFlow::Continue(())
        })?;
        // What cannot be taken back alone has no plan, and nothing comes of it.
        if let Ok(plan) = take_back::plan(&view, &self.stack, scope) {
            paths.extend(plan.other_names().iter().cloned());
        }
        Ok(paths)
    }

    /// Finds the known names at and below `scope`, a directory before what is in it, those at `paths`, and those that show
    /// copies in the index.
    fn suspects(&self, upper: &Upper, scope: &Scope, paths: &[Vec<Vec<u8>>]) -> Vec<Suspect> {
        let table = lock(&self.table);
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut waiting: Vec<Suspect> = Vec::new();
        if scope.is_everything() {
            waiting.extend(children(&table, NodeId::ROOT));
        }
        waiting.extend(scope.paths().iter().filter_map(|path| known(&table, path)));
        while let Some(suspect) = waiting.pop() {
            if seen.insert((suspect.parent, Arc::clone(&suspect.name))) {
                waiting.extend(children(&table, suspect.node.id));
                found.push(suspect);
            }
        }
        // A file of the layers with several names goes under all of them, wherever directories were moved to.
        let shared = table.slots().filter(|slot| {
            slot.node.kind != Kind::Directory
                && slot.upper.is_some_and(|state| upper.indexed_number(state.inode).is_some())
        });
        let names = shared.flat_map(|slot| {
            let names = slot.names.iter().cloned();
            names.map(|(parent, name)| Suspect { parent, name, node: Arc::clone(&slot.node) })
        });
        for suspect in paths.iter().filter_map(|path| known(&table, path)).chain(names) {
            if seen.insert((suspect.parent, Arc::clone(&suspect.name))) {
                found.push(suspect);
            }
        }
        found
    }

    /// Lets all known nodes have names in the table that may go: those at and below `scope`, and those at `paths`.
    fn expand_within(&self, scope: &Scope, paths: &[Vec<Vec<u8>>]) -> Result<(), FsError> {
        let quiet = {
            let table = lock(&self.table);
            let mut within: HashSet<NodeId> = HashSet::new();
            let mut waiting = Vec::new();
            if scope.is_everything() {
                waiting.push(NodeId::ROOT);
            }
            waiting.extend(scope.paths().iter().filter_map(|path| find(&table, path)));
            while let Some(directory) = waiting.pop() {
                if within.insert(directory)
                    && let Some(slot) = table.slot(directory)
                {
                    waiting.extend(slot.children.iter().map(|(_, child)| child));
                }
            }
            let above = scope.paths().iter().chain(paths).filter_map(|path| path.split_last());
            within.extend(above.filter_map(|(_, above)| find(&table, above)));
            table.quiet_in(&within)
        };
        quiet.into_iter().try_for_each(|id| self.expand(id))
    }

    /// Keeps what somebody has open, and directories that somebody may be in.
    fn pin_all(&self, suspects: &[Suspect]) -> HashMap<NodeId, Arc<OwnedFd>> {
        let mut pinned = HashMap::new();
        for Suspect { node, .. } in suspects {
            let is_open = lock(&self.table).slot(node.id).is_some_and(|slot| {
                slot.upper.is_some() && (slot.handles > 0 || node.kind == Kind::Directory)
            });
            if is_open && let Ok(Some(file)) = self.pin(node) {
                pinned.insert(node.id, file);
            }
        }
        pinned
    }

    /// Forgets what is known of names that are not there any more.
    fn settle(
        &self,
        upper: &Upper,
        scope: &Scope,
        suspects: &[Suspect],
        mut pinned: HashMap<NodeId, Arc<OwnedFd>>,
        forgotten: &mut Forgotten,
    ) -> Result<(), FsError> {
        let mut gone = HashSet::new();
        for suspect in suspects {
            let Suspect { parent, name, node } = suspect;
            let fate = self.fate(upper, suspect, gone.contains(parent));
            if let Some(directory) = self.node(*parent).ok().filter(|_| fate != Fate::Stays) {
                forgotten.directories.push((directory.id, directory.inode));
                if fate == Fate::Goes {
                    forgotten.names.push((directory.id, directory.inode, name.to_vec()));
                }
            }
            let mut table = lock(&self.table);
            match fate {
                Fate::Stays => {}
                Fate::Continues(state) => {
                    table.recopied(node.id, state);
                    forgotten.directories.push((node.id, node.inode));
                }
                Fate::Goes => {
                    table.detach(*parent, name);
                    table.changed(*parent);
                    if node.kind == Kind::Directory {
                        gone.insert(node.id);
                    }
                    table.parted(node.id, pinned.get(&node.id));
                }
            }
            if fate != Fate::Stays && node.kind == Kind::Directory {
                drop(table);
                lock(&self.open_directories).remove(node.id);
                lock(&self.synced).forget(node.id);
            }
        }
        if scope.is_everything() {
            self.settle_root(upper, forgotten)?;
        }
        // A directory may have been known for what was in it alone.
        for Suspect { parent, .. } in suspects {
            let freed = lock(&self.table).release(*parent, 0);
            self.count_freed(freed);
        }
        pinned.retain(|id, _| lock(&self.table).slot(*id).is_some_and(|slot| slot.detached.is_some()));
        self.count_replaced(upper, &pinned)
    }

    /// The root gets back what it has without anything written, or what was put in its place.
    fn settle_root(&self, upper: &Upper, forgotten: &mut Forgotten) -> Result<(), FsError> {
        let root = self.node(NodeId::ROOT)?;
        let state = super::bind(&self.stack, upper, &self.stack.root()?)?;
        let mut table = lock(&self.table);
        if let Some(slot) = table.slot_mut(NodeId::ROOT) {
            slot.upper = Some(state);
        }
        table.changed(NodeId::ROOT);
        drop(table);
        lock(&self.synced).forget(NodeId::ROOT);
        forgotten.directories.push((root.id, root.inode));
        Ok(())
    }

    /// Finds out what became of a known name.
    fn fate(&self, upper: &Upper, suspect: &Suspect, parent_is_gone: bool) -> Fate {
        let Suspect { parent, name, node } = suspect;
        let (state, is_home, is_open) = {
            let table = lock(&self.table);
            let slot = table.slot(node.id);
            let above = table.slot(*parent).map(|slot| Arc::clone(&slot.node));
            let is_open = slot.is_some_and(|slot| slot.handles > 0);
            (
                slot.and_then(|slot| slot.upper),
                above.is_some_and(|above| is_home(&above, name, node)),
                is_open,
            )
        };
        // The disk gives the inode number of a file that is gone to the next one, unless that is open.
        let may_be_another = state.is_some() && !is_open && node.kind != Kind::Directory;
        if parent_is_gone || may_be_another {
            return Fate::Goes;
        }
        let directory = self.upper_directory(*parent).ok();
        let found = directory.as_ref().and_then(|directory| directory.stat(name).ok().flatten());
        match (found, directory) {
            (Some(found), _) if Some(found.inode) == state.map(|state| state.inode) => Fate::Stays,
            // A name that only the layers have shows the copy in the index, if there is one.
            (None, _) if node.kind != Kind::Directory => {
                let indexed = upper.indexed_file(node.inode) == state.map(|state| state.inode);
                let in_layers = state.is_none() || self.is_in_layers(suspect);
                if indexed && in_layers { Fate::Stays } else { Fate::Goes }
            }
            (None, _) if state.is_none() => Fate::Stays,
            _ if node.lower.is_none() || !is_home || state.is_some_and(|state| state.opaque) => Fate::Goes,
            (None, _) => Fate::Continues(None),
            (Some(_), Some(directory)) => match upper.examine(&directory, name, false) {
                Ok(Found::Entry(entry)) if is_merged(&entry) => {
                    let (inode, opaque, impure) = (entry.inode, entry.opaque, entry.impure);
                    Fate::Continues(Some(UpperState { inode, opaque, impure }))
                }
                Ok(_) | Err(_) => Fate::Goes,
            },
            (Some(_), None) => Fate::Goes,
        }
    }

    /// Tells whether the layers have this node under the name.
    fn is_in_layers(&self, suspect: &Suspect) -> bool {
        let Ok(view) = self.directory_view(suspect.parent) else { return false };
        let found = view.lower().map(|within| self.stack.lookup(within, &suspect.name));
        matches!(found, Some(Ok(Some(lower))) if lower.inode() == suspect.node.inode)
    }

    /// Counts anew how much is taken, and what goes only when it is closed.
    fn count_replaced(&self, upper: &Upper, pinned: &HashMap<NodeId, Arc<OwnedFd>>) -> Result<(), FsError> {
        let Some(allowance) = &self.allowance else { return Ok(()) };
        let mut nameless = Vec::new();
        for file in pinned.values() {
            let stat = Spot::Open(Arc::clone(file)).stat()?;
            nameless.extend(stat.as_ref().and_then(Room::of_stat));
        }
        allowance.recount(upper.count()?, &nameless);
        Ok(())
    }

    /// Names that the kernel may remember as absent, or as something else.
    fn forget_paths(&self, paths: &[Vec<Vec<u8>>], forgotten: &mut Forgotten) {
        let mut table = lock(&self.table);
        for path in paths {
            let Some((name, above)) = path.split_last() else { continue };
            let Some(parent) = find(&table, above) else { continue };
            let Some(inode) = table.slot(parent).map(|slot| slot.node.inode) else { continue };
            forgotten.names.push((parent, inode, name.clone()));
            forgotten.directories.push((parent, inode));
            table.changed(parent);
        }
    }
}

/// What becomes of a known name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It leads to what it led to.
    Stays,
    /// It leads to the same directory of the layers, of which the upper directory has something else, or nothing.
    Continues(Option<UpperState>),
    /// It leads to something else, or nowhere.
    Goes,
}

/// The change has been made or not by then, and an error of the volume has no other way to be told.
fn as_layer_error(error: FsError) -> LayerError {
    if let FsError::Layer(error) = error {
        return error;
    }
    if let FsError::Disk(error) = error {
        return error.into();
    }
    let reason = std::io::Error::other(error.to_string());
    crate::disk::DiskError::new("replace what is in", "the upper directory", reason).into()
}

/// Tells whether this is the directory that the layers have at the same place, with more in it.
fn is_merged(entry: &UpperEntry) -> bool {
    entry.attributes.kind == Kind::Directory && !entry.opaque && entry.redirect.is_none()
}

/// Tells whether the layers have the directory where it is.
fn is_home(above: &Node, name: &[u8], node: &Node) -> bool {
    node.lower_path
        .as_ref()
        .is_some_and(|path| *path.name == *name && same(path.parent.as_ref(), above.lower_path.as_ref()))
}

fn same(mut one: Option<&Arc<LowerPath>>, mut other: Option<&Arc<LowerPath>>) -> bool {
    while let (Some(left), Some(right)) = (one, other) {
        if Arc::ptr_eq(left, right) {
            return true;
        }
        if left.name != right.name {
            return false;
        }
        (one, other) = (left.parent.as_ref(), right.parent.as_ref());
    }
    one.is_none() && other.is_none()
}

fn children(table: &Table, directory: NodeId) -> Vec<Suspect> {
    let Some(slot) = table.slot(directory) else { return Vec::new() };
    let known = slot.children.iter().filter_map(|(name, id)| {
        let node = Arc::clone(&table.slot(id)?.node);
        Some(Suspect { parent: directory, name: Arc::clone(name), node })
    });
    known.collect()
}

fn find(table: &Table, path: &[Vec<u8>]) -> Option<NodeId> {
    let mut at = NodeId::ROOT;
    for name in path {
        at = table.slot(at)?.children.get(name)?;
    }
    Some(at)
}

fn known(table: &Table, path: &[Vec<u8>]) -> Option<Suspect> {
    let (name, above) = path.split_last()?;
    let parent = find(table, above)?;
    let slot = table.slot(parent)?;
    let node = Arc::clone(&table.slot(slot.children.get(name)?)?.node);
    Some(Suspect { parent, name: Arc::clone(slot.children.kept_name(name)?), node })
}

//! The tree of a slot while the pass over its bytes is still running.
//!
//! A look-up waits until the pass has met the name or has ended. Nodes are numbered in the order in which the pass meets
//! them, so this tree and the index that is made of it number them alike.
//!
//! **Invariant:** the lock is held for single look-ups and insertions only, never while bytes are read or decoded.

pub mod nodes;
mod place;
pub mod record;
pub mod tables;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use self::nodes::Nodes;
use self::place::blank;
use self::record::flags;
use crate::disk::digest::Digest;
use crate::node::{Attributes, Kind, Timestamp};
use crate::slot::index::Visit;
use crate::slot::scan::Entry;
use crate::slot::{Limits, Notice, SlotError};

pub use self::place::Placed;
pub use self::tables::{FileContent, Place, Table, Tables};

/// A tree that grows.
#[derive(Debug)]
pub struct GrowingTree {
    state: Mutex<State>,
    changed: Condvar,
    limits: Limits,
}

#[derive(Debug)]
struct State {
    /// Shared only after the end, when it does not change any more.
    nodes: Arc<Nodes>,
    waiting: u32,
    /// The content of the root is a stream whose length is not known yet.
    root_open: bool,
    outcome: Option<Result<(), Arc<str>>>,
    /// The next entry is the first, whose time the root takes.
    awaits_first: bool,
}

/// Returns an error that everybody who waits gets.
fn failed(reason: &Arc<str>) -> SlotError {
    SlotError::PassFailed { reason: reason.to_string() }
}

impl GrowingTree {
    /// Returns the tree of an archive: an empty root directory.
    #[must_use]
    pub fn of_archive(limits: Limits) -> Self {
        let mut root = blank(Kind::Directory, 0o755);
        root.flags = flags::IMPLIED;
        root.links = 2.into();
        Self::with(Nodes::new(root), false, limits)
    }

    /// Returns the tree of a single file, whose content is all decoded bytes; `size` where it is known already.
    #[must_use]
    pub fn of_file(mode: u32, modified: Timestamp, size: Option<u64>, limits: Limits) -> Self {
        let mut root = blank(Kind::File, u16::try_from(mode & 0o7777).unwrap_or(0));
        root.links = 1.into();
        root.size = size.unwrap_or(0).into();
        root.set_modified(modified);
        Self::with(Nodes::new(root), size.is_none(), limits)
    }

    fn with(nodes: Nodes, root_open: bool, limits: Limits) -> Self {
        let awaits_first = nodes.get(0).kind() == Some(Kind::Directory);
        let state = State { nodes: Arc::new(nodes), waiting: 0, root_open, outcome: None, awaits_first };
        Self { state: Mutex::new(state), changed: Condvar::new(), limits }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; a tree is whole between any two statements anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, state: &State) {
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    /// Waits until `ready` gives an answer or the pass has ended.
    fn wait<T>(&self, mut ready: impl FnMut(&Nodes) -> Option<T>) -> Result<Option<T>, SlotError> {
        let mut state = self.lock();
        loop {
            if let Some(answer) = ready(&state.nodes) {
                return Ok(Some(answer));
            }
            match &state.outcome {
                Some(Ok(())) => return Ok(None),
                Some(Err(reason)) => return Err(failed(reason)),
                None => {}
            }
            state.waiting += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
    }

    /// Places an entry; `None` when it was refused.
    ///
    /// # Errors
    /// A limit is passed.
    pub fn place(&self, entry: &Entry) -> Result<Option<Placed>, SlotError> {
        let mut state = self.lock();
        if std::mem::take(&mut state.awaits_first) {
            // A root that no entry describes takes the time of the first one, as the parents of entries do.
            Arc::make_mut(&mut state.nodes).change(0, |root| root.set_modified(entry.modified));
        }
        let placed = Arc::make_mut(&mut state.nodes).place(entry, &self.limits);
        self.wake(&state);
        placed
    }

    /// Notes the digest of a file whose content was seen, and that it belongs into the store.
    ///
    /// # Errors
    /// A limit is passed.
    pub fn set_digest(&self, node: u32, digest: Digest, stored: bool) -> Result<(), SlotError> {
        let mut state = self.lock();
        let nodes = Arc::make_mut(&mut state.nodes);
        nodes.digests.push(digest.0);
        let row =
            u32::try_from(nodes.digests.len()).map_err(|_| SlotError::TooManyEntries { limit: u32::MAX })?;
        nodes.change(node, |record| {
            record.digest = row.into();
            record.flags |= if stored { flags::STORED } else { 0 };
        });
        self.wake(&state);
        Ok(())
    }

    /// Keeps a small file's content in the tree itself.
    pub fn set_inline(&self, node: u32, bytes: &[u8]) {
        let mut state = self.lock();
        let nodes = Arc::make_mut(&mut state.nodes);
        let start = nodes.blob.len() as u64;
        nodes.blob.extend_from_slice(bytes);
        nodes.change(node, |record| {
            record.flags = (record.flags | flags::INLINE) & !flags::SPARSE;
            record.size = (bytes.len() as u64).into();
            record.content = start.into();
        });
        self.wake(&state);
    }

    /// Sets the length of a single file after all of it was seen.
    pub fn set_root_size(&self, size: u64) {
        let mut state = self.lock();
        Arc::make_mut(&mut state.nodes).change(0, |root| root.size = size.into());
        state.root_open = false;
        self.wake(&state);
    }

    /// Ends the growth: everybody who waits gets an answer. Only the first call counts.
    pub fn end(&self, outcome: Result<(), &SlotError>) {
        let mut state = self.lock();
        if state.outcome.is_none() {
            state.outcome = Some(outcome.map_err(|error| Arc::from(error.to_string())));
        }
        self.changed.notify_all();
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The pass failed.
    pub fn wait_until_ended(&self) -> Result<(), SlotError> {
        self.wait(|_| None::<()>).map(drop)
    }

    /// Finds `name` in `directory`, waiting for the pass where it has not met it.
    ///
    /// # Errors
    /// The pass failed before it met the name.
    pub fn lookup(&self, directory: u32, name: &[u8]) -> Result<Option<u32>, SlotError> {
        self.wait(|nodes| nodes.child(directory, name))
    }

    /// Visits the entries of `directory` whose name is greater than `after`, in byte order, until told to stop. Waits
    /// until the pass has met them all.
    ///
    /// # Errors
    /// The pass failed.
    pub fn entries(
        &self,
        directory: u32,
        after: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), SlotError> {
        self.wait_until_ended()?;
        self.nodes().visit(directory, after, visit);
        Ok(())
    }

    /// Returns the attributes of `node`; waits for the length of a single file.
    ///
    /// # Errors
    /// The pass failed before it met the node.
    pub fn attributes(&self, node: u32) -> Result<Attributes, SlotError> {
        let mut state = self.lock();
        // The root's time comes with the first entry.
        let lacks = |state: &State| {
            state.root_open || node >= state.nodes.count() || (node == 0 && state.awaits_first)
        };
        while lacks(&state) && state.outcome.is_none() {
            state.waiting += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        match &state.outcome {
            Some(Err(reason)) if lacks(&state) => Err(failed(reason)),
            _ => Ok(tables::attributes(&*state.nodes, node)?),
        }
    }

    /// Answers from the tables as they are now, once `node` is there.
    ///
    /// # Errors
    /// The pass failed before it met the node, or `read` failed.
    pub fn read<T>(
        &self,
        node: u32,
        read: impl Fn(&Nodes) -> Result<T, super::index::IndexError>,
    ) -> Result<T, SlotError> {
        let answer = self.wait(|nodes| (node < nodes.count()).then(|| read(nodes)))?;
        match answer {
            Some(answer) => Ok(answer?),
            None => Ok(read(&self.lock().nodes)?),
        }
    }

    /// Returns where the content of a file is; with `seen` waits until all of it was seen.
    ///
    /// # Errors
    /// The pass failed before it got there.
    pub fn content(&self, node: u32, seen: bool) -> Result<FileContent, SlotError> {
        let ready = |nodes: &Nodes| {
            let record = nodes.get(node);
            node < nodes.count() && (!seen || record.digest.get() != 0 || record.has(flags::INLINE))
        };
        let answer = self.wait(|nodes| ready(nodes).then(|| tables::content(nodes, node)))?;
        match answer {
            Some(answer) => Ok(answer?),
            None => Ok(tables::content(&*self.lock().nodes, node)?),
        }
    }

    /// Returns what was noticed so far.
    #[must_use]
    pub fn notices(&self) -> Vec<Notice> {
        self.lock().nodes.notices.clone()
    }

    /// Number of nodes so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.lock().nodes.count()
    }

    /// Returns the tables, to write the index of them. To be called after the end: before, a copy would be made.
    #[must_use]
    pub fn nodes(&self) -> Arc<Nodes> {
        Arc::clone(&self.lock().nodes)
    }
}

#[cfg(test)]
mod tests;

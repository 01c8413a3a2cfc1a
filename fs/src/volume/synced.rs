//! Which directories of the upper are known to be on disk as they are.
//!
//! **Invariant:** a directory counts as synced only when a sync that began after its last change has succeeded.
//! Everything else must be synced by whoever asks: another one's sync may be under way and not done, and what was
//! changed before this mount may never have been synced.

use std::collections::HashMap;

use super::NodeId;

/// How many are remembered. Forgetting one costs a sync that does nothing.
const KEPT: usize = 4096;

/// The directories, each with the version of its names that was synced last.
#[derive(Debug, Default)]
pub(super) struct Synced(HashMap<NodeId, u64>);

impl Synced {
    /// Tells whether the names of `directory` are on disk as they are in `version`.
    pub(super) fn has(&self, directory: NodeId, version: u64) -> bool {
        self.0.get(&directory).is_some_and(|synced| *synced >= version)
    }

    /// Notes that `directory` was synced, and was in `version` before that began.
    pub(super) fn note(&mut self, directory: NodeId, version: u64) {
        if self.0.len() >= KEPT {
            self.0.clear();
        }
        let synced = self.0.entry(directory).or_default();
        *synced = version.max(*synced);
    }

    /// Notes that another directory is now in the place of `directory`.
    pub(super) fn forget(&mut self, directory: NodeId) {
        self.0.remove(&directory);
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT, NodeId, Synced};

    const ONE: NodeId = NodeId(5);

    #[test]
    fn what_nobody_has_synced_is_not_synced() {
        assert!(!Synced::default().has(ONE, 0));
    }

    #[test]
    fn a_change_during_a_sync_is_not_taken_for_synced() {
        let mut synced = Synced::default();
        synced.note(ONE, 3);
        assert!(synced.has(ONE, 3));
        assert!(!synced.has(ONE, 4));
    }

    #[test]
    fn the_slower_of_two_syncs_takes_nothing_back() {
        let mut synced = Synced::default();
        synced.note(ONE, 4);
        synced.note(ONE, 3);
        assert!(synced.has(ONE, 4));
    }

    #[test]
    fn what_was_replaced_is_not_synced() {
        let mut synced = Synced::default();
        synced.note(ONE, 3);
        synced.forget(ONE);
        assert!(!synced.has(ONE, 3));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut synced = Synced::default();
        for number in 0..=KEPT as u64 {
            synced.note(NodeId(number), 1);
        }
        assert!(!synced.has(NodeId(0), 1));
        assert!(synced.has(NodeId(KEPT as u64), 1));
    }
}

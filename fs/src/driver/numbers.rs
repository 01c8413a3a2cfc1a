//! The numbers by which the kernel knows the volume's nodes.
//!
//! FUSE has two numbers for a node: the one requests name it by, and the one `stat(2)` shows. fuser sends one
//! for both wherever a node is first named, so the number has to be the stable inode number. That is safe as
//! long as no two living nodes show the same one, which can happen for a moment: a file is deleted, the disk
//! gives its inode number to a new file, and the kernel has not yet forgotten the old one. The newcomer then
//! gets a number of its own, an *alias*, and its attributes are not to be cached, so that `stat(2)` asks for
//! them, and that answer may carry the right inode number.
//!
//! **Invariant:** while the kernel knows a number, it means the same node.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::volume::{Entry, FsError, NodeId};

/// The kernel's number of the root directory.
const ROOT: u64 = 1;
/// Aliases have this bit; inode numbers of a volume never have it without the highest one.
const ALIAS: u64 = 1 << 62;
/// Requests for different nodes rarely meet at one lock.
const SHARDS: usize = 16;

/// A node as the kernel will name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The kernel's number.
    pub(super) number: u64,
    /// Whether the number is also what `stat(2)` must show.
    pub(super) exact: bool,
}

#[derive(Debug)]
struct Known {
    node: NodeId,
    lookups: u64,
}

/// Which node each of the kernel's numbers means, and how often the kernel was told so.
#[derive(Debug)]
pub(super) struct Numbers {
    shards: [Mutex<HashMap<u64, Known>>; SHARDS],
    aliases: Mutex<HashMap<NodeId, u64>>,
    alias_count: AtomicUsize,
    next_alias: AtomicU64,
}

impl Numbers {
    pub(super) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(HashMap::new())),
            aliases: Mutex::new(HashMap::new()),
            alias_count: AtomicUsize::new(0),
            next_alias: AtomicU64::new(ALIAS),
        }
    }

    /// Returns the number for `entry`, of which the volume has counted one reference more.
    pub(super) fn learn(&self, entry: &Entry) -> Named {
        if entry.node == NodeId::ROOT {
            return Named { number: ROOT, exact: false };
        }
        if self.alias_count.load(Ordering::Acquire) > 0 {
            let aliases = lock(&self.aliases);
            if let Some(&number) = aliases.get(&entry.node) {
                self.count(number, entry.node);
                return Named { number, exact: false };
            }
        }
        let number = entry.status.inode;
        if number > ROOT && self.count(number, entry.node) {
            return Named { number, exact: true };
        }
        let mut aliases = lock(&self.aliases);
        let number = *aliases.entry(entry.node).or_insert_with(|| self.nobody());
        self.alias_count.store(aliases.len(), Ordering::Release);
        self.count(number, entry.node);
        Named { number, exact: false }
    }

    /// Returns a number that means no node and never will.
    pub(super) fn nobody(&self) -> u64 {
        self.next_alias.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts one lookup more for `number`, unless it means another node.
    fn count(&self, number: u64, node: NodeId) -> bool {
        let mut shard = self.shard(number);
        let known = shard.entry(number).or_insert(Known { node, lookups: 0 });
        if known.node != node {
            return false;
        }
        known.lookups += 1;
        true
    }

    /// Returns the node that `number` means.
    pub(super) fn node(&self, number: u64) -> Result<NodeId, FsError> {
        if number == ROOT {
            return Ok(NodeId::ROOT);
        }
        self.shard(number).get(&number).map(|known| known.node).ok_or(FsError::Unknown(number))
    }

    /// Returns the number by which the kernel knows the node; `None` when it does not.
    pub(super) fn number_of(&self, node: NodeId, inode: u64) -> Option<u64> {
        if node == NodeId::ROOT {
            return Some(ROOT);
        }
        if let Some(alias) = lock(&self.aliases).get(&node) {
            return Some(*alias);
        }
        self.shard(inode).get(&inode).filter(|known| known.node == node).map(|_| inode)
    }

    /// Takes back `count` lookups; returns the node and how many references the volume may drop.
    pub(super) fn forget(&self, number: u64, count: u64) -> Option<(NodeId, u64)> {
        if number == ROOT {
            return None;
        }
        let mut shard = self.shard(number);
        let known = shard.get_mut(&number)?;
        let node = known.node;
        let count = count.min(known.lookups);
        known.lookups -= count;
        if known.lookups == 0 {
            shard.remove(&number);
            drop(shard);
            if number & (ALIAS | 1 << 63) == ALIAS {
                let mut aliases = lock(&self.aliases);
                if self.node(number).is_err() {
                    aliases.remove(&node);
                }
                self.alias_count.store(aliases.len(), Ordering::Release);
            }
        }
        Some((node, count))
    }

    fn shard(&self, number: u64) -> MutexGuard<'_, HashMap<u64, Known>> {
        // Node numbers are dense in their low bits.
        lock(&self.shards[(number % SHARDS as u64) as usize])
    }
}

/// A panic elsewhere leaves these maps whole: nothing between lock and unlock can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Attributes, Kind};
    use crate::volume::Status;

    fn entry(node: u64, inode: u64) -> Entry {
        let attributes = Attributes::bare(Kind::File, 0o644);
        Entry { node: NodeId(node), status: Status { inode, attributes, lasting: true } }
    }

    #[test]
    fn a_node_is_known_by_its_inode_number() {
        let numbers = Numbers::new();
        assert_eq!(numbers.learn(&entry(5, 1 << 32)), Named { number: 1 << 32, exact: true });
        assert_eq!(numbers.node(1 << 32).ok(), Some(NodeId(5)));
        assert_eq!(numbers.node(1).ok(), Some(NodeId::ROOT));
        assert!(numbers.node(99).is_err());
    }

    #[test]
    fn forgetting_gives_back_what_was_counted_and_no_more() {
        let numbers = Numbers::new();
        numbers.learn(&entry(5, 70));
        numbers.learn(&entry(5, 70));
        assert_eq!(numbers.forget(70, 1), Some((NodeId(5), 1)));
        assert!(numbers.node(70).is_ok());
        assert_eq!(numbers.forget(70, 9), Some((NodeId(5), 1)));
        assert!(numbers.node(70).is_err());
        assert_eq!(numbers.forget(70, 1), None);
        assert_eq!(numbers.forget(1, 1), None);
    }

    #[test]
    fn a_reused_inode_number_gets_an_alias_that_stays() {
        let numbers = Numbers::new();
        numbers.learn(&entry(5, 70));
        let alias = numbers.learn(&entry(6, 70));
        assert!(!alias.exact);
        assert_ne!(alias.number, 70);
        assert_eq!(numbers.node(70).ok(), Some(NodeId(5)));
        assert_eq!(numbers.node(alias.number).ok(), Some(NodeId(6)));
        // The old node goes; the new one keeps the number that the kernel knows it by.
        numbers.forget(70, 1);
        assert_eq!(numbers.learn(&entry(6, 70)), alias);
        assert_eq!(numbers.forget(alias.number, 2), Some((NodeId(6), 2)));
        assert_eq!(numbers.learn(&entry(6, 70)), Named { number: 70, exact: true });
    }

    #[test]
    fn nobodys_number_is_nobodys() {
        let numbers = Numbers::new();
        let nobody = numbers.nobody();
        assert_ne!(nobody, numbers.nobody());
        assert!(numbers.node(nobody).is_err());
        assert_eq!(numbers.forget(nobody, 1), None);
    }

    #[test]
    fn the_numbers_of_nothing_and_of_the_root_are_never_given_to_a_node() {
        let numbers = Numbers::new();
        for inode in [0, 1] {
            assert!(numbers.learn(&entry(5 + inode, inode)).number >= ALIAS);
        }
    }
}

//! The numbers by which the kernel knows the volume's nodes.
//!
//! FUSE has two numbers for a node: the one requests name it by, and the one `stat(2)` shows. fuser sends one
//! for both wherever a node is first named, so the number has to be the stable inode number. That is safe as
//! long as no two living nodes show the same one, which can happen for a moment: a file is deleted, the disk
//! gives its inode number to a new file, and the kernel has not yet forgotten the old one. The newcomer then
//! gets a number of its own, an *alias*, and its attributes are not to be cached, so that `stat(2)` asks for
//! them, and that answer may carry the right inode number.
//!
//! A number from which the volume's own follows is only counted, since the kernel may know millions of those.
//!
//! **Invariant:** while the kernel knows a number, it means the same node.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::volume::dense::DenseMap;
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

/// A part of the numbers; each is in one of the maps at most.
#[derive(Debug, Default)]
struct Shard {
    /// Lookups of numbers that mean what [`NodeId::of_layers`] makes of them.
    of_layers: DenseMap<u32>,
    others: HashMap<u64, Known>,
}

impl Shard {
    fn node(&self, number: u64) -> Option<NodeId> {
        if let Some(known) = self.others.get(&number) {
            return Some(known.node);
        }
        self.of_layers.get(number).and_then(|_| NodeId::of_layers(number))
    }

    /// Counts one lookup more for `number`, unless it means another node.
    fn count(&mut self, number: u64, node: NodeId) -> bool {
        if self.node(number).is_some_and(|known| known != node) {
            return false;
        }
        if self.others.contains_key(&number) || NodeId::of_layers(number) != Some(node) {
            self.others.entry(number).or_insert(Known { node, lookups: 0 }).lookups += 1;
            return true;
        }
        let before = self.of_layers.get(number).unwrap_or(0);
        if let Some(lookups) = before.checked_add(1) {
            self.of_layers.insert(number, lookups);
        } else {
            self.of_layers.remove(number);
            self.others.insert(number, Known { node, lookups: u64::from(before) + 1 });
        }
        true
    }

    /// Takes back lookups; returns the node, how many were taken back, and whether none is left.
    fn forget(&mut self, number: u64, count: u64) -> Option<(NodeId, u64, bool)> {
        if let Some(known) = self.others.get_mut(&number) {
            let (node, count) = (known.node, count.min(known.lookups));
            known.lookups -= count;
            let is_last = known.lookups == 0;
            if is_last {
                self.others.remove(&number);
            }
            return Some((node, count, is_last));
        }
        let lookups = self.of_layers.get_mut(number)?;
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(*lookups);
        *lookups -= count;
        let is_last = *lookups == 0;
        if is_last {
            self.of_layers.remove(number);
        }
        Some((NodeId::of_layers(number)?, u64::from(count), is_last))
    }
}

/// Which node each of the kernel's numbers means, and how often the kernel was told so.
#[derive(Debug)]
pub(super) struct Numbers {
    shards: [Mutex<Shard>; SHARDS],
    aliases: Mutex<HashMap<NodeId, u64>>,
    alias_count: AtomicUsize,
    next_alias: AtomicU64,
}

impl Numbers {
    pub(super) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
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

    fn count(&self, number: u64, node: NodeId) -> bool {
        self.shard(number).count(number, node)
    }

    /// Returns the node that `number` means.
    pub(super) fn node(&self, number: u64) -> Result<NodeId, FsError> {
        if number == ROOT {
            return Ok(NodeId::ROOT);
        }
        self.shard(number).node(number).ok_or(FsError::Unknown(number))
    }

    /// Returns the number by which the kernel knows the node; `None` when it does not.
    pub(super) fn number_of(&self, node: NodeId, inode: u64) -> Option<u64> {
        if node == NodeId::ROOT {
            return Some(ROOT);
        }
        if let Some(alias) = lock(&self.aliases).get(&node) {
            return Some(*alias);
        }
        self.shard(inode).node(inode).filter(|known| *known == node).map(|_| inode)
    }

    /// Takes back `count` lookups; returns the node and how many references the volume may drop.
    pub(super) fn forget(&self, number: u64, count: u64) -> Option<(NodeId, u64)> {
        if number == ROOT {
            return None;
        }
        let (node, count, is_last) = self.shard(number).forget(number, count)?;
        if is_last && number & (ALIAS | 1 << 63) == ALIAS {
            let mut aliases = lock(&self.aliases);
            if self.node(number).is_err() {
                aliases.remove(&node);
            }
            self.alias_count.store(aliases.len(), Ordering::Release);
        }
        Some((node, count))
    }

    fn shard(&self, number: u64) -> MutexGuard<'_, Shard> {
        // Node numbers are dense in their low bits, and those that share memory belong together.
        lock(&self.shards[(DenseMap::<u32>::page_of(number) % SHARDS as u64) as usize])
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
    fn a_number_of_the_layers_is_counted_and_means_one_node_at_a_time() {
        let numbers = Numbers::new();
        let inode = 3 << 32 | 9;
        let NodeId(own) = NodeId::of_layers(inode).unwrap_or(NodeId::ROOT);
        for _ in 0..2 {
            assert_eq!(numbers.learn(&entry(own, inode)), Named { number: inode, exact: true });
        }
        let other = numbers.learn(&entry(7, inode));
        assert!(!other.exact, "the number is taken");
        assert_eq!(numbers.number_of(NodeId(own), inode), Some(inode));
        assert_eq!(numbers.forget(inode, 9), Some((NodeId(own), 2)));
        assert!(numbers.node(inode).is_err() && numbers.number_of(NodeId(own), inode).is_none());
        numbers.forget(other.number, 1);
        assert!(numbers.learn(&entry(7, inode)).exact);
        assert!(!numbers.learn(&entry(own, inode)).exact, "the number is taken the other way round");
    }

    #[test]
    fn more_lookups_than_a_small_number_holds_are_counted() {
        let mut shard = Shard::default();
        let inode = 1 << 32;
        let Some(node) = NodeId::of_layers(inode) else { panic!("a number of the layers") };
        shard.of_layers.insert(inode, u32::MAX - 1);
        for _ in 0..3 {
            assert!(shard.count(inode, node));
        }
        assert_eq!(shard.node(inode), Some(node));
        assert!(!shard.count(inode, NodeId(5)));
        let all = u64::from(u32::MAX) + 2;
        assert_eq!(shard.forget(inode, all - 1), Some((node, all - 1, false)));
        assert_eq!(shard.forget(inode, 1), Some((node, 1, true)));
        assert_eq!(shard.node(inode), None);
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

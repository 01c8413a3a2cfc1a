//! What is asked for first, in order: the raw material for a profile of a launch.
//!
//! Only what reaches this process is seen. On a fresh mount that is everything a program touches for the first time;
//! what the kernel keeps is not asked for again, so nothing is counted twice.
//!
//! **Invariant:** recording ends by itself, keeps at most [`MOST`] touches, and a request that is recorded waits for
//! nothing but a map.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::volume::{NodeId, Volume};

/// How many touches are recorded at most.
pub const MOST: usize = 1 << 15;

/// How many separate ranges of one file are told apart; what comes later widens the last one.
const MOST_RANGES: usize = 64;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whether a name exists, and its attributes.
    Name,
    /// The entries of a directory.
    Listing,
    /// A file: its ranges that were read, as offset and end in bytes, in the order of reading. Empty when it was opened and
    /// then left to the kernel, or never read.
    Content(Vec<(u64, u64)>),
}

/// One thing that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// From the root of the mount, without a slash at the beginning; empty for the root.
    pub path: Vec<u8>,
    /// Since recording began.
    pub at: Duration,
    /// What.
    pub kind: Kind,
}

/// A recording.
#[derive(Debug)]
pub struct Touches {
    begun: Instant,
    open: AtomicBool,
    /// A process whose requests do not count; 0 is none.
    ignored: AtomicU32,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    touches: Vec<Touch>,
    names: HashSet<(NodeId, Box<[u8]>)>,
    listings: HashSet<NodeId>,
    /// Positions in `touches`.
    contents: HashMap<NodeId, usize>,
}

impl Default for Touches {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            open: AtomicBool::new(true),
            ignored: AtomicU32::new(0),
            seen: Mutex::default(),
        }
    }
}

impl Touches {
    /// Leaves out what the process `number` asks for: whoever replays a recording must not be recorded.
    pub fn ignore(&self, number: u32) {
        self.ignored.store(number, Ordering::Relaxed);
    }

    /// Ends the recording and returns it; a second call returns nothing.
    #[must_use]
    pub fn finish(&self) -> Vec<Touch> {
        self.open.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.lock()).touches
    }

    /// Returns whether a request of the process `number` is to be recorded.
    pub(super) fn wants(&self, number: u32) -> bool {
        self.open.load(Ordering::Relaxed) && number != self.ignored.load(Ordering::Relaxed)
    }

    pub(super) fn name(&self, volume: &Volume, parent: NodeId, name: &[u8]) {
        if self.lock().names.insert((parent, name.into())) {
            self.add(volume, parent, Some(name), Kind::Name);
        }
    }

    pub(super) fn listing(&self, volume: &Volume, node: NodeId) {
        if self.lock().listings.insert(node) {
            self.add(volume, node, None, Kind::Listing);
        }
    }

    pub(super) fn opening(&self, volume: &Volume, node: NodeId) {
        if !self.lock().contents.contains_key(&node) {
            self.add(volume, node, None, Kind::Content(Vec::new()));
        }
    }

    pub(super) fn reading(&self, volume: &Volume, node: NodeId, offset: u64, length: u64) {
        self.opening(volume, node);
        let mut seen = self.lock();
        let Some(&position) = seen.contents.get(&node) else { return };
        if let Some(Touch { kind: Kind::Content(ranges), .. }) = seen.touches.get_mut(position) {
            widen(ranges, offset, offset.saturating_add(length));
        }
    }

    /// The path is found without the lock. What has no name any more cannot be found again.
    fn add(&self, volume: &Volume, node: NodeId, name: Option<&[u8]>, kind: Kind) {
        let Some(mut path) = volume.path_of(node) else { return };
        if let Some(name) = name {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        let at = self.begun.elapsed();
        let mut seen = self.lock();
        let position = seen.touches.len();
        if matches!(kind, Kind::Content(_)) {
            match seen.contents.entry(node) {
                // Another thread was quicker.
                Entry::Occupied(_) => return,
                Entry::Vacant(place) => place.insert(position),
            };
        }
        seen.touches.push(Touch { path, at, kind });
        if position + 1 >= MOST {
            self.open.store(false, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a range; one that continues or overlaps another becomes part of it.
pub fn widen(ranges: &mut Vec<(u64, u64)>, offset: u64, end: u64) {
    let touching = ranges.iter_mut().find(|range| offset <= range.1 && end >= range.0);
    if let Some(range) = touching {
        *range = (range.0.min(offset), range.1.max(end));
    } else if ranges.len() < MOST_RANGES {
        ranges.push((offset, end));
    } else if let Some(last) = ranges.last_mut() {
        *last = (last.0.min(offset), last.1.max(end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_together_and_are_bounded() {
        let mut ranges = Vec::new();
        for (offset, end) in [(10, 20), (0, 5), (20, 30), (4, 11)] {
            widen(&mut ranges, offset, end);
        }
        assert_eq!(ranges, [(4, 30), (0, 5)]);
        for number in 0..1000 {
            widen(&mut ranges, 100 + number * 10, 101 + number * 10);
        }
        assert_eq!(ranges.len(), MOST_RANGES);
        assert_eq!(ranges.last().map(|range| range.1), Some(100 + 9990 + 1));
    }

    #[test]
    fn a_recording_ends_once() {
        let touches = Touches::default();
        touches.ignore(7);
        assert!(touches.wants(1) && !touches.wants(7));
        assert_eq!(touches.finish(), []);
        assert!(!touches.wants(1));
    }
}

//! Which open files the kernel reads and writes by itself (passthrough), and which through requests.
//!
//! The kernel takes one way at a time for a node (`fs/fuse/iomode.c`): while a passthrough open lives, every
//! further open must name the same backing file, and while a cached open lives none may be passthrough;
//! anything else fails the user's `open(2)` with EIO. The count kept here goes up before the kernel hears of an
//! open and down after it has released it, so it is never lower than the kernel's.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::volume::NodeId;

/// How one open is answered. `B` is the kernel's registration of a backing file.
#[derive(Debug)]
pub(super) enum Way<B> {
    /// Reads and writes come as requests; pages are cached.
    Cached {
        /// Whether pages that are cached already are right.
        keep: bool,
    },
    /// The kernel uses this backing file.
    Passthrough(Arc<B>),
}

#[derive(Debug)]
enum State<B> {
    Cached { opens: u64 },
    Passthrough { opens: u64, writers: u64, backing: Arc<B> },
}

/// What an open asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// The node.
    pub(super) node: NodeId,
    /// Whether it will be written to.
    pub(super) write: bool,
    /// Whether cached pages are right.
    pub(super) keep_cache: bool,
    /// The host file that holds the content.
    pub(super) backing: Option<&'a File>,
}

/// The state of every node that is open.
#[derive(Debug)]
pub(super) struct Opens<B> {
    nodes: Mutex<HashMap<NodeId, State<B>>>,
    passthrough: AtomicBool,
    /// How many want no passthrough to begin. Changed with the nodes locked.
    suspended: AtomicUsize,
}

/// While it lives, no passthrough begins.
#[derive(Debug)]
pub(super) struct Suspended<'a, B>(&'a Opens<B>);

impl<B> Drop for Suspended<'_, B> {
    fn drop(&mut self) {
        self.0.suspended.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<B> Opens<B> {
    pub(super) fn new() -> Self {
        Self {
            nodes: Mutex::new(HashMap::new()),
            passthrough: AtomicBool::new(false),
            suspended: AtomicUsize::new(0),
        }
    }

    /// Says whether the kernel and we agreed on passthrough.
    pub(super) fn allow_passthrough(&self, allowed: bool) {
        self.passthrough.store(allowed, Ordering::Relaxed);
    }

    /// Tells whether passthrough is in use.
    pub(super) fn passthrough(&self) -> bool {
        self.passthrough.load(Ordering::Relaxed)
    }

    /// Decides how an open is answered, and counts it. `register` hands a file to the kernel.
    pub(super) fn begin(&self, wish: &Wish<'_>, register: impl FnOnce(&File) -> io::Result<B>) -> Way<B> {
        let mut nodes = self.lock();
        match nodes.get_mut(&wish.node) {
            Some(State::Passthrough { opens, writers, backing }) => {
                *opens += 1;
                *writers += u64::from(wish.write);
                return Way::Passthrough(Arc::clone(backing));
            }
            Some(State::Cached { opens }) => {
                *opens += 1;
                return Way::Cached { keep: wish.keep_cache };
            }
            None => {}
        }
        let begins = self.passthrough() && self.suspended.load(Ordering::Relaxed) == 0;
        let candidate = wish.backing.filter(|_| begins);
        match candidate.map(register) {
            Some(Ok(backing)) => {
                let backing = Arc::new(backing);
                let state = State::Passthrough {
                    opens: 1,
                    writers: u64::from(wish.write),
                    backing: Arc::clone(&backing),
                };
                nodes.insert(wish.node, state);
                Way::Passthrough(backing)
            }
            Some(Err(error)) => {
                self.refused(&error);
                nodes.insert(wish.node, State::Cached { opens: 1 });
                // Earlier opens may have written past the page cache.
                Way::Cached { keep: false }
            }
            None => {
                nodes.insert(wish.node, State::Cached { opens: 1 });
                Way::Cached { keep: wish.keep_cache }
            }
        }
    }

    /// Counts a release. Answers whether the kernel's attributes of the node may be stale: what is written
    /// through a passthrough map does not reach them.
    pub(super) fn end(&self, node: NodeId, write: bool) -> bool {
        let mut nodes = self.lock();
        let (left, stale) = match nodes.get_mut(&node) {
            Some(State::Cached { opens }) => {
                *opens = opens.saturating_sub(1);
                (*opens, false)
            }
            Some(State::Passthrough { opens, writers, .. }) => {
                *opens = opens.saturating_sub(1);
                *writers = writers.saturating_sub(u64::from(write));
                (*opens, write)
            }
            None => return false,
        };
        if left == 0 {
            nodes.remove(&node);
        }
        stale
    }

    /// Begins no passthrough until the guard is dropped; what goes that way already goes on so.
    pub(super) fn suspend(&self) -> Suspended<'_, B> {
        let _nodes = self.lock();
        self.suspended.fetch_add(1, Ordering::Relaxed);
        Suspended(self)
    }

    /// Returns the nodes that the kernel may be writing to without a request.
    pub(super) fn written_by_the_kernel(&self) -> Vec<NodeId> {
        let nodes = self.lock();
        let written = nodes
            .iter()
            .filter(|(_, state)| matches!(state, State::Passthrough { writers, .. } if *writers > 0));
        written.map(|(node, _)| *node).collect()
    }

    /// These do not go away during a mount: no privilege, or a backing disk that is stacked too deep.
    fn refused(&self, error: &io::Error) {
        if matches!(
            error.raw_os_error(),
            Some(libc::EPERM | libc::ELOOP | libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL)
        ) {
            self.allow_passthrough(false);
            tracing::info!("kernel passthrough is off for this mount: {error}");
        } else {
            tracing::debug!("no passthrough for one file: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, State<B>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn wish(backing: Option<&File>, write: bool) -> Wish<'_> {
        Wish { node: NodeId(9), write, keep_cache: true, backing }
    }

    fn opens() -> Opens<u32> {
        let opens = Opens::new();
        opens.allow_passthrough(true);
        opens
    }

    #[test]
    fn a_node_goes_one_way_until_its_last_release() {
        let file = tempfile::tempfile().unwrap();
        let opens = opens();
        // Cached first: nothing can be passthrough beside it.
        assert!(matches!(opens.begin(&wish(None, false), |_| Ok(1)), Way::Cached { keep: true }));
        assert!(matches!(opens.begin(&wish(Some(&file), true), |_| Ok(2)), Way::Cached { keep: true }));
        assert!(!opens.end(NodeId(9), false));
        assert!(matches!(opens.begin(&wish(Some(&file), false), |_| Ok(3)), Way::Cached { .. }));
        opens.end(NodeId(9), true);
        opens.end(NodeId(9), false);
        // Now passthrough: the first registration serves all, even where no backing is offered.
        assert!(matches!(opens.begin(&wish(Some(&file), true), |_| Ok(4)), Way::Passthrough(id) if *id == 4));
        assert!(
            matches!(opens.begin(&wish(Some(&file), false), |_| Ok(5)), Way::Passthrough(id) if *id == 4)
        );
        assert!(matches!(opens.begin(&wish(None, false), |_| Ok(6)), Way::Passthrough(id) if *id == 4));
        assert!(opens.end(NodeId(9), true));
        assert!(!opens.end(NodeId(9), false));
        assert!(!opens.end(NodeId(9), false));
        assert!(matches!(opens.begin(&wish(None, false), |_| Ok(7)), Way::Cached { .. }));
    }

    #[test]
    fn a_refusal_for_good_ends_passthrough_and_distrusts_the_cache() {
        let file = tempfile::tempfile().unwrap();
        let opens = opens();
        let refuse = |code| move |_: &File| Err(io::Error::from_raw_os_error(code));
        assert!(matches!(
            opens.begin(&wish(Some(&file), false), refuse(libc::EMFILE)),
            Way::Cached { keep: false }
        ));
        assert!(opens.passthrough());
        opens.end(NodeId(9), false);
        opens.begin(&wish(Some(&file), false), refuse(libc::EPERM));
        assert!(!opens.passthrough());
    }

    #[test]
    fn a_release_that_nobody_counted_changes_nothing() {
        assert!(!opens().end(NodeId(3), true));
    }
}

//! What the serving process may ask of a mount while the kernel uses it.
//!
//! Requests wait at the volume's gate. What the kernel writes by itself (passthrough) sends none, but it takes the lock of
//! the inode, and so does the kernel for a change of attributes, until that is answered. So for every file that is open
//! that way for writing a thread of ours asks, through the mount, for an attribute to be removed, and is not answered
//! before the hold is over. Stores through shared maps of such files are not held up.
//!
//! **Invariant:** only threads of this process are left waiting, all of them are answered when the hold ends, and none of
//! them keeps the connection to the kernel open.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use fuser::{BackingId, Errno, INodeNo, Notifier, ReplyEmpty};

use super::numbers::Numbers;
use super::opens::{Opens, Suspended};
use crate::volume::{self, Forgotten, NodeId, Volume};
use crate::worker;

/// What is asked to be removed from files that are to be held; nothing ever has it.
const HELD: &str = "user.slotfs.held";

/// How many files can be held at once: each takes a thread.
const MOST: usize = 1024;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// Why changes could not be held up.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// A change does not end.
    #[error("a change that has begun does not end")]
    Changing,
    /// Too many files are written by the kernel alone.
    #[error("{count} files are open for writing, at most {MOST} can be held up")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// One of them cannot be held.
    #[error("writing to `{}` cannot be held up: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Requests that are left waiting, by threads of this process.
#[derive(Debug, Default)]
pub(super) struct Parking {
    state: Mutex<Parked>,
    turn: Condvar,
}

#[derive(Debug, Default)]
struct Parked {
    /// Threads that are about to ask, and about what.
    expected: HashMap<u32, NodeId>,
    waiting: Vec<ReplyEmpty>,
    failed: Option<HoldError>,
    over: bool,
}

impl Parking {
    /// Keeps the reply to a request of one of our own threads about its `node`, and gives any other back.
    pub(super) fn keep(
        &self,
        (thread, node): (u32, Option<NodeId>),
        name: &OsStr,
        reply: ReplyEmpty,
    ) -> Option<ReplyEmpty> {
        if name != HELD {
            return Some(reply);
        }
        let mut state = self.lock();
        let expected = state.expected.remove(&thread);
        if expected.is_none() || expected != node || state.over {
            return Some(reply);
        }
        state.waiting.push(reply);
        self.turn.notify_all();
        None
    }

    fn lock(&self) -> MutexGuard<'_, Parked> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `count` requests are left waiting.
    fn full(&self, count: usize, end: Instant) -> Result<(), HoldError> {
        let mut state = self.lock();
        loop {
            if let Some(error) = state.failed.take() {
                return Err(error);
            }
            if state.waiting.len() >= count {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(HoldError::Changing);
            }
            state = self.turn.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Answers all that wait.
    fn release(&self) {
        let waiting = {
            let mut state = self.lock();
            state.over = true;
            std::mem::take(&mut state.waiting)
        };
        for reply in waiting {
            reply.error(Errno::NO_XATTR);
        }
    }

    /// Asks, through the mount, for something that is answered when the hold is over.
    fn park(&self, root: &Path, node: NodeId, path: &[u8]) {
        let path = root.join(OsStr::from_bytes(path));
        let answer = leave_files().and_then(|thread| {
            self.lock().expected.insert(thread, node);
            Ok(rustix::fs::lremovexattr(&path, HELD)?)
        });
        let mut state = self.lock();
        if !state.over {
            let source = answer.err().unwrap_or_else(|| io::ErrorKind::Other.into());
            state.failed = Some(HoldError::File { path, source });
            self.turn.notify_all();
        }
    }
}

/// Leaves this thread without the files of the process, and returns its number. The connection to the kernel ends with the last descriptor of it,
/// and only then a request that nobody answers: a thread that waits for one must not keep it open, or a killed server would
/// never be gone (fuse(4), `request_wait_answer` in `fs/fuse/dev.c`).
#[cfg(target_os = "linux")]
fn leave_files() -> io::Result<u32> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES)?;
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir("/proc/thread-self/fd")? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // The directory that was read is among them, and closed by now.
        let _ = nix::unistd::close(number);
    }
    Ok(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned())
}

/// Nowhere else does the kernel write by itself, so nobody is left waiting.
#[cfg(not(target_os = "linux"))]
fn leave_files() -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Access to a mount from within the process that serves it.
#[derive(Clone, Debug)]
pub struct Control {
    pub(super) volume: Arc<Volume>,
    pub(super) opens: Arc<Opens<BackingId>>,
    pub(super) parking: Arc<Mutex<Arc<Parking>>>,
    pub(super) numbers: Arc<Numbers>,
    pub(super) notifier: Arc<OnceLock<Notifier>>,
    pub(super) mountpoint: PathBuf,
}

/// Nothing that is written through the mount changes as long as this lives.
#[derive(Debug)]
pub struct Held<'a> {
    parking: Arc<Parking>,
    _gate: volume::Hold,
    _suspended: Suspended<'a, BackingId>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.parking.release();
    }
}

impl Control {
    /// Returns the volume that is mounted.
    #[must_use]
    pub fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// Holds up every change, once those that have begun are done. Who makes one waits until [`Held`] is dropped.
    ///
    /// # Errors
    /// That took longer than `limit`, or some file cannot be held.
    pub fn hold(&self, limit: Duration) -> Result<Held<'_>, HoldError> {
        let end = Instant::now() + limit;
        loop {
            match self.try_hold(end) {
                Ok(Some(held)) => return Ok(held),
                Ok(None) => {}
                // It may have got another name meanwhile.
                Err(HoldError::File { .. }) if Instant::now() < end => {}
                Err(error) => return Err(error),
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Lets `act` replace what is written while changes are held up, lets them go on, and makes the kernel forget what it
    /// knew. Nothing must be held up while it is told: it waits for directories that requests keep.
    pub fn replace<T>(&self, held: Held<'_>, act: impl FnOnce(&Volume) -> (T, Forgotten)) -> T {
        let (result, forgotten) = act(&self.volume);
        drop(held);
        self.forget(&forgotten);
        result
    }

    fn forget(&self, forgotten: &Forgotten) {
        let Some(notifier) = self.notifier.get() else { return };
        for (parent, inode, name) in &forgotten.names {
            if let Some(number) = self.numbers.number_of(*parent, *inode)
                && let Err(error) = notifier.inval_entry(INodeNo(number), OsStr::from_bytes(name))
            {
                tracing::debug!("the kernel keeps a name: {error}");
            }
        }
        let directories: HashSet<_> = forgotten.directories.iter().collect();
        for (node, inode) in directories {
            if let Some(number) = self.numbers.number_of(*node, *inode)
                && let Err(error) = notifier.inval_inode(INodeNo(number), 0, 0)
            {
                tracing::debug!("the kernel keeps a directory: {error}");
            }
        }
    }

    /// Requests that wait at the gate keep the threads that serve them, perhaps all. So what needs an answer comes first.
    /// `None` when a file that was open for reading was opened for writing in between.
    fn try_hold(&self, end: Instant) -> Result<Option<Held<'_>>, HoldError> {
        let suspended = self.opens.suspend();
        let nodes: HashSet<NodeId> = self.opens.written_by_the_kernel().into_iter().collect();
        let parking = Arc::new(Parking::default());
        *self.parking.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&parking);
        let waiting = Waiting(&parking);
        self.park_all(&parking, &nodes, end)?;
        let left = end.saturating_duration_since(Instant::now());
        let gate = self.volume.hold_up(left).ok_or(HoldError::Changing)?;
        let now = self.opens.written_by_the_kernel();
        // What has no name is not to be seen by anybody who looks.
        let all_held = now.iter().all(|node| nodes.contains(node) || self.volume.path_of(*node).is_none());
        if !all_held {
            return if Instant::now() < end { Ok(None) } else { Err(HoldError::Changing) };
        }
        std::mem::forget(waiting);
        Ok(Some(Held { parking, _gate: gate, _suspended: suspended }))
    }

    fn park_all(
        &self,
        parking: &Arc<Parking>,
        nodes: &HashSet<NodeId>,
        end: Instant,
    ) -> Result<(), HoldError> {
        let named = |node: &NodeId| Some((*node, self.volume.path_of(*node)?));
        let files: Vec<_> = nodes.iter().filter_map(named).collect();
        let count = files.len();
        if count > MOST {
            return Err(HoldError::TooMany { count });
        }
        for (node, path) in files {
            let (parking, root) = (Arc::clone(parking), self.mountpoint.clone());
            worker::spawn_small("slotfs-hold", move || parking.park(&root, node, &path))
                .map_err(|source| HoldError::File { path: self.mountpoint.clone(), source })?;
        }
        parking.full(count, end)
    }
}

/// Lets go of what waits unless the hold comes about.
struct Waiting<'a>(&'a Parking);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

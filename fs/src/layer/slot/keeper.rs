//! A thread that puts files which were read into the store, when nobody is reading.
//!
//! **Invariant:** it never delays a reader for longer than one piece of decoding, holds a bounded queue, and loses nothing
//! that matters when it is stopped: a file that is not in the store is decoded again.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Inner;
use crate::worker;

/// Files stored before they are published together.
const TOGETHER: usize = 256;

/// How the keeper behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeeperOptions {
    /// How long nobody may have read before it starts.
    pub idle: Duration,
    /// Files larger than this are not kept, in bytes.
    pub largest_file: u64,
    /// Files remembered; more are forgotten.
    pub queue: usize,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        Self { idle: Duration::from_secs(2), largest_file: 256 << 20, queue: 65536 }
    }
}

/// The thread and its queue. Dropping it stops the thread after the file at hand.
#[derive(Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
    options: KeeperOptions,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Task>,
    last_activity: Option<Instant>,
    busy: bool,
    /// Nobody reads any more, so nothing is waited for.
    alone: bool,
    stopped: bool,
}

#[derive(Clone, Debug)]
struct Task {
    layer: Weak<Inner>,
    node: u32,
    /// Where the content begins: neighbours are decoded together.
    order: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Returns a keeper whose thread starts with its first file.
    #[must_use]
    pub fn new(options: KeeperOptions) -> Self {
        Self { shared: Arc::default(), options, thread: Mutex::new(None) }
    }

    /// Returns how it behaves.
    #[must_use]
    pub fn options(&self) -> &KeeperOptions {
        &self.options
    }

    pub(super) fn note_activity(&self) {
        self.shared.lock().last_activity = Some(Instant::now());
    }

    pub(super) fn enqueue(&self, layer: Weak<Inner>, node: u32, order: u64) {
        let mut state = self.shared.lock();
        if state.queue.len() >= self.options.queue {
            return;
        }
        state.queue.push_back(Task { layer, node, order });
        drop(state);
        self.shared.changed.notify_all();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (shared, idle) = (Arc::clone(&self.shared), self.options.idle);
            let run = move || run(&shared, idle);
            *thread = worker::spawn("slot-keeper", run).ok();
        }
    }

    /// Tells it that nobody reads any more: what is left need not wait for quiet.
    pub fn leave_alone(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let is_at_work = thread.as_ref().is_some_and(|thread| !thread.is_finished());
        drop(thread);
        let mut state = self.shared.lock();
        state.alone = true;
        if !is_at_work {
            // There was no thread to be had, or it panicked: nobody will get to it, so nobody is to wait for it.
            state.queue.clear();
            state.busy = false;
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Waits until everything that was read is in the store, for at most `limit`; tells whether it is.
    #[must_use]
    pub fn wait_until_done(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.shared.lock();
        while !state.queue.is_empty() || state.busy {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.shared.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // The last layer may be dropped, and the keeper with it, on the keeper's own thread.
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, idle: Duration) {
    while let Some(tasks) = next(shared, idle) {
        let mut layers: Vec<Arc<Inner>> = Vec::new();
        for task in tasks {
            if shared.lock().stopped {
                break;
            }
            let Some(layer) = task.layer.upgrade() else { continue };
            if let Err(error) = layer.keep(task.node) {
                tracing::warn!(slot = %layer.slot, "a content is not kept: {error}");
            }
            if !layers.iter().any(|known| Arc::ptr_eq(known, &layer)) {
                layers.push(layer);
            }
        }
        for layer in layers {
            if let Err(error) = layer.publish() {
                tracing::warn!(slot = %layer.slot, "contents are not kept: {error}");
            }
        }
        shared.lock().busy = false;
        shared.changed.notify_all();
    }
}

/// Waits for work and for quiet; `None` when stopped.
fn next(shared: &Shared, idle: Duration) -> Option<Vec<Task>> {
    let mut state = shared.lock();
    loop {
        if state.stopped {
            return None;
        }
        let quiet = state.last_activity.map_or(idle, |last| last.elapsed());
        if state.queue.is_empty() {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        } else if quiet < idle && !state.alone {
            let woken = shared.changed.wait_timeout(state, idle - quiet);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        } else {
            // The whole queue in the order of the bytes, so that a span is decoded once for all files in it.
            state.queue.make_contiguous().sort_by_key(|task| (task.layer.as_ptr() as usize, task.order));
            let count = state.queue.len().min(TOGETHER);
            state.busy = true;
            return Some(state.queue.drain(..count).collect());
        }
    }
}

//! Whether the slot is indexed: a finished index, or a pass that is still running.
//!
//! A damaged index is thrown away and made anew while the layer goes on answering: nodes are numbered alike.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::crew;
use super::options::SlotHome;
use crate::node::Timestamp;
use crate::package::{CarriedIndex, Container, Slot, SlotSource};
use crate::slot::index::{Identity, Index, IndexError, IndexWriter};
use crate::slot::pass::{Pass, batch_for};
use crate::slot::seek::{Plan, PointLog};
use crate::slot::tree::GrowingTree;
use crate::slot::{Limits, SlotError};
use crate::store::Batch;
use crate::worker;

/// How often one layer makes its index anew before it takes the disk for broken.
const MOST_REBUILDS: u32 = 3;

/// Contents are written to the store when nobody has read for so long, because the disk has other things to do while a
/// program starts, or after so long in any case.
const QUIET: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// What answers now.
#[derive(Clone, Debug)]
pub(super) enum View {
    /// The finished index.
    Ready(Arc<Index>),
    /// The tree that grows.
    Growing(Arc<Growing>),
}

/// A running pass, as readers see it.
#[derive(Debug)]
pub(super) struct Growing {
    pub(super) tree: Arc<GrowingTree>,
    pub(super) points: Arc<PointLog>,
    pub(super) batch: Option<Arc<Batch>>,
}

/// The state of one slot.
#[derive(Debug)]
pub(super) struct SlotState {
    /// The slot's id, for messages.
    slot: String,
    source: SlotSource,
    identity: Identity,
    /// The index that the package brings along.
    carried: Option<CarriedIndex>,
    /// Copies that one once: whoever cleans up after the session must not find it there again.
    kept: Once,
    home: SlotHome,
    limits: Limits,
    /// One file, stored as it is: all is known without a pass, and no index is made.
    is_plain: bool,
    view: RwLock<View>,
    /// Has the contents that are not in the store yet.
    unpublished: Mutex<Option<Arc<Batch>>>,
    /// When somebody last asked, in milliseconds since `opened`.
    asked: AtomicU64,
    opened: Instant,
    progress: Mutex<Progress>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    outcome: Option<Result<(), Arc<str>>>,
    /// Whether somebody waits for everything to be done.
    is_awaited: bool,
    rebuilds: u32,
    pass_seconds: Option<f64>,
}

impl SlotState {
    /// Opens the index, or starts the pass that makes it; tells whether the index was there.
    pub(super) fn open(
        slot: &Slot,
        identity: Identity,
        home: &SlotHome,
        limits: Limits,
    ) -> Result<(Arc<Self>, bool), SlotError> {
        let source = &slot.source;
        if matches!(source.container, Container::Directory(_)) {
            return Err(SlotError::IsDirectory);
        }
        let is_file = source.container == Container::File && Plan::is_direct(source);
        // Such a file has an index only for the digests of its chunks.
        let is_indexed = !is_file || slot.carried_index.is_some();
        let found = if is_indexed { find(slot, &identity, home) } else { None };
        let is_plain = is_file && found.is_none();
        let existed = found.is_some() || is_plain;
        let mut job = None;
        let view = match found {
            Some(index) => View::Ready(Arc::new(index)),
            None if is_plain => {
                let (pass, growing) = prepare(source, &identity, home, limits);
                growing.tree.end(Ok(()));
                growing.points.end(Ok(source.stored.len()));
                drop(pass);
                View::Growing(Arc::new(growing))
            }
            None => {
                let (pass, growing) = prepare(source, &identity, home, limits);
                job = Some(pass);
                View::Growing(Arc::new(growing))
            }
        };
        let outcome = existed.then_some(Ok(()));
        let state = Arc::new(Self {
            slot: slot.id.clone(),
            source: source.clone(),
            identity,
            carried: slot.carried_index.clone(),
            kept: Once::new(),
            home: home.clone(),
            limits,
            is_plain,
            view: RwLock::new(view),
            unpublished: Mutex::default(),
            asked: AtomicU64::new(0),
            opened: Instant::now(),
            progress: Mutex::new(Progress { outcome, ..Progress::default() }),
            settled: Condvar::new(),
        });
        if let Some(pass) = job {
            state.start(pass)?;
        }
        Ok((state, existed))
    }

    /// Runs the pass on a thread of its own.
    fn start(self: &Arc<Self>, pass: Pass) -> Result<(), SlotError> {
        let state = Arc::downgrade(self);
        *self.unpublished() = pass.batch.clone();
        let run = move || {
            let start = Instant::now();
            let outcome = caught(|| pass.run());
            let seconds = start.elapsed().as_secs_f64();
            let batch = pass.batch.clone();
            drop(pass);
            let Some(state) = state.upgrade() else { return };
            let outcome = state.answer_from(outcome);
            let Some(batch) = batch.filter(|_| outcome.is_ok()) else {
                return state.settle(None, outcome, seconds);
            };
            // Everything can be read by now, and whoever reads goes first. Where there is no other thread, this one does it.
            let finish = Arc::new(move || {
                state.wait_for_quiet();
                if let Err(error) = caught(|| Ok(batch.publish()?)) {
                    tracing::warn!("contents are not stored: {error}");
                }
                state.settle(Some(&batch), outcome.clone(), seconds);
            });
            let later = Arc::clone(&finish);
            let beside = worker::spawn("slot-publish", move || {
                worker::step_back();
                later();
            });
            if beside.is_err() {
                finish();
            }
        };
        crew::run(Box::new(run)).map_err(|source| SlotError::Thread { source })
    }

    /// Waits until nobody reads, or somebody waits for the end.
    fn wait_for_quiet(&self) {
        let end = Instant::now() + LONGEST_DELAY;
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        while !progress.is_awaited {
            let asked = self.opened + Duration::from_millis(self.asked.load(Ordering::Relaxed));
            let left = (asked + QUIET).min(end).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.settled.wait_timeout(progress, left);
            progress = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Answers from the index from now on.
    fn answer_from(&self, result: Result<Index, SlotError>) -> Result<(), Arc<str>> {
        match result {
            Ok(index) => {
                *self.view.write().unwrap_or_else(PoisonError::into_inner) = View::Ready(Arc::new(index));
                Ok(())
            }
            Err(error) => {
                tracing::error!("slot `{}` cannot be indexed: {error}", self.slot);
                Err(Arc::from(error.to_string()))
            }
        }
    }

    /// Tells everybody that nothing is left to do.
    fn settle(&self, published: Option<&Arc<Batch>>, outcome: Result<(), Arc<str>>, seconds: f64) {
        let mut unpublished = self.unpublished();
        if published.is_some_and(|batch| unpublished.as_ref().is_some_and(|other| !Arc::ptr_eq(batch, other)))
        {
            // The index was damaged meanwhile, and another pass is at it.
            return;
        }
        *unpublished = None;
        drop(unpublished);
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.outcome = Some(outcome);
        progress.pass_seconds = Some(seconds);
        self.settled.notify_all();
    }

    fn unpublished(&self) -> MutexGuard<'_, Option<Arc<Batch>>> {
        self.unpublished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what has contents of this slot that are not in the store yet.
    pub(super) fn batch(&self) -> Option<Arc<Batch>> {
        self.unpublished().clone()
    }

    /// Returns what answers now.
    pub(super) fn view(&self) -> View {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.asked.store(now, Ordering::Relaxed);
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the index, which is made unless the slot is plain, and until contents are where they stay. In haste, that
    /// is not put off for others who read.
    pub(super) fn wait(&self, in_haste: bool) -> Result<Arc<Index>, SlotError> {
        loop {
            let mut progress = self.progress(in_haste);
            while progress.outcome.is_none() {
                progress = self.settled.wait(progress).unwrap_or_else(PoisonError::into_inner);
            }
            if let Some(Err(reason)) = &progress.outcome {
                return Err(SlotError::PassFailed { reason: reason.to_string() });
            }
            drop(progress);
            if let View::Ready(index) = self.view() {
                return Ok(index);
            }
        }
    }

    fn progress(&self, is_awaited: bool) -> MutexGuard<'_, Progress> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if is_awaited && !std::mem::replace(&mut progress.is_awaited, true) {
            self.settled.notify_all();
        }
        progress
    }

    /// Tells whether there is nothing to index.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Waits for at most `limit`; tells whether the pass has ended, well or not.
    pub(super) fn wait_for(&self, limit: Duration) -> bool {
        let progress = self.progress(!limit.is_zero());
        let running = |progress: &mut Progress| progress.outcome.is_none();
        let waited = self.settled.wait_timeout_while(progress, limit, running);
        waited.unwrap_or_else(PoisonError::into_inner).0.outcome.is_some()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_plain || matches!(*self.view.read().unwrap_or_else(PoisonError::into_inner), View::Ready(_))
    }

    pub(super) fn pass_seconds(&self) -> Option<f64> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).pass_seconds
    }

    /// Throws a damaged index away and starts a pass in its place; `false` when that was done too often.
    pub(super) fn rebuild(self: &Arc<Self>, damaged: &Arc<Index>, error: &IndexError) -> bool {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let is_current = matches!(&*view, View::Ready(index) if Arc::ptr_eq(index, damaged));
        if !is_current {
            // Somebody else was faster.
            return true;
        }
        if progress.rebuilds >= MOST_REBUILDS {
            return false;
        }
        progress.rebuilds += 1;
        let was_in_package = damaged.is_in_package();
        if let Some(index) = self.carried.as_ref().filter(|_| !was_in_package).and_then(|carried| {
            // A copy that is damaged is in the package, too, where it is read from until it is copied again.
            let copy = self.identity.carried_path(&self.home.shared, carried);
            tracing::error!(slot = %self.slot, "`{}` is copied anew: {error}", copy.display());
            let _ = std::fs::remove_file(copy);
            Index::open_in_package(&self.identity, carried).ok()
        }) {
            let _ = std::fs::remove_file(self.identity.path(&self.home.shared));
            *view = View::Ready(Arc::new(index));
            return true;
        }
        let path = self.identity.path(&self.home.shared);
        if was_in_package {
            warn_of_carried(&self.slot, error);
        } else {
            tracing::error!(slot = %self.slot, "`{}` is made anew: {error}", path.display());
        }
        let _ = std::fs::remove_file(&path);
        let (pass, growing) = prepare(&self.source, &self.identity, &self.home, self.limits);
        if self.start(pass).is_err() {
            return false;
        }
        progress.outcome = None;
        *view = View::Growing(Arc::new(growing));
        true
    }
}

impl SlotState {
    /// Copies the index that is read from the package, unless that was tried before.
    pub(super) fn keep_index(&self) {
        self.kept.call_once(|| self.copy_carried_index());
    }

    fn copy_carried_index(&self) {
        let is_needed = matches!(&*self.view.read().unwrap_or_else(PoisonError::into_inner),
            View::Ready(index) if index.is_in_package());
        let Some(carried) = self.carried.as_ref().filter(|_| is_needed) else { return };
        if let Err(error) = Index::keep_carried(&self.home.shared, &self.identity, carried) {
            tracing::info!(slot = %self.slot, "the package's own index is not copied: {error}");
        }
    }
}

impl Drop for SlotState {
    fn drop(&mut self) {
        self.keep_index();
    }
}

/// Turns a panic, of a decoder for example, into an error: whoever waits for the slot must hear that there is no more to come.
fn caught<T>(work: impl FnOnce() -> Result<T, SlotError>) -> Result<T, SlotError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(SlotError::PassFailed { reason: "it panicked; see the log".to_owned() }))
}

/// Looks for the index: the one that was made here, else the one that the package brings along.
fn find(slot: &Slot, identity: &Identity, home: &SlotHome) -> Option<Index> {
    let path = identity.path(&home.shared);
    match Index::open(&path, identity) {
        Ok(Some(index)) => return Some(index),
        Ok(None) => {}
        Err(error) => tracing::warn!("`{}` is made anew: {error}", path.display()),
    }
    match Index::open_carried(&home.shared, identity, slot.carried_index.as_ref()?) {
        Ok(index) => {
            tracing::debug!(slot = %slot.id, nodes = index.count(), "the package's own index is used");
            Some(index)
        }
        Err(error) => {
            warn_of_carried(&slot.id, &error);
            None
        }
    }
}

fn warn_of_carried(slot: &str, error: &IndexError) {
    tracing::warn!("slot `{slot}` is indexed anew: its index in the package cannot be used: {error}");
}

/// Makes everything that a pass fills.
fn prepare(source: &SlotSource, identity: &Identity, home: &SlotHome, limits: Limits) -> (Pass, Growing) {
    let plan = Plan::of(source);
    let tree = match source.container {
        Container::File => {
            let size = match &plan {
                Plan::Direct => Some(source.stored.len()),
                Plan::Known(_, length) => Some(*length),
                Plan::Points | Plan::Store => None,
            };
            GrowingTree::of_file(0o644, Timestamp::default(), size, limits)
        }
        Container::Tar | Container::Zip | Container::Directory(_) => GrowingTree::of_archive(limits),
    };
    let (tree, writer) = (Arc::new(tree), Arc::new(IndexWriter::new(&identity.path(&home.shared))));
    let points = Arc::new(PointLog::new(Arc::clone(&writer)));
    let batch = batch_for(source, &plan, home.store.as_ref());
    let growing = Growing { tree: Arc::clone(&tree), points: Arc::clone(&points), batch: batch.clone() };
    let pass = Pass {
        source: source.clone(),
        identity: identity.clone(),
        plan,
        tree,
        points,
        writer,
        batch,
        limits,
    };
    (pass, growing)
}

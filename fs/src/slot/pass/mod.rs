//! One pass over a slot's bytes: entries into the growing tree, points into the log, contents hashed and, where they
//! cannot be reached at random later, into a batch of the store; at the end the index is published, and then the batch.
//!
//! **Invariant:** the pass serves nobody and waits for nobody; whoever reads meanwhile asks the tree. However it ends, it
//! tells the tree and the log, so that nobody waits for ever.

mod ahead;
mod record;
mod survey;

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use self::ahead::AheadInput;
use self::record::Recorder;
use super::index::{Identity, Index, IndexWriter};
use super::scan::tar::TarScanner;
use super::scan::zip::ZipScanner;
use super::scan::{Body, Content, Input, RangeInput};
use super::seek::{Plan, PointLog};
use super::tree::GrowingTree;
use super::{Limits, SlotError, chain, memory};
use crate::package::{Compression, Container, SlotSource};
use crate::store::{Batch, Store};

pub use self::ahead::{Fed, Feed, feed};
pub use self::record::INLINE;
pub use self::survey::Survey;

/// Everything a pass needs.
#[derive(Debug)]
pub struct Pass {
    /// The stored bytes, verified.
    pub source: SlotSource,
    /// Which slot it is.
    pub identity: Identity,
    /// How bytes will be reached.
    pub plan: Plan,
    /// Receives the entries.
    pub tree: Arc<GrowingTree>,
    /// Receives the points.
    pub points: Arc<PointLog>,
    /// Makes the index.
    pub writer: Arc<IndexWriter>,
    /// Receives contents of a [`Plan::Store`]; they can be read from here until the caller publishes them, after the
    /// pass. If a crash takes them before, they are made anew in one more pass.
    pub batch: Option<Arc<Batch>>,
    /// What it may cost.
    pub limits: Limits,
}

impl Pass {
    /// Runs to the end and returns the index.
    ///
    /// # Errors
    /// The first thing that went wrong, which everybody who waits for the pass is told, too.
    pub fn run(&self) -> Result<Index, SlotError> {
        let turn = Turn::take();
        let start = Instant::now();
        let ending = Ending(self);
        let stored = &self.source.stored;
        // What a pass makes is shared by all packages with this slot: chunk by chunk will not do.
        let hashed = if stored.is_checked() { stored.check_whole() } else { Ok(()) };
        let result = hashed.map_err(SlotError::from_read).and_then(|()| self.scan());
        ending.0.tell(&result);
        drop((ending, turn));
        let decoded = result?;
        // Nor may it be made of bytes that are still being hashed.
        stored.check_whole().map_err(SlotError::from_read)?;
        let nodes = self.tree.nodes();
        let index = self.writer.finish(&self.identity, &nodes, &self.points.records(), decoded)?;
        tracing::debug!(
            slot = %self.identity.digest, nodes = nodes.count(), decoded,
            seconds = start.elapsed().as_secs_f64(), "indexed"
        );
        Ok(index)
    }

    /// Tells everybody who waits how it ended; only the first time counts.
    fn tell(&self, result: &Result<u64, SlotError>) {
        self.points.end(result.as_ref().copied());
        self.tree.end(result.as_ref().map(drop));
    }

    /// Goes over the bytes and returns the decoded length.
    fn scan(&self) -> Result<u64, SlotError> {
        if let Plan::Known(points, _) = &self.plan {
            points.iter().for_each(|point| self.points.add(point));
        } else if self.plan == Plan::Store {
            // Without the store the way leads from the start.
            let start = chain::Point { decoded: 0, stored_bits: 0, context: Vec::new(), header: None };
            self.points.add(&start);
        }
        let stored = &self.source.stored;
        match (&self.source.container, &self.plan) {
            (Container::Zip, _) => self.scan_zip(),
            (Container::Tar, Plan::Direct) => {
                self.scanning().tar(RangeInput::new(stored.clone()))?;
                Ok(stored.len())
            }
            (Container::Tar, _) => self.scanning().tar(self.decode()?),
            (Container::File | Container::Directory(_), Plan::Direct) => Ok(stored.len()),
            (Container::File | Container::Directory(_), _) => self.scanning().file(self.decode()?),
        }
    }

    fn decode(&self) -> Result<AheadInput, SlotError> {
        let observe = (self.plan == Plan::Points).then(|| self.points.observer());
        let decoded = chain::open(&self.source.stored, &self.source.compressions, &self.limits, observe);
        AheadInput::start(decoded)
    }

    fn scanning(&self) -> Scanning<'_> {
        let stores = self.plan == Plan::Store;
        let batch = self.batch.clone();
        Scanning { tree: &self.tree, points: &self.points, batch, stores, limits: self.limits }
    }

    fn scan_zip(&self) -> Result<u64, SlotError> {
        let mut scanner = ZipScanner::new(self.source.stored.clone(), self.limits)?;
        while let Some(entry) = scanner.next_entry()? {
            self.tree.place(&entry)?;
        }
        Ok(0)
    }
}

/// Going over decoded bytes, wherever they come from.
struct Scanning<'a> {
    tree: &'a Arc<GrowingTree>,
    points: &'a PointLog,
    batch: Option<Arc<Batch>>,
    /// Whether contents belong into the store.
    stores: bool,
    limits: Limits,
}

impl Scanning<'_> {
    fn recorder(&self) -> Recorder {
        Recorder::new(Arc::clone(self.tree), self.batch.clone(), self.stores)
    }

    /// Goes over a tar archive and returns its length.
    fn tar(&self, input: impl Input) -> Result<u64, SlotError> {
        let mut recorder = self.recorder();
        let mut scanner = TarScanner::new(input, self.limits);
        while let Some(entry) = scanner.next_entry()? {
            let Some(placed) = self.tree.place(&entry)? else { continue };
            let Body::File(content) = &entry.body else { continue };
            if placed.is_file && scanner.shows_content() {
                let mut recording = recorder.start(placed.node, content)?;
                scanner.read_content(|bytes| recording.take(bytes))?;
                recording.finish()?;
                self.points.reach(scanner.position());
            }
        }
        scanner.finish()
    }

    /// Goes over the content of one file, which is the root's, and returns its length.
    fn file(&self, mut input: impl Input) -> Result<u64, SlotError> {
        let mut recorder = self.recorder();
        // The length is not known yet: everything that comes belongs to the file.
        let mut recording = recorder.start(0, &Content::Whole { decoded: 0, size: u64::MAX })?;
        loop {
            let bytes = input.peek()?;
            let count = bytes.len();
            if count == 0 {
                break;
            }
            recording.take(bytes)?;
            input.consume(count);
        }
        let size = input.position();
        recording.end_at(size);
        recording.finish()?;
        self.tree.set_root_size(size);
        Ok(size)
    }
}

/// Makes sure that everybody is told, even if the pass panics.
struct Ending<'a>(&'a Pass);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.tell(&Err(SlotError::PassFailed { reason: "indexing the slot was broken off".into() }));
    }
}

/// Leave to run: as many passes decode at a time as there are processors.
struct Turn;

static RUNNING: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Turn {
    fn take() -> Self {
        let most = std::thread::available_parallelism().map_or(2, usize::from).min(memory::passes());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        while *running >= most {
            running = FREED.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        *running += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

/// Opens a batch for contents that belong into the store, if there is one that can be written: those that cannot be reached
/// at random, and those whose decoder takes longer than the disk, so that what was decoded once is not decoded again.
#[must_use]
pub fn batch_for(source: &SlotSource, plan: &Plan, store: Option<&Arc<Store>>) -> Option<Arc<Batch>> {
    let is_slow = source.compressions.contains(&Compression::Bzip2);
    if *plan != Plan::Store && !(is_slow && *plan == Plan::Points) {
        return None;
    }
    match store?.batch() {
        Ok(batch) => Some(Arc::new(batch)),
        Err(error) => {
            tracing::warn!("contents are not stored: {error}");
            None
        }
    }
}

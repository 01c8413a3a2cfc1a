//! Decoded units shared by all slots of the process: bounded, and given back when idle.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::disk::mapped::Buffer;
use crate::slot::{SlotError, memory};
use crate::worker;

/// Units are given back when nobody asked for any in this time.
const IDLE: Duration = Duration::from_secs(5);

/// Which unit: the stream's number, and where the unit begins in it.
pub(super) type Key = (u64, u64);

/// How the cache was used, for tests and statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheUse {
    /// Units that were there.
    pub hits: u64,
    /// Units that were decoded.
    pub decoded: u64,
    /// Bytes that were decoded.
    pub decoded_bytes: u64,
    /// Bytes kept now.
    pub kept: usize,
}

#[derive(Default)]
struct State {
    units: HashMap<Key, Unit>,
    clock: u64,
    last_use: Option<Instant>,
    has_janitor: bool,
    usage: CacheUse,
}

enum Unit {
    /// Somebody decodes it.
    Coming,
    Here {
        bytes: Arc<Buffer>,
        used: u64,
    },
}

#[derive(Default)]
struct Cache {
    state: Mutex<State>,
    arrived: Condvar,
}

static CACHE: LazyLock<Cache> = LazyLock::new(Cache::default);

impl Cache {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the mark of a unit that did not come away again, also when its decoder panics.
struct Claim {
    key: Key,
    done: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.done {
            CACHE.lock().units.remove(&self.key);
            CACHE.arrived.notify_all();
        }
    }
}

/// Returns a unit, decoding it where it is not here; many who ask at once wait for one decoding.
pub(super) fn get(
    key: Key,
    decode: impl FnOnce() -> Result<Buffer, SlotError>,
) -> Result<Arc<Buffer>, SlotError> {
    let mut state = CACHE.lock();
    loop {
        state.clock += 1;
        let now = state.clock;
        match state.units.get_mut(&key) {
            Some(Unit::Here { bytes, used }) => {
                *used = now;
                let bytes = Arc::clone(bytes);
                state.usage.hits += 1;
                state.last_use = Some(Instant::now());
                return Ok(bytes);
            }
            Some(Unit::Coming) => {
                state = CACHE.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            None => break,
        }
    }
    state.units.insert(key, Unit::Coming);
    drop(state);
    let mut claim = Claim { key, done: false };
    let bytes = {
        let _turn = memory::turn();
        Arc::new(decode()?)
    };
    let mut state = CACHE.lock();
    claim.done = true;
    state.usage.decoded += 1;
    state.usage.decoded_bytes += bytes.len() as u64;
    state.keep(key, &bytes);
    let start_janitor = !std::mem::replace(&mut state.has_janitor, true);
    drop(state);
    CACHE.arrived.notify_all();
    if start_janitor {
        let thread = worker::spawn("slot-cache", release_when_idle);
        if thread.is_err() {
            CACHE.lock().has_janitor = false;
        }
    }
    Ok(bytes)
}

impl State {
    fn keep(&mut self, key: Key, bytes: &Arc<Buffer>) {
        self.clock += 1;
        self.last_use = Some(Instant::now());
        self.units.insert(key, Unit::Here { bytes: Arc::clone(bytes), used: self.clock });
        self.usage.kept += bytes.len();
        while self.usage.kept > memory::units() {
            // Few units fit, so looking at all of them is cheap.
            let oldest = self
                .units
                .iter()
                .filter_map(|(key, unit)| match unit {
                    Unit::Here { used, .. } => Some((*used, *key)),
                    Unit::Coming => None,
                })
                .min();
            let Some((_, oldest)) = oldest else { break };
            self.drop_unit(oldest);
        }
    }

    fn drop_unit(&mut self, key: Key) {
        if let Some(Unit::Here { bytes, .. }) = self.units.remove(&key) {
            self.usage.kept -= bytes.len();
        }
    }

    fn clear(&mut self, which: impl Fn(Key) -> bool) {
        let keys: Vec<Key> = self
            .units
            .iter()
            .filter(|(key, unit)| matches!(unit, Unit::Here { .. }) && which(**key))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.drop_unit(key);
        }
    }
}

fn release_when_idle() {
    loop {
        std::thread::sleep(IDLE / 2);
        let mut state = CACHE.lock();
        if state.last_use.is_none_or(|last| last.elapsed() >= IDLE) {
            state.clear(|_| true);
            state.has_janitor = false;
            return;
        }
    }
}

/// Forgets the units of one stream, which nobody will ask for again.
pub(super) fn forget(stream: u64) {
    CACHE.lock().clear(|key| key.0 == stream);
}

/// Forgets every unit now.
pub fn release() {
    CACHE.lock().clear(|_| true);
}

/// Returns how the cache was used so far in this process.
#[must_use]
pub fn cache_use() -> CacheUse {
    CACHE.lock().usage
}

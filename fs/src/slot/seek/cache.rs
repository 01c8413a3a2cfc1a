//! Decoded units shared by all slots of the process: bounded, and given back when idle.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::unit::{self, Unit};
use crate::slot::{SlotError, chain, memory};
use crate::worker;

/// Units are given back when nobody asked for any in this time.
const IDLE: Duration = Duration::from_secs(5);

/// Decoders that are kept where somebody stopped, for whoever reads on.
const MOST_RUNNING: usize = 4;
/// Memory that such a decoder takes, in bytes, at most.
const RUNNING: usize = 400 << 10;

/// Which unit: the stream's number, and where the unit begins in it.
pub(super) type Key = (u64, u64);

/// How the cache was used, for tests and statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheUse {
    /// Reads that met their unit here, all of it or a part.
    pub hits: u64,
    /// Units that were begun.
    pub decoded: u64,
    /// Bytes that were decoded.
    pub decoded_bytes: u64,
    /// Bytes kept now.
    pub kept: usize,
}

#[derive(Default)]
struct State {
    units: HashMap<Key, Kept>,
    /// Units with a decoder that stands in the middle of them, the one that was used last at the end.
    running: VecDeque<Key>,
    clock: u64,
    last_use: Option<Instant>,
    has_janitor: bool,
    usage: CacheUse,
}

struct Kept {
    unit: Arc<Unit>,
    used: u64,
}

static CACHE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);

fn lock() -> MutexGuard<'static, State> {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a unit of `length` bytes, of which there may be none yet; many who ask get the same one.
pub(super) fn get(key: Key, length: usize) -> Result<Arc<Unit>, SlotError> {
    let mut state = lock();
    state.clock += 1;
    state.last_use = Some(Instant::now());
    let now = state.clock;
    if let Some(kept) = state.units.get_mut(&key).filter(|kept| kept.unit.len() == length) {
        kept.used = now;
        let unit = Arc::clone(&kept.unit);
        state.usage.hits += 1;
        return Ok(unit);
    }
    state.drop_unit(key);
    // Before the new one is made: its memory is one that is given back here.
    state.make_room(length);
    let unit = Arc::new(Unit::new(length)?);
    state.usage.decoded += 1;
    state.usage.kept += length;
    state.units.insert(key, Kept { unit: Arc::clone(&unit), used: now });
    let start_janitor = !std::mem::replace(&mut state.has_janitor, true);
    drop(state);
    if start_janitor && worker::spawn("slot-cache", release_when_idle).is_err() {
        lock().has_janitor = false;
    }
    Ok(unit)
}

/// Notes that `count` bytes were decoded, and whether the decoder is kept, for a unit that was asked for.
pub(super) fn decoded(key: Key, count: usize, is_running: bool) {
    let mut state = lock();
    state.usage.decoded_bytes += count as u64;
    state.running.retain(|other| *other != key);
    if !is_running || !state.units.contains_key(&key) {
        return;
    }
    state.running.push_back(key);
    if state.running.len() > MOST_RUNNING
        && let Some(oldest) = state.running.pop_front()
        && let Some(kept) = state.units.get(&oldest)
    {
        kept.unit.stop();
    }
}

/// Forgets a unit that did not decode.
pub(super) fn drop_failed(key: Key, unit: &Arc<Unit>) {
    let mut state = lock();
    if state.units.get(&key).is_some_and(|kept| Arc::ptr_eq(&kept.unit, unit)) {
        state.drop_unit(key);
    }
}

impl State {
    /// Gives up the units that were not used for the longest time, until one of `length` bytes fits.
    fn make_room(&mut self, length: usize) {
        while self.usage.kept + self.running.len() * RUNNING + length > memory::units() {
            // Few units fit, so looking at all of them is cheap.
            let oldest = self.units.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| *key);
            let Some(oldest) = oldest else { return };
            self.drop_unit(oldest);
        }
    }

    fn drop_unit(&mut self, key: Key) {
        if let Some(kept) = self.units.remove(&key) {
            self.usage.kept -= kept.unit.len();
            self.running.retain(|other| *other != key);
        }
    }

    fn clear(&mut self, which: impl Fn(Key) -> bool) {
        let keys: Vec<Key> = self.units.keys().copied().filter(|key| which(*key)).collect();
        for key in keys {
            self.drop_unit(key);
        }
    }
}

fn release_when_idle() {
    loop {
        std::thread::sleep(IDLE / 2);
        let mut state = lock();
        if state.last_use.is_none_or(|last| last.elapsed() >= IDLE) {
            state.clear(|_| true);
            state.has_janitor = false;
            drop(state);
            give_back();
            return;
        }
    }
}

/// Gives back the memory that waits for the next unit.
fn give_back() {
    unit::release();
    chain::release();
}

/// Forgets the units of one stream, which nobody will ask for again.
pub(super) fn forget(stream: u64) {
    lock().clear(|key| key.0 == stream);
}

/// Forgets every unit now.
pub fn release() {
    lock().clear(|_| true);
    give_back();
}

/// Returns how the cache was used so far in this process.
#[must_use]
pub fn cache_use() -> CacheUse {
    lock().usage
}

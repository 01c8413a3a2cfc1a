//! How much memory decoding may take in this process, all slots together.
//!
//! A bound is shared out: a part for decoded bytes that are kept for the next reader, and equal parts for decoders, of which only
//! so many work at once, half of them for passes and half for readers. What nobody asks for is given back after a while.
//!
//! **Invariant:** there is always a turn for a pass and one for a reader, and whoever has one gives it back: under the
//! tightest bound everything is decoded some time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use super::limits::Limits;

/// The tightest bound: what common archives need (`xz -6` takes 9 MiB, `zstd -19` 8 MiB), twice, and a few units.
pub const SMALLEST: u64 = 32 << 20;
/// Bytes of decoded units kept where there is no bound. Twelve spans of a gzip stream: what a program that starts reads in
/// turn.
const USUAL_UNITS: u64 = 12 << 20;

/// How a bound is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Bytes of decoded units that are kept.
    pub units: u64,
    /// Bytes that one decoder may take.
    pub decoder: u64,
    /// Passes at the same time, and readers that decode at the same time.
    pub decoders: usize,
}

static UNITS: AtomicUsize = AtomicUsize::new(USUAL_UNITS as usize);
static PASSES: AtomicUsize = AtomicUsize::new(usize::MAX);
static READERS: Readers =
    Readers { state: Mutex::new(Turns { most: usize::MAX, taken: 0 }), given_back: Condvar::new() };

struct Readers {
    state: Mutex<Turns>,
    given_back: Condvar,
}

struct Turns {
    most: usize,
    taken: usize,
}

impl Shares {
    /// Shares out `bytes`, at least [`SMALLEST`].
    #[must_use]
    pub fn of(bytes: u64) -> Self {
        let bytes = bytes.max(SMALLEST);
        let units = (bytes / 8).min(USUAL_UNITS);
        // One half for passes, one for readers.
        let half = (bytes - units) / 2;
        let decoder = half.min(Limits::default().decoder_memory);
        let decoders = usize::try_from(half / decoder).unwrap_or(usize::MAX);
        Self { units, decoder, decoders }
    }
}

/// Bounds what decoding takes in this process to `bytes`, at least [`SMALLEST`]. Returns what one decoder may take.
pub fn bound(bytes: u64) -> u64 {
    let Shares { units, decoder, decoders } = Shares::of(bytes);
    UNITS.store(usize::try_from(units).unwrap_or(usize::MAX), Ordering::Relaxed);
    PASSES.store(decoders, Ordering::Relaxed);
    READERS.state.lock().unwrap_or_else(PoisonError::into_inner).most = decoders;
    READERS.given_back.notify_all();
    decoder
}

/// Returns how many bytes of decoded units may be kept.
pub(super) fn units() -> usize {
    UNITS.load(Ordering::Relaxed)
}

/// Returns how many passes may decode at the same time.
pub(super) fn passes() -> usize {
    PASSES.load(Ordering::Relaxed)
}

/// The right to decode for a reader.
#[derive(Debug)]
pub(super) struct Turn(());

/// Waits for a turn to decode. Whoever has one must not ask for another.
pub(super) fn turn() -> Turn {
    let turns = READERS.state.lock().unwrap_or_else(PoisonError::into_inner);
    let full = |turns: &mut Turns| turns.taken >= turns.most;
    let mut turns = READERS.given_back.wait_while(turns, full).unwrap_or_else(PoisonError::into_inner);
    turns.taken += 1;
    Turn(())
}

impl Drop for Turn {
    fn drop(&mut self) {
        READERS.state.lock().unwrap_or_else(PoisonError::into_inner).taken -= 1;
        READERS.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_fit_into_the_bound_and_leave_nobody_out() {
        for bytes in [0, 1, SMALLEST, 48 << 20, 100 << 20, 1 << 30, 64 << 30, u64::MAX] {
            let Shares { units, decoder, decoders } = Shares::of(bytes);
            let all = 2 * u128::from(decoder) * decoders as u128 + u128::from(units);
            assert!(all <= u128::from(bytes.max(SMALLEST)), "{bytes}: {all}");
            assert!(decoders > 0 && units >= 4 << 20 && decoder >= 14 << 20, "{bytes}");
        }
        assert_eq!(Shares::of(1 << 30), Shares { units: 12 << 20, decoder: 192 << 20, decoders: 2 });
    }
}

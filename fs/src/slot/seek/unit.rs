//! Decoded bytes of a span, from its start as far as somebody has asked for them.
//!
//! **Invariant:** what is read from a unit was decoded, and the package file was looked at afterwards. Nothing but the unit's own
//! lock is held while it grows; who reads another unit does not wait.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::disk::mapped::Buffer;
use crate::slot::SlotError;
use crate::slot::chain::Run;

/// Memory that nobody uses. What the system gives anew it clears first, page by page, which takes longer than some decoders.
static SPARE: Mutex<Vec<Buffer>> = Mutex::new(Vec::new());
/// Room is made for a unit just before the unit is.
const MOST_SPARE: usize = 1;
/// What is longer is given back at once.
const LONGEST_SPARE: usize = 2 << 20;

/// Bytes that grow.
pub(super) struct Unit {
    length: usize,
    growing: Mutex<Growing>,
}

/// What there is of a unit.
struct Growing {
    /// At least as long as the unit.
    room: Buffer,
    /// How many bytes are there.
    filled: usize,
    /// Stands where the bytes end; none before the first byte, and behind the last.
    run: Option<Run>,
}

impl Unit {
    /// Returns a unit of `length` bytes, none of which is there.
    pub(super) fn new(length: usize) -> Result<Self, SlotError> {
        let spare = {
            let mut spare = spares();
            let fitting = spare.iter().position(|room| room.len() >= length && room.len() / 2 <= length);
            fitting.map(|at| spare.swap_remove(at))
        };
        let room = spare.map_or_else(|| Buffer::zeroed(length), Ok);
        let room = room.map_err(|source| SlotError::Read { source })?;
        Ok(Self { length, growing: Mutex::new(Growing { room, filled: 0, run: None }) })
    }

    /// Its length when all of it is there.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Fills `out` from `from` on, which must lie inside. What is missing is decoded by `grow`, which is told how many bytes
    /// are there and how many must be, and returns how many are then. A decoder that is not left behind is not used again.
    pub(super) fn read(
        &self,
        from: usize,
        out: &mut [u8],
        grow: impl FnOnce(&mut Option<Run>, &mut [u8], usize, usize) -> Result<usize, SlotError>,
    ) -> Result<(), SlotError> {
        let outside = || SlotError::Mismatch { what: "length" };
        let end = from.checked_add(out.len()).filter(|end| *end <= self.length).ok_or_else(outside)?;
        let mut growing = self.lock();
        let Growing { room, filled, run } = &mut *growing;
        if end > *filled {
            // Nothing is there any more, should the decoder panic or fail.
            let before = std::mem::take(filled);
            let now = grow(run, &mut room[..self.length], before, end)?;
            if now < end {
                return Err(outside());
            }
            *filled = now;
        }
        out.copy_from_slice(&room[from..end]);
        Ok(())
    }

    /// Gives up the decoder, unless somebody uses it now; what is there stays.
    pub(super) fn stop(&self) {
        if let Ok(mut growing) = self.growing.try_lock() {
            growing.run = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Growing> {
        self.growing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let growing = self.growing.get_mut().unwrap_or_else(PoisonError::into_inner);
        if (1..=LONGEST_SPARE).contains(&growing.room.len())
            && let Ok(nothing) = Buffer::zeroed(0)
        {
            let room = std::mem::replace(&mut growing.room, nothing);
            let mut spare = spares();
            if spare.len() < MOST_SPARE {
                spare.push(room);
            }
        }
    }
}

fn spares() -> MutexGuard<'static, Vec<Buffer>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives back what is kept for the next unit.
pub(super) fn release() {
    spares().clear();
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    /// Fills bytes with their place, `count` more than are needed.
    fn numbers(
        count: usize,
    ) -> impl FnOnce(&mut Option<Run>, &mut [u8], usize, usize) -> Result<usize, SlotError> {
        move |_, bytes, filled, needed| {
            let end = (needed + count).min(bytes.len());
            bytes[filled..end].iter_mut().zip(filled..).for_each(|(byte, at)| *byte = at as u8);
            Ok(end)
        }
    }

    #[test]
    fn a_unit_grows_as_far_as_it_is_read_and_never_twice() {
        let unit = Unit::new(1000).unwrap();
        let mut out = [0; 10];
        unit.read(100, &mut out, numbers(50)).unwrap();
        assert_eq!(out[..3], [100, 101, 102]);
        let never = |_: &mut Option<Run>, _: &mut [u8], _, _| panic!("it is there");
        unit.read(150, &mut out, never).unwrap();
        assert_eq!(out[9], 159);
        let mut asked = None;
        let from = |_: &mut Option<Run>, bytes: &mut [u8], filled: usize, needed: usize| {
            asked = Some((filled, needed));
            bytes[filled..].fill(7);
            Ok(bytes.len())
        };
        unit.read(155, &mut out, from).unwrap();
        assert_eq!((asked, out), (Some((160, 165)), [155, 156, 157, 158, 159, 7, 7, 7, 7, 7]));
        unit.read(990, &mut out, never).unwrap();
        assert!(unit.read(991, &mut out, never).is_err());
    }

    #[test]
    fn after_a_failure_nothing_is_there_and_memory_of_others_does_not_show() {
        let unit = Unit::new(1000).unwrap();
        unit.read(0, &mut [0; 500], numbers(0)).unwrap();
        let fails = |_: &mut Option<Run>, bytes: &mut [u8], _, _| {
            bytes.fill(9);
            Err(SlotError::Changed)
        };
        assert!(unit.read(0, &mut [0; 501], fails).is_err());
        let short = |_: &mut Option<Run>, _: &mut [u8], filled: usize, _| {
            assert_eq!(filled, 0);
            Ok(5)
        };
        assert!(unit.read(0, &mut [0; 6], short).is_err());
        drop(unit);
        let unit = Unit::new(900).unwrap();
        let mut out = [0; 900];
        unit.read(0, &mut out, numbers(0)).unwrap();
        assert!(out.iter().enumerate().all(|(at, byte)| *byte == at as u8));
    }
}

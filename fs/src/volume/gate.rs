//! Who changes what is written, and who needs it to stay as it is for a moment.
//!
//! **Invariant:** while it is held, nobody is inside; who comes meanwhile waits, and goes on as soon as it is let go of.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Volume, lock};

/// Lets any number of changes in, or one who holds them all up.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    turn: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inside: usize,
    held: bool,
}

/// A change that is being made. Never taken twice by one thread.
#[derive(Debug)]
pub struct Changing<'a>(&'a Gate);

/// Nothing is changed as long as this lives.
#[derive(Debug)]
pub struct Hold(Arc<Gate>);

impl Gate {
    fn wait<'a>(
        &'a self,
        mut state: std::sync::MutexGuard<'a, State>,
        end: Option<Instant>,
        ready: impl Fn(&State) -> bool,
    ) -> (std::sync::MutexGuard<'a, State>, bool) {
        while !ready(&state) {
            state = match end.map(|end| end.saturating_duration_since(Instant::now())) {
                None => self.turn.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return (state, false),
                Some(left) => self.turn.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        (state, true)
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.inside -= 1;
        if state.inside == 0 && state.held {
            self.0.turn.notify_all();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock(&self.0.state).held = false;
        self.0.turn.notify_all();
    }
}

impl Volume {
    /// To be called by who serves a volume before each change, and kept until it is answered. Waits while changes are
    /// held up.
    pub fn changing(&self) -> Changing<'_> {
        let gate = &*self.gate;
        let (mut state, _) = gate.wait(lock(&gate.state), None, |state| !state.held);
        state.inside += 1;
        Changing(gate)
    }

    /// Holds up all changes that are announced by [`Self::changing`], once those that have begun are done; `None` when that
    /// takes longer than `limit`.
    #[must_use]
    pub fn hold_up(&self, limit: Duration) -> Option<Hold> {
        let gate = &self.gate;
        let end = Some(Instant::now() + limit);
        let (mut state, free) = gate.wait(lock(&gate.state), end, |state| !state.held);
        if !free {
            return None;
        }
        state.held = true;
        let (mut state, alone) = gate.wait(state, end, |state| state.inside == 0);
        if !alone {
            state.held = false;
            gate.turn.notify_all();
            return None;
        }
        Some(Hold(Arc::clone(gate)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use crate::layer::memory::MemoryLayer;
    use crate::layer::stack::PlacedLayer;
    use crate::volume::VolumeOptions;

    const LONG: Duration = Duration::from_secs(10);

    fn volume() -> Volume {
        let layer = Arc::new(MemoryLayer::builder().build().unwrap());
        let placed = PlacedLayer { name: "slot".into(), layer, target: Vec::new(), writable: true };
        Volume::new(vec![placed], None, VolumeOptions::default()).unwrap()
    }

    #[test]
    fn a_change_waits_until_it_is_let_go_of() {
        let volume = volume();
        let held = volume.hold_up(LONG).unwrap();
        std::thread::scope(|scope| {
            let change = scope.spawn(|| drop(volume.changing()));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!change.is_finished());
            drop(held);
            change.join().unwrap();
        });
        assert!(volume.hold_up(LONG).is_some());
    }

    #[test]
    fn a_change_that_does_not_end_is_not_waited_for_for_ever_and_nobody_stays_out() {
        let volume = volume();
        let change = volume.changing();
        assert!(volume.hold_up(Duration::from_millis(5)).is_none());
        drop(volume.changing());
        drop(change);
        let held = volume.hold_up(LONG).unwrap();
        assert!(volume.hold_up(Duration::from_millis(5)).is_none(), "held twice");
        drop(held);
        drop(volume.changing());
    }
}

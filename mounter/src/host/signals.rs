//! Signals as a queue that a thread waits on, with who sent them.
//!
//! **Invariant:** no signal handler runs code of ours, and a mask that was changed is put back.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

/// Where a signal came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A process sent it with `kill(2)` or the like; its number, 0 when it is in another process namespace.
    Process(i32),
    /// The kernel sent it: a key on the terminal, a closed terminal, a timer.
    Kernel,
    /// The host does not say.
    Unknown,
}

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Which.
    pub signal: Signal,
    /// From whom.
    pub origin: Origin,
}

/// Signals that are queued instead of delivered, for this thread and those it starts.
///
/// Dropping it empties the queue and puts the earlier mask back.
#[derive(Debug)]
pub struct SignalQueue {
    queue: platform::Queue,
    previous: SigSet,
}

impl SignalQueue {
    /// Queues `signals` from now on. Threads that run already are not affected: call it before they start.
    ///
    /// # Errors
    /// Passes on what `sigprocmask(2)` or `signalfd(2)` reports.
    pub fn open(signals: &[Signal]) -> io::Result<Self> {
        let set: SigSet = signals.iter().copied().collect();
        let previous = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        match platform::Queue::open(set) {
            Ok(queue) => Ok(Self { queue, previous }),
            Err(error) => {
                previous.thread_set_mask()?;
                Err(error)
            }
        }
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// Passes on what `read(2)` on the queue reports.
    pub fn wait(&self) -> io::Result<Arrival> {
        self.queue.wait()
    }

    /// Returns the mask as it was before, which a started program should get.
    #[must_use]
    pub fn previous_mask(&self) -> SigSet {
        self.previous
    }

    /// Does to this process what `signal` would have done had it not been queued; for a stop signal this returns
    /// when the process is continued.
    ///
    /// # Errors
    /// Passes on what `raise(3)` or `sigprocmask(2)` reports.
    pub fn suffer(&self, signal: Signal) -> io::Result<()> {
        let set: SigSet = [signal].into_iter().collect();
        nix::sys::signal::raise(signal)?;
        set.thread_unblock()?;
        set.thread_block()?;
        Ok(())
    }
}

impl Drop for SignalQueue {
    fn drop(&mut self) {
        // What is still queued was meant for the time that is over now.
        self.queue.empty();
        if let Err(error) = self.previous.thread_set_mask() {
            tracing::warn!("cannot put the signal mask back: {error}");
        }
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::io;

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::signal::{SigSet, Signal};
    use nix::sys::signalfd::{SfdFlags, SignalFd};
    use std::os::fd::AsFd;

    use super::{Arrival, Origin};

    #[derive(Debug)]
    pub(super) struct Queue(SignalFd);

    impl Queue {
        pub(super) fn open(set: SigSet) -> io::Result<Self> {
            Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
        }

        pub(super) fn wait(&self) -> io::Result<Arrival> {
            loop {
                if let Some(arrival) = self.next()? {
                    return Ok(arrival);
                }
                let mut watched = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
                match poll(&mut watched, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }

        pub(super) fn empty(&self) {
            while matches!(self.next(), Ok(Some(_))) {}
        }

        fn next(&self) -> io::Result<Option<Arrival>> {
            let Some(info) = self.0.read_signal()? else { return Ok(None) };
            let signal = Signal::try_from(info.ssi_signo.cast_signed())?;
            // Codes above 0 are the kernel's own (sigaction(2), `si_code`); `SI_USER` is 0, `SI_QUEUE` and
            // `SI_TKILL` are below.
            let origin =
                if info.ssi_code > 0 { Origin::Kernel } else { Origin::Process(info.ssi_pid.cast_signed()) };
            Ok(Some(Arrival { signal, origin }))
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::io;

    use nix::sys::signal::SigSet;

    use super::{Arrival, Origin};

    #[derive(Debug)]
    pub(super) struct Queue(SigSet);

    impl Queue {
        pub(super) fn open(set: SigSet) -> io::Result<Self> {
            Ok(Self(set))
        }

        pub(super) fn wait(&self) -> io::Result<Arrival> {
            Ok(Arrival { signal: self.0.wait()?, origin: Origin::Unknown })
        }

        pub(super) fn empty(&self) {}
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn a_queued_signal_tells_its_sender_and_the_mask_comes_back() {
        let before = SigSet::thread_get_mask().unwrap();
        let queue = SignalQueue::open(&[Signal::SIGUSR1]).unwrap();
        // To this thread alone: other threads of the test process do not block it.
        nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        let arrival = queue.wait().unwrap();
        assert_eq!(arrival.signal, Signal::SIGUSR1);
        assert_eq!(arrival.origin, Origin::Process(std::process::id().cast_signed()));
        assert_eq!(queue.previous_mask(), before);
        nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        drop(queue);
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }
}

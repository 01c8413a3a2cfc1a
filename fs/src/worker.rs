//! Threads that leave signals to whoever waits for them.
//!
//! A signal to the process goes to any thread that does not block it. Were that a thread which decodes or hashes, a
//! `SIGCHLD` would be lost to the queue in which the main thread waits for it, and the wait would not end
//! (signal(7), signalfd(2)).
//!
//! **Invariant:** no thread starts in any other way, and none of them takes a signal that was meant for the process.

use std::io;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

/// Starts a thread named `name`.
///
/// # Errors
/// The system has none to give, or refused the signal mask.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    spawn_built(Builder::new().name(name.to_owned()), work)
}

/// Starts a thread named `name` with a small stack, for work that waits more than it does.
///
/// # Errors
/// The system has none to give, or refused the signal mask.
pub fn spawn_small<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    spawn_built(Builder::new().name(name.to_owned()).stack_size(256 << 10), work)
}

/// Lets others go first from now on, where the system can do that for a single thread: what this one does is waited for by
/// nobody.
pub fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(PATIENCE) {
        tracing::debug!("cannot lower the priority of a thread: {error}");
    }
}

/// What is added to the nice value (nice(2), which on Linux is the thread's): a tenth of a processor that others want.
#[cfg(target_os = "linux")]
const PATIENCE: i32 = 10;

fn spawn_built<T: Send + 'static>(
    builder: Builder,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let _quiet = quiet::Quiet::begin()?;
    builder.spawn(work)
}

/// Starts a thread named `name` that ends within `scope`.
///
/// # Errors
/// The system has none to give, or refused the signal mask.
pub fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    let _quiet = quiet::Quiet::begin()?;
    Builder::new().name(name.to_owned()).spawn_scoped(scope, work)
}

#[cfg(unix)]
mod quiet {
    use std::io;

    use nix::sys::signal::{SigSet, SigmaskHow, Signal};

    /// What a fault in the thread's own code raises: blocked, it would kill the process without a word.
    const FAULTS: [Signal; 7] = [
        Signal::SIGABRT,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGSEGV,
        Signal::SIGSYS,
        Signal::SIGTRAP,
    ];

    /// While it lives, this thread blocks every signal, and so do the threads it starts, for all their life.
    pub(super) struct Quiet(SigSet);

    impl Quiet {
        pub(super) fn begin() -> io::Result<Self> {
            let mut all = SigSet::all();
            FAULTS.into_iter().for_each(|fault| all.remove(fault));
            Ok(Self(all.thread_swap_mask(SigmaskHow::SIG_SETMASK)?))
        }
    }

    impl Drop for Quiet {
        fn drop(&mut self) {
            // It was the mask a moment ago; setting it again cannot fail.
            let _ = self.0.thread_set_mask();
        }
    }
}

#[cfg(not(unix))]
mod quiet {
    use std::io;

    /// Nothing to block here.
    pub(super) struct Quiet;

    impl Quiet {
        #[expect(clippy::unnecessary_wraps, reason = "as where it can fail")]
        pub(super) fn begin() -> io::Result<Self> {
            Ok(Self)
        }
    }
}

#[cfg(all(test, unix))]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use nix::sys::signal::{SigSet, Signal};

    #[test]
    fn threads_block_signals_but_not_faults_and_their_starter_keeps_its_mask() {
        let before = SigSet::thread_get_mask().unwrap();
        let mask = || SigSet::thread_get_mask().unwrap();
        let mut masks = vec![super::spawn("one", mask).unwrap().join().unwrap()];
        masks.push(super::spawn_small("two", mask).unwrap().join().unwrap());
        std::thread::scope(|scope| {
            masks.push(super::spawn_scoped(scope, "three", mask).unwrap().join().unwrap());
        });
        for mask in masks {
            assert!(mask.contains(Signal::SIGCHLD) && mask.contains(Signal::SIGTERM));
            assert!(!mask.contains(Signal::SIGSEGV) && !mask.contains(Signal::SIGBUS));
        }
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }
}

//! Being told that the user wants a long job to stop.

use std::sync::atomic::AtomicBool;

/// Becomes true when the user presses Ctrl-C or the process is asked to end, from the first [`watch`] on.
static STOP: AtomicBool = AtomicBool::new(false);

/// Turns the signals that end a process into a flag, for the rest of the process's life: call it before other
/// threads start. A second signal ends the process at once. Outside Unix the flag stays false and the process ends as
/// ever.
#[must_use]
pub fn watch() -> &'static AtomicBool {
    platform::watch();
    &STOP
}

#[cfg(unix)]
mod platform {
    use std::sync::atomic::Ordering;

    use nix::sys::signal::Signal;

    use super::super::signals::SignalQueue;

    pub(super) fn watch() {
        // Without a queue the signals do what they always do.
        let Ok(queue) = SignalQueue::open(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]) else { return };
        let listen = move || {
            while let Ok(arrival) = queue.wait() {
                if super::STOP.swap(true, Ordering::Relaxed) {
                    std::process::exit(128 + arrival.signal as i32);
                }
            }
        };
        let _ = slotfs_fs::worker::spawn_small("signals", listen);
    }
}

#[cfg(not(unix))]
mod platform {
    pub(super) fn watch() {}
}

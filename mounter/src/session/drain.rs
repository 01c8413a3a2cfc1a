//! When a mount goes: with its last lease, when somebody else unmounts it, never under a running program.
//!
//! The loop hears three things: nobody holds a lease, a signal came, the mount is gone. It alone decides to
//! unmount, and a mount that is in use is tried again later, while new leases may still come.
//!
//! **Invariant:** the lock that keeps new leases out is held from before the unmounting until after it, so nobody
//! joins a mount that is going.

use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use nix::sys::signal::Signal;
use slotfs_fs::disk::lock::FileLock;

use super::place::Place;

/// The first pause before a mount that is in use is tried again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What the loop hears.
#[derive(Debug)]
pub(super) enum Event {
    /// Nobody holds a lease, and nobody can take one while the lock is held.
    NoLease(FileLock),
    /// Somebody wants the server to go.
    Signal(Signal),
    /// The mount is gone.
    MountGone,
}

/// How an attempt to unmount ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The mount is gone.
    Done,
    /// Something uses it.
    Busy,
}

/// Waits until the mount is gone, and takes it away when nobody needs it. Returns with the lock that keeps leases
/// out, unless somebody else took the mount away.
pub(super) fn until_gone(
    place: &Place,
    events: &Receiver<Event>,
    sender: &Sender<Event>,
    mut unmount: impl FnMut() -> Attempt,
) -> Option<FileLock> {
    let mut pause = FIRST_PAUSE;
    watch_leases(place, sender, Duration::ZERO);
    let mut watching = true;
    while let Ok(event) = events.recv() {
        match event {
            Event::MountGone => return None,
            Event::Signal(signal) => {
                tracing::info!("{signal}: the mount goes when nobody uses it any more");
                if let Err(error) = place.keep_no_longer() {
                    tracing::warn!("{error}");
                }
                if !watching {
                    watch_leases(place, sender, Duration::ZERO);
                    watching = true;
                }
            }
            // It was asked to stay: from now on only a signal or an unmount ends it. Nobody watches leases then,
            // and a later run that comes and goes changes nothing.
            Event::NoLease(lock) if place.is_kept() => {
                drop(lock);
                watching = false;
            }
            Event::NoLease(lock) => match unmount() {
                Attempt::Done => return Some(lock),
                Attempt::Busy => {
                    tracing::debug!("in use, tried again in {pause:?}");
                    drop(lock);
                    watch_leases(place, sender, pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            },
        }
    }
    None
}

/// Reports the moment when nobody holds a lease, but not before `pause` is over.
fn watch_leases(place: &Place, sender: &Sender<Event>, pause: Duration) {
    let (place, sender) = (place.clone(), sender.clone());
    let watch = move || {
        std::thread::sleep(pause);
        loop {
            match place.wait_for_no_lease() {
                Ok(lock) => return drop(sender.send(Event::NoLease(lock))),
                // Without its lock file nobody can join, nor tell when to leave: the file is made again.
                Err(error) => {
                    tracing::error!("{error}");
                    std::thread::sleep(LONGEST_PAUSE);
                }
            }
        }
    };
    if let Err(error) = super::thread("leases", watch) {
        tracing::error!("cannot watch the leases: {error}; only unmounting ends this session");
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::super::place::tests::place;
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_mount_goes_with_the_last_lease_and_a_busy_one_is_tried_again() {
        let (_folder, place) = place();
        let lease = place.try_lease().unwrap().unwrap();
        let (sender, events) = mpsc::channel();
        let loop_place = place.clone();
        let server = std::thread::spawn(move || {
            let mut attempts = 0;
            let lock = until_gone(&loop_place, &events, &sender, || {
                attempts += 1;
                if attempts < 3 { Attempt::Busy } else { Attempt::Done }
            });
            (attempts, lock)
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(!server.is_finished());
        drop(lease);
        let (attempts, lock) = server.join().unwrap();
        assert_eq!(attempts, 3);
        assert!(place.try_lease().unwrap().is_none(), "a lease was given for a mount that is gone");
        drop(lock);
    }

    #[test]
    fn a_new_lease_stops_the_leaving_of_a_busy_mount() {
        let (_folder, place) = place();
        let (sender, events) = mpsc::channel();
        let (tried, attempts) = mpsc::channel();
        let loop_place = place.clone();
        let loop_sender = sender.clone();
        let server = std::thread::spawn(move || {
            until_gone(&loop_place, &events, &loop_sender, || {
                let _ = tried.send(());
                Attempt::Busy
            })
        });
        attempts.recv().unwrap();
        let lease = place.lease(Duration::from_secs(5)).unwrap();
        while attempts.try_recv().is_ok() {}
        assert!(attempts.recv_timeout(Duration::from_millis(100)).is_err(), "unmounted in spite of a lease");
        sender.send(Event::MountGone).unwrap();
        assert!(server.join().unwrap().is_none());
        drop(lease);
    }

    #[test]
    fn a_kept_mount_stays_until_a_signal() {
        let (_folder, place) = place();
        place.keep().unwrap();
        let (sender, events) = mpsc::channel();
        let (loop_place, loop_sender) = (place.clone(), sender.clone());
        let server =
            std::thread::spawn(move || until_gone(&loop_place, &events, &loop_sender, || Attempt::Done));
        std::thread::sleep(Duration::from_millis(30));
        assert!(!server.is_finished());
        sender.send(Event::Signal(Signal::SIGTERM)).unwrap();
        assert!(server.join().unwrap().is_some());
        assert!(!place.is_kept());
    }
}

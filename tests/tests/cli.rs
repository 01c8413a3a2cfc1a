//! What every command prints, and with which exit code: the real binary in a private home, compared with snapshots.
//!
//! After an intended change: `INSTA_UPDATE=always cargo test -p slotfs-tests --test cli`, then read the difference.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod cli {
    mod clean;
    mod extract;
    mod general;
    mod inspect;
    mod list;
    mod live;
    mod packages;
    mod shown;
    mod trust;
    mod verify;
}

//! One live mount of a work environment: started on demand, shared, cleared after a crash.
//!
//! A session is a serving process that holds a mount ([`serve`]), and any number of users that each hold a lease
//! ([`live`]). Who comes first starts the server ([`start`]); who goes last lets it go (`drain`). The three locks
//! that make this safe are described in [`place`]; what is done about killed processes is in [`recover`].
//!
//! **Invariant:** the truth is in the kernel: its locks say who lives, its mount table says what is mounted. Files
//! only describe.

mod assemble;
pub mod beside;
mod claim;
pub mod commit;
pub mod control;
mod drain;
pub mod end;
mod error;
mod finish;
pub mod foreground;
pub mod frozen;
mod halfway;
pub mod live;
pub mod overlay;
pub mod place;
pub mod prepare;
pub mod profile;
pub mod program;
pub mod record;
pub mod recover;
pub mod request;
pub mod run;
pub mod serve;
pub mod served;
pub mod server;
pub mod snapshot;
pub mod start;
pub mod still;
pub mod unpacked;
pub mod upgrade;
pub mod wire;

pub use error::SessionError;
pub use halfway::is_only_begun;

use std::io;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

/// Starts a thread that does little and needs little.
fn thread(name: &str, act: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    slotfs_fs::worker::spawn_small(&format!("slotfs-{name}"), act)
}

/// Returns the time in seconds since 1970.
fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

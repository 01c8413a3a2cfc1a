//! Sessions through the real binary and the real kernel: what `run`, `mount`, `unmount` and `warm` promise.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod beside;
mod launchers;
mod lifecycles;
mod memory;
mod mounting;
mod ordinary;
mod profile;
mod running;
mod setup;
mod sharing;
mod signals;
mod terminal;
mod trees;
mod unpacking;
mod upgrade;

//! `slotfs clean` and `slotfs remove` through the real binary: what goes, what stays, and what an interruption leaves.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod check;
mod choosing;
mod hostile;
mod in_use;
mod interrupted;
mod library;
mod removing;
mod secure;
mod store;
mod support;
mod writes;

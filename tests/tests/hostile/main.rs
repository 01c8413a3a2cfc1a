//! Bad input through the real binary: each case ends, within a time limit, in a clear error with path, reason and
//! documented exit code, or in correct service. Never in a panic, a hang, a wrong byte or a mount that stays.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod bombs;
mod broken_streams;
mod changing;
mod damage;
mod disks;
mod fields;
mod paths;
mod support;
mod trees;
mod users;

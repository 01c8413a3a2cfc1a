//! Real programs at work in a mount: each makes something, changes it while it lies in a slot, and finds it again
//! after a remount.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod building;
mod copying;
mod crowd;
mod editing;
mod git;
mod node;
mod permissions;
mod postgres;
mod python;
mod sqlite;

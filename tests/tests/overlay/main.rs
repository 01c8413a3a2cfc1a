//! `slotfs overlay`: layers given by hand, through the real binary and the real kernel.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod ending;
mod helper;
mod layers;
mod listing;
mod metadata;
mod refusals;
mod support;
mod users;

//! What programs wrote, as a thing: shown, archived, taken back, bounded and kept, through the real binary.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod archive;
mod bare;
mod bound;
mod commit;
mod diff;
mod live;
mod live_reset;
mod marks;
mod owners;
mod reset;
mod snapshot;
mod support;

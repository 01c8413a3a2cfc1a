//! Real kills: of servers, of those who use them, of both, at many moments. Afterwards the next command works, the
//! kernel's table shows no dead mount, and everything that was synced is there.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod anywhere;
mod power;
mod servers;
mod setup;

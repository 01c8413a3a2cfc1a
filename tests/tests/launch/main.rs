//! Launching as the packages' own launchers do, held against those launchers themselves.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops at the first surprise and says why"
)]

mod program;
mod properties;
mod setup;
mod support;
mod workenv;

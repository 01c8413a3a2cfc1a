//! Test harness.

#[cfg(unix)]
pub mod command;
pub mod fixtures;
#[cfg(unix)]
pub mod mounted;
pub mod package;

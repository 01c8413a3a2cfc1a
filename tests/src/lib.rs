//! Test harness.

#[cfg(unix)]
pub mod command;
#[cfg(unix)]
pub mod mounted;
pub mod package;

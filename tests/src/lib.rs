//! Test harness.

#[cfg(unix)]
pub mod command;
pub mod fixtures;
pub mod package;

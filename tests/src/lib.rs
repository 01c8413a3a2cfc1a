//! Test harness.

#[cfg(unix)]
pub mod command;
pub mod package;

//! Test harness.

#[cfg(unix)]
pub mod mounted;
pub mod package;

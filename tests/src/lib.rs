//! Test harness.

pub mod package;

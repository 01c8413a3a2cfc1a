//! Test harness.

pub mod archive;

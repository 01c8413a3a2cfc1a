//! Test harness.

pub mod model;
pub mod operations;
pub mod subject;
#[cfg(unix)]
pub mod volume_subject;

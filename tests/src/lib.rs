//! Test harness.

#[cfg(unix)]
pub mod command;
pub mod fixtures;
pub mod model;
#[cfg(unix)]
pub mod mounted;
pub mod operations;
pub mod package;
pub mod subject;
#[cfg(unix)]
pub mod volume_subject;

//! Test harness.

#[cfg(unix)]
pub mod archive;
#[cfg(unix)]
pub mod command;
pub mod fixtures;
pub mod model;
#[cfg(unix)]
pub mod mounted;
#[cfg(target_os = "linux")]
pub mod mounted_subject;
pub mod operations;
pub mod package;
pub mod subject;
#[cfg(unix)]
pub mod tree;
#[cfg(unix)]
pub mod volume_subject;
#[cfg(unix)]
pub mod workplace;

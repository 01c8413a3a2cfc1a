//! Test harness.

#[cfg(unix)]
pub mod archive;
#[cfg(unix)]
pub mod command;
#[cfg(unix)]
pub mod everything;
pub mod fixtures;
#[cfg(unix)]
pub mod model;
#[cfg(unix)]
pub mod mounted;
#[cfg(target_os = "linux")]
pub mod mounted_subject;
#[cfg(unix)]
pub mod operations;
#[cfg(unix)]
pub mod ordinary;
pub mod package;
#[cfg(target_os = "linux")]
pub mod power_failure;
#[cfg(target_os = "linux")]
pub mod recorded_disk;
#[cfg(unix)]
pub mod subject;
#[cfg(unix)]
pub mod tree;
#[cfg(unix)]
pub mod volume_subject;
#[cfg(unix)]
pub mod workplace;

//! The only door to the operating system for what differs between systems.

pub mod files;
#[cfg(unix)]
pub mod process;
pub mod program;
#[cfg(unix)]
pub mod signals;

//! The only door to the operating system for what differs between systems.

pub mod files;
pub mod plain;
#[cfg(unix)]
pub mod process;
pub mod program;
#[cfg(unix)]
pub mod signals;
pub mod user;

//! The only door to the operating system for what differs between systems.

pub mod files;
pub mod plain;
pub mod program;

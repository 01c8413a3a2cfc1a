//! The only door to the operating system.

#[cfg(unix)]
pub mod process;
#[cfg(unix)]
pub mod signals;

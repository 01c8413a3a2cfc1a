//! The only door to the operating system for what differs between systems.

pub mod ahead;
pub mod files;
pub mod health;
pub mod interrupt;
pub mod mount_table;
pub mod plain;
pub mod privilege;
pub mod probe;
#[cfg(unix)]
pub mod process;
pub mod program;
#[cfg(unix)]
pub mod signals;
#[cfg(unix)]
pub mod socket;
#[cfg(unix)]
pub mod standby;
#[cfg(unix)]
pub mod start;
#[cfg(unix)]
pub mod unmount;
pub mod users;

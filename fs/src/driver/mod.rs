//! Translation between the kernel's FUSE requests and a volume, nothing else.
//!
//! [`serve`] mounts a volume and answers the kernel from several threads until somebody unmounts it. Every
//! request is decoded, becomes one call of the volume, and its result becomes one reply.
//!
//! **Invariants:** nothing is decided here that the volume could decide; a panic in the volume becomes EIO for
//! one caller and a line in the log, never a lost reply; ENOSYS, which the kernel remembers for the life of the
//! mount, is only ever answered on purpose.

mod attributes;
mod buffers;
mod capabilities;
mod control;
mod errno;
mod error;
mod filesystem;
mod listing;
mod mount;
mod numbers;
mod opening;
mod opens;
mod options;
mod privileges;
mod replies;
mod served;
mod server;
mod statistics;
pub mod touches;

pub use control::{Control, Held, HoldError};
pub use error::{DriverError, UnmountError};
pub use mount::{mount_helper, try_device, unmount, user_allow_other};
pub use options::{GenericFlag, MountOptions, OpenMode, OtherUsers};
pub use served::{Features, Served, serve};
pub use statistics::{Operation, Statistics};

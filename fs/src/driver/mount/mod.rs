//! Putting a connection to the kernel at a path, and taking it away again: `mount(2)` where this process may,
//! else the set-user-id helper `fusermount3`.
//!
//! **Invariant:** what is in use is never detached unless the caller asked for exactly that.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::error::{DriverError, UnmountError};
use super::options::MountOptions;

#[cfg(target_os = "linux")]
mod helper;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod platform;
#[cfg(not(target_os = "linux"))]
#[path = "other.rs"]
mod platform;

/// Mounts on `mountpoint`, a directory, and returns the FUSE device.
pub(super) fn mount(mountpoint: &Path, options: &MountOptions) -> Result<OwnedFd, DriverError> {
    let metadata = std::fs::metadata(mountpoint)
        .map_err(|source| DriverError::Mountpoint { mountpoint: mountpoint.into(), source })?;
    if !metadata.is_dir() {
        return Err(DriverError::NotDirectory { mountpoint: mountpoint.into() });
    }
    platform::mount(mountpoint, options)
}

/// Takes the mount at `mountpoint` away. `lazy` detaches it at once and lets those who use it finish.
///
/// # Errors
/// [`UnmountError::Busy`] when something uses it and `lazy` is not set; the others as they say.
pub fn unmount(mountpoint: &Path, lazy: bool) -> Result<(), UnmountError> {
    platform::unmount(mountpoint, lazy)
}

/// Tells whether this process may open the FUSE device, `/dev/fuse`.
///
/// # Errors
/// Why it may not; ENODEV when it is something else.
pub fn try_device() -> std::io::Result<()> {
    platform::try_device()
}

/// Returns the path of the mount helper (`fusermount3`), where it is installed.
#[must_use]
pub fn mount_helper() -> Option<PathBuf> {
    platform::mount_helper()
}

/// Tells whether an ordinary user may let others use their mounts: `user_allow_other` in `/etc/fuse.conf`.
#[must_use]
pub fn user_allow_other() -> bool {
    platform::user_allow_other()
}

/// Takes a mount away that nobody serves any more.
pub(super) fn clear_dead(mountpoint: &Path) {
    platform::clear_dead(mountpoint);
}

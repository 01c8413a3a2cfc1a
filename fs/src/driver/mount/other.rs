//! Systems on which slotfs does not mount yet: it says so.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::{DriverError, MountOptions, UnmountError};

pub(super) fn mount(_mountpoint: &Path, options: &MountOptions) -> Result<OwnedFd, DriverError> {
    let _ = (options.kernel_data(0, 0, false), options.helper_argument(false));
    Err(DriverError::Unsupported)
}

pub(super) fn unmount(mountpoint: &Path, _lazy: bool) -> Result<(), UnmountError> {
    Err(UnmountError::NotMounted { mountpoint: mountpoint.into() })
}

pub(super) fn try_device() -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

pub(super) fn mount_helper() -> Option<PathBuf> {
    None
}

pub(super) fn user_allow_other() -> bool {
    false
}

pub(super) fn clear_dead(_mountpoint: &Path) {}

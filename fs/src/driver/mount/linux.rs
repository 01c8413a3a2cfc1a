//! Mounting on Linux: by the system call, else through the helper.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{getegid, geteuid};

use super::{DriverError, MountOptions, UnmountError, helper};
use crate::driver::options::{GenericFlag, OtherUsers};

const DEVICE: &str = "/dev/fuse";
const CONFIGURATION: &str = "/etc/fuse.conf";

pub(super) fn mount(mountpoint: &Path, options: &MountOptions) -> Result<OwnedFd, DriverError> {
    // The helper opens the device with the rights of the one who runs it, so it is no way around this.
    let device = open_device().map_err(|source| DriverError::Device { path: DEVICE.into(), source })?;
    match mount_directly(mountpoint, options, &device) {
        Ok(()) => Ok(device),
        // Ordinary users may not; the helper may.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => mount_with_helper(mountpoint, options),
        Err(source) => Err(DriverError::Mount { mountpoint: mountpoint.into(), source }),
    }
}

/// Opens the device, which could be anything: some containers put an empty file there.
fn open_device() -> io::Result<OwnedFd> {
    let fuse = rustix::fs::makedev(10, 229);
    let device = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    let metadata = device.metadata()?;
    if !metadata.file_type().is_char_device() || metadata.rdev() != fuse {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    Ok(device.into())
}

fn mount_directly(mountpoint: &Path, options: &MountOptions, device: &OwnedFd) -> io::Result<()> {
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::NOATIME, !options.access_times);
    for flag in &options.flags {
        flags |= generic(*flag);
    }
    flags.set(MountFlags::RDONLY, options.read_only);
    flags.set(MountFlags::NODEV, !options.devices);
    flags.set(MountFlags::NOSUID, !options.set_id);
    flags.set(MountFlags::NOEXEC, !options.execute);
    let others = options.others != OtherUsers::Never;
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let data = format!("fd={},{}", device.as_raw_fd(), options.kernel_data(user, group, others));
    let data = CString::new(data)?;
    let source = CString::new(options.source.as_bytes())?;
    rustix::mount::mount(source.as_c_str(), mountpoint, c"fuse.slotfs", flags, Some(data.as_c_str()))?;
    Ok(())
}

fn generic(flag: GenericFlag) -> MountFlags {
    match flag {
        GenericFlag::NoDirectoryAccessTimes => MountFlags::NODIRATIME,
        GenericFlag::RelativeAccessTimes => MountFlags::RELATIME,
        GenericFlag::StrictAccessTimes => MountFlags::STRICTATIME,
        GenericFlag::LazyTimes => MountFlags::LAZYTIME,
        GenericFlag::Synchronous => MountFlags::SYNCHRONOUS,
        GenericFlag::DirectorySynchronous => MountFlags::DIRSYNC,
        GenericFlag::NoSymlinkFollowing => MountFlags::from_bits_retain(libc::MS_NOSYMFOLLOW as _),
    }
}

fn mount_with_helper(mountpoint: &Path, options: &MountOptions) -> Result<OwnedFd, DriverError> {
    let allowed = geteuid().is_root() || user_allow_other();
    let others = match options.others {
        OtherUsers::Never => false,
        OtherUsers::WherePossible => allowed,
        OtherUsers::Required if allowed => true,
        OtherUsers::Required => {
            return Err(DriverError::OthersRefused { configuration: CONFIGURATION.into() });
        }
    };
    helper::mount(mountpoint, &options.helper_argument(others))
}

pub(super) fn unmount(mountpoint: &Path, lazy: bool) -> Result<(), UnmountError> {
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, lazy);
    let Err(error) = rustix::mount::unmount(mountpoint, flags) else { return Ok(()) };
    let owned = mountpoint.to_path_buf();
    match error.raw_os_error() {
        libc::EPERM => helper::unmount(mountpoint, lazy),
        libc::EBUSY => Err(UnmountError::Busy { mountpoint: owned }),
        libc::EINVAL | libc::ENOENT => Err(UnmountError::NotMounted { mountpoint: owned }),
        _ => Err(UnmountError::Kernel { mountpoint: owned, source: error.into() }),
    }
}

pub(super) fn try_device() -> io::Result<()> {
    open_device().map(drop)
}

pub(super) fn mount_helper() -> Option<PathBuf> {
    helper::find()
}

pub(super) fn user_allow_other() -> bool {
    std::fs::read_to_string(CONFIGURATION).is_ok_and(|text| allows_others(&text))
}

fn allows_others(configuration: &str) -> bool {
    configuration.lines().any(|line| line.trim() == "user_allow_other")
}

pub(super) fn clear_dead(mountpoint: &Path) {
    // ENOTCONN is what a mount without a server answers, and nothing else does: whatever was mounted at the
    // same place meanwhile is safe.
    let dead = rustix::fs::statfs(mountpoint).err() == Some(rustix::io::Errno::NOTCONN);
    if dead && let Err(error) = unmount(mountpoint, true) {
        tracing::warn!("a dead mount is left behind: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bare_word_lets_others_in() {
        assert!(allows_others("# comment\n user_allow_other \n"));
        assert!(!allows_others("#user_allow_other\nmount_max = 1000\n"));
    }

    #[test]
    fn unmounting_what_is_not_mounted_says_so() {
        let place = tempfile::tempdir().map(|place| unmount(place.path(), false));
        assert!(matches!(place, Ok(Err(UnmountError::NotMounted { .. } | UnmountError::Refused { .. }))));
    }

    #[test]
    fn a_mount_point_must_be_a_directory() {
        let options = MountOptions::new("test");
        let file = Path::new("/proc/self/exe");
        assert!(matches!(super::super::mount(file, &options), Err(DriverError::NotDirectory { .. })));
        let missing = Path::new("/nonexistent/slotfs");
        assert!(matches!(super::super::mount(missing, &options), Err(DriverError::Mountpoint { .. })));
    }
}

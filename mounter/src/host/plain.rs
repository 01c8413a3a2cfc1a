//! Writing plain files, where systems differ in what a file can be: names, links, modes, times, attributes.
//!
//! **Invariant:** no function here follows a symbolic link at the path it is given.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Returns the name as this system spells it.
///
/// # Errors
/// Why no file can have this name here: it is empty, `.` or `..`, holds a separator or a NUL byte, or is one that
/// this system does not allow.
pub fn file_name(name: &[u8]) -> Result<OsString, &'static str> {
    match name {
        b"" => Err("its name is empty"),
        b"." | b".." => Err("its name means a directory on the way"),
        _ if name.contains(&b'/') => Err("its name holds a `/`"),
        _ if name.contains(&0) => Err("its name holds a NUL byte"),
        _ => platform::file_name(name),
    }
}

/// Returns the point in time `seconds` and `nanoseconds` after 1970, or `None` where this system cannot hold it.
#[must_use]
pub fn system_time(seconds: i64, nanoseconds: u32) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let start = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)?
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)?
    };
    start.checked_add(Duration::from_nanos(u64::from(nanoseconds)))
}

/// Makes a symbolic link at `path` that says `target`. `to_directory` matters on Windows only.
///
/// # Errors
/// Passes on what the system reports; on Windows also that links need a privilege.
pub fn make_symlink(target: &[u8], path: &Path, to_directory: bool) -> io::Result<()> {
    platform::make_symlink(target, path, to_directory)
}

/// Sets the permission bits of an open file (`fchmod(2)`). Where the system has none, only "nobody may write" counts.
///
/// # Errors
/// Passes on what the system reports.
pub fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    platform::set_mode(file, mode)
}

/// Sets the time of last modification of what is at `path`, a link itself included. Outside Unix directories and
/// links keep the time they were made at.
///
/// # Errors
/// Passes on what the system reports.
pub fn set_modified(path: &Path, seconds: i64, nanoseconds: u32) -> io::Result<()> {
    platform::set_modified(path, seconds, nanoseconds)
}

/// Sets an extended attribute of an open file or directory (`fsetxattr(2)`).
///
/// # Errors
/// Passes on what the system reports; `Unsupported` where it has none.
pub fn set_extended_attribute(file: &File, name: &[u8], value: &[u8]) -> io::Result<()> {
    platform::set_extended_attribute(file, name, value)
}

/// Makes a named pipe.
///
/// # Errors
/// Passes on what the system reports; `Unsupported` where it has none.
pub fn make_fifo(path: &Path, mode: u32) -> io::Result<()> {
    platform::make_fifo(path, mode)
}

/// Opens a directory, to set what belongs to it or to lock it.
///
/// # Errors
/// Passes on what the system reports; `Unsupported` where directories cannot be opened.
pub fn open_directory(path: &Path) -> io::Result<File> {
    platform::open_directory(path)
}

/// Returns how many bytes a user may still write at `path`; `None` where the system does not say.
#[must_use]
pub fn available_space(path: &Path) -> Option<u64> {
    platform::available_space(path)
}

/// Puts what is at `left` and at `right` in each other's place, in one step.
///
/// # Errors
/// Passes on what the system reports; `Unsupported` where it cannot.
pub fn exchange(left: &Path, right: &Path) -> io::Result<()> {
    platform::exchange(left, right)
}

/// The longest path that can be named in one go, in bytes (`PATH_MAX` less the closing NUL on Linux and macOS). Windows
/// counts in units of 16 bits, of which no name has more than bytes.
pub const LONGEST_PATH: usize = if cfg!(target_os = "linux") {
    4095
} else if cfg!(unix) {
    1023
} else {
    32_000
};

/// Whether [`sync_file_system`] does anything here; where not, each file must be synced by itself.
pub const SYNCS_FILE_SYSTEMS: bool = cfg!(target_os = "linux");

/// Writes everything that the file system of `path` holds to disk (`syncfs(2)`), where the system can.
///
/// # Errors
/// Passes on what the system reports.
pub fn sync_file_system(path: &Path) -> io::Result<()> {
    platform::sync_file_system(path)
}

/// Tells whether a link was refused because this user may not make any (Windows gives that right to few).
#[must_use]
pub fn lacks_link_privilege(error: &io::Error) -> bool {
    platform::lacks_link_privilege(error)
}

/// Lets the empty file `to` share all of `from`'s content without copying (`FICLONE`). `false`: nothing was done,
/// because system or disk cannot.
#[must_use]
pub fn share_content(from: &File, to: &File) -> bool {
    platform::share_content(from, to)
}

#[cfg(unix)]
mod platform {
    use std::ffi::OsString;
    use std::fs::File;
    use std::io;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, XattrFlags};

    pub(super) fn file_name(name: &[u8]) -> Result<OsString, &'static str> {
        Ok(OsString::from_vec(name.to_vec()))
    }

    pub(super) fn make_symlink(target: &[u8], path: &Path, _to_directory: bool) -> io::Result<()> {
        std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), path)
    }

    pub(super) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
        file.set_permissions(std::fs::Permissions::from_mode(mode))
    }

    pub(super) fn set_modified(path: &Path, seconds: i64, nanoseconds: u32) -> io::Result<()> {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    pub(super) fn set_extended_attribute(file: &File, name: &[u8], value: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())?)
    }

    #[cfg(not(target_vendor = "apple"))]
    pub(super) fn make_fifo(path: &Path, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, mode, 0)?;
        // The umask took its share.
        Ok(rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())?)
    }

    #[cfg(target_vendor = "apple")]
    pub(super) fn make_fifo(path: &Path, mode: u32) -> io::Result<()> {
        let bits = nix::sys::stat::Mode::from_bits_truncate(u16::try_from(mode).unwrap_or(0o600));
        Ok(nix::unistd::mkfifo(path, bits)?)
    }

    pub(super) fn open_directory(path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
    }

    pub(super) fn available_space(path: &Path) -> Option<u64> {
        let space = rustix::fs::statvfs(path).ok()?;
        Some(space.f_bavail.saturating_mul(space.f_frsize))
    }

    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    pub(super) fn exchange(left: &Path, right: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat_with(CWD, left, CWD, right, rustix::fs::RenameFlags::EXCHANGE)?)
    }

    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    pub(super) fn exchange(_left: &Path, _right: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(target_os = "linux")]
    pub(super) fn sync_file_system(path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(open_directory(path)?)?)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn sync_file_system(_path: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn lacks_link_privilege(_error: &io::Error) -> bool {
        false
    }

    #[cfg(target_os = "linux")]
    pub(super) fn share_content(from: &File, to: &File) -> bool {
        rustix::fs::ioctl_ficlone(to, from).is_ok()
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn share_content(_from: &File, _to: &File) -> bool {
        false
    }
}

#[cfg(not(unix))]
mod platform {
    use std::ffi::OsString;
    use std::fs::File;
    use std::io::{self, ErrorKind};
    use std::path::Path;

    /// Names that mean devices, with any extension ("Naming Files, Paths, and Namespaces", Win32).
    const RESERVED: [&str; 22] = [
        "CON", "PRN", "AUX", "NUL", "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7", "COM8", "COM9",
        "LPT1", "LPT2", "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9",
    ];

    pub(super) fn file_name(name: &[u8]) -> Result<OsString, &'static str> {
        let text = std::str::from_utf8(name).map_err(|_| "its name is not UTF-8")?;
        if text.chars().any(|letter| letter < ' ' || "<>:\"\\|?*".contains(letter)) {
            return Err("its name holds a character that this system does not allow");
        }
        if text.ends_with(['.', ' ']) {
            return Err("its name ends in a full stop or a space, which this system does not allow");
        }
        let stem = text.split('.').next().unwrap_or_default();
        if RESERVED.iter().any(|reserved| stem.eq_ignore_ascii_case(reserved)) {
            return Err("its name means a device on this system");
        }
        Ok(text.into())
    }

    pub(super) fn make_symlink(target: &[u8], path: &Path, to_directory: bool) -> io::Result<()> {
        let target = std::str::from_utf8(target).map_err(|_| ErrorKind::InvalidFilename)?.replace('/', "\\");
        if to_directory {
            std::os::windows::fs::symlink_dir(target, path)
        } else {
            std::os::windows::fs::symlink_file(target, path)
        }
    }

    pub(super) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
        let mut permissions = file.metadata()?.permissions();
        permissions.set_readonly(mode & 0o222 == 0);
        file.set_permissions(permissions)
    }

    pub(super) fn set_modified(_path: &Path, _seconds: i64, _nanoseconds: u32) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn set_extended_attribute(_file: &File, _name: &[u8], _value: &[u8]) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    pub(super) fn make_fifo(_path: &Path, _mode: u32) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    pub(super) fn open_directory(_path: &Path) -> io::Result<File> {
        Err(ErrorKind::Unsupported.into())
    }

    pub(super) fn available_space(_path: &Path) -> Option<u64> {
        None
    }

    pub(super) fn exchange(_left: &Path, _right: &Path) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    pub(super) fn sync_file_system(_path: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn lacks_link_privilege(error: &io::Error) -> bool {
        /// A required privilege is not held by the client (System Error Codes, Win32).
        const PRIVILEGE_NOT_HELD: i32 = 1314;
        error.raw_os_error() == Some(PRIVILEGE_NOT_HELD) || error.kind() == ErrorKind::PermissionDenied
    }

    pub(super) fn share_content(_from: &File, _to: &File) -> bool {
        false
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
            assert!(file_name(bad).is_err(), "{bad:?}");
        }
        for good in [&b"a"[..], b"...", b"..a", b"a b", "ü".as_bytes()] {
            assert!(file_name(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn times_before_1970_are_held() {
        let time = system_time(-1, 500_000_000).unwrap();
        assert_eq!(SystemTime::UNIX_EPOCH.duration_since(time).unwrap(), Duration::from_millis(500));
        // Whether the system can hold them or not: no arithmetic overflows.
        for seconds in [i64::MIN, i64::MAX] {
            let _ = system_time(seconds, 999_999_999);
        }
    }
}

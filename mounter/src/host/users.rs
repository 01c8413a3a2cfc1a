//! Which processes use a mount: what a user needs to hear when it cannot be unmounted.
//!
//! Only links in `/proc` are read, never followed, so a dead or hung mount cannot hold this up.

use std::path::Path;

/// How a process uses a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Its current directory is inside.
    CurrentDirectory,
    /// Its root directory is inside.
    RootDirectory,
    /// The program that it runs is inside.
    Program,
    /// It has a file open.
    OpenFile,
    /// It has a file mapped, a shared library for example.
    MappedFile,
}

/// A process that uses a mount.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MountUser {
    /// Its number.
    pub pid: u32,
    /// Its command line, or its name in brackets.
    pub command: String,
    /// How, each once.
    pub uses: Vec<Use>,
}

/// Who uses a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MountUsers {
    /// Those that were found, by number.
    pub users: Vec<MountUser>,
    /// How many processes of other users could not be looked at; one of them may use the mount.
    pub hidden: usize,
}

/// Finds the processes that use the mount at `mountpoint` (absolute, without symbolic links). Where the system does
/// not tell, nobody is found.
#[must_use]
pub fn of(mountpoint: &Path) -> MountUsers {
    platform::of(mountpoint)
}

#[cfg(target_os = "linux")]
mod platform {
    use std::ffi::OsStr;
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use super::{MountUser, MountUsers, Use};
    use crate::host::mount_table;

    pub(super) fn of(mountpoint: &Path) -> MountUsers {
        let device = mount_table::read()
            .ok()
            .and_then(|table| mount_table::at(&table, mountpoint).map(|mount| mount.device));
        let mut found = MountUsers::default();
        let Ok(processes) = fs::read_dir("/proc") else { return found };
        for process in processes.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            match uses(&process.path(), mountpoint, device) {
                Some(uses) if uses.is_empty() => {}
                Some(uses) => found.users.push(MountUser { pid, command: command(&process.path()), uses }),
                None => found.hidden += 1,
            }
        }
        found.users.sort_by_key(|user| user.pid);
        found
    }

    /// Returns `None` when the process does not let itself be looked at.
    fn uses(process: &Path, mountpoint: &Path, device: Option<(u32, u32)>) -> Option<Vec<Use>> {
        let mut uses = Vec::new();
        let links = [("cwd", Use::CurrentDirectory), ("root", Use::RootDirectory), ("exe", Use::Program)];
        for (link, way) in links {
            match fs::read_link(process.join(link)) {
                Ok(target) if is_inside(&target, mountpoint) => uses.push(way),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
                // Kernel threads have no program, and processes end at any moment.
                Ok(_) | Err(_) => {}
            }
        }
        let opened = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let mut targets = opened.filter_map(|file| fs::read_link(file.path()).ok());
        if targets.any(|target| is_inside(&target, mountpoint)) {
            uses.push(Use::OpenFile);
        }
        if let Some(device) = device
            && fs::read(process.join("maps")).is_ok_and(|maps| maps_name(&maps, device))
        {
            uses.push(Use::MappedFile);
        }
        Some(uses)
    }

    fn is_inside(target: &Path, mountpoint: &Path) -> bool {
        // The kernel appends this to what was deleted.
        let bytes = target.as_os_str().as_bytes();
        let plain = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
        target.starts_with(mountpoint) || Path::new(OsStr::from_bytes(plain)).starts_with(mountpoint)
    }

    /// `7f…-7f… r--p 00000000 00:2c 1234  /path`: the fourth field is the device, in hexadecimal.
    pub(super) fn maps_name(maps: &[u8], (major, minor): (u32, u32)) -> bool {
        let wanted = format!("{major:02x}:{minor:02x}");
        maps.split(|&byte| byte == b'\n').any(|line| {
            line.split(|&byte| byte == b' ').nth(3).is_some_and(|device| device == wanted.as_bytes())
        })
    }

    fn command(process: &Path) -> String {
        let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
        let joined = arguments
            .split(|&byte| byte == 0)
            .filter(|argument| !argument.is_empty())
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join(" ");
        if !joined.is_empty() {
            return joined;
        }
        let name = fs::read(process.join("comm")).unwrap_or_default();
        format!("[{}]", String::from_utf8_lossy(&name).trim_end())
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::path::Path;

    use super::MountUsers;

    pub(super) fn of(_mountpoint: &Path) -> MountUsers {
        MountUsers::default()
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_the_place_of_its_open_files() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap();
        let of_us = || of(&place).users.into_iter().find(|user| user.pid == std::process::id());
        assert_eq!(of_us(), None);
        let file = std::fs::File::create(place.join("file")).unwrap();
        let user = of_us().unwrap();
        assert_eq!(user.uses, [Use::OpenFile]);
        assert!(!user.command.is_empty());
        std::fs::remove_file(place.join("file")).unwrap();
        assert!(of_us().is_some(), "a deleted file is still in use");
        drop(file);
        assert_eq!(of_us(), None);
    }

    #[test]
    fn maps_name_the_device_in_hexadecimal() {
        let maps = b"7f00-7f01 r--p 00000000 00:2c 77  /m/lib.so\n7f02-7f03 rw-p 00000000 00:00 0\n";
        assert!(platform::maps_name(maps, (0, 44)));
        assert!(!platform::maps_name(maps, (44, 0)));
        assert!(!platform::maps_name(b"", (0, 44)));
    }
}

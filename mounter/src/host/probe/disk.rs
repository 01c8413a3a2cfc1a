//! What the disks under the cache and the temporary directory can do.

use std::io;
use std::path::Path;

use super::{Finding, existing};
use crate::host::files;
use crate::host::mount_table;

/// Below this a package of usual size may not fit.
const LITTLE: u64 = 512 * 1024 * 1024;

/// Tries what slotfs does in its cache directory.
pub(super) fn findings(name: &'static str, place: &Path) -> Vec<Finding> {
    let meaning = "work environments, slot indexes and written files lie there";
    let Some(parent) = existing(place) else {
        return vec![
            Finding::missing(name, place.display().to_string(), meaning)
                .cause("neither it nor any directory above it exists"),
        ];
    };
    let folder = match tempfile(parent) {
        Ok(folder) => folder,
        Err(error) => {
            return vec![
                Finding::missing(name, place.display().to_string(), meaning)
                    .cause(format!("cannot create a directory in `{}`: {error}", parent.display()))
                    .fix("choose another with `--cache-dir` or `FLAVOR_CACHE`"),
            ];
        }
    };
    let mut findings = vec![space(name, place, parent, meaning)];
    findings.push(execution(
        "cache-exec",
        folder.path(),
        place,
        "programs that were extracted or written run",
    ));
    findings.extend(features(folder.path()));
    findings
}

/// Tries what slotfs does in the directory for temporary files.
pub(super) fn temporary(place: &Path) -> Vec<Finding> {
    let meaning = "temporary slots and downloads run and fit";
    match tempfile(place) {
        Ok(folder) => vec![execution("temporary-exec", folder.path(), place, meaning)],
        Err(error) => vec![
            Finding::limited("temporary-exec", place.display().to_string(), meaning)
                .cause(format!("cannot create a directory there: {error}"))
                .fix("set `TMPDIR` to a directory that can be written"),
        ],
    }
}

pub(super) fn tempfile(place: &Path) -> io::Result<Folder> {
    let name = format!(".slotfs-doctor-{}-{}", std::process::id(), unique());
    let path = place.join(name);
    files::create_private_directories(&path)?;
    Ok(Folder(path))
}

fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// A directory that goes with its guard.
#[derive(Debug)]
pub(super) struct Folder(std::path::PathBuf);

impl Folder {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("cannot remove `{}`: {error}", self.0.display());
        }
    }
}

fn space(name: &'static str, place: &Path, parent: &Path, meaning: &'static str) -> Finding {
    let shown = place.display();
    match platform::free_bytes(parent) {
        Some(free) if free < LITTLE => {
            Finding::limited(name, format!("{shown}, {} MiB free", free >> 20), meaning)
                .cause("there is little space left on its disk")
                .fix("free some, or choose another with `--cache-dir` or `FLAVOR_CACHE`")
        }
        Some(free) => Finding::ok(name, format!("{shown}, {} MiB free", free >> 20), meaning),
        None => Finding::ok(name, shown.to_string(), meaning),
    }
}

/// Runs a script in `folder`, and looks for the reason in the mount table when that is refused.
fn execution(name: &'static str, folder: &Path, place: &Path, meaning: &'static str) -> Finding {
    let shown = place.display().to_string();
    match platform::runs(folder) {
        Ok(()) => Finding::ok(name, shown, meaning),
        Err(error) => {
            let table = mount_table::read().unwrap_or_default();
            let real = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
            let noexec = mount_table::containing(&table, &real).filter(|mount| mount.has_option("noexec"));
            let finding = Finding::missing(name, shown, meaning);
            match noexec {
                Some(mount) => finding
                    .cause(format!("`{}` is mounted with noexec", mount.mountpoint.display()))
                    .fix(format!(
                        "mount -o remount,exec {}   (as root), or choose another directory",
                        mount.mountpoint.display()
                    )),
                None => finding
                    .cause(format!("a script there could not be run: {error}"))
                    .fix("choose another directory"),
            }
        }
    }
}

fn features(folder: &Path) -> Vec<Finding> {
    let attributes = match platform::set_attribute(folder) {
        Ok(()) => Finding::ok("cache-xattr", "works", XATTR),
        Err(error) => Finding::missing("cache-xattr", "refused", XATTR)
            .cause(format!("the disk refuses `user.` attributes: {error}"))
            .fix("choose a directory on ext4, xfs, btrfs or tmpfs (Linux 6.6) with `--cache-dir`"),
    };
    let reflink = match platform::share_content(folder) {
        Ok(()) => Finding::ok("cache-reflink", "works", REFLINK),
        Err(error) => Finding::limited("cache-reflink", "not here", REFLINK)
            .cause(format!("the disk cannot share content between files: {error}"))
            .fix("none needed; btrfs and xfs can"),
    };
    let whiteout = match platform::make_whiteout(folder) {
        Ok(()) => Finding::ok("cache-whiteout", "works", WHITEOUT),
        Err(error) => Finding::limited("cache-whiteout", "refused", WHITEOUT)
            .cause(format!("0/0 character devices cannot be made: {error}"))
            .fix("none needed; Linux lets ordinary users make them since 5.8, outside some containers"),
    };
    vec![attributes, reflink, whiteout]
}

const XATTR: &str = "the upper directory keeps inode numbers, opaque directories and owners";
const REFLINK: &str = "the first write to a large file takes no time, and snapshots no space";
const WHITEOUT: &str = "deletions are stored so that kernel overlayfs understands them";

#[cfg(unix)]
mod platform {
    use std::fs::OpenOptions;
    use std::io::{self, Write};
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;
    use std::process::Command;

    pub(super) fn free_bytes(place: &Path) -> Option<u64> {
        let space = rustix::fs::statvfs(place).ok()?;
        Some(space.f_bavail.saturating_mul(space.f_frsize))
    }

    pub(super) fn runs(folder: &Path) -> io::Result<()> {
        let script = folder.join("script");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(&script)?;
        file.write_all(b"#!/bin/sh\nexit 0\n")?;
        drop(file);
        // Another thread of this process that forks at this moment holds the script open for writing.
        for _ in 0..50 {
            match Command::new(&script).status() {
                Ok(status) if status.success() => return Ok(()),
                Ok(status) => return Err(io::Error::other(status.to_string())),
                Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from_raw_os_error(libc::ETXTBSY))
    }

    #[cfg(target_os = "linux")]
    pub(super) fn set_attribute(folder: &Path) -> io::Result<()> {
        Ok(rustix::fs::setxattr(folder, "user.slotfs.doctor", b"1", rustix::fs::XattrFlags::empty())?)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn share_content(folder: &Path) -> io::Result<()> {
        let mut from =
            OpenOptions::new().read(true).write(true).create_new(true).open(folder.join("from"))?;
        from.write_all(&[7; 8192])?;
        let to = OpenOptions::new().write(true).create_new(true).open(folder.join("to"))?;
        Ok(rustix::fs::ioctl_ficlone(&to, &from)?)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn make_whiteout(folder: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
        let place = folder.join("whiteout");
        Ok(mknodat(CWD, place, FileType::CharacterDevice, Mode::RUSR, makedev(0, 0))?)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) use super::elsewhere::{make_whiteout, set_attribute, share_content};
}

#[cfg(not(unix))]
mod platform {
    use std::io;
    use std::path::Path;

    pub(super) use super::elsewhere::{make_whiteout, set_attribute, share_content};

    pub(super) fn free_bytes(_place: &Path) -> Option<u64> {
        None
    }

    /// Execution is no property of a directory here.
    pub(super) fn runs(_folder: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::io;
    use std::path::Path;

    fn unknown() -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "slotfs does not use it on this system"))
    }

    pub(super) fn set_attribute(_folder: &Path) -> io::Result<()> {
        unknown()
    }

    pub(super) fn share_content(_folder: &Path) -> io::Result<()> {
        unknown()
    }

    pub(super) fn make_whiteout(_folder: &Path) -> io::Result<()> {
        unknown()
    }
}

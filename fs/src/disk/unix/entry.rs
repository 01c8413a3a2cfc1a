//! Making, removing, moving and listing the names in a directory.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::spot::kind_of;
use super::{Directory, Spot};
use crate::disk::{Context, DiskError};
use crate::node::Kind;

/// One name of a directory.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The name.
    pub name: Vec<u8>,
    /// Inode number on its disk.
    pub inode: u64,
    /// Its kind; `None` where the disk does not tell in a listing.
    pub kind: Option<Kind>,
}

/// A fifo, socket or device node to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewSpecial {
    /// Which of them.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Device number, for device nodes.
    pub device: u64,
}

/// Permission bits in the host's type, which is narrower on some hosts.
fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode((mode & 0o7777) as rustix::fs::RawMode)
}

impl Directory {
    /// Makes a regular file, open for reading and writing; fails when the name is taken.
    ///
    /// # Errors
    /// What `open(2)` reports.
    pub fn create_file(&self, name: &[u8], mode: u32) -> Result<File, DiskError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let created = rustix::fs::openat(self.as_fd(), name, flags, permissions(mode));
        Ok(File::from(created.context("create", self.shown(name))?))
    }

    /// `mkdir(2)`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn make_directory(&self, name: &[u8], mode: u32) -> Result<(), DiskError> {
        rustix::fs::mkdirat(self.as_fd(), name, permissions(mode))
            .context("create the directory", self.shown(name))
    }

    /// `symlink(2)`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn make_symlink(&self, name: &[u8], target: &[u8]) -> Result<(), DiskError> {
        rustix::fs::symlinkat(target, self.as_fd(), name).context("create the link", self.shown(name))
    }

    /// `mknod(2)`.
    ///
    /// # Errors
    /// What the host reports.
    #[cfg(target_os = "linux")]
    pub fn make_special(&self, name: &[u8], new: NewSpecial) -> Result<(), DiskError> {
        let file_type = match new.kind {
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
            Kind::CharacterDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            Kind::File | Kind::Directory | Kind::Symlink => FileType::RegularFile,
        };
        rustix::fs::mknodat(self.as_fd(), name, file_type, permissions(new.mode), new.device)
            .context("create the node", self.shown(name))
    }

    /// `mknod(2)`: no such call relative to a directory on this host.
    ///
    /// # Errors
    /// Always: not supported.
    #[cfg(not(target_os = "linux"))]
    pub fn make_special(&self, name: &[u8], new: NewSpecial) -> Result<(), DiskError> {
        let _ = new;
        Err(DiskError::new("create the node", self.shown(name), super::unsupported()))
    }

    /// `unlink(2)`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn unlink(&self, name: &[u8]) -> Result<(), DiskError> {
        rustix::fs::unlinkat(self.as_fd(), name, AtFlags::empty()).context("remove", self.shown(name))
    }

    /// `rmdir(2)`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn remove_directory(&self, name: &[u8]) -> Result<(), DiskError> {
        rustix::fs::unlinkat(self.as_fd(), name, AtFlags::REMOVEDIR)
            .context("remove the directory", self.shown(name))
    }

    /// `rename(2)`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<(), DiskError> {
        rustix::fs::renameat(self.as_fd(), name, to.as_fd(), new_name).context("rename", self.shown(name))
    }

    /// `renameat2(2)` with `RENAME_EXCHANGE`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn exchange(&self, name: &[u8], with: &Self, other: &[u8]) -> Result<(), DiskError> {
        rustix::fs::renameat_with(self.as_fd(), name, with.as_fd(), other, rustix::fs::RenameFlags::EXCHANGE)
            .context("exchange", self.shown(name))
    }

    /// `renameat2(2)` with `RENAME_WHITEOUT`: a 0/0 character device takes the old name.
    ///
    /// # Errors
    /// What the host reports.
    #[cfg(target_os = "linux")]
    pub fn rename_leaving_whiteout(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<(), DiskError> {
        rustix::fs::renameat_with(self.as_fd(), name, to.as_fd(), new_name, rustix::fs::RenameFlags::WHITEOUT)
            .context("rename", self.shown(name))
    }

    /// `renameat2(2)` with `RENAME_WHITEOUT`, which this host does not have.
    ///
    /// # Errors
    /// Always: not supported.
    #[cfg(not(target_os = "linux"))]
    pub fn rename_leaving_whiteout(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<(), DiskError> {
        let _ = (to, new_name);
        Err(DiskError::new("rename", self.shown(name), super::unsupported()))
    }

    /// `link(2)`: gives `spot` the further name `name` in this directory.
    ///
    /// # Errors
    /// What the host reports.
    pub fn link(&self, spot: &Spot, name: &[u8]) -> Result<(), DiskError> {
        match spot {
            Spot::Named { directory, name: old } => {
                rustix::fs::linkat(directory.as_fd(), &**old, self.as_fd(), name, AtFlags::empty())
            }
            Spot::Open(descriptor) => {
                let path = super::spot::self_path(descriptor)?;
                rustix::fs::linkat(rustix::fs::CWD, path, self.as_fd(), name, AtFlags::SYMLINK_FOLLOW)
            }
        }
        .context("link", self.shown(name))
    }

    /// Returns all names but `.` and `..`, in the disk's order.
    ///
    /// # Errors
    /// What the host reports.
    pub fn list(&self) -> Result<Vec<Listed>, DiskError> {
        let mut names = Vec::new();
        for entry in Dir::new(self.readable()?).context("list the directory", self.shown(b"."))? {
            let entry = entry.context("list the directory", self.shown(b"."))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let told = entry.file_type();
            let kind = (told != FileType::Unknown).then(|| kind_of(told));
            names.push(Listed { name: name.to_vec(), inode: entry.ino(), kind });
        }
        Ok(names)
    }

    /// Opens the directory `name` with the right to empty it, which its owner may give himself.
    fn open_for_removal(&self, name: &[u8]) -> Result<Self, DiskError> {
        self.make_movable(name)?;
        self.child(name)
    }

    /// Gives the owner of the directory `name` every right to it: without, he could neither empty nor move it.
    ///
    /// # Errors
    /// What the host reports.
    pub fn make_movable(&self, name: &[u8]) -> Result<(), DiskError> {
        let Some(stat) = self.stat(name)? else { return Ok(()) };
        let attributes = stat.attributes;
        if super::is_root() || attributes.kind != Kind::Directory || attributes.mode & 0o700 == 0o700 {
            return Ok(());
        }
        rustix::fs::chmodat(self.as_fd(), name, permissions(attributes.mode | 0o700), AtFlags::empty())
            .context("change the mode of", self.shown(name))
    }

    /// Removes `name` and everything in it.
    ///
    /// # Errors
    /// The first thing that could not be removed.
    pub fn remove_tree(&self, name: &[u8]) -> Result<(), DiskError> {
        // An explicit stack, as a tree may be deeper than a thread's.
        let is_directory = |directory: &Self, name: &[u8]| -> Result<Option<bool>, DiskError> {
            Ok(directory.stat(name)?.map(|stat| stat.attributes.kind == Kind::Directory))
        };
        match is_directory(self, name)? {
            None => return Ok(()),
            Some(false) => return self.unlink(name),
            Some(true) => {}
        }
        let mut open: Vec<(Self, Vec<u8>)> = vec![(self.open_for_removal(name)?, name.to_vec())];
        while let Some((directory, _)) = open.last() {
            let mut below = None;
            for listed in directory.list()? {
                if is_directory(directory, &listed.name)? == Some(true) {
                    below = Some((directory.open_for_removal(&listed.name)?, listed.name));
                    break;
                }
                directory.unlink(&listed.name)?;
            }
            if let Some(below) = below {
                open.push(below);
                continue;
            }
            if let Some((_, name)) = open.pop() {
                open.last().map_or(self, |(parent, _)| parent).remove_directory(&name)?;
            }
        }
        Ok(())
    }
}

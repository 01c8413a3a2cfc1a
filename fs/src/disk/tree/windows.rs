//! The tree by paths, each part looked at before it is passed through.

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{HostAttributes, HostIdentity, HostName, HostNode};
use crate::disk::{Context, DiskError};
use crate::node::{Attributes, Kind, Timestamp};

/// A directory tree of the host.
#[derive(Debug)]
pub struct HostTree {
    root: PathBuf,
}

impl HostTree {
    /// Opens the tree at `path`.
    ///
    /// # Errors
    /// Names the path.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let metadata = std::fs::metadata(path).context("open the directory", path)?;
        if metadata.is_dir() {
            Ok(Self { root: path.to_path_buf() })
        } else {
            Err(DiskError::new("open the directory", path, std::io::ErrorKind::NotADirectory))
        }
    }

    /// Returns the tree: nothing of it stays open on this host.
    #[must_use]
    pub fn keeping_open(self) -> Self {
        self
    }

    fn path(&self, path: &[&[u8]]) -> Result<PathBuf, DiskError> {
        let mut full = self.root.clone();
        for (position, name) in path.iter().enumerate() {
            let refused = |kind: std::io::ErrorKind| DiskError::new("look at", &self.root, kind);
            let name = std::str::from_utf8(name).map_err(|_| refused(std::io::ErrorKind::NotFound))?;
            if name.contains(['/', '\\', ':']) || name == "." || name == ".." {
                return Err(refused(std::io::ErrorKind::NotFound));
            }
            full.push(name);
            let is_last = position + 1 == path.len();
            if !is_last && !std::fs::symlink_metadata(&full).context("look at", &full)?.is_dir() {
                return Err(DiskError::new("look at", &full, std::io::ErrorKind::NotADirectory));
            }
        }
        Ok(full)
    }

    /// `lstat(2)`; `None` when there is nothing.
    ///
    /// # Errors
    /// A parent is no directory, or what the host reports.
    pub fn look(&self, path: &[&[u8]]) -> Result<Option<HostNode>, DiskError> {
        let full = self.path(path)?;
        match std::fs::symlink_metadata(&full) {
            Ok(metadata) => {
                Ok(Some(HostNode { identity: identity(path), attributes: attributes(&metadata) }))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DiskError::new("look at", full, error)),
        }
    }

    /// Lists a directory, in the host's order. Names that are no Unicode text are left out.
    ///
    /// # Errors
    /// What the host reports.
    pub fn list(&self, path: &[&[u8]]) -> Result<Vec<HostName>, DiskError> {
        let full = self.path(path)?;
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&full).context("list the directory", &full)? {
            let entry = entry.context("list the directory", &full)?;
            let Some(name) = entry.file_name().to_str().map(|name| name.as_bytes().to_vec()) else {
                continue;
            };
            let attributes = attributes(&entry.metadata().context("look at", entry.path())?);
            let identity = identity(&[path, &[&name[..]]].concat());
            names.push(HostName { name, node: HostNode { identity, attributes } });
        }
        Ok(names)
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// What the host reports.
    pub fn open_file(&self, path: &[&[u8]]) -> Result<File, DiskError> {
        let full = self.path(path)?;
        File::open(&full).context("open", &full)
    }

    /// `readlink(2)`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn read_link(&self, path: &[&[u8]]) -> Result<Vec<u8>, DiskError> {
        let full = self.path(path)?;
        let target = std::fs::read_link(&full).context("read the link", &full)?;
        Ok(target.to_string_lossy().replace('\\', "/").into_bytes())
    }

    /// Returns the extended attributes, of which this host has none.
    ///
    /// # Errors
    /// None.
    pub fn extended_attributes(&self, _path: &[&[u8]]) -> Result<HostAttributes, DiskError> {
        Ok(Vec::new())
    }
}

/// A path stands for the file, as the host gives no inode without opening it (FNV-1a, 64 bits).
fn identity(path: &[&[u8]]) -> HostIdentity {
    let bytes = path.iter().flat_map(|name| name.iter().copied().chain([b'/']));
    let inode = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    HostIdentity { disk: 0, inode }
}

fn attributes(metadata: &Metadata) -> Attributes {
    let kind = if metadata.is_dir() {
        Kind::Directory
    } else if metadata.is_symlink() {
        Kind::Symlink
    } else {
        Kind::File
    };
    let time = |time: std::io::Result<SystemTime>| {
        let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        Timestamp { seconds, nanoseconds: since.subsec_nanos() }
    };
    let writable = if metadata.permissions().readonly() { 0o555 } else { 0o755 };
    Attributes {
        kind,
        mode: writable,
        user: 0,
        group: 0,
        size: metadata.len(),
        blocks: metadata.len().div_ceil(512),
        links: 1,
        device: 0,
        accessed: time(metadata.accessed()),
        modified: time(metadata.modified()),
        changed: time(metadata.modified()),
    }
}

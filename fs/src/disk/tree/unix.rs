//! The tree by descriptors: one name at a time, so that no length of path matters.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::{HostAttributes, HostIdentity, HostName, HostNode};
use crate::disk::DiskError;
use crate::disk::unix::{Directory, Spot};

/// A directory tree of the host.
#[derive(Debug)]
pub struct HostTree {
    root: Arc<Directory>,
}

impl HostTree {
    /// Opens the tree at `path`.
    ///
    /// # Errors
    /// Names the path.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        Ok(Self { root: Arc::new(Directory::open(path)?) })
    }

    fn directory(&self, path: &[&[u8]]) -> Result<Arc<Directory>, DiskError> {
        path.iter().try_fold(Arc::clone(&self.root), |at, name| Ok(Arc::new(at.child(name)?)))
    }

    fn spot(&self, path: &[&[u8]]) -> Result<Spot, DiskError> {
        Ok(match path.split_last() {
            Some((name, above)) => Spot::named(&self.directory(above)?, name),
            None => Spot::named(&self.root, b"."),
        })
    }

    /// `lstat(2)`; `None` when there is nothing.
    ///
    /// # Errors
    /// A parent is no directory, or what the host reports.
    pub fn look(&self, path: &[&[u8]]) -> Result<Option<HostNode>, DiskError> {
        let found = self.spot(path)?.stat()?;
        Ok(found.map(|stat| HostNode {
            identity: HostIdentity { disk: stat.disk, inode: stat.inode },
            attributes: stat.attributes,
        }))
    }

    /// Lists a directory, in the host's order.
    ///
    /// # Errors
    /// What the host reports.
    pub fn list(&self, path: &[&[u8]]) -> Result<Vec<HostName>, DiskError> {
        let directory = self.directory(path)?;
        let mut names = Vec::new();
        for listed in directory.list()? {
            // A listing shows the inode below a mount point and not the one that is mounted: ask.
            let Some(stat) = directory.stat(&listed.name)? else { continue };
            let identity = HostIdentity { disk: stat.disk, inode: stat.inode };
            names.push(HostName { name: listed.name, kind: stat.attributes.kind, identity });
        }
        Ok(names)
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// What the host reports.
    pub fn open_file(&self, path: &[&[u8]]) -> Result<File, DiskError> {
        self.spot(path)?.open_file(false, false)
    }

    /// `readlink(2)`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn read_link(&self, path: &[&[u8]]) -> Result<Vec<u8>, DiskError> {
        self.spot(path)?.read_link()
    }

    /// Returns the extended attributes, sorted by name.
    ///
    /// # Errors
    /// What the host reports.
    pub fn extended_attributes(&self, path: &[&[u8]]) -> Result<HostAttributes, DiskError> {
        let spot = self.spot(path)?;
        let mut all = Vec::new();
        for name in spot.xattr_names()? {
            if let Some(value) = spot.xattr(&name)? {
                all.push((name, value));
            }
        }
        all.sort_unstable();
        Ok(all)
    }
}

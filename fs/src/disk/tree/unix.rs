//! The tree by descriptors: one name at a time, so that no length of path matters.
//!
//! **Invariant:** at most one directory beside the root stays open, however deep the tree is.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{HostAttributes, HostIdentity, HostName, HostNode};
use crate::disk::DiskError;
use crate::disk::unix::{Directory, Spot, Stat};

/// A directory tree of the host.
#[derive(Debug)]
pub struct HostTree {
    root: Arc<Directory>,
    /// Where one may stay open: the directory that was used last, and the names that led to it.
    last: Option<Mutex<Opened>>,
}

#[derive(Debug)]
struct Opened {
    path: Vec<Box<[u8]>>,
    directory: Arc<Directory>,
}

impl HostTree {
    /// Opens the tree at `path`.
    ///
    /// # Errors
    /// Names the path.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        Ok(Self { root: Arc::new(Directory::open(path)?), last: None })
    }

    /// Lets the directory that was used last stay open, for whoever goes through the tree once, directory by directory. It is
    /// the same one then while it is used, also when it is moved meanwhile.
    #[must_use]
    pub fn keeping_open(self) -> Self {
        let last = Opened { path: Vec::new(), directory: Arc::clone(&self.root) };
        Self { last: Some(Mutex::new(last)), ..self }
    }

    fn directory(&self, path: &[&[u8]]) -> Result<Arc<Directory>, DiskError> {
        let down = |from: &Arc<Directory>, names: &[&[u8]]| {
            names.iter().try_fold(Arc::clone(from), |at, name| Ok(Arc::new(at.child(name)?)))
        };
        let Some(last) = &self.last else { return down(&self.root, path) };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.path.len();
        let is_below = path.len() >= known && last.path.iter().zip(path).all(|(one, other)| **one == **other);
        if is_below && path.len() == known {
            return Ok(Arc::clone(&last.directory));
        }
        let directory =
            if is_below { down(&last.directory, &path[known..])? } else { down(&self.root, path)? };
        let path = path.iter().map(|name| Box::from(*name)).collect();
        *last = Opened { path, directory: Arc::clone(&directory) };
        Ok(directory)
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
        Ok(self.spot(path)?.stat()?.map(|stat| node(&stat)))
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
            names.push(HostName { name: listed.name, node: node(&stat) });
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

fn node(stat: &Stat) -> HostNode {
    let identity = HostIdentity { disk: stat.disk, inode: stat.inode };
    HostNode { identity, attributes: stat.attributes }
}

//! File contents by digest, shared by every work environment of the machine.
//!
//! An object is one read-only file named by the SHA-256 of its content, or, for a large content that shares most of its
//! bytes with another, one that has the rest and says where those are ([`Parts`]). Anything may be removed at any time:
//! what is missing is made again from the package it came from.
//!
//! **Invariant:** what is under an object's name is exactly that content, also after a crash: content reaches the disk
//! before its name does. Objects are written into a staging folder, made durable together by one `syncfs(2)`
//! (one `fsync(2)` each where that is missing), and then renamed. Each is sealed: its modification time follows from its
//! digest, so that opening one sees at no cost whether somebody has written to it since.

mod batch;
mod chunks;
mod layout;
mod object;
mod parts;
mod similar;
mod usage;
mod writer;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use self::chunks::LARGE;
use self::parts::BrokenParts;
use crate::disk::digest::Digest;
use crate::disk::{Context, DiskError, atomic};

pub use self::batch::Batch;
pub use self::layout::FOLDER;
pub use self::object::Object;
pub use self::parts::Parts;
pub use self::usage::{Usage, sweep};
pub use self::writer::{ObjectWriter, Staged};

/// The folder `objects-v1`: one read-only file per distinct content.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Whether left-overs of dead processes were removed since this store was opened.
    swept: AtomicBool,
}

impl Store {
    /// Opens the store below `shared` (`{cache}/.slotfs`), creating what is missing.
    ///
    /// # Errors
    /// Names the folder that could not be made.
    pub fn open(shared: &Path) -> Result<Self, DiskError> {
        let root = shared.join(layout::FOLDER);
        fs::create_dir_all(&root).context("create the directory", &root)?;
        let tag = shared.join(layout::TAG);
        // A crash may have left it empty.
        if !tag.metadata().is_ok_and(|found| found.len() == layout::TAG_TEXT.len() as u64) {
            atomic::write_unsynced(&tag, layout::TAG_TEXT)?;
        }
        Ok(Self { root, swept: AtomicBool::new(false) })
    }

    /// Returns the store below `shared` as it is; `None` where there is none, or only a link to somewhere.
    #[must_use]
    pub fn existing(shared: &Path) -> Option<Self> {
        let root = shared.join(layout::FOLDER);
        let is_own = fs::symlink_metadata(&root).is_ok_and(|found| found.is_dir());
        is_own.then(|| Self { root, swept: AtomicBool::new(false) })
    }

    /// Returns the folder of the store.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the object with this digest, if it is here. One that somebody wrote to since it was sealed, or that lost its
    /// seal on the way through a backup, is read and compared first; a damaged one is removed.
    ///
    /// # Errors
    /// Fails when it is here but cannot be opened, read or removed.
    pub fn object(&self, digest: &Digest) -> Result<Option<Object>, DiskError> {
        match self.whole(digest)? {
            Some(file) => Ok(Some(Object::Whole(Arc::new(file)))),
            None => Ok(self.in_parts(digest)?.map(|parts| Object::Parts(Arc::new(parts)))),
        }
    }

    /// Opens an object that is in parts. One that cannot be put together any more is removed.
    fn in_parts(&self, digest: &Digest) -> Result<Option<Parts>, DiskError> {
        match Parts::open(&self.root, digest) {
            Err(BrokenParts::Read(error)) => Err(error),
            Err(broken) => {
                tracing::warn!("{broken}; the object that is made of it goes");
                // Where that cannot be done, it is found broken again the next time.
                let _ = fs::remove_file(layout::parts(&self.root, digest));
                Ok(None)
            }
            Ok(found) => Ok(found),
        }
    }

    fn whole(&self, digest: &Digest) -> Result<Option<File>, DiskError> {
        let Some(file) = self.open_object(digest)? else { return Ok(None) };
        let path = layout::object(&self.root, digest);
        let modified = file.metadata().and_then(|metadata| metadata.modified()).context("stat", &path)?;
        if modified == layout::seal(digest) {
            return Ok(Some(file));
        }
        tracing::warn!("`{}` was touched by somebody and is compared with its name", path.display());
        if !self.verify(digest)? {
            return Ok(None);
        }
        // Somebody else's file, or a disk without times: it is compared again the next time.
        let _ = file.set_modified(layout::seal(digest));
        Ok(Some(file))
    }

    fn open_object(&self, digest: &Digest) -> Result<Option<File>, DiskError> {
        let path = layout::object(&self.root, digest);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DiskError::new("open", path, error)),
        }
    }

    /// Opens the object with this digest if it is here and `length` bytes long. One of another length was damaged from
    /// outside; it is removed, so that it is made again.
    ///
    /// # Errors
    /// As [`Self::object`].
    pub fn object_of(&self, digest: &Digest, length: u64) -> Result<Option<Object>, DiskError> {
        let path = layout::object(&self.root, digest);
        let (found, object) = if let Some(file) = self.whole(digest)? {
            (file.metadata().context("stat", &path)?.len(), Object::Whole(Arc::new(file)))
        } else if length < LARGE {
            return Ok(None);
        } else if let Some(parts) = self.in_parts(digest)? {
            (parts.len(), Object::Parts(Arc::new(parts)))
        } else {
            return Ok(None);
        };
        if found == length {
            return Ok(Some(object));
        }
        tracing::error!("`{}` has {found} bytes instead of {length}; it is removed", path.display());
        self.remove(digest)?;
        Ok(None)
    }

    /// Tells whether the object of `length` bytes is here.
    #[must_use]
    pub fn contains(&self, digest: &Digest, length: u64) -> bool {
        layout::object(&self.root, digest).exists()
            || (length >= LARGE && layout::parts(&self.root, digest).exists())
    }

    /// Reads the whole object and compares its digest; `None` when it is not here. Nothing is changed.
    ///
    /// # Errors
    /// The object cannot be read.
    pub fn is_intact(&self, digest: &Digest) -> Result<Option<bool>, DiskError> {
        let path = layout::object(&self.root, digest);
        let Some(file) = self.open_object(digest)? else {
            return match Parts::open(&self.root, digest) {
                Ok(None) => Ok(None),
                Ok(Some(parts)) => Ok(Some(parts.digest().context("read", &path)? == *digest)),
                Err(BrokenParts::Read(error)) => Err(error),
                Err(_) => Ok(Some(false)),
            };
        };
        let length = file.metadata().context("stat", &path)?.len();
        let range = crate::disk::range::FileRange::new(Arc::new(file), 0, length);
        let found = range.map(|range| Digest::of_range(&range)).transpose().context("read", &path)?;
        Ok(Some(found == Some(*digest)))
    }

    /// Reads the whole object and compares its digest; a damaged one is removed.
    ///
    /// # Errors
    /// The object cannot be read or removed.
    pub fn verify(&self, digest: &Digest) -> Result<bool, DiskError> {
        match self.is_intact(digest)? {
            Some(true) => return Ok(true),
            None => return Ok(false),
            Some(false) => {}
        }
        let path = layout::object(&self.root, digest);
        tracing::error!("`{}` does not hold what its name says; it is removed", path.display());
        self.remove(digest)?;
        Ok(false)
    }

    /// Removes an object and returns its length; 0 when it is not here. Whoever has it open keeps it.
    ///
    /// # Errors
    /// The host refused.
    pub fn remove(&self, digest: &Digest) -> Result<u64, DiskError> {
        let mut freed = 0;
        let files = [layout::object, layout::parts].map(|path| path(&self.root, digest));
        for path in files {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            match fs::remove_file(&path) {
                Ok(()) => freed += metadata.len(),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(DiskError::new("remove", path, error)),
            }
        }
        if freed >= LARGE {
            // One that leads nowhere does no harm, and goes when it is looked at.
            let _ = fs::remove_file(layout::chunk_list(&self.root, digest));
        }
        Ok(freed)
    }

    /// Starts a batch of objects that are published together.
    ///
    /// # Errors
    /// The staging folder cannot be made.
    pub fn batch(self: &Arc<Self>) -> Result<Batch, DiskError> {
        if !self.swept.swap(true, Ordering::Relaxed)
            && let Err(error) = sweep(self)
        {
            tracing::warn!("{error}");
        }
        Batch::new(Arc::clone(self))
    }
}

#[cfg(test)]
mod tests;

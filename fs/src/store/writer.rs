//! One object on its way into the store: hashed while it is written.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::disk::digest::Digest;
use crate::disk::durable::CAN_SYNC_FILE_SYSTEM;
use crate::disk::{Context, DiskError};

/// Up to this many bytes stay in memory, so that content which the store has already is never written.
const IN_MEMORY: usize = 1 << 20;
const ZEROS: [u8; 4096] = [0; 4096];

/// Takes the content of one object.
#[derive(Debug)]
pub struct ObjectWriter {
    hasher: Sha256,
    length: u64,
    buffer: Vec<u8>,
    /// The file, once the content does not fit in memory; removed again unless the object is finished.
    file: Option<(Temporary, File)>,
    path: PathBuf,
}

/// A complete object that has no name yet.
#[derive(Debug)]
pub struct Staged {
    /// SHA-256 of the content.
    pub digest: Digest,
    /// Length in bytes.
    pub length: u64,
    pub(super) content: Content,
}

/// Where a staged object's content is.
#[derive(Debug)]
pub(super) enum Content {
    Memory(Vec<u8>),
    File(Temporary),
}

/// A file that is removed unless it is renamed. It is not kept open: a batch holds thousands.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Fails after a rename, which is as it should be.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Temporary {
    /// Makes the file and opens it for writing.
    pub(super) fn create(path: PathBuf) -> Result<(Self, File), DiskError> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.context("create", &path)?;
        Ok((Self { path }, file))
    }

    /// Ends the writing: nobody may change the content from now on.
    pub(super) fn seal(&self, file: &File) -> Result<(), DiskError> {
        if !CAN_SYNC_FILE_SYSTEM {
            file.sync_all().context("sync", &self.path)?;
        }
        let mut permissions = file.metadata().context("stat", &self.path)?.permissions();
        permissions.set_readonly(true);
        file.set_permissions(permissions).context("set the permissions of", &self.path)
    }
}

impl ObjectWriter {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { hasher: Sha256::new(), length: 0, buffer: Vec::new(), file: None, path }
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// The staging file cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        if let Some((temporary, file)) = &mut self.file {
            return file.write_all(bytes).context("write", &temporary.path);
        }
        if self.buffer.len() + bytes.len() <= IN_MEMORY {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.leave_memory()?.write_all(bytes).context("write", &self.path)
    }

    /// Appends `count` zeros, as a hole where the disk has holes.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn hole(&mut self, count: u64) -> Result<(), DiskError> {
        if self.file.is_none() {
            if self.buffer.len() as u64 + count <= IN_MEMORY as u64 {
                return self.zeros(count, true);
            }
            self.leave_memory()?;
        }
        self.zeros(count, false)?;
        let Some((temporary, file)) = &mut self.file else { return Ok(()) };
        let moved = file.set_len(self.length).and_then(|()| file.seek(SeekFrom::End(0)));
        moved.map(drop).context("extend", &temporary.path)
    }

    /// Moves what was taken so far into a file.
    fn leave_memory(&mut self) -> Result<&mut File, DiskError> {
        let (temporary, mut file) = Temporary::create(self.path.clone())?;
        file.write_all(&self.buffer).context("write", &temporary.path)?;
        self.buffer = Vec::new();
        Ok(&mut self.file.insert((temporary, file)).1)
    }

    fn zeros(&mut self, mut count: u64, write: bool) -> Result<(), DiskError> {
        while count > 0 {
            let step = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
            if write {
                self.write(&ZEROS[..step])?;
            } else {
                self.hasher.update(&ZEROS[..step]);
                self.length += step as u64;
            }
            count -= step as u64;
        }
        Ok(())
    }

    /// Ends the content.
    ///
    /// # Errors
    /// The staging file cannot be made read-only.
    pub fn finish(self) -> Result<Staged, DiskError> {
        let digest = Digest(self.hasher.finalize().into());
        let content = match self.file {
            Some((temporary, file)) => {
                temporary.seal(&file)?;
                Content::File(temporary)
            }
            None => Content::Memory(self.buffer),
        };
        Ok(Staged { digest, length: self.length, content })
    }
}

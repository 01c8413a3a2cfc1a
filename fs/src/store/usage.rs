//! What is in the store: facts for whoever decides about removal.

use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Store, layout, parts};
use crate::disk::DiskError;
use crate::disk::digest::Digest;
use crate::disk::lock::{FileLock, Mode};

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Its digest.
    pub digest: Digest,
    /// What it takes, in bytes: the length of its content, or less where it takes bytes from others.
    pub length: u64,
    /// The objects that it takes bytes from.
    pub sources: Vec<Digest>,
    /// When it was last read, as far as the disk keeps track of that, else when it was made.
    pub used: Option<SystemTime>,
}

impl Store {
    /// Visits every object, in no particular order, until told to stop.
    ///
    /// # Errors
    /// Names the folder that cannot be listed.
    pub fn visit(&self, visit: &mut dyn FnMut(Usage) -> ControlFlow<()>) -> Result<(), DiskError> {
        for folder in list(&self.root)? {
            let Ok(folder_name) = folder.file_name().into_string() else { continue };
            if folder_name.len() != 2 {
                continue;
            }
            for object in list(&folder.path())? {
                let Ok(name) = object.file_name().into_string() else { continue };
                let (Some((digest, in_parts)), Ok(metadata)) =
                    (layout::digest(&folder_name, &name), object.metadata())
                else {
                    continue;
                };
                let used = metadata.accessed().or_else(|_| metadata.modified()).ok();
                let sources = if in_parts { parts::sources(&self.root, &digest) } else { Vec::new() };
                if visit(Usage { digest, length: metadata.len(), sources, used }).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn list(folder: &Path) -> Result<Vec<fs::DirEntry>, DiskError> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(DiskError::new("list the directory", folder, error)),
    }
}

/// For how long a list may be half written.
const WRITING: Duration = Duration::from_secs(3600);

/// Removes the staging folders of processes that are gone, and lists that they left half written; returns how many.
///
/// # Errors
/// Names the folder that cannot be listed or removed.
pub fn sweep(store: &Store) -> Result<u64, DiskError> {
    let mut removed = 0;
    for entry in list(&layout::staging(&store.root))? {
        let path = entry.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(stem) = name.strip_suffix(".lock") else { continue };
        let Ok(Some(lock)) = FileLock::try_acquire(&path, Mode::Exclusive) else { continue };
        let folder = path.with_file_name(stem);
        match fs::remove_dir_all(&folder) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(DiskError::new("remove", folder, error)),
        }
        let _ = fs::remove_file(lock.path());
    }
    for entry in list(&layout::chunk_lists(&store.root))? {
        let is_list = entry.file_name().to_str().is_some_and(|name| Digest::parse(name).is_some());
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if !is_list && modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > WRITING)) {
            removed += u64::from(fs::remove_file(entry.path()).is_ok());
        }
    }
    Ok(removed)
}

//! Where removed things wait for their deletion: `{cache}/.slotfs/removed-v1/{pid}-{n}/{k}/`, a folder for each
//! environment.
//!
//! | in the folder | what |
//! |---|---|
//! | `note.json` | which environment, and which directory its metadata were, by device and inode |
//! | `content/`, `metadata/` | what was moved |
//!
//! A name `{k}-erase` says that content is overwritten before it goes; it lasts as long as anything is left.
//!
//! The folder is locked by whoever fills and deletes it. One whose lock is free was left by an interrupted removal:
//! what was not moved yet is moved, if it is still the same and nobody used it since, and all of it is deleted.
//!
//! **Invariant:** an environment is moved by renames on one disk, content first, while its locks are held, so that no
//! launcher takes what is left for complete; deletion begins when both are on disk under their new names.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use slotfs_fs::disk::identity::FileIdentity;
use slotfs_fs::disk::lock::{FileLock, Mode};
use slotfs_fs::disk::unix::{Directory, Erasure};
use slotfs_fs::disk::{Context, DiskError, atomic};

use super::CleanupError;
use super::environment::name_bytes;
use super::held::{Held, hold, is_full};
use crate::extract;
use crate::host::files;
use crate::workenv::{Cache, Workenv, WorkenvName};

const FOLDER: &str = "removed-v1";

/// How the name of an environment ends whose content is overwritten before it goes.
const ERASE: &str = "-erase";

static SEQUENCE: AtomicU32 = AtomicU32::new(0);

/// A folder of this process.
#[derive(Debug)]
pub(super) struct Aside {
    cache: PathBuf,
    folder: PathBuf,
    lock: FileLock,
    next: u32,
}

/// Something moved, not deleted yet.
#[derive(Debug)]
pub(super) struct Entry {
    name: String,
}

/// What was being moved.
#[derive(Serialize, Deserialize)]
struct Note {
    /// The environment's name, byte by byte.
    name: Vec<u8>,
    /// The disk and the inode of its metadata directory.
    metadata: (u64, u64),
}

impl Aside {
    /// Makes a folder.
    pub(super) fn open(cache: &Cache) -> Result<Self, CleanupError> {
        cache.create()?;
        let root = root(cache);
        refuse_link(&cache.shared())?;
        refuse_link(&root)?;
        files::create_private_directories(&root).context("create the directory", &root)?;
        loop {
            let name = format!("{}-{}", std::process::id(), SEQUENCE.fetch_add(1, Ordering::Relaxed));
            let lock_path = root.join(format!("{name}.lock"));
            let folder = root.join(name);
            // One of an earlier process of this number is left to whoever deletes what was left.
            if std::fs::symlink_metadata(&folder).is_ok() {
                continue;
            }
            let Some(lock) = FileLock::try_acquire(&lock_path, Mode::Exclusive)? else { continue };
            files::create_private_directories(&folder).context("create the directory", &folder)?;
            return Ok(Self { cache: cache.directory().to_owned(), folder, lock, next: 0 });
        }
    }

    /// Moves an environment that nobody uses here.
    pub(super) fn take(
        &mut self,
        workenv: &Workenv,
        held: Held,
        erasure: Erasure,
    ) -> Result<Entry, CleanupError> {
        let mark = if erasure == Erasure::Overwrite { ERASE } else { "" };
        let entry = Entry { name: format!("{}{mark}", self.next) };
        self.next += 1;
        let folder = self.folder.join(&entry.name);
        files::create_private_directories(&folder).context("create the directory", &folder)?;
        let name = name_bytes(workenv.name().as_os_str());
        let note = Note { name, metadata: identity(&workenv.metadata())? };
        let path = folder.join("note.json");
        let text = serde_json::to_vec(&note).map_err(std::io::Error::from).context("describe", &path)?;
        match atomic::write(&path, &text) {
            // It only serves whoever is killed between the next two renames.
            Err(error) if is_full(&error) => {}
            result => result?,
        }
        // Killed extractions left theirs beside it.
        extract::sweep(&workenv.content());
        move_all(&self.cache, &folder, workenv)?;
        held.moved_away();
        Ok(entry)
    }

    /// Deletes what was moved here.
    pub(super) fn delete(&self, entry: Entry) -> Result<(), DiskError> {
        remove_whole(&self.folder, entry.name.as_bytes())
    }

    /// Removes the folder, which is empty now, unless something could not be deleted.
    pub(super) fn close(self) {
        if std::fs::remove_dir(&self.folder).is_ok() {
            let _ = std::fs::remove_file(self.lock.path());
        }
    }
}

fn root(cache: &Cache) -> PathBuf {
    cache.shared().join(FOLDER)
}

fn refuse_link(path: &Path) -> Result<(), DiskError> {
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir()) {
        let reason = std::io::Error::new(std::io::ErrorKind::NotADirectory, "it is no directory of its own");
        return Err(DiskError::new("use the directory", path, reason));
    }
    Ok(())
}

fn identity(path: &Path) -> Result<(u64, u64), DiskError> {
    let found = std::fs::symlink_metadata(path).context("examine", path)?;
    let identity = FileIdentity::of(&found);
    Ok((identity.device, identity.inode))
}

/// Moves content and metadata of `workenv` into `folder`. The caller holds its locks.
fn move_all(cache: &Path, folder: &Path, workenv: &Workenv) -> Result<(), DiskError> {
    // First nobody may start from it any more.
    let published = workenv.checksum_file();
    match std::fs::remove_file(&published) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(DiskError::new("remove", published, error));
        }
        Ok(()) | Err(_) => {}
    }
    let (from, to) = (Arc::new(Directory::open(cache)?), Directory::open(folder)?);
    let content = workenv.content();
    // Neither slotfs nor a launcher makes a link or a file there: such a one stays.
    if std::fs::symlink_metadata(&content).is_ok_and(|found| found.is_dir()) {
        from.rename(&name_bytes(workenv.name().as_os_str()), &to, b"content")?;
    }
    from.rename(&name_bytes(&workenv.name().metadata_name()), &to, b"metadata")?;
    from.sync()?;
    to.sync()
}

fn remove_whole(folder: &Path, name: &[u8]) -> Result<(), DiskError> {
    let erasure = if name.ends_with(ERASE.as_bytes()) { Erasure::Overwrite } else { Erasure::None };
    Arc::new(Directory::open(folder)?).remove_whole(name, erasure)
}

/// Returns the folders that interrupted removals left, each with its lock.
fn left(cache: &Cache) -> Result<Vec<(PathBuf, FileLock)>, DiskError> {
    let root = root(cache);
    refuse_link(&cache.shared())?;
    refuse_link(&root)?;
    let entries = match std::fs::read_dir(&root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::new("list", root, error)),
    };
    let mut left = Vec::new();
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let mut lock = entry.file_name();
        lock.push(".lock");
        if let Some(lock) = FileLock::try_acquire(&root.join(lock), Mode::Exclusive)? {
            left.push((entry.path(), lock));
        }
    }
    Ok(left)
}

/// Returns how many bytes interrupted removals left.
///
/// # Errors
/// The folder is there and cannot be listed.
pub(super) fn leftovers(cache: &Cache) -> Result<u64, DiskError> {
    let root = root(cache);
    let mut bytes = 0_u64;
    for (folder, _lock) in left(cache)? {
        let name = folder.file_name().map(name_bytes).unwrap_or_default();
        bytes = bytes.saturating_add(Directory::open(&root)?.measure(&name).bytes);
    }
    Ok(bytes)
}

/// Ends interrupted removals.
pub(super) fn delete_leftovers(cache: &Cache) -> Result<(), CleanupError> {
    for (folder, lock) in left(cache)? {
        for entry in std::fs::read_dir(&folder).context("list", &folder)?.flatten() {
            finish_moving(cache, &entry.path())?;
            remove_whole(&folder, &name_bytes(&entry.file_name()))?;
        }
        let name = folder.file_name().map(name_bytes).unwrap_or_default();
        remove_whole(&root(cache), &name)?;
        let _ = std::fs::remove_file(lock.path());
    }
    Ok(())
}

/// Moves the metadata whose content was moved already, unless somebody used the environment since: then its content is
/// back, or it is other metadata.
fn finish_moving(cache: &Cache, entry: &Path) -> Result<(), CleanupError> {
    let Some(note) = std::fs::read(entry.join("note.json")).ok() else { return Ok(()) };
    let Ok(note) = serde_json::from_slice::<Note>(&note) else { return Ok(()) };
    let name = files::path_from_bytes(note.name);
    let Some(name) = WorkenvName::new(name.as_os_str()) else { return Ok(()) };
    let workenv = cache.workenv(name);
    let is_same = identity(&workenv.metadata()).is_ok_and(|found| found == note.metadata);
    let untouched = std::fs::symlink_metadata(workenv.content()).is_err()
        && std::fs::symlink_metadata(workenv.checksum_file()).is_err()
        && entry.join("content").exists();
    if is_same
        && untouched
        && let Ok(held) = hold(&workenv)?
    {
        move_all(cache.directory(), entry, &workenv)?;
        held.moved_away();
    }
    Ok(())
}

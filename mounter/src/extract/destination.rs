//! Where the files go: checked before, made beside, moved in whole.
//!
//! **Invariant:** the destination holds what it held before, or the complete tree.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use slotfs_fs::disk::{Context, DiskError, atomic};

use super::ExtractError;
use crate::host::{files, plain};

/// A directory in the making, beside the place it is meant for. Dropping it unfinished removes it.
#[derive(Debug)]
pub(super) struct Workshop {
    /// Where the tree is made.
    pub(super) root: PathBuf,
    destination: PathBuf,
    replaces: bool,
    published: bool,
    /// Held while the directory is being filled, so that a sweep tells it from one that was left behind.
    _lock: Option<File>,
}

impl Workshop {
    /// Checks `destination` and makes an empty directory beside it. What earlier attempts left is swept away.
    ///
    /// # Errors
    /// The destination cannot be taken, or the disk refused.
    pub(super) fn open(destination: &Path, current: &Path, force: bool) -> Result<Self, ExtractError> {
        let destination = resolve(destination)?;
        let replaces = check(&destination, current, force)?;
        sweep(&destination);
        let (root, lock) = make_temporary(&destination)?;
        Ok(Self { root, destination, replaces, published: false, _lock: lock })
    }

    /// Returns where the tree will be.
    pub(super) fn destination(&self) -> &Path {
        &self.destination
    }

    /// Moves the tree to its place.
    ///
    /// # Errors
    /// What the disk refused; the destination is as it was.
    pub(super) fn publish(mut self) -> Result<(), ExtractError> {
        let destination = self.destination.clone();
        let busy = |error: DiskError| {
            if error.kind() == ErrorKind::ResourceBusy {
                return ExtractError::InUse {
                    path: destination.clone(),
                    reason: "something is mounted there",
                };
            }
            error.into()
        };
        let old = if self.replaces {
            Some(replace(&self.root, &destination).map_err(busy)?)
        } else {
            if destination.is_dir() {
                // A rename replaces an empty directory on Unix only.
                fs::remove_dir(&destination)
                    .context("replace the empty directory", &destination)
                    .map_err(busy)?;
            }
            fs::rename(&self.root, &destination).context("rename into place", &destination).map_err(busy)?;
            None
        };
        self.published = true;
        atomic::sync_directory(destination.parent().unwrap_or(Path::new("/")))?;
        if let Some(old) = old
            && let Err(error) = remove_tree(&old)
        {
            tracing::warn!("cannot remove what was replaced, now at `{}`: {error}", old.display());
        }
        Ok(())
    }
}

/// Puts the tree at `new` in the place of the one at `destination`; returns where that is now.
fn replace(new: &Path, destination: &Path) -> Result<PathBuf, DiskError> {
    match plain::exchange(new, destination) {
        Ok(()) => return Ok(new.to_owned()),
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            return Err(error).context("replace", destination);
        }
        // Not every system and file system can: two steps, and a name that no sweep takes for a temporary.
        Err(_) => {}
    }
    let old = atomic::temporary_beside(destination).with_extension("old");
    fs::rename(destination, &old).context("move aside", destination)?;
    if let Err(error) = fs::rename(new, destination).context("rename into place", destination) {
        fs::rename(&old, destination).context("move back", destination)?;
        return Err(error);
    }
    Ok(old)
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = remove_tree(&self.root)
        {
            tracing::warn!("cannot remove `{}`: {error}", self.root.display());
        }
    }
}

/// Makes the parents, and follows links to the place itself.
fn resolve(destination: &Path) -> Result<PathBuf, ExtractError> {
    match fs::canonicalize(destination) {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let no_name = || io::Error::new(ErrorKind::InvalidInput, "it has no name of its own");
            let name = destination.file_name().ok_or_else(no_name).context("extract to", destination)?;
            let parent = match destination.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            fs::create_dir_all(parent).context("create the directory", parent)?;
            Ok(fs::canonicalize(parent).context("resolve", parent)?.join(name))
        }
        Err(error) => Err(error).context("resolve", destination).map_err(ExtractError::from),
    }
}

/// Decides whether the destination may be taken; `true`: it holds something that will be replaced.
fn check(destination: &Path, current: &Path, force: bool) -> Result<bool, ExtractError> {
    let metadata = match fs::symlink_metadata(destination) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).context("look at", destination).map_err(ExtractError::from),
    };
    let path = || destination.to_owned();
    if !metadata.is_dir() {
        return Err(ExtractError::NotDirectory { path: path() });
    }
    let in_use = |reason| ExtractError::InUse { path: path(), reason };
    if destination.parent().is_none() {
        return Err(in_use("it is the root of the file system"));
    }
    // The shell would be left in a directory that is gone.
    if fs::canonicalize(current).is_ok_and(|current| current.starts_with(destination)) {
        return Err(in_use("the current directory is in it"));
    }
    let mut entries = fs::read_dir(destination).context("list", destination)?;
    match (entries.next().is_some(), force) {
        (true, false) => Err(ExtractError::NotEmpty { path: path() }),
        (replaces, _) => Ok(replaces),
    }
}

/// Makes an empty directory beside `destination` and locks it, so that no sweep takes it for one that was left. One that
/// came between both has it, or had it and took it away: then another is made.
fn make_temporary(destination: &Path) -> Result<(PathBuf, Option<File>), ExtractError> {
    loop {
        let root = atomic::temporary_beside(destination);
        files::create_private_directories(&root).context("create the directory", &root)?;
        let directory = match plain::open_directory(&root) {
            Ok(directory) => directory,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            // Not every host lets a directory be opened; there none is swept, either.
            Err(_) => return Ok((root, None)),
        };
        match directory.try_lock() {
            Ok(()) if root.exists() => return Ok((root, Some(directory))),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(_)) => return Ok((root, None)),
        }
    }
}

/// Removes what killed extractions to the same place left behind: temporaries that nobody holds.
pub fn sweep(destination: &Path) {
    let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else { return };
    let prefix = format!(".{}.", name.to_string_lossy());
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let found = found.to_string_lossy();
        let middle = found.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".tmp"));
        let ours = middle.and_then(|middle| middle.split_once('-')).is_some_and(|(process, count)| {
            let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number(process) && is_number(count)
        });
        if !ours {
            continue;
        }
        let path = entry.path();
        let Ok(directory) = plain::open_directory(&path) else { continue };
        if directory.try_lock().is_ok() && remove_tree(&path).is_ok() {
            tracing::info!("removed `{}`, left behind by an extraction that was killed", path.display());
        }
    }
}

/// Removes a tree, also where directories in it may not be written. Follows no link.
fn remove_tree(root: &Path) -> io::Result<()> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(root)?;
            fs::remove_dir_all(root)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open_up(directory: &Path) -> io::Result<()> {
    files::set_mode(directory, 0o700)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

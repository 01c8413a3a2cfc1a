//! Which indexes there are, and which contents of the store they name: facts for whoever decides about removal.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use zerocopy::FromBytes;

use super::blocks::Backing;
use super::format::{Header, Section};
use super::{FOLDER, Identity, Index, IndexError};
use crate::disk::digest::Digest;
use crate::disk::mapped::Mapping;
use crate::disk::{Context, DiskError, unnoticed};
use crate::slot::tree::tables::Table;

/// A published index as found on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its file.
    pub path: PathBuf,
    /// SHA-256 of the stored bytes of the slot that it is of.
    pub slot: Digest,
    /// Its length in bytes.
    pub length: u64,
    /// When it was last read, as far as the disk keeps track of that, or made.
    pub used: Option<SystemTime>,
}

/// Lists the indexes below `shared`, in no particular order. What only looks like one is left out.
///
/// # Errors
/// The folder is there and cannot be listed.
pub fn list(shared: &Path) -> Result<Vec<Stored>, DiskError> {
    let folder = shared.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::new("list the directory", folder, error)),
    };
    let stored = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let (digest, _) = name.strip_suffix(".idx")?.split_once('-')?;
        // Not followed: a link is no index.
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let used = metadata.accessed().ok().max(metadata.modified().ok());
        Some(Stored { path: entry.path(), slot: Digest::parse(digest)?, length: metadata.len(), used })
    });
    Ok(stored.collect())
}

/// Returns the digests of all contents that the index at `path` names; `None` when it is not there.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn contents(path: &Path) -> Result<Option<Vec<Digest>>, IndexError> {
    let Some(index) = open(path)? else { return Ok(None) };
    let section = Section::Table(Table::Digests);
    let bytes = index.section(section, 0, index.header.sections[section.place()].length.get())?;
    Ok(Some(bytes.as_chunks::<32>().0.iter().copied().map(Digest).collect()))
}

/// Checks the whole index at `path`, not only what is touched; `None` when it is not there.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn check(path: &Path) -> Result<Option<()>, IndexError> {
    open(path)?.as_ref().map(Index::check).transpose()
}

/// Opens an index as what it says that it is; `None` when it is not there.
///
/// # Errors
/// It cannot be read, or its header is damaged.
pub fn open(path: &Path) -> Result<Option<Index>, IndexError> {
    let file = match unnoticed::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DiskError::new("open", path, error).into()),
    };
    let backing = Backing::Mapped(Mapping::of(&file).context("map", path)?);
    let fixed = backing.get(0, size_of::<Header>() as u64).ok_or(IndexError::OtherVersion)?;
    let (header, _) = Header::read_from_prefix(fixed).map_err(|_| IndexError::OtherVersion)?;
    let length = header.chain.iter().position(|&byte| byte == 0).unwrap_or(header.chain.len());
    let identity = Identity {
        digest: Digest(header.slot),
        stored: header.stored.get(),
        chain: String::from_utf8_lossy(&header.chain[..length]).into_owned(),
    };
    Index::new(backing, &identity).map(Some)
}

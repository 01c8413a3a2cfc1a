//! Entries of a ZIP archive, from its central directory (PKWARE APPNOTE.TXT 6.3; Info-ZIP's extra fields).
//!
//! Reads as Info-ZIP's `unzip` does: names of other systems are translated, modes and symbolic links are those of Unix
//! where the archive has them, a later entry of the same name replaces an earlier one. Time stamps without a zone are
//! taken as UTC, so that a tree does not depend on where it is mounted.
//!
//! **Invariant:** contents are never touched here, except those of symbolic links, which are short.

mod content;
mod directory;
mod name;

use std::io::Read;

use super::{Body, Content, Entry, ZipContent};
use crate::disk::range::FileRange;
use crate::node::Timestamp;
use crate::slot::{Limits, SlotError};
use directory::{Central, Directory};

pub use content::{open, stored_bytes};

/// Longest target of a symbolic link (`PATH_MAX` is 4096 on Linux).
const LONGEST_TARGET: u64 = 4096;

/// Reads one entry after the other.
#[derive(Debug)]
pub struct ZipScanner {
    stored: FileRange,
    directory: Directory,
    limits: Limits,
    /// Sum of all sizes so far.
    total: u64,
    last: String,
}

impl ZipScanner {
    /// Finds the central directory.
    ///
    /// # Errors
    /// The bytes cannot be read or are no ZIP archive.
    pub fn new(stored: FileRange, limits: Limits) -> Result<Self, SlotError> {
        let directory = Directory::find(&stored)?;
        Ok(Self { stored, directory, limits, total: 0, last: String::new() })
    }

    /// Returns the next entry, or `None` behind the last.
    ///
    /// # Errors
    /// The bytes cannot be read, or the central directory is damaged.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, SlotError> {
        let Some(central) = self.directory.next(&self.stored, &self.last)? else { return Ok(None) };
        let path = name::path(&central);
        self.last = String::from_utf8_lossy(&path).into_owned();
        self.total = self.total.saturating_add(central.size);
        let limit = self.limits.decoded_from(self.stored.len());
        if self.total > limit {
            return Err(SlotError::TooLarge { limit, stored: self.stored.len() });
        }
        let content = ZipContent {
            header: central.header,
            stored: central.stored,
            size: central.size,
            method: central.method,
            crc: central.crc,
        };
        let unix = central.unix_mode();
        let is_readable = !central.is_encrypted() && content::method(content.method).is_some();
        let body = match unix & 0o17_0000 {
            _ if path.ends_with(b"/") || central.is_directory() => Body::Directory,
            0o4_0000 => Body::Directory,
            _ if !is_readable => Body::Unreadable,
            0o12_0000 => Body::Symlink(self.target(&content)?),
            _ => Body::File(Content::Zip(content)),
        };
        let usual = if body == Body::Directory { 0o755 } else { 0o644 };
        let mode = match (unix & 0o7777, central.is_read_only()) {
            (0, true) => usual & 0o555,
            (0, false) => usual,
            // `unzip` keeps set-id bits only when told (`-K`), and the sticky bit never.
            (mode, _) => mode & 0o6777,
        };
        Ok(Some(Entry {
            path,
            body,
            mode,
            user: 0,
            group: 0,
            modified: Timestamp { seconds: central.modified, nanoseconds: 0 },
            attributes: Vec::new(),
        }))
    }

    fn target(&self, content: &ZipContent) -> Result<Vec<u8>, SlotError> {
        if content.size > LONGEST_TARGET {
            return Err(self.damaged("the target of a symbolic link is too long"));
        }
        let mut target = Vec::new();
        let reader = open(&self.stored, content, &self.limits)?;
        reader.take(LONGEST_TARGET).read_to_end(&mut target).map_err(SlotError::from_read)?;
        Ok(target)
    }

    fn damaged(&self, reason: &'static str) -> SlotError {
        SlotError::Archive { format: "zip", at: self.directory.position(), entry: self.last.clone(), reason }
    }
}

impl Central {
    /// The mode that a Unix archiver put into the upper half of the external attributes, else 0.
    fn unix_mode(&self) -> u32 {
        let mode = self.external >> 16;
        // Some archivers for DOS put one there too; it is real when it has a file type.
        if self.is_from_unix() || mode & 0o17_0000 != 0 { mode } else { 0 }
    }

    /// 3 is Unix, 19 is OS X.
    fn is_from_unix(&self) -> bool {
        matches!(self.host, 3 | 19)
    }

    fn is_directory(&self) -> bool {
        !self.is_from_unix() && self.external & 0x10 != 0
    }

    fn is_read_only(&self) -> bool {
        !self.is_from_unix() && self.external & 1 != 0
    }

    fn is_encrypted(&self) -> bool {
        self.flags & 0x2041 != 0
    }
}

#[cfg(test)]
mod tests;

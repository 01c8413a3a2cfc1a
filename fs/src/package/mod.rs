//! An opened package: its index, metadata and slots, bounds-checked. Never judges trust, never decodes a slot.

pub mod metadata;

use std::path::{Path, PathBuf};

use crate::disk::digest::Digest;
use crate::disk::identity::FileIdentity;
use crate::disk::range::FileRange;

/// One step of a slot's operation chain that this crate can undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// RFC 1952, any number of members.
    Gzip,
    /// bzip2, any number of streams.
    Bzip2,
    /// xz, any number of streams and blocks.
    Xz,
    /// RFC 8878, any number of frames.
    Zstd,
}

/// How a slot's decoded bytes become files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Container {
    /// The decoded bytes are one regular file.
    File,
    /// The decoded bytes are a tar archive (ustar, PAX, GNU).
    Tar,
    /// The stored bytes are a ZIP archive (`.zip`, `.whl`).
    Zip,
    /// A directory of the host.
    Directory(PathBuf),
}

/// Everything needed to read one slot's content.
#[derive(Clone, Debug)]
pub struct SlotSource {
    /// The stored bytes. Empty for [`Container::Directory`].
    pub stored: FileRange,
    /// Compressions to undo, in the order to undo them.
    pub compressions: Vec<Compression>,
    /// What the decoded bytes are.
    pub container: Container,
}

/// One slot of a package.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Position in the package, from 0; later slots lie over earlier ones.
    pub position: u32,
    /// The metadata's `id`.
    pub id: String,
    /// Where the slot appears, relative to the work environment; empty is its root. Components are checked:
    /// none is empty, `.` or `..`.
    pub target: Vec<Vec<u8>>,
    /// Where the bytes are and how to decode them.
    pub source: SlotSource,
    /// SHA-256 of the stored bytes according to the (signed) metadata; `None` where it gives none.
    pub digest: Option<Digest>,
    /// Lifecycle as the metadata spells it.
    pub lifecycle: String,
    /// Mode of a [`Container::File`] slot, `0o0000 ..= 0o7777`.
    pub permissions: u32,
}

/// A package as opened.
#[derive(Debug)]
pub struct Package {
    path: PathBuf,
    identity: FileIdentity,
    slots: Vec<Slot>,
}

impl Package {
    /// Returns where the package was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns which file it was at that moment.
    #[must_use]
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// Returns the slots in order.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

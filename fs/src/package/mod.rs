//! An opened package: its index, metadata and slots, bounds-checked. Never judges trust, never decodes a slot.
//!
//! A package is a PSPF/2025 file, or anything that can be looked at as a package of one slot: a bare archive, a
//! compressed file, a directory.
//!
//! **Invariant:** nothing is allocated because a field asks for it, and no input makes this module panic.

mod archive;
mod assemble;
mod checksum;
pub mod descriptor;
mod error;
pub mod keys;
mod layout;
mod lenient;
mod limits;
pub mod metadata;
pub mod operations;
pub mod signature;
pub mod target;
pub mod trailer;
pub mod verified;
pub mod verify;
pub mod write;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use checksum::StatedChecksum;
pub use error::{Defect, Fault, PackageError, Part, Unsupported};
pub use limits::Limits;
use metadata::Metadata;
use signature::Evidence;
use trailer::Index;

use crate::disk::digest::Digest;
use crate::disk::identity::{Change, FileIdentity};
use crate::disk::range::FileRange;
use crate::disk::{Context as _, DiskError, kind};

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

/// An index of a slot that a package brings along, so that nobody has to go over the slot.
#[derive(Clone, Debug)]
pub struct CarriedIndex {
    /// Its bytes, unverified.
    pub stored: FileRange,
    /// SHA-256 of its header, from which all of it follows, according to the (signed) metadata.
    pub root: Digest,
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
    /// The target as the metadata writes it.
    pub target_text: String,
    /// Where the bytes are and how to decode them.
    pub source: SlotSource,
    /// The operations in the order of building, `raw` or as in `tar.gzip`; for messages.
    pub chain: String,
    /// SHA-256 of the stored bytes according to the (signed) metadata; `None` where it gives none.
    pub digest: Option<Digest>,
    /// What the metadata says about the stored bytes, in full.
    pub stated_checksum: StatedChecksum,
    /// First 8 bytes of their SHA-256 according to the (unsigned) descriptor; `None` where there is none.
    pub short_checksum: Option<[u8; 8]>,
    /// Lifecycle as the metadata spells it.
    pub lifecycle: String,
    /// Lifecycle code of the descriptor.
    pub lifecycle_code: u8,
    /// Purpose as the metadata spells it.
    pub purpose: String,
    /// Platform as the metadata spells it; empty for every platform.
    pub platform: String,
    /// Platform code of the descriptor; 0 for every platform.
    pub platform_code: u8,
    /// Mode of a [`Container::File`] slot, `0o0000 ..= 0o7777`.
    pub permissions: u32,
    /// Whether the content is the package's own launcher.
    pub self_reference: bool,
    /// The index that the package brings along, if it does.
    pub carried_index: Option<CarriedIndex>,
}

/// What was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageKind {
    /// A package of format PSPF/2025.
    Pspf,
    /// A bare tar or ZIP archive, compressed or not.
    Archive,
    /// One compressed file.
    CompressedFile,
    /// A directory of the host.
    Directory,
}

/// A package as opened.
#[derive(Debug)]
pub struct Package {
    path: PathBuf,
    /// None for a directory.
    file: Option<Arc<File>>,
    identity: FileIdentity,
    kind: PackageKind,
    id: String,
    index: Option<Box<Index>>,
    metadata: Metadata,
    metadata_json: Vec<u8>,
    slots: Vec<Slot>,
    evidence: Option<Evidence>,
}

impl Package {
    /// Opens the package, archive or directory at `path`. Symbolic links are followed.
    ///
    /// # Errors
    /// Says what is wrong with the path, the file or its content. Slot data is not looked at: see [`verify`].
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, PackageError> {
        let metadata = match fs::metadata(path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(PackageError::Missing { path: path.into() });
            }
            other => other.context("examine", path)?,
        };
        if metadata.is_dir() {
            return archive::open_directory(path, &metadata);
        }
        // Asked before opening: to open a pipe would wait for its writer.
        if !metadata.is_file() {
            return Err(PackageError::NotAFile { path: path.into(), kind: kind::describe(&metadata) });
        }
        Self::read(File::open(path).context("open", path)?, path, limits)
    }

    /// Reads the package in an open regular file; `path` is for messages and for the name of an archive.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read(file: File, path: &Path, limits: &Limits) -> Result<Self, PackageError> {
        let identity = FileIdentity::of_file(&file).context("examine", path)?;
        if identity.size == 0 {
            return Err(PackageError::Empty { path: path.into() });
        }
        let file = Arc::new(file);
        let too_large = || DiskError::new("read", path, ErrorKind::FileTooLarge);
        let range = FileRange::new(Arc::clone(&file), 0, identity.size).ok_or_else(too_large)?;
        if !assemble::has_end_mark(&range, path)? {
            return archive::open_file(&range, identity, path, limits);
        }
        let parts = assemble::assemble(&range, path, limits)?;
        let section = &parts.metadata.package;
        Ok(Self {
            path: path.into(),
            file: Some(file),
            identity,
            kind: PackageKind::Pspf,
            id: id_of(&section.name, &section.version, &parts.index.checksum_text()),
            index: Some(parts.index),
            metadata: parts.metadata,
            metadata_json: parts.metadata_json,
            slots: parts.slots,
            evidence: Some(parts.evidence),
        })
    }

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

    /// Returns what was opened.
    #[must_use]
    pub fn kind(&self) -> PackageKind {
        self.kind
    }

    /// Returns the package's name; that of an archive is its file name without the suffixes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.metadata.package.name
    }

    /// Returns the package's version; an archive has none.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.metadata.package.version
    }

    /// Returns the first 16 hexadecimal digits of the SHA-256 of `name:version:checksum`.
    ///
    /// The checksum is that of the index, in the 8 digits that the launchers write to `package.checksum`; it
    /// covers the metadata's SHA-256 and with it every slot's. For an archive it is a digest of size, both ends
    /// and, uncompressed, modification time, and for a directory of its path: enough to tell one from another,
    /// and no more than that.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the index; archives have none.
    #[must_use]
    pub fn index(&self) -> Option<&Index> {
        self.index.as_deref()
    }

    /// Returns the metadata; for an archive only the name is filled in.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the metadata's bytes as they were signed; none for an archive.
    #[must_use]
    pub fn metadata_json(&self) -> &[u8] {
        &self.metadata_json
    }

    /// Returns the slots in order.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Returns the slot at `position`.
    #[must_use]
    pub fn slot(&self, position: u32) -> Option<&Slot> {
        self.slots.get(position as usize).filter(|slot| slot.position == position)
    }

    /// Returns who signed it; archives are signed by nobody.
    #[must_use]
    pub fn evidence(&self) -> Option<&Evidence> {
        self.evidence.as_ref()
    }

    /// Tells what happened to the open file since it was opened. A package that was renamed over or removed is
    /// unchanged: the old file stays readable. A directory counts as unchanged, for it may change at any time.
    ///
    /// # Errors
    /// The file cannot be examined.
    pub fn change(&self) -> Result<Change, DiskError> {
        let Some(file) = &self.file else { return Ok(Change::None) };
        let now = FileIdentity::of_file(file).context("examine", &self.path)?;
        Ok(self.identity.change_to(&now))
    }

    /// Tells whether nobody wrote to the open file since it was opened.
    ///
    /// # Errors
    /// The file cannot be examined.
    pub fn unchanged(&self) -> Result<bool, DiskError> {
        Ok(self.change()? != Change::Content)
    }
}

/// Tells whether the regular file at `path` ends as packages do: a glance for who has to know at once.
///
/// # Errors
/// The file cannot be read.
pub fn ends_like_one(path: &Path) -> Result<bool, PackageError> {
    let file = File::open(path).context("open", path)?;
    let size = file.metadata().context("examine", path)?.len();
    let too_large = || DiskError::new("read", path, ErrorKind::FileTooLarge);
    assemble::has_end_mark(&FileRange::new(Arc::new(file), 0, size).ok_or_else(too_large)?, path)
}

/// See [`Package::id`].
fn id_of(name: &str, version: &str, checksum: &str) -> String {
    let mut digits = Digest::of(format!("{name}:{version}:{checksum}").as_bytes()).to_string();
    digits.truncate(16);
    digits
}

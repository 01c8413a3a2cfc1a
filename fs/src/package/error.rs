//! Why a package could not be opened or checked: always the path, and what exactly is wrong with it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::operations::OperationError;
use super::target::TargetError;
use crate::disk::DiskError;

/// A package that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Nothing is there.
    #[error("cannot open `{}`: there is no such file or directory", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A device, a pipe, a socket.
    #[error("`{}` is {kind}, not a package", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// A file of no bytes.
    #[error("`{}` is not a package: it is empty", path.display())]
    Empty {
        /// The path.
        path: PathBuf,
    },
    /// Neither a package nor an archive.
    #[error(
        "`{}` is not a package: its last 4 bytes are not the end mark of PSPF/2025{}",
        path.display(),
        if *named_package { " (was it cut off, or something added?)" } else { ", and its first are not those of an archive" }
    )]
    NotAPackage {
        /// The path.
        path: PathBuf,
        /// Whether its name ends as those of packages do.
        named_package: bool,
    },
    /// A package whose parts contradict each other.
    #[error("`{}` is damaged: {defect}", path.display())]
    Damaged {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        defect: Defect,
    },
    /// A package that asks for more than this reader does.
    #[error("`{}` cannot be used: {reason}", path.display())]
    Unsupported {
        /// The path.
        path: PathBuf,
        /// What it asks for.
        reason: Unsupported,
    },
    /// The file was written to while it was being read.
    #[error("`{}` changed while it was being read", path.display())]
    Changed {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl PackageError {
    /// Returns the path that the error is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Missing { path }
            | Self::NotAFile { path, .. }
            | Self::Empty { path }
            | Self::NotAPackage { path, .. }
            | Self::Damaged { path, .. }
            | Self::Unsupported { path, .. }
            | Self::Changed { path } => path,
            Self::Disk(error) => &error.path,
        }
    }

    /// Tells whether a checksum is wrong, rather than the form.
    #[must_use]
    pub fn is_checksum(&self) -> bool {
        matches!(self, Self::Damaged { defect: Defect::IndexChecksum { .. } | Defect::MetadataChecksum, .. })
    }
}

/// A part of a package file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The executable in front.
    Launcher,
    /// The compressed metadata.
    Metadata,
    /// The slot descriptors.
    SlotTable,
    /// The stored bytes of the slot at this position.
    Slot(u32),
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launcher => formatter.write_str("the launcher"),
            Self::Metadata => formatter.write_str("the metadata"),
            Self::SlotTable => formatter.write_str("the slot table"),
            Self::Slot(position) => write!(formatter, "slot {position}"),
        }
    }
}

/// How a package contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// There is an end mark but no room for an index.
    #[error("its {size} bytes are fewer than the 8200 of an index and its marks")]
    TooShort {
        /// Bytes of the file.
        size: u64,
    },
    /// No start mark where the index should begin.
    #[error("the mark before its index, 8200 bytes from the end, is missing")]
    StartMark,
    /// No end mark behind the index.
    #[error("the mark behind its index is missing")]
    EndMark,
    /// Adler-32 of the index block.
    #[error("the checksum of its index is {stated:08x}, computed {computed:08x}")]
    IndexChecksum {
        /// As stored.
        stated: u32,
        /// As computed.
        computed: u32,
    },
    /// The index knows the size of the whole file.
    #[error("its index says {stated} bytes, the file has {actual}")]
    PackageSize {
        /// As stored.
        stated: u64,
        /// As it is.
        actual: u64,
    },
    /// A part reaches outside the file, or into the trailer.
    #[error("{part} should be {size} bytes at offset {offset}, but only {available} bytes precede the index")]
    Outside {
        /// Which part.
        part: Part,
        /// Where it should start.
        offset: u64,
        /// Its length.
        size: u64,
        /// Bytes before the trailer.
        available: u64,
    },
    /// Two parts share bytes.
    #[error("{first} and {second} overlap at offset {offset}")]
    Overlap {
        /// The part that starts first.
        first: Part,
        /// The part that starts inside it.
        second: Part,
        /// Where the second starts.
        offset: u64,
    },
    /// The table's size is not 64 bytes a slot.
    #[error("its slot table has {size} bytes, {count} slots need {}", u64::from(*count) * 64)]
    TableSize {
        /// As stored.
        size: u64,
        /// Number of slots, as stored.
        count: u32,
    },
    /// SHA-256 of the compressed metadata.
    #[error("the SHA-256 of its metadata is not the one in its index")]
    MetadataChecksum,
    /// The metadata is not one gzip stream.
    #[error("its metadata is not one gzip stream: {reason}")]
    MetadataGzip {
        /// What the decoder met.
        reason: String,
    },
    /// The metadata is not the JSON document it should be.
    #[error("its metadata is not valid: {reason}")]
    MetadataJson {
        /// What the parser met, and where.
        reason: String,
    },
    /// Fewer descriptors than slots.
    #[error("its metadata lists {slots} slots, its slot table has {descriptors}")]
    TooFewDescriptors {
        /// In the metadata.
        slots: u32,
        /// In the table.
        descriptors: u32,
    },
    /// A slot's target is outside the work environment or no name at all.
    #[error("slot {position} (`{id}`) has the target `{target}`: {reason}")]
    Target {
        /// Position of the slot.
        position: u32,
        /// Its id.
        id: String,
        /// As written.
        target: String,
        /// What is wrong with it.
        reason: TargetError,
    },
    /// A descriptor, which nobody signs, says something else than the metadata of a builder that writes both alike.
    #[error("slot {position} (`{id}`): its descriptor does not have the {what} in the metadata")]
    Descriptor {
        /// Position of the slot.
        position: u32,
        /// Its id.
        id: String,
        /// What differs.
        what: &'static str,
    },
    /// A compressed archive does not decode at all.
    #[error("it starts like {format} but does not decode: {reason}")]
    Archive {
        /// Name of the compression.
        format: &'static str,
        /// What the decoder met.
        reason: String,
    },
}

/// What a package asks for in vain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// Another version of the format.
    #[error("its format version is {found:#010x}, only {known:#010x} is known")]
    Version {
        /// As stored.
        found: u32,
        /// The one this reader knows.
        known: u32,
    },
    /// A slot's operation chain.
    #[error("slot {position} (`{id}`): {reason}")]
    Operation {
        /// Position of the slot.
        position: u32,
        /// Its id.
        id: String,
        /// Which operation.
        reason: OperationError,
    },
    /// The metadata is larger than allowed.
    #[error("its metadata is larger than the limit of {limit} bytes")]
    MetadataSize {
        /// The limit.
        limit: u64,
    },
    /// The metadata is nested deeper than allowed.
    #[error("its metadata is nested deeper than the limit of {limit} levels")]
    MetadataDepth {
        /// The limit.
        limit: u32,
    },
    /// The metadata holds more values than allowed.
    #[error("its metadata holds more than the limit of {limit} values")]
    MetadataValues {
        /// The limit.
        limit: u32,
    },
}

/// What parsing bytes can meet; the path is added where it is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// See [`PackageError::Damaged`].
    #[error(transparent)]
    Defect(#[from] Defect),
    /// See [`PackageError::Unsupported`].
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
}

impl Fault {
    /// Adds the path.
    #[must_use]
    pub fn at(self, path: &Path) -> PackageError {
        match self {
            Self::Defect(defect) => PackageError::Damaged { path: path.into(), defect },
            Self::Unsupported(reason) => PackageError::Unsupported { path: path.into(), reason },
        }
    }
}

/// Returns hostile text for a message: control characters escaped, at most 120 characters.
#[must_use]
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

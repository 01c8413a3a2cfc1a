//! What can go wrong between a slot's stored bytes and its files.

use std::io;

use super::index::IndexError;
use crate::disk::DiskError;
use crate::disk::checked::CheckError;

/// Why a slot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The compressed bytes are not what their format says.
    #[error("{format} data is damaged near stored byte {at}: {reason}")]
    Decode {
        /// The compression.
        format: &'static str,
        /// Where, in bytes of that compression's input.
        at: u64,
        /// What the decoder said.
        reason: String,
    },
    /// The decoded size passes [`super::Limits`].
    #[error("it decodes to more than {limit} bytes, the limit for {stored} stored bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
        /// Bytes stored.
        stored: u64,
    },
    /// The archive's structure is broken.
    #[error("the {format} archive is damaged at byte {at}, after `{entry}`: {reason}")]
    Archive {
        /// `tar` or `zip`.
        format: &'static str,
        /// Position in the decoded bytes.
        at: u64,
        /// The last entry that was read.
        entry: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The archive ends in the middle of an entry.
    #[error("the archive is truncated inside `{entry}`")]
    Truncated {
        /// The entry.
        entry: String,
    },
    /// More entries than [`super::Limits`] allow.
    #[error("it has more than {limit} entries")]
    TooManyEntries {
        /// Entries allowed.
        limit: u32,
    },
    /// The content decoded differs from the one that was indexed.
    #[error("the decoded content does not have the recorded {what}")]
    Mismatch {
        /// `digest`, `length` or `CRC-32`.
        what: &'static str,
    },
    /// The file that holds the slot is not the one that was opened any more.
    #[error("the package file has changed since it was opened")]
    Changed,
    /// The stored bytes are not the ones that were stated.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The stored bytes cannot be read.
    #[error("cannot read the stored bytes: {source}")]
    Read {
        /// What the host said.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread to decode the slot: {source}")]
    Thread {
        /// What the host said.
        source: io::Error,
    },
    /// The pass that indexes the slot failed; told to everybody who waits for it.
    #[error("{reason}")]
    PassFailed {
        /// The first error, as text.
        reason: String,
    },
    /// A directory of the host has no stored bytes.
    #[error("a directory of the host cannot be indexed as a slot")]
    IsDirectory,
    /// The slot's index is damaged.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The host refused a file operation.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl SlotError {
    /// Returns the error that a decoder or a check passed through [`io::Read`], or wraps a plain one.
    #[must_use]
    pub fn from_read(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(inner) => inner,
            Err(other) => match other.downcast::<CheckError>() {
                Ok(inner) => Self::Check(inner),
                Err(source) => Self::Read { source },
            },
        }
    }

    /// Wraps the error so that it can pass through [`io::Read`].
    #[must_use]
    pub fn into_read(self) -> io::Error {
        if let Self::Read { source } = self {
            return source;
        }
        io::Error::new(io::ErrorKind::InvalidData, self)
    }
}

//! Where the content of an object can be read.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::parts::Parts;
use crate::disk::range::FileRange;

/// The content of an object, open.
#[derive(Clone, Debug)]
pub enum Object {
    /// A file that has nothing else in it.
    Whole(Arc<File>),
    /// A run of bytes in a file that goes as soon as what is in it has files of its own.
    Among {
        /// The file.
        file: Arc<File>,
        /// Where in it the content begins, in bytes.
        start: u64,
    },
    /// Runs of bytes in several files.
    Parts(Arc<Parts>),
}

impl Object {
    /// Returns the file that has this content and nothing else.
    #[must_use]
    pub fn file(self) -> Option<Arc<File>> {
        match self {
            Self::Whole(file) => Some(file),
            Self::Among { .. } | Self::Parts(_) => None,
        }
    }

    /// Tells whether it is there for long, so that it may be kept open.
    #[must_use]
    pub fn lasts(&self) -> bool {
        match self {
            Self::Whole(_) | Self::Parts(_) => true,
            Self::Among { .. } => false,
        }
    }

    /// Fills `buffer` from `offset` of a content of `length` bytes.
    ///
    /// # Errors
    /// What the host reports, and `UnexpectedEof` where the content ends before.
    pub fn read_exact_at(&self, length: u64, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let (file, start) = match self {
            Self::Whole(file) => (file, 0),
            Self::Among { file, start } => (file, *start),
            Self::Parts(parts) => return parts.read_exact_at(offset, buffer),
        };
        let range = FileRange::new(Arc::clone(file), start, length).ok_or(ErrorKind::UnexpectedEof)?;
        range.read_exact_at(offset, buffer)
    }
}

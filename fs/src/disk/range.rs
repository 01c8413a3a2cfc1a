//! A run of bytes inside an open file, read by position.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use super::ahead;
use super::checked::{Checked, FindDigest, When};
use super::digest::Digest;
use super::identity::FileIdentity;

/// Bytes `[offset, offset + length)` of an open file. Cloning shares the descriptor.
#[derive(Clone, Debug)]
pub struct FileRange {
    file: Arc<File>,
    offset: u64,
    length: u64,
    /// Through which every read goes, where the bytes were not hashed before.
    checked: Option<Arc<Checked>>,
}

impl FileRange {
    /// Returns the range, or `None` when its end does not fit in 63 bits.
    #[must_use]
    pub fn new(file: Arc<File>, offset: u64, length: u64) -> Option<Self> {
        let end = offset.checked_add(length)?;
        i64::try_from(end).ok()?;
        Some(Self { file, offset, length, checked: None })
    }

    /// Returns a range of no bytes, for what has a place in the file system but no stored bytes.
    ///
    /// # Errors
    /// The host's null device cannot be opened.
    pub fn empty() -> io::Result<Self> {
        Ok(Self { file: Arc::new(File::open(platform::NULL_DEVICE)?), offset: 0, length: 0, checked: None })
    }

    /// Returns the same range, but every byte that is read from it, or from a part of it, is checked first: chunk by chunk
    /// (each of `chunk` bytes) against the digests that `find` finds, or all at once against `digest`.
    #[must_use]
    pub fn checked(self, digest: Digest, chunk: u64, find: FindDigest) -> Self {
        let checked = Some(Arc::new(Checked::new(self.clone(), digest, chunk, find)));
        Self { checked, ..self }
    }

    /// Returns the same range, whose bytes are handed out at once, until [`Self::check_whole`] finds that they do not have
    /// this `digest`.
    #[must_use]
    pub fn checked_beside(self, digest: Digest) -> Self {
        let checked = Some(Arc::new(Checked::beside(self.clone(), digest)));
        Self { checked, ..self }
    }

    /// Takes what is checked for right, which somebody has found out of the file in this state. It is checked all the same
    /// should the file be in another one.
    pub fn accept(&self, identity: FileIdentity) {
        let accepted = self.checked.as_ref().map_or(Ok(()), |checked| checked.accept(identity));
        if let Err(error) = accepted {
            tracing::debug!("the file is checked once more: {error}");
        }
    }

    /// Hands nothing out any more of what is checked.
    pub fn refuse(&self) {
        if let Some(checked) = &self.checked {
            checked.refuse();
        }
    }

    /// Tells whether bytes are checked before they leave.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.checked.as_ref().is_some_and(|checked| checked.when() == When::First)
    }

    /// Compares everything that [`Self::checked`] or [`Self::checked_beside`] was given with its digest, unless that was done before; other ranges are
    /// taken as they are.
    ///
    /// # Errors
    /// The bytes cannot be read or are others.
    pub fn check_whole(&self) -> io::Result<()> {
        self.checked.as_ref().map_or(Ok(()), |checked| checked.check_whole())
    }

    /// Returns the range's length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Tells whether the range holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns where the range starts in its file, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the file that holds the range.
    #[must_use]
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Reads at `position` within the range; 0 at its end. A short count is not an error.
    ///
    /// # Errors
    /// Passes on what `pread(2)` reports. A [`super::checked::CheckError`] is inside one of the kind `InvalidData`.
    pub fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(position);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let Some(checked) = &self.checked else {
            return platform::read_at(&self.file, self.offset + position, &mut buffer[..wanted]);
        };
        let start = self.offset.saturating_sub(checked.offset());
        checked.read_exact_at(start + position, &mut buffer[..wanted])?;
        Ok(wanted)
    }

    /// Fills the whole buffer from `position`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the range or the file ends first, else what `pread(2)` reports.
    pub fn read_exact_at(&self, mut position: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(position, buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer = &mut buffer[count..];
                    position += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that `length` bytes from `position` on will be read soon, with all that is checked together with them.
    pub fn will_need(&self, position: u64, length: u64) {
        let end = position.saturating_add(length);
        let (mut start, mut stop) = (self.offset.saturating_add(position), self.offset.saturating_add(end));
        if let Some(checked) = self.checked.as_ref().filter(|checked| checked.when() == When::First) {
            let (first, chunk) = (checked.offset(), checked.chunk());
            start -= start.saturating_sub(first) % chunk;
            stop = first + stop.saturating_sub(first).div_ceil(chunk).saturating_mul(chunk);
        }
        ahead::will_need(&self.file, start, stop.saturating_sub(start));
    }

    /// Returns how many bytes to read from `position` on, at most about `length`, so that what is checked together is read
    /// together: up to the end of a chunk where there are chunks.
    #[must_use]
    pub fn to_chunk_end(&self, position: u64, length: u64) -> u64 {
        let Some(checked) = self.checked.as_ref().filter(|checked| checked.when() == When::First) else {
            return length;
        };
        let start = position.saturating_add(self.offset.saturating_sub(checked.offset()));
        let in_chunk = start % checked.chunk();
        // Whole chunks, the first of which may have begun before.
        (length / checked.chunk()).max(1).saturating_mul(checked.chunk()).saturating_sub(in_chunk)
    }

    /// Returns the part `[position, position + length)` of this range, or `None` when it reaches outside.
    #[must_use]
    pub fn part(&self, position: u64, length: u64) -> Option<Self> {
        (position.checked_add(length)? <= self.length).then(|| Self {
            file: Arc::clone(&self.file),
            offset: self.offset + position,
            length,
            checked: self.checked.clone(),
        })
    }

    /// Returns a reader that starts at `position`.
    #[must_use]
    pub fn reader(&self, position: u64) -> RangeReader {
        RangeReader { range: self.clone(), position }
    }
}

/// Sequential reader over a [`FileRange`]; it never moves the file's own cursor.
#[derive(Debug)]
pub struct RangeReader {
    range: FileRange,
    position: u64,
}

impl RangeReader {
    /// Returns how far the reader has come, in bytes from the start of the range.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl Read for RangeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.range.to_chunk_end(self.position, buffer.len() as u64);
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.range.read_at(self.position, &mut buffer[..length])?;
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(unix)]
mod platform {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;

    pub(super) const NULL_DEVICE: &str = "/dev/null";

    pub(super) fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        file.read_at(buffer, offset)
    }
}

#[cfg(windows)]
mod platform {
    use std::fs::File;
    use std::io;
    use std::os::windows::fs::FileExt;

    pub(super) const NULL_DEVICE: &str = "NUL";

    pub(super) fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        file.seek_read(buffer, offset)
    }
}

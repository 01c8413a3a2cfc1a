//! Where a scanner reads from: a stream of decoded bytes, or the stored bytes of an uncompressed archive, of which
//! only headers are touched.

use std::io::Read;

use crate::disk::range::FileRange;
use crate::slot::SlotError;

/// Bytes in order, with cheap skipping where possible.
pub trait Input {
    /// Returns at least one byte, or none at the end.
    ///
    /// # Errors
    /// The bytes cannot be read or decoded.
    fn peek(&mut self) -> Result<&[u8], SlotError>;

    /// Marks `count` bytes, of those that [`Self::peek`] returned, as used.
    fn consume(&mut self, count: usize);

    /// How many bytes were used or skipped.
    fn position(&self) -> u64;

    /// Skips `count` bytes; `false` when the input ends before.
    ///
    /// # Errors
    /// The bytes cannot be read or decoded.
    fn skip(&mut self, count: u64) -> Result<bool, SlotError>;

    /// Whether file contents pass through anyway, so that looking at them costs nothing more.
    fn shows_content(&self) -> bool;

    /// Fills `buffer`; returns how many bytes there were before the end.
    ///
    /// # Errors
    /// The bytes cannot be read or decoded.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SlotError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let bytes = self.peek()?;
            let count = bytes.len().min(buffer.len() - filled);
            if count == 0 {
                break;
            }
            buffer[filled..filled + count].copy_from_slice(&bytes[..count]);
            self.consume(count);
            filled += count;
        }
        Ok(filled)
    }
}

/// An [`Input`] over any reader.
#[derive(Debug)]
pub struct StreamInput<R> {
    inner: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    position: u64,
}

impl<R: Read> StreamInput<R> {
    /// Wraps `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, buffer: vec![0; 64 << 10], start: 0, end: 0, position: 0 }
    }
}

impl<R: Read> Input for StreamInput<R> {
    fn peek(&mut self) -> Result<&[u8], SlotError> {
        while self.start == self.end {
            match self.inner.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => (self.start, self.end) = (0, count),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SlotError::from_read(error)),
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.position += count as u64;
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn skip(&mut self, mut count: u64) -> Result<bool, SlotError> {
        while count > 0 {
            let available = self.peek()?.len();
            if available == 0 {
                return Ok(false);
            }
            let step = usize::try_from(count).unwrap_or(usize::MAX).min(available);
            self.consume(step);
            count -= step as u64;
        }
        Ok(true)
    }

    fn shows_content(&self) -> bool {
        true
    }
}

/// An [`Input`] over stored bytes that reads only where it is asked to.
#[derive(Debug)]
pub struct RangeInput {
    range: FileRange,
    position: u64,
    buffer: Vec<u8>,
    /// Where `buffer` lies in the range.
    start: u64,
}

/// Enough for the headers of most entries; more would read contents that nobody looks at.
const WINDOW: usize = 4096;

impl RangeInput {
    /// Wraps `range`.
    #[must_use]
    pub fn new(range: FileRange) -> Self {
        Self { range, position: 0, buffer: Vec::with_capacity(WINDOW), start: 0 }
    }
}

impl Input for RangeInput {
    fn peek(&mut self) -> Result<&[u8], SlotError> {
        let within = usize::try_from(self.position - self.start).unwrap_or(usize::MAX);
        if within < self.buffer.len() {
            return Ok(&self.buffer[within..]);
        }
        self.start = self.position;
        self.buffer.resize(WINDOW, 0);
        let count = loop {
            match self.range.read_at(self.position, &mut self.buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(*count.as_ref().unwrap_or(&0));
        count.map_err(SlotError::from_read)?;
        Ok(&self.buffer)
    }

    fn consume(&mut self, count: usize) {
        self.position += count as u64;
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn skip(&mut self, count: u64) -> Result<bool, SlotError> {
        match self.position.checked_add(count) {
            Some(end) if end <= self.range.len() => {
                self.position = end;
                if end - self.start.min(end) > self.buffer.len() as u64 {
                    self.buffer.clear();
                    self.start = end;
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn shows_content(&self) -> bool {
        false
    }
}

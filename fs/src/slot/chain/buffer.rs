//! An input buffer that counts where it is and can look ahead.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

const SIZE: usize = 128 << 10;

/// Memory that nobody uses. Decoders come and go with every span that is read, and what the system gives anew it clears first.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// As many as are decoding at a time.
const MOST_SPARE: usize = 2;

/// Input of a decoder.
pub(super) struct Buffer<R> {
    inner: R,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    position: u64,
    ended: bool,
}

impl<R: Read> Buffer<R> {
    pub(super) fn new(inner: R) -> Self {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = spare.unwrap_or_else(|| vec![0; SIZE]);
        Self { inner, bytes, start: 0, end: 0, position: 0, ended: false }
    }

    /// Bytes consumed so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns at least `count` bytes (at most 64 KiB), fewer only at the end of the input.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.end - self.start < count && !self.ended {
            if self.start > 0 && self.start + count > SIZE / 2 {
                self.bytes.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            match self.inner.read(&mut self.bytes[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.bytes[self.start..self.end])
    }

    /// Marks `count` bytes, of those that `peek` returned, as used.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.position += count as u64;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

impl<R> Drop for Buffer<R> {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MOST_SPARE {
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// Gives back what is kept for the next decoder.
pub(super) fn release() {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

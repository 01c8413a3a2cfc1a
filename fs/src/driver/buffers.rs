//! Memory from which reads are answered, shared by all threads.
//!
//! **Invariant:** no more is kept than a few requests need, however many threads there are.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many are kept between requests. More are made while more are needed at once, and given back.
const KEPT: usize = 2;

/// Those that nobody uses.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

/// One, for the time of a request. What it holds at first is left over from another.
#[derive(Debug)]
pub(super) struct Buffer<'a> {
    bytes: Vec<u8>,
    length: usize,
    home: &'a Buffers,
}

impl Buffers {
    /// Returns a buffer of `length` bytes.
    pub(super) fn take(&self, length: usize) -> Buffer<'_> {
        let mut bytes = self.lock().pop().unwrap_or_default();
        if bytes.len() < length {
            bytes.resize(length, 0);
        }
        Buffer { bytes, length, home: self }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let mut kept = self.home.lock();
        if kept.len() < KEPT {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Deref for Buffer<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl DerefMut for Buffer<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_are_needed_are_made_and_few_are_kept() {
        let buffers = Buffers::default();
        let mut taken: Vec<_> = (1..=5).map(|length| buffers.take(length)).collect();
        for (buffer, length) in taken.iter_mut().zip(1..) {
            assert_eq!(buffer.len(), length);
            buffer.fill(1);
        }
        drop(taken);
        assert_eq!(buffers.lock().len(), KEPT);
        assert_eq!(buffers.take(0).len(), 0);
        assert_eq!(buffers.take(9).len(), 9);
    }
}

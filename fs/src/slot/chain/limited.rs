//! Stops a decoder whose output passes the limit.

use std::io::{self, Read};

use crate::slot::SlotError;

/// A reader that fails once more than `limit` bytes came out.
pub(super) struct Limited<R> {
    inner: R,
    stored: u64,
    limit: u64,
    left: u64,
}

impl<R: Read> Limited<R> {
    pub(super) fn new(inner: R, stored: u64, limit: u64) -> Self {
        Self { inner, stored, limit, left: limit }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(output)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| SlotError::TooLarge { limit: self.limit, stored: self.stored }.into_read())?;
        Ok(count)
    }
}

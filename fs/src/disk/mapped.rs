//! Read-only memory maps of files that are published once and never changed in place.
#![expect(unsafe_code, reason = "mapping a file is unsafe: another process could truncate it")]

use std::fs::File;
use std::io;
use std::ops::Deref;

/// A whole file, mapped for reading.
#[derive(Debug)]
pub struct Mapping(memmap2::Mmap);

impl Mapping {
    /// Maps all of `file`.
    ///
    /// # Errors
    /// Passes on what `mmap(2)` reports.
    pub fn of(file: &File) -> io::Result<Self> {
        // SAFETY: callers map only files that were published complete by rename and that slotfs never writes
        // to afterwards (mode 0444). A stranger who truncates one anyway gets this process a SIGBUS, not
        // undefined behaviour in Rust terms beyond reading bytes that change, and no reference into the map
        // outlives it.
        Ok(Self(unsafe { memmap2::Mmap::map(file)? }))
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

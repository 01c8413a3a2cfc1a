//! Read-only memory maps of files that are published once and never changed in place, and memory of their kind.
#![expect(unsafe_code, reason = "mapping a file is unsafe: another process could truncate it")]

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};

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

/// Zeroed memory that goes back to the system when dropped, not to an allocator's free list.
#[derive(Debug)]
pub struct Buffer(Option<memmap2::MmapMut>);

impl Buffer {
    /// Returns `length` zero bytes.
    ///
    /// # Errors
    /// There is no memory.
    pub fn zeroed(length: usize) -> io::Result<Self> {
        // An empty map is refused by every host.
        Ok(Self(if length == 0 { None } else { Some(memmap2::MmapMut::map_anon(length)?) }))
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}

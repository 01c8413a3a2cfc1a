//! Read-only memory maps of files that are published once and never changed in place, and memory of their kind.
#![expect(unsafe_code, reason = "mapping a file is unsafe: another process could truncate it")]

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

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

/// Memory that is filled part by part, each before it is first looked at, and never written again.
#[derive(Debug)]
pub struct Filled {
    /// Owned by this value alone. Nothing refers to all of it: only to parts, by the two functions below.
    start: *mut u8,
    length: usize,
    part: usize,
    /// Set when the part is there.
    there: Vec<AtomicBool>,
    /// Held by whoever fills a part.
    filling: Mutex<()>,
    _memory: memmap2::MmapRaw,
}

// SAFETY: the memory is owned by this value and not tied to a thread. A part is written only by the holder of `filling`,
// and only before its mark is set; it is read only after that was seen.
unsafe impl Send for Filled {}
// SAFETY: as above.
unsafe impl Sync for Filled {}

impl Filled {
    /// Returns memory for `length` bytes in parts of `part` bytes. It takes room only where it is filled.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(length: usize, part: usize) -> io::Result<Self> {
        let memory = memmap2::MmapRaw::from(memmap2::MmapMut::map_anon(length.max(1))?);
        let part = part.max(1);
        let there = std::iter::repeat_with(AtomicBool::default).take(length.div_ceil(part)).collect();
        let start = memory.as_mut_ptr();
        Ok(Self { start, length, part, there, filling: Mutex::new(()), _memory: memory })
    }

    /// Returns how many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Tells whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns bytes `[start, end)`. Parts that are missing are filled by `fill`, which is told where each begins.
    ///
    /// # Errors
    /// What `fill` reports, or `UnexpectedEof` where the range lies outside.
    pub fn get(
        &self,
        start: usize,
        end: usize,
        fill: impl Fn(usize, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<&[u8]> {
        if start > end || end > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for part in start / self.part..end.div_ceil(self.part) {
            self.need(part, &fill)?;
        }
        // SAFETY: the range lies inside the memory, which lives as long as `self`, and every part of it was filled: nobody
        // writes to those any more.
        Ok(unsafe { std::slice::from_raw_parts(self.start.add(start), end - start) })
    }

    fn need(&self, part: usize, fill: impl Fn(usize, &mut [u8]) -> io::Result<()>) -> io::Result<()> {
        let Some(there) = self.there.get(part) else { return Ok(()) };
        if there.load(Ordering::Acquire) {
            return Ok(());
        }
        let _filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        if there.load(Ordering::Acquire) {
            return Ok(());
        }
        let start = part * self.part;
        let length = self.part.min(self.length - start);
        // SAFETY: the range lies inside the memory; the part is not marked, so nobody has a reference into it, and the lock
        // keeps others from making one.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) };
        fill(start, bytes)?;
        there.store(true, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn parts_are_filled_once_and_only_where_they_are_looked_at() {
        let memory = Filled::new(1050, 100).unwrap();
        let filled = AtomicUsize::new(0);
        let fill = |start: usize, bytes: &mut [u8]| {
            filled.fetch_add(bytes.len(), Ordering::Relaxed);
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = ((start + at) % 251) as u8;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for start in 150..900 {
                        let bytes = memory.get(start, start + 30, fill).unwrap();
                        assert!(
                            bytes.iter().enumerate().all(|(at, byte)| *byte == ((start + at) % 251) as u8)
                        );
                    }
                });
            }
        });
        assert_eq!(filled.load(Ordering::Relaxed), 900);
        assert_eq!(memory.get(1000, 1050, fill).unwrap().len(), 50);
        assert!(memory.get(1000, 1051, fill).is_err());
        assert!(memory.get(2, 1, fill).is_err());
    }

    #[test]
    fn a_part_that_could_not_be_filled_is_tried_again() {
        let memory = Filled::new(10, 10).unwrap();
        assert!(memory.get(0, 1, |_, _| Err(io::Error::other("no"))).is_err());
        assert_eq!(
            memory
                .get(0, 1, |_, bytes| {
                    bytes.fill(3);
                    Ok(())
                })
                .unwrap(),
            [3]
        );
        assert!(Filled::new(0, 10).unwrap().is_empty());
    }
}

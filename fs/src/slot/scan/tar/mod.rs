//! Entries of a tar archive: v7, POSIX ustar, PAX, GNU (see `tar(5)` and the "Basic Tar Format" of the GNU tar manual).
//!
//! Reads as GNU tar does: a block of zeros or the end of the bytes between two entries ends the archive, what follows
//! is ignored; unknown types are files; a file's name with a slash behind it is a directory.
//!
//! **Invariant:** sizes in headers are only ever skipped or compared, never allocated.

mod header;
mod number;
mod pax;
mod sparse;

use super::{Body, Content, DeviceNumber, Entry, Input};
use crate::node::{Kind, Timestamp};
use crate::slot::{Limits, SlotError};
use header::{BLOCK, Header};
use pax::Records;

/// Says that a link is to be a file of its own with the same content; other readers make it one more name of that file.
pub(crate) const REPEATED: &[u8] = b"SLOTFS.repeated";

/// Reads one entry after the other.
#[derive(Debug)]
pub struct TarScanner<I> {
    input: I,
    limits: Limits,
    /// PAX records that hold until replaced.
    global: Records,
    /// Content of the current entry that was not read yet, and the padding behind it.
    left: u64,
    padding: u64,
    last: String,
}

/// What the headers before an entry say about it.
#[derive(Default)]
struct Extras {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Records,
    spent: u64,
}

impl<I: Input> TarScanner<I> {
    /// Reads from `input`, which stands at the first header.
    pub fn new(input: I, limits: Limits) -> Self {
        Self { input, limits, global: Records::default(), left: 0, padding: 0, last: String::new() }
    }

    /// Returns the next entry, or `None` at the end of the archive. Content of the one before that was not read is
    /// skipped.
    ///
    /// # Errors
    /// The bytes cannot be decoded, are no tar archive, or end inside an entry.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, SlotError> {
        self.finish_content()?;
        let mut extras = Extras::default();
        loop {
            let Some(header) = self.read_header()? else { return Ok(None) };
            match header.kind() {
                b'x' | b'X' => {
                    let bytes = self.read_extra(&header, &mut extras)?;
                    extras.records.parse(&bytes).map_err(|reason| self.damaged(reason))?;
                }
                b'g' => {
                    let bytes = self.read_extra(&header, &mut extras)?;
                    let mut global = std::mem::take(&mut self.global);
                    let parsed = global.parse(&bytes);
                    self.global = global;
                    parsed.map_err(|reason| self.damaged(reason))?;
                    // Global records stay in memory for the whole archive.
                    if self.global.size() > self.limits.header_bytes {
                        return Err(self.damaged("global extended headers are longer than the limit"));
                    }
                }
                b'L' => extras.path = Some(self.read_long_name(&header, &mut extras)?),
                b'K' => extras.link = Some(self.read_long_name(&header, &mut extras)?),
                // Volume label, old GNU rename script, Solaris ACL: nothing that becomes a file.
                b'V' | b'N' | b'A' => self.skip_member(&header)?,
                _ => return self.entry(&header, extras).map(Some),
            }
        }
    }

    /// Passes the stored content of the current entry to `take`, piece by piece; `take` may stop the whole scan.
    ///
    /// # Errors
    /// The bytes cannot be decoded or end before the content does, or `take` failed.
    pub fn read_content(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), SlotError>,
    ) -> Result<(), SlotError> {
        while self.left > 0 {
            let bytes = self.input.peek()?;
            let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            if count == 0 {
                return Err(SlotError::Truncated { entry: self.last.clone() });
            }
            take(&bytes[..count])?;
            self.input.consume(count);
            self.left -= count as u64;
        }
        Ok(())
    }

    /// Reads what follows the archive, so that a stream's own checks see all of it, and returns its whole length.
    ///
    /// # Errors
    /// The bytes cannot be decoded.
    pub fn finish(mut self) -> Result<u64, SlotError> {
        if self.input.shows_content() {
            loop {
                let count = self.input.peek()?.len();
                if count == 0 {
                    break;
                }
                self.input.consume(count);
            }
        }
        Ok(self.input.position())
    }

    /// Returns how far the scan has come, in decoded bytes.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.input.position()
    }

    /// Whether contents pass through anyway (see [`Input::shows_content`]).
    #[must_use]
    pub fn shows_content(&self) -> bool {
        self.input.shows_content()
    }

    fn damaged(&self, reason: &'static str) -> SlotError {
        let (at, entry) = (self.input.position(), self.last.clone());
        SlotError::Archive { format: "tar", at, entry, reason }
    }

    fn truncated(&self) -> SlotError {
        SlotError::Truncated { entry: self.last.clone() }
    }

    fn finish_content(&mut self) -> Result<(), SlotError> {
        if !self.input.skip(std::mem::take(&mut self.left))? {
            return Err(self.truncated());
        }
        // The last entry's padding may be missing, as where an archive was cut to its content.
        self.input.skip(std::mem::take(&mut self.padding))?;
        Ok(())
    }

    fn read_header(&mut self) -> Result<Option<Header>, SlotError> {
        let mut block = [0; BLOCK];
        let count = self.input.read(&mut block)?;
        if count == 0 || block[..count].iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if count < BLOCK {
            return Err(self.truncated());
        }
        Header::parse(block).map(Some).map_err(|reason| self.damaged(reason))
    }

    fn size_of(&self, header: &Header, records: Option<&Records>) -> Result<u64, SlotError> {
        let recorded = records.and_then(|records| records.number(b"size"));
        recorded.or_else(|| header.size()).ok_or_else(|| self.damaged("a size is not a number"))
    }

    fn read_extra(&mut self, header: &Header, extras: &mut Extras) -> Result<Vec<u8>, SlotError> {
        let size = self.size_of(header, None)?;
        extras.spent = extras.spent.saturating_add(size).saturating_add(BLOCK as u64);
        if extras.spent > self.limits.header_bytes {
            return Err(self.damaged("the extended headers of one entry are longer than the limit"));
        }
        let mut bytes = Vec::new();
        (self.left, self.padding) = (size, padding(size));
        self.read_content(|piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        self.finish_content()?;
        Ok(bytes)
    }

    fn read_long_name(&mut self, header: &Header, extras: &mut Extras) -> Result<Vec<u8>, SlotError> {
        let mut name = self.read_extra(header, extras)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn skip_member(&mut self, header: &Header) -> Result<(), SlotError> {
        let size = self.size_of(header, None)?;
        (self.left, self.padding) = (size, padding(size));
        self.finish_content()
    }

    fn entry(&mut self, header: &Header, extras: Extras) -> Result<Entry, SlotError> {
        let mut records = std::mem::take(&mut self.global);
        let global = records.clone();
        records.add(extras.records);
        let result = self.entry_with(header, extras.path, extras.link, &records, extras.spent);
        self.global = global;
        result
    }

    fn entry_with(
        &mut self,
        header: &Header,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        records: &Records,
        spent: u64,
    ) -> Result<Entry, SlotError> {
        let path = records.path().or(long_path).unwrap_or_else(|| header.path());
        self.last = String::from_utf8_lossy(&path).into_owned();
        let stored = match header.kind() {
            // Links and special files carry no content, whatever their size field says.
            b'1'..=b'4' | b'6' => 0,
            _ => self.size_of(header, Some(records))?,
        };
        (self.left, self.padding) = (stored, padding(stored));
        let link = || records.value(b"linkpath").or(long_link).unwrap_or_else(|| header.link());
        let body = match header.kind() {
            b'1' if records.value(REPEATED).is_some() => Body::Copy(link()),
            b'1' => Body::HardLink(link()),
            b'2' => Body::Symlink(link()),
            b'3' => Body::Device(Kind::CharacterDevice, self.device(header, records)?),
            b'4' => Body::Device(Kind::BlockDevice, self.device(header, records)?),
            b'5' | b'D' => Body::Directory,
            b'6' => Body::Fifo,
            // Continuation of a file from another volume.
            b'M' => Body::Unknown,
            _ if path.ends_with(b"/") => Body::Directory,
            kind => Body::File(self.content(header, kind, records, stored, spent)?),
        };
        Ok(Entry {
            path,
            body,
            mode: u32::try_from(header.mode().unwrap_or(0) & 0o7777).unwrap_or(0),
            user: id(records.number(b"uid").or_else(|| header.user())),
            group: id(records.number(b"gid").or_else(|| header.group())),
            modified: records
                .time(b"mtime")
                .unwrap_or_else(|| Timestamp { seconds: header.modified().unwrap_or(0), nanoseconds: 0 }),
            attributes: records.attributes(),
        })
    }

    fn device(&self, header: &Header, records: &Records) -> Result<DeviceNumber, SlotError> {
        let (major, minor) = header.device();
        let major = records.number(b"SCHILY.devmajor").or(major);
        let minor = records.number(b"SCHILY.devminor").or(minor);
        let narrow = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
        match (narrow(major), narrow(minor)) {
            (Some(major), Some(minor)) => Ok(DeviceNumber { major, minor }),
            _ => Err(self.damaged("a device number is not a number")),
        }
    }

    /// Returns where a regular file's content is; reads the sparse maps that lie before it.
    fn content(
        &mut self,
        header: &Header,
        kind: u8,
        records: &Records,
        stored: u64,
        spent: u64,
    ) -> Result<Content, SlotError> {
        let room = self.limits.header_bytes.saturating_sub(spent);
        let (map, size) = if kind == b'S' {
            let map = self.read_old_sparse(header, room)?;
            let size = header.sparse_size().ok_or_else(|| self.damaged("a size is not a number"))?;
            (map, size)
        } else if let Some(layout) = sparse::Layout::of(records) {
            let layout = layout.map_err(|reason| self.damaged(reason))?;
            let map = match layout.map {
                Some(map) => map,
                None => self.read_map_in_content(room)?,
            };
            (map, layout.size)
        } else {
            return Ok(Content::Whole { decoded: self.input.position(), size: stored });
        };
        let data = self.input.position();
        sparse::extents(&map, data, self.left, size)
            .map(|extents| Content::Sparse { extents, size })
            .map_err(|reason| self.damaged(reason))
    }

    /// Old GNU format: four pairs in the header, 21 in each block that follows it.
    fn read_old_sparse(&mut self, header: &Header, room: u64) -> Result<sparse::Map, SlotError> {
        let mut map = sparse::Map::new();
        let mut more = sparse::old_pairs(header.sparse_pairs(), &mut map).map_err(|why| self.damaged(why))?
            && header.has_more_pairs();
        let mut spent = 0;
        while more {
            spent += BLOCK as u64;
            if spent > room {
                return Err(self.damaged("a sparse map is longer than the limit"));
            }
            let mut block = [0; BLOCK];
            if self.input.read(&mut block)? < BLOCK {
                return Err(self.truncated());
            }
            more = sparse::old_pairs(&block[..504], &mut map).map_err(|why| self.damaged(why))?
                && block[504] != 0;
        }
        Ok(map)
    }

    /// PAX format 1.0: decimal lines at the start of the content, padded to whole blocks.
    fn read_map_in_content(&mut self, room: u64) -> Result<sparse::Map, SlotError> {
        let mut lines = sparse::Lines::default();
        let mut spent = 0;
        while !lines.is_complete() {
            let mut block = [0; BLOCK];
            spent += BLOCK as u64;
            if spent > room {
                return Err(self.damaged("a sparse map is longer than the limit"));
            }
            if self.left < BLOCK as u64 || self.input.read(&mut block)? < BLOCK {
                return Err(self.truncated());
            }
            self.left -= BLOCK as u64;
            lines.feed(&block).map_err(|reason| self.damaged(reason))?;
        }
        Ok(lines.into_map())
    }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// An owner that does not fit in 32 bits is shown as 65534, "nobody".
fn id(number: Option<u64>) -> u32 {
    number.map_or(0, |number| u32::try_from(number).unwrap_or(65534))
}

#[cfg(test)]
mod tests;

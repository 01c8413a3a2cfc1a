//! Tar archives for slots, with names that no ordinary archiver would write.

use std::fmt;

/// A tar archive under construction (GNU format, so that names and link targets of any length work).
pub struct Tree {
    builder: tar::Builder<Vec<u8>>,
    time: u64,
}

impl fmt::Debug for Tree {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tree").field("bytes", &self.builder.get_ref().len()).finish_non_exhaustive()
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// An archive without entries.
    #[must_use]
    pub fn new() -> Self {
        Self { builder: tar::Builder::new(Vec::new()), time: 1_700_000_000 }
    }

    /// Sets the modification time of the entries that follow, seconds since 1970.
    #[must_use]
    pub fn time(mut self, seconds: u64) -> Self {
        self.time = seconds;
        self
    }

    /// Adds a regular file.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<[u8]>, mode: u32, content: &[u8]) -> Self {
        self.add(tar::EntryType::Regular, path.as_ref(), mode, None, content);
        self
    }

    /// Adds a directory.
    #[must_use]
    pub fn directory(mut self, path: impl AsRef<[u8]>, mode: u32) -> Self {
        self.add(tar::EntryType::Directory, path.as_ref(), mode, None, b"");
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.add(tar::EntryType::Symlink, path.as_ref(), 0o777, Some(target.as_ref()), b"");
        self
    }

    /// Adds a hard link to an earlier entry.
    #[must_use]
    pub fn hard_link(mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.add(tar::EntryType::Link, path.as_ref(), 0o644, Some(target.as_ref()), b"");
        self
    }

    /// Adds an entry of any other type, such as a fifo or a device.
    #[must_use]
    pub fn special(mut self, kind: tar::EntryType, path: impl AsRef<[u8]>, mode: u32) -> Self {
        self.add(kind, path.as_ref(), mode, None, b"");
        self
    }

    /// Adds a ready header and its content, unchecked; the header's checksum is made right.
    #[must_use]
    pub fn raw(mut self, mut header: tar::Header, content: &[u8]) -> Self {
        header.set_cksum();
        self.builder.append(&header, content).expect("memory takes everything");
        self
    }

    /// Returns the finished archive.
    #[must_use]
    pub fn archive(self) -> Vec<u8> {
        self.builder.into_inner().expect("memory takes everything")
    }

    /// Names are written as they are, also those that no archiver would write (`../x`, `/x`, not UTF-8).
    fn add(&mut self, kind: tar::EntryType, path: &[u8], mode: u32, link: Option<&[u8]>, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(self.time);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        for (letter, name) in [(b'L', Some(path)), (b'K', link)] {
            if let Some(name) = name.filter(|name| name.len() > 100) {
                self.add_long_name(letter, name);
            }
        }
        let fields = header.as_gnu_mut().expect("made as a GNU header");
        copy_front(&mut fields.name, path);
        copy_front(&mut fields.linkname, link.unwrap_or_default());
        header.set_cksum();
        self.builder.append(&header, content).expect("memory takes everything");
    }

    fn add_long_name(&mut self, letter: u8, name: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(letter));
        copy_front(&mut header.as_gnu_mut().expect("made as a GNU header").name, b"././@LongLink");
        let content = [name, b"\0"].concat();
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.builder.append(&header, content.as_slice()).expect("memory takes everything");
    }
}

fn copy_front(field: &mut [u8], bytes: &[u8]) {
    let length = field.len().min(bytes.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

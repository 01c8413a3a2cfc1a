//! Entries of a tar archive (POSIX.1-2001, `pax`), written as they come: names of any bytes, attributes.
//!
//! **Invariant:** after each call the archive is at the end of a whole block, and an entry's content has exactly the
//! length that its header says.

use std::io::{self, Write};

use tar::{EntryType, Header};

use super::ExtendedAttributes;
use crate::disk::kind::device_parts;
use crate::node::{Attributes, Kind};
use crate::slot::scan::tar::REPEATED;

/// Bytes of a header, and of everything in the archive.
pub(crate) const BLOCK: usize = 512;
/// How much is read at a time, in bytes.
const PIECE: usize = 256 << 10;
/// The largest number that an octal field of eight bytes holds.
const LARGEST_SHORT: u64 = 0o7_777_777;
/// The largest number that an octal field of twelve bytes holds.
const LARGEST_LONG: u64 = 0o77_777_777_777;

/// What an entry's header says.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    pub(crate) node: Attributes,
    pub(crate) attributes: ExtendedAttributes,
}

/// Writes entries to where an archive goes.
pub(crate) struct TarWriter<'a> {
    out: &'a mut dyn Write,
    /// What contents are read into.
    buffer: Vec<u8>,
}

/// A stretch of data: offset and length in bytes.
pub(crate) type Stretch = (u64, u64);

impl<'a> TarWriter<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, buffer: Vec::new() }
    }

    /// Ends the archive.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()
    }

    /// Tells whoever gets the archive that what follows has little to do with what was before.
    pub(crate) fn may_cut(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes a part of an entry's content.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Writes an entry without content.
    pub(crate) fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let kind = match entry.node.kind {
            Kind::Directory => EntryType::Directory,
            Kind::Symlink => EntryType::Symlink,
            Kind::Fifo => EntryType::Fifo,
            Kind::CharacterDevice => EntryType::Char,
            Kind::BlockDevice => EntryType::Block,
            Kind::File | Kind::Socket => EntryType::Regular,
        };
        self.header(entry, kind, 0, Vec::new())
    }

    /// Writes an entry that is one more name of `entry.link`.
    pub(crate) fn hard_link(&mut self, entry: &Entry) -> io::Result<()> {
        self.header(entry, EntryType::Link, 0, Vec::new())
    }

    /// Writes an entry that is a file of its own with the content of `entry.link`.
    pub(crate) fn repeated(&mut self, entry: &Entry) -> io::Result<()> {
        self.header(entry, EntryType::Link, 0, vec![(REPEATED.to_vec(), b"1".to_vec())])
    }

    /// Writes a file of `entry.node.size` bytes that `read` gets at an offset.
    pub(crate) fn content(
        &mut self,
        entry: &Entry,
        read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let size = entry.node.size;
        self.header(entry, EntryType::Regular, size, Vec::new())?;
        self.stretch((0, size), read)?;
        self.pad(size)
    }

    /// Copies a stretch; where it has become shorter meanwhile, zeros stand in.
    pub(crate) fn stretch(
        &mut self,
        (offset, length): Stretch,
        read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        // After a failure the archive is of no use, and the buffer neither.
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut done = 0;
        while done < length {
            let wanted = usize::try_from(length - done).unwrap_or(PIECE).min(PIECE);
            if buffer.len() < wanted {
                buffer.resize(wanted, 0);
            }
            let mut count = read(offset + done, &mut buffer[..wanted])?;
            if count == 0 {
                buffer[..wanted].fill(0);
                count = wanted;
            }
            self.bytes(&buffer[..count])?;
            done += count as u64;
        }
        self.buffer = buffer;
        Ok(())
    }

    pub(crate) fn pad(&mut self, length: u64) -> io::Result<()> {
        let over = usize::try_from(length % BLOCK as u64).unwrap_or_default();
        if over == 0 { Ok(()) } else { self.out.write_all(&[0; BLOCK][over..]) }
    }

    /// Writes a header of `size` bytes of content, and before it what does not fit into one.
    pub(crate) fn header(
        &mut self,
        entry: &Entry,
        kind: EntryType,
        size: u64,
        mut records: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(entry.node.mode);
        let node = &entry.node;
        let mut path = entry.path.clone();
        if kind == EntryType::Directory {
            path.push(b'/');
        }
        put_name(&mut header.as_old_mut().name, &path, b"path", &mut records);
        put_name(&mut header.as_old_mut().linkname, &entry.link, b"linkpath", &mut records);
        header.set_uid(fitting(node.user.into(), LARGEST_SHORT, b"uid", &mut records));
        header.set_gid(fitting(node.group.into(), LARGEST_SHORT, b"gid", &mut records));
        header.set_size(fitting(size, LARGEST_LONG, b"size", &mut records));
        put_time(&mut header, node, &mut records);
        let (major, minor) = device_parts(node.device);
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
        // A link has those of its file, unless it is to become one of its own.
        if kind != EntryType::Link || !records.is_empty() {
            for (name, value) in &entry.attributes {
                records.push(([b"SCHILY.xattr.", &name[..]].concat(), value.clone()));
            }
        }
        self.records(records)?;
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    /// Writes what does not fit into the header that follows.
    fn records(&mut self, mut records: Vec<(Vec<u8>, Vec<u8>)>) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let names = [&b"path"[..], b"linkpath", b"GNU.sparse.name"];
        let is_foreign = |(key, value): &(Vec<u8>, Vec<u8>)| {
            names.contains(&&key[..]) && std::str::from_utf8(value).is_err()
        };
        if records.iter().any(is_foreign) {
            records.insert(0, (b"hdrcharset".to_vec(), b"BINARY".to_vec()));
        }
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.as_old_mut().name[..16].copy_from_slice(b"PaxHeaders/entry");
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(body.len() as u64);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(&body)?;
        self.pad(body.len() as u64)
    }
}

/// Puts a name into its field, or, where it does not fit or is no plain text, into a record.
fn put_name(field: &mut [u8], name: &[u8], key: &[u8], records: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    let fits = name.len().min(field.len());
    field[..fits].copy_from_slice(&name[..fits]);
    if fits < name.len() || !name.is_ascii() {
        records.push((key.to_vec(), name.to_vec()));
    }
}

/// Returns `number` if its field can hold it; else it becomes a record.
fn fitting(number: u64, largest: u64, key: &[u8], records: &mut Vec<(Vec<u8>, Vec<u8>)>) -> u64 {
    if number <= largest {
        return number;
    }
    records.push((key.to_vec(), number.to_string().into_bytes()));
    0
}

fn put_time(header: &mut Header, node: &Attributes, records: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    let time = node.modified;
    let whole = u64::try_from(time.seconds).ok().filter(|seconds| *seconds <= LARGEST_LONG);
    header.set_mtime(whole.unwrap_or_default());
    if whole.is_none() || time.nanoseconds != 0 {
        records.push((b"mtime".to_vec(), pax_time(time.seconds, time.nanoseconds).into_bytes()));
    }
}

/// Returns a time as pax writes it: a decimal number whose fraction goes the same way as its sign.
fn pax_time(seconds: i64, nanoseconds: u32) -> String {
    if seconds >= 0 || nanoseconds == 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    let whole = seconds + 1;
    let sign = if whole == 0 { "-" } else { "" };
    format!("{sign}{whole}.{:09}", 1_000_000_000 - nanoseconds)
}

/// Returns a pax record: its own length in decimal, a space, key, `=`, value, a newline.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    loop {
        let whole = rest + length.to_string().len();
        if whole == length {
            break;
        }
        length = whole;
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(record(b"path", b"a"), b"9 path=a\n");
        assert_eq!(record(b"path", b"ab"), b"11 path=ab\n");
        let long = record(b"path", &[b'x'; 93]);
        assert_eq!(long.len(), 103);
        assert!(long.starts_with(b"103 path="));
    }

    #[test]
    fn times_before_1970_are_written_as_one_number() {
        let table = [
            (5, 0, "5.000000000"),
            (5, 250_000_000, "5.250000000"),
            (-1, 750_000_000, "-0.250000000"),
            (-2, 750_000_000, "-1.250000000"),
            (-2, 0, "-2.000000000"),
        ];
        for (seconds, nanoseconds, expected) in table {
            assert_eq!(pax_time(seconds, nanoseconds), expected);
        }
    }
}

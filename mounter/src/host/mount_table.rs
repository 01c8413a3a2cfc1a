//! What is mounted where, from the kernel's own table (`/proc/self/mountinfo`, proc(5)): the only truth about
//! mounts that slotfs believes.
//!
//! Reading it asks no file system anything, so a dead or hung mount cannot hold it up.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use slotfs_fs::disk::{Context, DiskError};

use super::files::path_from_bytes;

/// The file-system kind of slotfs's mounts.
pub const OUR_KIND: &[u8] = b"fuse.slotfs";

/// One line of the mount table. Paths are bytes as the kernel has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The mount's number, unique while it lives.
    pub id: u32,
    /// The number of the mount that it lies on.
    pub parent: u32,
    /// Major and minor number of the mounted file system: what `st_dev` shows of its files.
    pub device: (u32, u32),
    /// Which directory of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub mountpoint: PathBuf,
    /// Options of this mount: `rw`, `nosuid`, `noexec`, …
    pub options: Vec<String>,
    /// Kind of file system, with a subtype after a dot.
    pub kind: Vec<u8>,
    /// What is mounted, as the one who mounted it called it.
    pub source: PathBuf,
    /// Options of the file system.
    pub file_system_options: Vec<String>,
}

impl Mount {
    /// Tells whether slotfs made it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.kind == OUR_KIND
    }

    /// Tells whether a process serves it.
    #[must_use]
    pub fn is_fuse(&self) -> bool {
        self.kind == b"fuse" || self.kind.starts_with(b"fuse.") || self.kind == b"fuseblk"
    }

    /// Tells whether the mount has an option, such as `ro` or `noexec`.
    #[must_use]
    pub fn has_option(&self, name: &str) -> bool {
        self.options.iter().any(|option| option == name)
    }
}

/// A line that is none of a mount table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the mount table: {reason}")]
pub struct MountTableError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Parses the text of `/proc/self/mountinfo`, in its order: of several mounts at one place the last is on top.
///
/// # Errors
/// A line lacks a field or a number.
pub fn parse(table: &[u8]) -> Result<Vec<Mount>, MountTableError> {
    table
        .split(|&byte| byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| parse_line(line).map_err(|reason| MountTableError { line: index + 1, reason }))
        .collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`: any number of optional
/// fields stand before the dash.
fn parse_line(line: &[u8]) -> Result<Mount, &'static str> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut next = || fields.next().ok_or("a field is missing");
    let id = number(next()?)?;
    let parent = number(next()?)?;
    let device = next()?;
    let colon = device.iter().position(|&byte| byte == b':').ok_or("no device number")?;
    let device = (number(&device[..colon])?, number(&device[colon + 1..])?);
    let root = path(next()?);
    let mountpoint = path(next()?);
    let options = words(next()?);
    while next()? != b"-" {}
    let kind = unescaped(next()?);
    let source = path(next()?);
    let file_system_options = words(next()?);
    Ok(Mount { id, parent, device, root, mountpoint, options, kind, source, file_system_options })
}

fn number(field: &[u8]) -> Result<u32, &'static str> {
    std::str::from_utf8(field).ok().and_then(|text| text.parse().ok()).ok_or("not a number")
}

fn path(field: &[u8]) -> PathBuf {
    path_from_bytes(unescaped(field))
}

fn words(field: &[u8]) -> Vec<String> {
    field
        .split(|&byte| byte == b',')
        .map(|word| String::from_utf8_lossy(&unescaped(word)).into_owned())
        .collect()
}

/// Undoes the kernel's `\ooo` for space, tab, line feed, backslash and `#`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

/// Most mount tables are shorter, in bytes.
const USUAL_LENGTH: usize = 16 << 10;

/// Reads this process's mount table. On systems where slotfs makes no mounts it is empty.
///
/// # Errors
/// `/proc` is not mounted, or the table is not what the kernel documents.
pub fn read() -> Result<Vec<Mount>, DiskError> {
    const PATH: &str = "/proc/self/mountinfo";
    if !cfg!(target_os = "linux") {
        return Ok(Vec::new());
    }
    // The kernel makes the lines anew for each piece that is read: one is enough for most tables.
    let mut table = Vec::with_capacity(USUAL_LENGTH);
    File::open(PATH).and_then(|mut file| file.read_to_end(&mut table)).context("read", PATH)?;
    parse(&table)
        .map_err(|error| DiskError::new("understand", PATH, std::io::Error::other(error.to_string())))
}

/// Returns the mount that is on top at exactly `place`. The path is compared as bytes: give it as the kernel has it,
/// absolute and without symbolic links.
#[must_use]
pub fn at<'a>(table: &'a [Mount], place: &Path) -> Option<&'a Mount> {
    table.iter().rev().find(|mount| mount.mountpoint == place)
}

/// Returns the mount that a path lies in.
#[must_use]
pub fn containing<'a>(table: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    table
        .iter()
        .filter(|mount| path.starts_with(&mount.mountpoint))
        // Of equally long ones the last, which is on top.
        .max_by_key(|mount| mount.mountpoint.as_os_str().len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
        30 22 0:21 / /proc rw,nosuid shared:5 master:2 - proc proc rw\n\
        41 22 0:44 / /home/a\\040b\\134c\\011d ro,nosuid,nodev,noexec - fuse.slotfs /p,k\\012g.psp rw,user_id=1000\n\
        42 22 0:45 /sub /home rw - fuse - rw\n";

    #[test]
    fn every_field_is_read() {
        let table = parse(TABLE).unwrap();
        assert_eq!(table.len(), 4);
        let ours = &table[2];
        assert_eq!((ours.id, ours.parent, ours.device), (41, 22, (0, 44)));
        assert_eq!(ours.mountpoint, Path::new("/home/a b\\c\td"));
        assert_eq!(ours.source, Path::new("/p,k\ng.psp"));
        assert!(ours.is_ours() && ours.is_fuse());
        assert!(ours.has_option("noexec") && ours.has_option("ro") && !ours.has_option("rw"));
        assert_eq!(ours.file_system_options, ["rw", "user_id=1000"]);
        assert!(table[3].is_fuse() && !table[3].is_ours());
        assert!(!table[0].is_fuse());
    }

    #[test]
    fn names_of_any_bytes_survive() {
        assert_eq!(unescaped(b"a\\377\\000\xfe\\"), b"a\xff\x00\xfe\\");
        assert_eq!(unescaped(b"\\48\\999"), b"\\48\\999");
    }

    #[test]
    fn damaged_lines_are_named() {
        for (table, line) in [
            (&b"22 1 254:0 / / rw"[..], 1),
            (b"22 1 254:0 / / rw - ext4 x rw\n\nx 1 0:1 / / rw - a b c", 3),
            (b"22 1 2540 / / rw - ext4 x rw", 1),
            (b"22 1 254:0 / / rw shared:1", 1),
        ] {
            assert_eq!(parse(table).unwrap_err().line, line);
        }
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn the_topmost_mount_of_a_path_is_found() {
        let table = parse(
            b"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /m rw - tmpfs b rw\n3 2 0:3 / /m rw - tmpfs c rw\n",
        )
        .unwrap();
        assert_eq!(containing(&table, Path::new("/m/x")).map(|mount| mount.id), Some(3));
        assert_eq!(containing(&table, Path::new("/mx")).map(|mount| mount.id), Some(1));
        assert_eq!(at(&table, Path::new("/m")).map(|mount| mount.id), Some(3));
        assert_eq!(at(&table, Path::new("/n")), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_real_table_is_read() {
        let table = read().unwrap();
        assert!(table.iter().any(|mount| mount.mountpoint == Path::new("/")));
        assert!(containing(&table, Path::new("/proc/self")).is_some_and(|mount| mount.kind == b"proc"));
    }
}

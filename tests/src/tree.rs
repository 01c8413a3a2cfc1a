//! Host directories: as a layer under a volume, and as a description that two trees can be compared by.
//!
//! **Invariant:** a description holds everything a copy must keep, and nothing that two copies cannot share (inode
//! numbers, change times).

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use slotfs_fs::layer::memory::{MemoryLayer, MemoryLayerBuilder};
use slotfs_fs::node::{Kind, Timestamp};

/// Returns every path below `root` but `root` itself, parents first, in the order of their names.
///
/// # Panics
/// A directory cannot be read.
#[must_use]
pub fn walk(root: &Path) -> Vec<(PathBuf, Metadata)> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        let place = root.join(&directory);
        let listed = std::fs::read_dir(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
        for entry in listed {
            let name = entry.expect("a name").file_name();
            let path = directory.join(name);
            let metadata = std::fs::symlink_metadata(root.join(&path))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if metadata.is_dir() {
                waiting.push(path.clone());
            }
            found.push((path, metadata));
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// Describes `root` and everything in it, one line per path: kind, mode, owner, modification time of all but
/// directories, and content, with a hash in the place of a file's bytes.
///
/// # Panics
/// Something in it cannot be read.
#[must_use]
pub fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut first_names: HashMap<u64, PathBuf> = HashMap::new();
    let mut lines = BTreeMap::new();
    for (path, metadata) in walk(root) {
        let place = root.join(&path);
        let mut line = format!(
            "{:o} {}:{} {}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            content(&place, &metadata)
        );
        if !metadata.is_dir() {
            line += &format!(" {}.{:09}", metadata.mtime(), metadata.mtime_nsec());
            if metadata.nlink() > 1 {
                let first = first_names.entry(metadata.ino()).or_insert_with(|| path.clone());
                line += &format!(" {} links, first {}", metadata.nlink(), first.display());
            }
        }
        lines.insert(path, line);
    }
    lines
}

fn content(place: &Path, metadata: &Metadata) -> String {
    let kind = metadata.file_type();
    if kind.is_file() {
        let bytes = std::fs::read(place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        format!("file {} {:016x}", bytes.len(), hasher.finish())
    } else if kind.is_symlink() {
        let target = std::fs::read_link(place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
        format!("link {}", target.display())
    } else if kind.is_dir() {
        "directory".into()
    } else if kind.is_fifo() {
        "fifo".into()
    } else {
        format!("special {}", metadata.rdev())
    }
}

/// Returns a layer that holds everything in the host directory `root`, with all attributes and hard links.
///
/// # Panics
/// Something in it cannot be read.
#[must_use]
pub fn layer(root: &Path) -> MemoryLayerBuilder {
    let mut first_names: HashMap<u64, PathBuf> = HashMap::new();
    let mut builder = MemoryLayer::builder();
    for (path, metadata) in walk(root) {
        let (place, name, kind) = (root.join(&path), path.as_os_str().as_bytes(), metadata.file_type());
        let mode = metadata.mode() & 0o7777;
        if !metadata.is_dir() && metadata.nlink() > 1 {
            if let Some(first) = first_names.get(&metadata.ino()) {
                builder = builder.hard_link(name, first.as_os_str().as_bytes());
                continue;
            }
            first_names.insert(metadata.ino(), path.clone());
        }
        builder = if kind.is_dir() {
            builder.directory(name, mode)
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&place).expect("a link has a target");
            builder.symlink(name, target.as_os_str().as_bytes())
        } else if kind.is_file() {
            builder.file(name, mode, std::fs::read(&place).expect("a file can be read"))
        } else {
            let kind = if kind.is_fifo() {
                Kind::Fifo
            } else if kind.is_socket() {
                Kind::Socket
            } else if kind.is_block_device() {
                Kind::BlockDevice
            } else {
                Kind::CharacterDevice
            };
            builder.special(name, kind, mode, metadata.rdev())
        };
        let time = |seconds: i64, nanoseconds: i64| Timestamp {
            seconds,
            nanoseconds: u32::try_from(nanoseconds).unwrap_or_default(),
        };
        builder = builder.change(name, |attributes| {
            (attributes.user, attributes.group) = (metadata.uid(), metadata.gid());
            attributes.accessed = time(metadata.atime(), metadata.atime_nsec());
            attributes.modified = time(metadata.mtime(), metadata.mtime_nsec());
            attributes.changed = time(metadata.ctime(), metadata.ctime_nsec());
        });
        for (attribute, value) in extended_attributes(&place) {
            builder = builder.xattr(name, attribute, value);
        }
    }
    builder
}

fn extended_attributes(place: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut buffer = vec![0; 64 << 10];
    let names =
        rustix::fs::llistxattr(place, &mut buffer[..]).map_or(Vec::new(), |length| buffer[..length].to_vec());
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .filter_map(|name| {
            let length = rustix::fs::lgetxattr(place, name, &mut buffer[..]).ok()?;
            Some((name.to_vec(), buffer[..length].to_vec()))
        })
        .collect()
}

//! Archives made and unpacked by the tools that users have, and trees to compare: what a layer shows against what is on
//! disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use slotfs_fs::disk::digest::Digest;
use slotfs_fs::disk::range::FileRange;
use slotfs_fs::layer::{Layer, LayerNode, SlotHome, SlotLayer, SlotOptions};
use slotfs_fs::node::Kind;
use slotfs_fs::package::{Compression, Container, Slot, SlotSource, StatedChecksum};
use slotfs_fs::store::Store;

/// Every compression.
pub const COMPRESSIONS: [Compression; 4] =
    [Compression::Gzip, Compression::Bzip2, Compression::Xz, Compression::Zstd];

/// Compresses `bytes` with the library that users' tools are made of.
///
/// # Panics
/// There is no memory.
#[must_use]
pub fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::default());
            encoder.write_all(bytes).and_then(|()| encoder.finish().map(drop)).expect("gzip");
        }
        Compression::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(&mut out, bzip2::Compression::default());
            encoder.write_all(bytes).and_then(|()| encoder.finish().map(drop)).expect("bzip2");
        }
        Compression::Xz => {
            xz::read::XzEncoder::new(bytes, 1).read_to_end(&mut out).expect("xz");
        }
        Compression::Zstd => out = zstd::encode_all(bytes, 3).expect("zstd"),
    }
    out
}

/// Runs a tool in `folder`; its standard error goes into the message when it fails.
///
/// # Panics
/// The tool is missing or fails, unless `lenient`.
pub fn run(folder: &Path, lenient: bool, tool: &str, arguments: &[&str]) {
    let output = Command::new(tool)
        .args(arguments)
        .current_dir(folder)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .output()
        .unwrap_or_else(|error| panic!("{tool}: {error}"));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(lenient || output.status.success(), "{tool} {arguments:?}: {message}");
}

/// Describes stored bytes as a slot.
///
/// # Panics
/// The file cannot be opened.
#[must_use]
pub fn slot_of(path: &Path, container: Container, compressions: &[Compression]) -> Slot {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let length = file.metadata().expect("metadata").len();
    let stored = FileRange::new(Arc::new(file), 0, length).expect("a file fits in 63 bits");
    Slot {
        position: 0,
        id: "slot".into(),
        target: Vec::new(),
        target_text: String::new(),
        source: SlotSource { stored, compressions: compressions.to_vec(), container },
        chain: String::new(),
        digest: None,
        stated_checksum: StatedChecksum::parse(""),
        short_checksum: None,
        lifecycle: "runtime".into(),
        lifecycle_code: 2,
        purpose: "data".into(),
        platform: String::new(),
        platform_code: 0,
        permissions: 0o640,
        self_reference: false,
        carried_index: None,
    }
}

/// A cache folder and what is needed to open slots with it.
#[derive(Debug)]
pub struct Cache {
    /// The folder; removed at the end.
    pub folder: tempfile::TempDir,
    /// What slots are opened with.
    pub home: SlotHome,
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

impl Cache {
    /// Returns an empty cache.
    ///
    /// # Panics
    /// There is no disk to write to.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary directory");
        let shared = folder.path().join("shared");
        let store = Arc::new(Store::open(&shared).expect("store"));
        Self { folder, home: SlotHome { shared, store: Some(store) } }
    }

    /// Opens a slot as its digest, taken now, names it.
    ///
    /// # Panics
    /// The slot cannot be opened.
    #[must_use]
    pub fn open(&self, slot: &Slot, options: SlotOptions) -> SlotLayer {
        let digest = Digest::of_range(&slot.source.stored).expect("digest");
        SlotLayer::open(slot, digest, &self.home, options).expect("open the slot")
    }

    /// Writes `bytes` to a file in the cache's folder.
    ///
    /// # Panics
    /// The disk is full.
    #[must_use]
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).expect("write");
        path
    }
}

/// What can be seen of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Kind.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Seconds and nanoseconds of the modification time; not of directories that no entry describes.
    pub modified: (i64, u32),
    /// Length of a file.
    pub size: u64,
    /// Digest of a file's content.
    pub content: Option<Digest>,
    /// Target of a symbolic link.
    pub target: Option<Vec<u8>>,
    /// Extended attributes of users.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Number of names of anything but a directory.
    pub links: u32,
}

/// A tree by path; the root is the empty path.
pub type Tree = BTreeMap<Vec<u8>, Seen>;

/// Looks at everything in a layer, reading each file in pieces of `piece` bytes.
///
/// # Panics
/// The layer fails.
#[must_use]
pub fn tree_of_layer(layer: &dyn Layer, piece: usize) -> Tree {
    let mut tree = Tree::new();
    let mut todo = vec![(Vec::new(), layer.root())];
    while let Some((path, node)) = todo.pop() {
        let seen = see(layer, node, piece);
        if seen.kind == Kind::Directory {
            layer
                .read_directory(node, None, &mut |name, child, kind| {
                    let mut below = path.clone();
                    if !below.is_empty() {
                        below.push(b'/');
                    }
                    below.extend_from_slice(name);
                    assert_eq!(layer.attributes(child).expect("attributes").kind, kind);
                    todo.push((below, child));
                    ControlFlow::Continue(())
                })
                .expect("read the directory");
        }
        tree.insert(path, seen);
    }
    tree
}

/// Looks at one node of a layer.
///
/// # Panics
/// The layer fails.
#[must_use]
pub fn see(layer: &dyn Layer, node: LayerNode, piece: usize) -> Seen {
    let attributes = layer.attributes(node).expect("attributes");
    let is_file = attributes.kind == Kind::File;
    Seen {
        kind: attributes.kind,
        mode: attributes.mode,
        modified: (attributes.modified.seconds, attributes.modified.nanoseconds),
        size: if is_file { attributes.size } else { 0 },
        content: is_file.then(|| Digest::of(&read_all(layer, node, piece))),
        target: (attributes.kind == Kind::Symlink).then(|| layer.read_link(node).expect("link")),
        attributes: layer.extended_attributes(node).expect("extended attributes"),
        links: if attributes.kind == Kind::Directory { 0 } else { attributes.links },
    }
}

/// Reads a whole file of a layer in pieces.
///
/// # Panics
/// The layer fails.
#[must_use]
pub fn read_all(layer: &dyn Layer, node: LayerNode, piece: usize) -> Vec<u8> {
    let mut content = Vec::new();
    let mut buffer = vec![0; piece];
    loop {
        let count = layer.read(node, content.len() as u64, &mut buffer).expect("read");
        content.extend_from_slice(&buffer[..count]);
        if count < piece {
            return content;
        }
    }
}

/// Follows a path of names from the root.
///
/// # Panics
/// The layer fails.
#[must_use]
pub fn find(layer: &dyn Layer, path: &[u8]) -> Option<LayerNode> {
    let mut node = layer.root();
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        node = layer.lookup(node, name).expect("look up")?;
    }
    Some(node)
}

/// Looks at everything on disk below `folder`.
///
/// # Panics
/// Something cannot be read.
#[cfg(unix)]
#[must_use]
pub fn tree_of_folder(folder: &Path) -> Tree {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut tree = Tree::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).expect("metadata");
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Symlink,
            kind if kind.is_fifo() => Kind::Fifo,
            kind if kind.is_socket() => Kind::Socket,
            kind if kind.is_char_device() => Kind::CharacterDevice,
            kind if kind.is_block_device() => Kind::BlockDevice,
            _ => Kind::File,
        };
        if kind == Kind::Directory {
            todo.extend(fs::read_dir(&path).expect("list").map(|entry| entry.expect("entry").path()));
        }
        let seen = Seen {
            kind,
            mode: metadata.mode() & 0o7777,
            modified: (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).expect("nanoseconds")),
            size: if kind == Kind::File { metadata.len() } else { 0 },
            content: (kind == Kind::File).then(|| Digest::of(&fs::read(&path).expect("read"))),
            target: (kind == Kind::Symlink)
                .then(|| fs::read_link(&path).expect("link").as_os_str().as_bytes().to_vec()),
            attributes: if kind == Kind::Symlink { Vec::new() } else { attributes_of(&path) },
            links: if kind == Kind::Directory { 0 } else { u32::try_from(metadata.nlink()).expect("links") },
        };
        let below = path.strip_prefix(folder).expect("below");
        tree.insert(below.as_os_str().as_bytes().to_vec(), seen);
    }
    tree
}

#[cfg(unix)]
fn attributes_of(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; 65536];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else { return Vec::new() };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")) {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("value");
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort();
    found
}

/// Compares two trees and names the first differences.
///
/// # Panics
/// They differ.
pub fn assert_same(found: &Tree, expected: &Tree, what: &str) {
    let mut differences = Vec::new();
    for path in expected.keys().chain(found.keys()).collect::<std::collections::BTreeSet<_>>() {
        if found.get(path) != expected.get(path) {
            differences.push(format!(
                "`{}`\n  found    {:?}\n  expected {:?}",
                String::from_utf8_lossy(path),
                found.get(path),
                expected.get(path)
            ));
        }
    }
    let first = differences.iter().take(8).cloned().collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{what}: {} differences\n{first}", differences.len());
}

/// Writes tar archives that no tool would write.
#[derive(Debug, Default)]
pub struct TarMaker {
    bytes: Vec<u8>,
}

impl TarMaker {
    /// Appends an entry with this type flag.
    ///
    /// # Panics
    /// The name or link is longer than 100 bytes.
    #[must_use]
    pub fn entry(mut self, kind: u8, name: &[u8], link: &[u8], mode: u32, content: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        old.linkflag[0] = kind;
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        if matches!(kind, b'3' | b'4') {
            header.set_device_major(1).and_then(|()| header.set_device_minor(3)).expect("device");
        }
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// Appends a regular file, mode 0644.
    #[must_use]
    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(b'0', name.as_bytes(), b"", 0o644, content)
    }

    /// Appends a directory, mode 0755.
    #[must_use]
    pub fn directory(self, name: &str) -> Self {
        self.entry(b'5', name.as_bytes(), b"", 0o755, b"")
    }

    /// Appends a symbolic link.
    #[must_use]
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name.as_bytes(), target.as_bytes(), 0o777, b"")
    }

    /// Appends a hard link.
    #[must_use]
    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name.as_bytes(), target.as_bytes(), 0o644, b"")
    }

    /// Appends a PAX header with one record for the next entry.
    #[must_use]
    pub fn pax(self, key: &str, value: &[u8]) -> Self {
        let mut length = key.len() + value.len() + 3;
        length += (length + length.to_string().len()).to_string().len();
        let mut record = format!("{length} {key}=").into_bytes();
        record.extend_from_slice(value);
        record.push(b'\n');
        self.entry(b'x', b"pax", b"", 0o644, &record)
    }

    /// Returns the archive without the blocks of zeros at its end.
    #[must_use]
    pub fn unended(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the whole archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

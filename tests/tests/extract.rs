//! Trees in memory, written out as plain files and compared.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_fs::layer::stack::{PlacedLayer, Stack};
use slotfs_fs::layer::{Layer, LayerError, LayerNode, Visit};
use slotfs_fs::node::{Attributes, Kind, Timestamp};

use slotfs::extract::progress::{Progress, Silent};
use slotfs::extract::{ExtractError, Options, Skipped, extract};

static GO_ON: AtomicBool = AtomicBool::new(false);

fn options() -> Options<'static> {
    Options { force: false, root_mode: None, marker: None, current_directory: Path::new("/"), stop: &GO_ON }
}

fn placed(name: &str, layer: impl Layer + 'static, target: &str) -> PlacedLayer {
    let target =
        target.split('/').filter(|part| !part.is_empty()).map(|part| part.as_bytes().to_vec()).collect();
    PlacedLayer { name: name.into(), layer: Arc::new(layer), target, writable: true }
}

/// Every path with its kind and mode, and content or target.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            let line = if metadata.is_dir() {
                open.push(path.clone());
                format!("directory {mode:04o}")
            } else if metadata.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if metadata.is_file() {
                let content = fs::read(&path).unwrap();
                let start = String::from_utf8_lossy(&content[..content.len().min(20)]).into_owned();
                format!("file {mode:04o} {} {start:?}", content.len())
            } else {
                format!("special {mode:04o}")
            };
            found.insert(path.strip_prefix(root).unwrap().display().to_string(), line);
        }
    }
    found
}

/// What lies in `folder` beside what is expected there.
fn leftovers(folder: &Path, expected: &[&str]) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|n| !expected.contains(&n.as_str()))
        .collect()
}

fn sample() -> MemoryLayer {
    MemoryLayer::builder()
        .file("bin/tool", 0o755, *b"#!/bin/sh\n")
        .hard_link("bin/alias", "bin/tool")
        .file("locked/secret", 0o400, *b"x")
        .directory("locked", 0o555)
        .directory("empty", 0o1777)
        .symlink("bin/latest", "tool")
        .symlink("out", "/etc/hostname")
        .special("pipe", Kind::Fifo, 0o622, 0)
        .special("null", Kind::CharacterDevice, 0o666, 0x103)
        .xattr("bin/tool", "user.colour", "blue")
        .xattr("empty", "user.kind", "hollow")
        .change("bin/tool", |attributes| {
            attributes.modified = Timestamp { seconds: 1_000_000_000, nanoseconds: 7 };
        })
        .change("bin/latest", |attributes| {
            attributes.modified = Timestamp { seconds: 1_100_000_000, nanoseconds: 0 };
        })
        .change("bin", |attributes| {
            attributes.modified = Timestamp { seconds: 1_200_000_000, nanoseconds: 0 };
        })
        .build()
        .unwrap()
}

#[test]
fn everything_a_slot_holds_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep/tree");
    let layers = vec![
        placed("base", sample(), ""),
        placed("file", MemoryLayer::single_file(0o640, *b"{}"), "etc/app.json"),
    ];
    let report = extract(&Stack::new(layers), &root, &options(), &Silent).unwrap();
    let expected = [
        ("bin", "directory 0755"),
        ("bin/alias", "file 0755 10 \"#!/bin/sh\\n\""),
        ("bin/latest", "-> tool"),
        ("bin/tool", "file 0755 10 \"#!/bin/sh\\n\""),
        ("empty", "directory 1777"),
        ("etc", "directory 0755"),
        ("etc/app.json", "file 0640 2 \"{}\""),
        ("locked", "directory 0555"),
        ("locked/secret", "file 0400 1 \"x\""),
        ("out", "-> /etc/hostname"),
        ("pipe", "special 0622"),
    ];
    let expected: BTreeMap<String, String> = expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    assert_eq!(listing(&root), expected);
    let metadata = |path: &str| fs::symlink_metadata(root.join(path)).unwrap();
    assert_eq!(metadata("bin/tool").ino(), metadata("bin/alias").ino());
    assert_eq!((metadata("bin/tool").mtime(), metadata("bin/tool").mtime_nsec()), (1_000_000_000, 7));
    assert_eq!(metadata("bin/latest").mtime(), 1_100_000_000);
    assert_eq!(metadata("bin").mtime(), 1_200_000_000);
    let attribute = |path: &str, name: &str| {
        let mut value = [0; 32];
        let count = rustix::fs::getxattr(root.join(path), name, &mut value).unwrap();
        String::from_utf8_lossy(&value[..count]).into_owned()
    };
    assert_eq!(attribute("bin/tool", "user.colour"), "blue");
    assert_eq!(attribute("empty", "user.kind"), "hollow");
    assert_eq!((report.files, report.directories, report.links, report.bytes), (3, 5, 4, 13));
    assert_eq!(
        report.skipped,
        [Skipped { path: "null".into(), reason: "device nodes are not extracted".into() }]
    );
    assert_eq!(leftovers(&folder.path().join("deep"), &["tree"]), Vec::<String>::new());
}

#[test]
fn later_slots_lie_over_earlier_ones() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    let low = MemoryLayer::builder()
        .file("a/one", 0o644, *b"low")
        .file("a/two", 0o644, *b"low")
        .file("b/deep/file", 0o644, *b"low")
        .symlink("c", "a")
        .build()
        .unwrap();
    let high = MemoryLayer::builder()
        .file("a/one", 0o600, *b"high")
        .file("b", 0o644, *b"file over directory")
        .file("c/inside", 0o644, *b"directory over link")
        .build()
        .unwrap();
    let stack = Stack::new(vec![placed("low", low, ""), placed("high", high, "")]);
    extract(&stack, &root, &options(), &Silent).unwrap();
    let expected = [
        ("a", "directory 0755"),
        ("a/one", "file 0600 4 \"high\""),
        ("a/two", "file 0644 3 \"low\""),
        ("b", "file 0644 19 \"file over directory\""),
        ("c", "directory 0755"),
        ("c/inside", "file 0644 19 \"directory over link\""),
    ];
    let expected: BTreeMap<String, String> = expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    assert_eq!(listing(&root), expected);
}

#[test]
fn holes_stay_holes_and_large_files_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    let mut content = vec![0_u8; 5 << 20];
    content[3_000_000] = 1;
    let layer = MemoryLayer::builder()
        .file("sparse", 0o644, content.clone())
        .file("dense", 0o644, content.clone())
        .change("sparse", |attributes| attributes.blocks = 8)
        .build()
        .unwrap();
    extract(&Stack::new(vec![placed("s", layer, "")]), &root, &options(), &Silent).unwrap();
    assert!(fs::read(root.join("sparse")).unwrap() == content);
    assert!(fs::read(root.join("dense")).unwrap() == content);
    let taken = |name: &str| fs::metadata(root.join(name)).unwrap().blocks() * 512;
    assert!(taken("sparse") < 1 << 20, "{}", taken("sparse"));
    assert!(taken("sparse") < taken("dense"));
}

#[test]
fn what_is_there_is_replaced_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    let stack = Stack::new(vec![placed("s", sample(), "")]);
    fs::create_dir(&root).unwrap();
    extract(&stack, &root, &options(), &Silent).unwrap();
    fs::write(root.join("mine"), "kept").unwrap();
    let error = extract(&stack, &root, &options(), &Silent).unwrap_err();
    assert!(matches!(error, ExtractError::NotEmpty { .. }), "{error}");
    assert!(root.join("mine").exists());
    extract(&stack, &root, &Options { force: true, ..options() }, &Silent).unwrap();
    assert!(!root.join("mine").exists());
    assert_eq!(leftovers(folder.path(), &["tree"]), Vec::<String>::new());

    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = extract(&stack, &file, &Options { force: true, ..options() }, &Silent).unwrap_err();
    assert!(matches!(error, ExtractError::NotDirectory { .. }), "{error}");
    let inside = root.join("bin");
    let within = Options { force: true, current_directory: &inside, ..options() };
    let error = extract(&stack, &root, &within, &Silent).unwrap_err();
    assert!(matches!(error, ExtractError::InUse { .. }), "{error}");
}

/// A layer of one file, `data`, that misbehaves.
#[derive(Debug)]
struct Bad {
    size: u64,
    readable: u64,
    name: &'static [u8],
}

impl Layer for Bad {
    fn root(&self) -> LayerNode {
        LayerNode(0)
    }

    fn lookup(&self, _: LayerNode, name: &[u8]) -> Result<Option<LayerNode>, LayerError> {
        Ok((name == self.name).then_some(LayerNode(1)))
    }

    fn attributes(&self, node: LayerNode) -> Result<Attributes, LayerError> {
        let made = MemoryLayer::single_file(0o644, *b"");
        let attributes = made.attributes(LayerNode(0))?;
        Ok(match node.0 {
            0 => Attributes { kind: Kind::Directory, ..attributes },
            _ => Attributes { size: self.size, blocks: self.size.div_ceil(512), ..attributes },
        })
    }

    fn read_directory(
        &self,
        _: LayerNode,
        _: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), LayerError> {
        let _ = visit(self.name, LayerNode(1), Kind::File);
        Ok(())
    }

    fn read_link(&self, _: LayerNode) -> Result<Vec<u8>, LayerError> {
        Ok(Vec::new())
    }

    fn extended_attributes(&self, _: LayerNode) -> Result<Vec<(Vec<u8>, Vec<u8>)>, LayerError> {
        Ok(Vec::new())
    }

    fn read(&self, _: LayerNode, offset: u64, buffer: &mut [u8]) -> Result<usize, LayerError> {
        if offset >= self.readable {
            let reason = "checksum".to_owned();
            return Err(LayerError::Corrupt { slot: "bad".into(), path: "data".into(), reason });
        }
        buffer.fill(b'x');
        Ok(buffer.len().min((self.readable - offset) as usize))
    }

    fn host_file(&self, _: LayerNode) -> Result<Option<Arc<fs::File>>, LayerError> {
        Ok(None)
    }

    fn is_settled(&self) -> bool {
        true
    }
}

#[test]
fn after_a_failure_nothing_is_left() {
    let bad = |size, readable, name| {
        let good = placed("good", sample(), "");
        Stack::new(vec![good, placed("bad", Bad { size, readable, name }, "")])
    };
    let stopped = AtomicBool::new(true);
    let stop = Options { stop: &stopped, ..options() };
    let table: [(Stack, Options<'_>, &str); 3] = [
        (bad(9_000_000, 5_000_000, b"data"), options(), "`data` in slot `bad` is damaged: checksum"),
        (bad(1 << 60, 0, b"data"), options(), "it takes"),
        (bad(100, 100, b"data"), stop, "was interrupted"),
    ];
    for (stack, options, expected) in table {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        let marker = folder.path().join("complete");
        let options = Options { marker: Some(&marker), ..options };
        let error = extract(&stack, &root, &options, &Silent).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(leftovers(folder.path(), &[]), Vec::<String>::new(), "{error}");
    }
}

#[test]
fn names_never_lead_outside() {
    for name in [&b"../escape"[..], b"..", b"/absolute", b"a/b", b"nul\0"] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("inner/tree");
        let stack = Stack::new(vec![placed("bad", Bad { size: 1, readable: 1, name }, "")]);
        let report = extract(&stack, &root, &options(), &Silent).unwrap();
        assert_eq!((report.files, report.skipped_count), (0, 1), "{name:?}");
        assert_eq!(leftovers(folder.path(), &["inner"]), Vec::<String>::new());
        assert_eq!(leftovers(&folder.path().join("inner"), &["tree"]), Vec::<String>::new());
        assert!(listing(&root).is_empty());
    }
}

#[test]
fn names_of_any_bytes_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    let layer = MemoryLayer::builder().file(b"\xff\xfe \n", 0o644, *b"x").build().unwrap();
    extract(&Stack::new(vec![placed("s", layer, "")]), &root, &options(), &Silent).unwrap();
    let name = fs::read_dir(&root).unwrap().next().unwrap().unwrap().file_name();
    assert_eq!(name.as_bytes(), b"\xff\xfe \n");
}

#[test]
fn the_marker_tells_a_complete_tree() {
    let folder = tempfile::tempdir().unwrap();
    let (root, marker) = (folder.path().join("tree"), folder.path().join("complete"));
    fs::write(&marker, "stale").unwrap();
    let stack = Stack::new(vec![placed("s", sample(), "")]);
    let with_marker = Options { marker: Some(&marker), root_mode: Some(0o700), ..options() };
    extract(&stack, &root, &with_marker, &Silent).unwrap();
    assert_eq!(fs::read(&marker).unwrap(), b"");
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o7777, 0o700);
    let bad = Stack::new(vec![placed("bad", Bad { size: 10, readable: 0, name: b"data" }, "")]);
    let forced = Options { force: true, ..with_marker };
    extract(&bad, &root, &forced, &Silent).unwrap_err();
    assert!(marker.exists() && root.join("bin").exists(), "a failure before the swap changes nothing");
}

#[test]
fn what_a_killed_extraction_left_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join(".tree.99999-0.tmp");
    fs::create_dir_all(left.join("locked")).unwrap();
    fs::write(left.join("locked/file"), "half").unwrap();
    fs::set_permissions(left.join("locked"), fs::Permissions::from_mode(0o555)).unwrap();
    let held = folder.path().join(".tree.99998-0.tmp");
    fs::create_dir(&held).unwrap();
    let holder = fs::File::open(&held).unwrap();
    holder.try_lock().unwrap();
    let others = [".tree.notes.tmp", ".tree.1-x.tmp", ".other.1-1.tmp"].map(|name| folder.path().join(name));
    for other in &others {
        fs::create_dir(other).unwrap();
    }
    let stack = Stack::new(vec![placed("s", sample(), "")]);
    extract(&stack, &folder.path().join("tree"), &options(), &Silent).unwrap();
    assert!(!left.exists());
    assert!(held.exists(), "somebody is still filling it");
    assert!(others.iter().all(|other| other.exists()));
}

/// Writes down what it is told.
#[derive(Debug, Default)]
struct Recorder(Mutex<(Vec<String>, BTreeMap<usize, u64>)>);

impl Progress for Recorder {
    fn begin(&self, part: usize, name: &str, total: u64) {
        self.0.lock().unwrap().0.push(format!("begin {part} {name} {total}"));
    }

    fn advance(&self, part: usize, bytes: u64) {
        *self.0.lock().unwrap().1.entry(part).or_default() += bytes;
    }

    fn end(&self, part: usize) {
        self.0.lock().unwrap().0.push(format!("end {part}"));
    }
}

#[test]
fn progress_adds_up() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::default();
    let layers = vec![
        placed("base", sample(), ""),
        placed("empty", MemoryLayer::builder().build().unwrap(), ""),
        placed("big", MemoryLayer::single_file(0o644, vec![7; 3 << 20]), "big"),
    ];
    extract(&Stack::new(layers), &folder.path().join("tree"), &options(), &recorder).unwrap();
    let (mut lines, bytes) = recorder.0.into_inner().unwrap();
    lines.sort();
    let expected = ["begin 0 base 11", "begin 1 empty 0", "begin 2 big 3145728", "end 0", "end 1", "end 2"];
    assert_eq!(lines, expected);
    assert_eq!(bytes, BTreeMap::from([(0, 11), (2, 3 << 20)]));
}

#[test]
fn the_destination_may_be_a_link_to_an_empty_directory() {
    let folder = tempfile::tempdir().unwrap();
    let real: PathBuf = folder.path().join("real");
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, folder.path().join("link")).unwrap();
    let stack = Stack::new(vec![placed("s", sample(), "")]);
    extract(&stack, &folder.path().join("link"), &options(), &Silent).unwrap();
    assert!(real.join("bin/tool").exists());
    assert!(fs::symlink_metadata(folder.path().join("link")).unwrap().is_symlink());
}

//! The kernel's own overlayfs reads what we wrote: the upper directory is not ours alone.
//!
//! Needs root and overlayfs; without them the test says so and passes. Renamed directories of the layers are left
//! out: with `userxattr` the kernel does not follow redirects.
#![cfg(target_os = "linux")]
#![expect(clippy::print_stderr, reason = "a skipped test says why")]
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use slotfs_fs::layer::directory::DirectoryLayer;
use slotfs_fs::node::Kind;
use slotfs_fs::overlay::Upper;
use slotfs_fs::volume::{
    Access, Caller, Lookup, NodeId, PlacedLayer, RenameMode, SetAttributes, Volume, VolumeOptions, XattrMode,
};

const WRITE: Access = Access { read: true, write: true, append: false };
const ME: Caller = Caller { user: 0, group: 0 };

/// Unmounts when dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

fn make_lower(lower: &Path) {
    for directory in ["kept/deep", "emptied", "replaced", "changed"] {
        std::fs::create_dir_all(lower.join(directory)).unwrap();
        std::fs::write(lower.join(directory).join("file"), directory).unwrap();
        std::fs::write(lower.join(directory).join("other"), "other").unwrap();
    }
    std::fs::write(lower.join("large"), vec![3; 300_000]).unwrap();
    std::fs::write(lower.join("gone"), "gone").unwrap();
    symlink("large", lower.join("link")).unwrap();
}

fn node(volume: &Volume, path: &str) -> NodeId {
    let names = path.split('/').filter(|name| !name.is_empty());
    names.fold(NodeId::ROOT, |node, name| match volume.lookup(node, name.as_bytes()).unwrap() {
        Lookup::Found(entry) => entry.node,
        Lookup::Absent { .. } => panic!("there is no {path}"),
    })
}

fn work(volume: &Volume) {
    let root = NodeId::ROOT;
    let write = |path: &str, bytes: &[u8]| {
        let node = node(volume, path);
        let opened = volume.open(node, WRITE, false).unwrap();
        volume.write(node, opened.handle, 0, bytes).unwrap();
        volume.release(opened.handle);
    };
    volume.unlink(root, b"gone").unwrap();
    write("large", b"new start");
    write("kept/deep/file", b"changed");
    let emptied = node(volume, "emptied");
    volume.unlink(emptied, b"file").unwrap();
    volume.unlink(emptied, b"other").unwrap();
    volume.remove_directory(root, b"emptied").unwrap();
    let replaced = node(volume, "replaced");
    volume.unlink(replaced, b"file").unwrap();
    volume.rename(replaced, b"other", root, b"moved", RenameMode::Replace).unwrap();
    volume.remove_directory(root, b"replaced").unwrap();
    let replaced = volume.make_directory(ME, root, b"replaced", 0o750).unwrap().node;
    let (entry, opened) = volume.create(ME, replaced, b"new", 0o640, WRITE).unwrap();
    volume.write(entry.node, opened.handle, 0, b"new").unwrap();
    volume.release(opened.handle);
    volume.link(entry.node, root, b"linked").unwrap();
    volume.make_symlink(ME, replaced, b"link", b"../large").unwrap();
    volume.make_node(ME, root, b"fifo", Kind::Fifo, 0o600, 0).unwrap();
    let changed = node(volume, "changed");
    let (mode, user) = (Some(0o1777), Some(12));
    let changes = SetAttributes { mode, user, ..SetAttributes::default() };
    volume.set_attributes(ME, changed, None, &changes).unwrap();
    volume.set_extended_attribute(changed, b"user.colour", b"red", XattrMode::Set).unwrap();
    volume.rename(changed, b"file", changed, b"other", RenameMode::Exchange).unwrap();
    volume.rename(root, b"link", root, b"link2", RenameMode::Replace).unwrap();
}

type Seen = BTreeMap<Vec<u8>, (Kind, u32, u32, u32, Vec<u8>)>;

fn through_volume(volume: &Volume) -> Seen {
    let mut seen = Seen::new();
    let mut waiting = vec![(Vec::new(), NodeId::ROOT)];
    while let Some((path, directory)) = waiting.pop() {
        let mut visit = |entry: &slotfs_fs::volume::DirectoryEntry<'_>| {
            let Some(found) = entry.entry else { return true };
            let path = [&path[..], b"/", entry.name].concat();
            let attributes = found.status.attributes;
            let mut bytes = Vec::new();
            match attributes.kind {
                Kind::Directory => waiting.push((path.clone(), found.node)),
                Kind::Symlink => bytes = volume.read_link(found.node).unwrap(),
                Kind::File => {
                    bytes = vec![0; 400_000];
                    let count = volume.read(found.node, None, 0, &mut bytes).unwrap();
                    bytes.truncate(count);
                }
                Kind::Fifo | Kind::Socket | Kind::CharacterDevice | Kind::BlockDevice => {}
            }
            let mode = attributes.mode;
            seen.insert(path, (attributes.kind, mode, attributes.user, attributes.group, bytes));
            true
        };
        volume.read_directory(directory, None, 0, true, &mut visit).unwrap();
    }
    seen
}

fn through_kernel(root: &Path) -> Seen {
    let mut seen = Seen::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let kind = metadata.file_type();
            let (kind, bytes) = if kind.is_dir() {
                waiting.push(path.clone());
                (Kind::Directory, Vec::new())
            } else if kind.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                (Kind::Symlink, target.to_str().unwrap().as_bytes().to_vec())
            } else if kind.is_fifo() {
                (Kind::Fifo, Vec::new())
            } else {
                (Kind::File, std::fs::read(&path).unwrap())
            };
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            let mode = metadata.mode() & 0o7777;
            seen.insert(format!("/{name}").into_bytes(), (kind, mode, metadata.uid(), metadata.gid(), bytes));
        }
    }
    seen
}

#[test]
fn kernel_overlayfs_shows_the_same_tree() {
    let folder = tempfile::tempdir().unwrap();
    let [lower, upper, work_path, kernel_work, merged] =
        ["lower", "upper", "work", "kernel-work", "merged"].map(|name| folder.path().join(name));
    for directory in [&lower, &kernel_work, &merged] {
        std::fs::create_dir(directory).unwrap();
    }
    make_lower(&lower);
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        lower.display(),
        upper.display(),
        kernel_work.display()
    );
    let opened = Upper::open(&upper, &work_path).unwrap();
    let layer = Arc::new(DirectoryLayer::open(&lower).unwrap());
    let placed = PlacedLayer { name: "lower".into(), layer, target: Vec::new(), writable: true };
    let volume = Volume::new(vec![placed], Some(opened), VolumeOptions::default()).unwrap();
    work(&volume);
    let ours = through_volume(&volume);
    drop(volume);
    let kind = Some("overlay");
    if let Err(error) = mount(Some("overlay"), &merged, kind, MsFlags::MS_RDONLY, Some(&*options)) {
        eprintln!("SKIPPED: overlayfs cannot be mounted here: {error}");
        return;
    }
    let mounted = Mounted(merged);
    let theirs = through_kernel(&mounted.0);
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (path, node) in &ours {
        assert!(theirs[path] == *node, "{} differs", String::from_utf8_lossy(path));
    }
}

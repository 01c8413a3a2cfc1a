//! A volume without an upper directory: what the layers hold shows, merged, and nothing can be changed.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::sync::Arc;

use slotfs_fs::layer::memory::{MemoryLayer, MemoryLayerBuilder};
use slotfs_fs::node::Kind;
use slotfs_fs::volume::{Access, Caller, Entry, FsError, Lookup, NodeId, PlacedLayer, Volume, VolumeOptions};

const READ: Access = Access { read: true, write: false, append: false };

fn placed(name: &str, target: &str, builder: MemoryLayerBuilder) -> PlacedLayer {
    let target =
        target.split('/').filter(|part| !part.is_empty()).map(|part| part.as_bytes().to_vec()).collect();
    PlacedLayer { name: name.into(), layer: Arc::new(builder.build().unwrap()), target, writable: true }
}

fn volume() -> Volume {
    let base = MemoryLayer::builder()
        .file("bin/tool", 0o755, *b"old tool")
        .file("share/data", 0o644, vec![7; 300_000])
        .hard_link("share/again", "share/data")
        .symlink("link", "bin/tool")
        .file("blocked/inner", 0o644, *b"hidden")
        .xattr("bin/tool", "user.colour", "blue");
    let over = MemoryLayer::builder()
        .file("bin/tool", 0o700, *b"new tool")
        .directory("bin", 0o711)
        .file("bin/extra", 0o644, *b"extra")
        .file("blocked", 0o600, *b"a file now");
    let file = PlacedLayer {
        name: "config".into(),
        layer: Arc::new(MemoryLayer::single_file(0o640, *b"setting=1")),
        target: vec![b"etc".to_vec(), b"app".to_vec(), b"config".to_vec()],
        writable: false,
    };
    let layers = vec![placed("base", "", base), placed("over", "", over), file];
    Volume::new(layers, None, VolumeOptions::default()).unwrap()
}

fn walk(volume: &Volume, path: &str) -> Option<Entry> {
    let mut node = NodeId::ROOT;
    let mut last = None;
    for name in path.split('/') {
        match volume.lookup(node, name.as_bytes()).unwrap() {
            Lookup::Found(entry) => (node, last) = (entry.node, Some(entry)),
            Lookup::Absent { lasting } => {
                assert!(lasting);
                return None;
            }
        }
    }
    last
}

fn names(volume: &Volume, node: NodeId, plus: bool) -> Vec<String> {
    let handle = volume.open_directory(node).unwrap();
    let mut names = Vec::new();
    let mut offset = 0;
    let mut visit = |entry: &slotfs_fs::volume::DirectoryEntry<'_>| {
        assert!(entry.next_offset > offset && i64::try_from(entry.next_offset).is_ok());
        offset = entry.next_offset;
        assert_eq!(entry.entry.is_some(), plus && entry.name != b"." && entry.name != b"..");
        if let Some(found) = entry.entry {
            assert_eq!((found.status.inode, found.status.attributes.kind), (entry.inode, entry.kind));
        }
        names.push(String::from_utf8(entry.name.to_vec()).unwrap());
        true
    };
    volume.read_directory(node, Some(handle), 0, plus, &mut visit).unwrap();
    volume.release_directory(handle);
    names
}

#[test]
fn layers_are_merged_and_the_topmost_wins() {
    let volume = volume();
    assert!(volume.is_immutable());
    assert_eq!(names(&volume, NodeId::ROOT, false), [".", "..", "bin", "blocked", "etc", "link", "share"]);
    let bin = walk(&volume, "bin").unwrap();
    assert_eq!(bin.status.attributes.mode, 0o711);
    assert_eq!(names(&volume, bin.node, true), [".", "..", "extra", "tool"]);
    let tool = walk(&volume, "bin/tool").unwrap();
    let mut buffer = [0; 16];
    assert_eq!(volume.read(tool.node, None, 0, &mut buffer).unwrap(), 8);
    assert_eq!(&buffer[..8], b"new tool");
    assert_eq!(volume.extended_attribute_names(tool.node).unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_file_hides_a_directory_below_it() {
    let volume = volume();
    let blocked = walk(&volume, "blocked").unwrap();
    assert_eq!(blocked.status.attributes.kind, Kind::File);
    assert!(matches!(volume.lookup(blocked.node, b"inner"), Err(FsError::NotDirectory)));
}

#[test]
fn parents_of_a_target_are_made() {
    let volume = volume();
    for (path, mode) in [("etc", 0o755), ("etc/app", 0o755), ("etc/app/config", 0o640)] {
        assert_eq!(walk(&volume, path).unwrap().status.attributes.mode, mode, "{path}");
    }
    let app = walk(&volume, "etc/app").unwrap();
    assert_eq!(names(&volume, app.node, true), [".", "..", "config"]);
}

#[test]
fn numbers_are_stable_and_hard_links_are_one_node() {
    let (first, second) = (volume(), volume());
    let inode = |volume: &Volume, path: &str| walk(volume, path).unwrap().status.inode;
    for path in ["bin", "bin/tool", "share/data", "etc", "etc/app/config"] {
        assert_eq!(inode(&first, path), inode(&second, path), "{path}");
    }
    let (data, again) = (walk(&first, "share/data").unwrap(), walk(&first, "share/again").unwrap());
    assert_eq!((data.node, data.status.attributes.links), (again.node, 2));
}

#[test]
fn offsets_go_on_where_they_stopped() {
    let volume = volume();
    for handle in [None, Some(volume.open_directory(NodeId::ROOT).unwrap())] {
        let (mut seen, mut offset) = (Vec::new(), 0);
        loop {
            let mut one = None;
            let mut visit = |entry: &slotfs_fs::volume::DirectoryEntry<'_>| {
                let first = one.is_none();
                if first {
                    one = Some((entry.name.to_vec(), entry.next_offset));
                }
                first
            };
            volume.read_directory(NodeId::ROOT, handle, offset, true, &mut visit).unwrap();
            let Some((name, next)) = one else { break };
            seen.push(name);
            offset = next;
        }
        assert_eq!(seen.len(), 7);
    }
}

#[test]
fn forgotten_nodes_leave_memory() {
    let volume = volume();
    let mut held = Vec::new();
    for path in ["bin/tool", "share/data", "share/again", "etc/app/config"] {
        let mut node = NodeId::ROOT;
        for name in path.split('/') {
            let Lookup::Found(entry) = volume.lookup(node, name.as_bytes()).unwrap() else {
                panic!("{path}")
            };
            node = entry.node;
            held.push(node);
        }
    }
    assert_eq!(volume.known_nodes(), 8);
    held.into_iter().for_each(|node| volume.forget(node, 1));
    assert_eq!(volume.known_nodes(), 1);
}

#[test]
fn nothing_can_be_changed() {
    let volume = volume();
    let caller = Caller { user: 0, group: 0 };
    let tool = walk(&volume, "bin/tool").unwrap().node;
    let write = Access { write: true, ..READ };
    assert!(matches!(volume.open(tool, write, false), Err(FsError::ReadOnly)));
    assert!(matches!(volume.open(tool, READ, true), Err(FsError::ReadOnly)));
    assert!(matches!(volume.make_directory(caller, NodeId::ROOT, b"x", 0o755), Err(FsError::ReadOnly)));
    assert!(matches!(volume.unlink(NodeId::ROOT, b"link"), Err(FsError::ReadOnly)));
    let opened = volume.open(tool, READ, false).unwrap();
    assert!(opened.keep_cache);
    assert!(matches!(volume.write(tool, opened.handle, 0, b"x"), Err(FsError::ReadOnly)));
    volume.release(opened.handle);
    assert_eq!(volume.open_handles(), 0);
}

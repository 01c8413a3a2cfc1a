//! Removed names where the disk cannot keep devices: told, archived and taken back like the others.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_fs::layer::stack::Stack;
use slotfs_fs::overlay::{Scope, Upper, View, WhiteoutForm, changes, take_back, write_archive};
use slotfs_fs::volume::{Lookup, NodeId, PlacedLayer, Volume, VolumeOptions};

fn layers() -> Vec<PlacedLayer> {
    let layer = MemoryLayer::builder()
        .file("a/one", 0o644, *b"1")
        .file("a/two", 0o644, *b"2")
        .file("b", 0o644, *b"b");
    let layer = Arc::new(layer.build().unwrap());
    vec![PlacedLayer { name: "slot".into(), layer, target: Vec::new(), writable: true }]
}

fn open(folder: &Path) -> Upper {
    Upper::open_with(&folder.join("upper"), &folder.join("work"), WhiteoutForm::Attribute).unwrap()
}

fn find(volume: &Volume, parent: NodeId, name: &str) -> Option<NodeId> {
    match volume.lookup(parent, name.as_bytes()).unwrap() {
        Lookup::Found(entry) => Some(entry.node),
        Lookup::Absent { .. } => None,
    }
}

fn told(folder: &Path) -> Vec<String> {
    let view = View::open(&folder.join("upper")).unwrap().unwrap();
    let mut told = Vec::new();
    changes(&view, Some(&Stack::new(layers())), &Scope::default(), &mut |change| {
        told.push(String::from_utf8(change.path.join(&b'/')).unwrap());
        ControlFlow::Continue(())
    })
    .unwrap();
    told.sort();
    told
}

#[test]
fn marks_in_attributes_are_told_archived_and_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let volume = Volume::new(layers(), Some(open(folder.path())), VolumeOptions::default()).unwrap();
    let a = find(&volume, NodeId::ROOT, "a").unwrap();
    volume.unlink(a, b"one").unwrap();
    volume.unlink(a, b"two").unwrap();
    volume.unlink(NodeId::ROOT, b"b").unwrap();
    drop(volume);
    assert!(folder.path().join("upper/b").is_file(), "it is a mark of the first form");
    assert_eq!(told(folder.path()), ["a/one", "a/two", "b"]);

    let view = View::open(&folder.path().join("upper")).unwrap().unwrap();
    let mut archive = Vec::new();
    write_archive(&view, Some(&Stack::new(layers())), &Scope::default(), &mut archive).unwrap();
    let mut entries = tar::Archive::new(&archive[..]);
    let names: Vec<String> = entries
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(names, ["a/", ".wh.b", "a/.wh.one", "a/.wh.two"].map(|name| name.to_owned()));

    let scope = Scope::of(vec![vec![b"a".to_vec(), b"one".to_vec()], vec![b"b".to_vec()]]);
    take_back::take_back(&open(folder.path()), &Stack::new(layers()), &scope).unwrap();
    assert_eq!(told(folder.path()), ["a/two"]);
    let volume = Volume::new(layers(), Some(open(folder.path())), VolumeOptions::default()).unwrap();
    let a = find(&volume, NodeId::ROOT, "a").unwrap();
    assert!(find(&volume, NodeId::ROOT, "b").is_some() && find(&volume, a, "one").is_some());
    assert!(find(&volume, a, "two").is_none());
}

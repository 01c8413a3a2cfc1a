//! What lies in the upper directory: which changes it tells of, and what goes when one slot's writes are dropped.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use slotfs_fs::disk::unix::Erasure;
use slotfs_fs::layer::memory::{MemoryLayer, MemoryLayerBuilder};
use slotfs_fs::layer::stack::Stack;
use slotfs_fs::overlay::{Difference, Scope, Upper, View, changes, drop_owned};
use slotfs_fs::volume::{
    Access, Caller, FsError, Lookup, NodeId, PlacedLayer, RenameMode, SetAttributes, Volume, VolumeOptions,
};

const WRITE: Access = Access { read: true, write: true, append: false };
const ME: Caller = Caller { user: 0, group: 0 };

fn placed(name: &str, target: &str, writable: bool, builder: MemoryLayerBuilder) -> PlacedLayer {
    let target =
        target.split('/').filter(|part| !part.is_empty()).map(|part| part.as_bytes().to_vec()).collect();
    PlacedLayer { name: name.into(), layer: Arc::new(builder.build().unwrap()), target, writable }
}

/// Two slots at the root that share a directory, and one in a directory of its own.
fn layers(second_writable: bool) -> Vec<PlacedLayer> {
    let first = MemoryLayer::builder()
        .file("one/a", 0o644, *b"one a")
        .file("one/b", 0o644, *b"one b")
        .hard_link("one/linked", "one/b")
        .file("one/deep/x", 0o644, *b"x")
        .file("shared/first", 0o644, *b"first");
    let second = MemoryLayer::builder()
        .file("two/a", 0o644, *b"two a")
        .file("two/deep/x", 0o644, *b"x")
        .file("shared/second", 0o644, *b"second");
    let third = MemoryLayer::builder().file("config", 0o644, *b"key=1");
    vec![
        placed("first", "", true, first),
        placed("second", "", second_writable, second),
        placed("third", "etc/app", true, third),
    ]
}

fn start(folder: &Path, writable: bool) -> Volume {
    let upper = Upper::open(&folder.join("upper"), &folder.join("work")).unwrap();
    Volume::new(layers(writable), Some(upper), VolumeOptions::default()).unwrap()
}

fn node(volume: &Volume, path: &str) -> Option<NodeId> {
    let mut names = path.split('/').filter(|name| !name.is_empty());
    names.try_fold(NodeId::ROOT, |node, name| match volume.lookup(node, name.as_bytes()).unwrap() {
        Lookup::Found(entry) => Some(entry.node),
        Lookup::Absent { .. } => None,
    })
}

fn write(volume: &Volume, path: &str, text: &str) -> Result<(), FsError> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let opened = match node(volume, path) {
        Some(node) => (node, volume.open(node, WRITE, true)?),
        None => {
            let parent = node(volume, parent).unwrap();
            let (entry, opened) = volume.create(ME, parent, name.as_bytes(), 0o644, WRITE)?;
            (entry.node, opened)
        }
    };
    volume.write(opened.0, opened.1.handle, 0, text.as_bytes())?;
    volume.release(opened.1.handle);
    Ok(())
}

fn read(volume: &Volume, path: &str) -> Option<String> {
    let mut buffer = [0; 64];
    let count = volume.read(node(volume, path)?, None, 0, &mut buffer).unwrap();
    Some(String::from_utf8(buffer[..count].to_vec()).unwrap())
}

fn rename(volume: &Volume, from: &str, to: &str) -> Result<(), FsError> {
    let split = |path: &str| {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        (node(volume, parent).unwrap(), name.as_bytes().to_vec())
    };
    let ((parent, name), (new_parent, new_name)) = (split(from), split(to));
    volume.rename(parent, &name, new_parent, &new_name, RenameMode::Replace)
}

fn remove(volume: &Volume, path: &str) {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    volume.unlink(node(volume, parent).unwrap(), name.as_bytes()).unwrap();
}

/// Something of every kind, over every slot.
fn work(folder: &Path) {
    let volume = start(folder, true);
    write(&volume, "one/a", "changed").unwrap();
    write(&volume, "one/new", "new in one").unwrap();
    write(&volume, "two/a", "changed too").unwrap();
    write(&volume, "shared/first", "changed first").unwrap();
    write(&volume, "shared/new", "belongs to the topmost of shared").unwrap();
    write(&volume, "free", "belongs to none").unwrap();
    write(&volume, "etc/app/config", "key=2").unwrap();
    write(&volume, "one/linked", "through one name").unwrap();
    remove(&volume, "shared/second");
    rename(&volume, "one/deep", "two/moved").unwrap();
    rename(&volume, "two/deep/x", "one/from two").unwrap();
    volume.remove_directory(node(&volume, "two").unwrap(), b"deep").unwrap();
}

fn told(folder: &Path) -> BTreeSet<String> {
    let view = View::open(&folder.join("upper")).unwrap().unwrap();
    let stack = Stack::new(layers(true));
    let mut all = BTreeSet::new();
    changes(&view, Some(&stack), &Scope::default(), &mut |change| {
        let path: Vec<_> =
            change.path.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let mark = match &change.difference {
            Difference::Added { from: Some(from) } => format!("+({})", String::from_utf8_lossy(from)),
            Difference::Added { from: None } => "+".into(),
            Difference::Changed(_) => "~".into(),
            Difference::Removed => "-".into(),
        };
        let owner = change.owner.map_or("none", |layer| &stack.layer(layer).name);
        assert!(all.insert(format!("{mark} {} {owner}", path.join("/"))), "told once");
        ControlFlow::Continue(())
    })
    .unwrap();
    all
}

#[test]
fn changes_are_told_with_the_slot_they_belong_to() {
    let folder = tempfile::tempdir().unwrap();
    work(folder.path());
    let expected = [
        "~ one/a first",
        "~ one/b first",
        "~ one/linked first",
        "+ one/new first",
        "+ one/from two first",
        "- one/deep first",
        "~ two/a second",
        "- two/deep second",
        "+(/one/deep) two/moved second",
        "~ shared/first first",
        "+ shared/new second",
        "- shared/second second",
        "~ etc/app/config third",
        "+ free none",
    ];
    assert_eq!(told(folder.path()), expected.iter().map(|line| (*line).to_owned()).collect());
}

#[test]
fn dropping_one_slot_leaves_the_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    work(folder.path());
    let (upper_path, work_path) = (folder.path().join("upper"), folder.path().join("work"));
    for _ in 0..2 {
        // A second time there is nothing left to drop.
        let upper = Upper::open(&upper_path, &work_path).unwrap();
        drop_owned(&upper, &Stack::new(layers(true)), &|owner| owner == Some(0), Erasure::None).unwrap();
    }
    let gone = told(folder.path());
    assert!(gone.iter().all(|line| !line.ends_with(" first")), "{gone:?}");
    assert_eq!(gone.len(), 7, "{gone:?}");
    let volume = start(folder.path(), true);
    for (path, content) in [
        ("one/a", Some("one a")),
        ("one/b", Some("one b")),
        ("one/linked", Some("one b")),
        ("one/new", None),
        ("one/from two", None),
        ("one/deep/x", Some("x")),
        ("two/a", Some("changed too")),
        ("two/moved/x", Some("x")),
        ("shared/first", Some("first")),
        ("shared/second", None),
        ("free", Some("belongs to none")),
    ] {
        assert_eq!(read(&volume, path).as_deref(), content, "{path}");
    }
    let inode = |path: &str| volume.attributes(node(&volume, path).unwrap()).unwrap().inode;
    assert_ne!(inode("one/deep"), inode("two/moved"), "no two directories share a number");
    let both = (node(&volume, "one/b"), node(&volume, "one/linked"));
    assert_eq!(both.0, both.1, "hard links are links again");
}

#[test]
fn copies_without_content_are_told_dropped_and_kept_like_others() {
    let folder = tempfile::tempdir().unwrap();
    {
        let upper = Upper::open(&folder.path().join("upper"), &folder.path().join("work")).unwrap();
        let options = VolumeOptions { bare_copies: Some(1), ..VolumeOptions::default() };
        let volume = Volume::new(layers(true), Some(upper), options).unwrap();
        let mode = SetAttributes { mode: Some(0o600), ..SetAttributes::default() };
        for path in ["one/a", "one/b", "two/a", "etc/app/config"] {
            volume.set_attributes(ME, node(&volume, path).unwrap(), None, &mode).unwrap();
        }
        rename(&volume, "one/deep/x", "two/from one").unwrap();
        rename(&volume, "two/deep/x", "one/from two").unwrap();
    }
    let expected = [
        "~ one/a first",
        "~ one/b first",
        "~ one/linked first",
        "+(/two/deep/x) one/from two first",
        "- one/deep/x first",
        "~ two/a second",
        "- two/deep/x second",
        "+(/one/deep/x) two/from one second",
        "~ etc/app/config third",
    ];
    assert_eq!(told(folder.path()), expected.iter().map(|line| (*line).to_owned()).collect());
    {
        let upper = Upper::open(&folder.path().join("upper"), &folder.path().join("work")).unwrap();
        drop_owned(&upper, &Stack::new(layers(true)), &|owner| owner == Some(0), Erasure::None).unwrap();
    }
    let volume = start(folder.path(), true);
    let mode = |path: &str| volume.attributes(node(&volume, path).unwrap()).unwrap().attributes.mode;
    for (path, content, expected) in [
        ("one/a", Some("one a"), 0o644),
        ("one/b", Some("one b"), 0o644),
        ("one/linked", Some("one b"), 0o644),
        ("one/deep/x", Some("x"), 0o644),
        ("two/a", Some("two a"), 0o600),
        ("two/from one", Some("x"), 0o644),
        ("etc/app/config", Some("key=1"), 0o600),
    ] {
        assert_eq!(read(&volume, path).as_deref(), content, "{path}");
        assert_eq!(mode(path), expected, "{path}");
    }
    assert_eq!((read(&volume, "one/from two"), read(&volume, "two/deep/x")), (None, None));
    assert_eq!(volume.fill_all(&mut |_| {}).unwrap(), []);
    for (path, content) in [("two/a", "two a"), ("two/from one", "x"), ("etc/app/config", "key=1")] {
        assert_eq!(std::fs::read_to_string(folder.path().join("upper").join(path)).unwrap(), content);
        assert_eq!(read(&volume, path).as_deref(), Some(content));
    }
}

#[test]
fn clearing_leaves_what_the_layers_have() {
    let folder = tempfile::tempdir().unwrap();
    work(folder.path());
    let upper = Upper::open(&folder.path().join("upper"), &folder.path().join("work")).unwrap();
    upper.clear().unwrap();
    drop(upper);
    assert!(told(folder.path()).is_empty());
    assert_eq!(read(&start(folder.path(), true), "one/linked").as_deref(), Some("one b"));
}

#[test]
fn a_read_only_slot_cannot_be_changed_and_the_others_can() {
    let folder = tempfile::tempdir().unwrap();
    let volume = start(folder.path(), false);
    let refused =
        |result: Result<(), FsError>| assert!(matches!(result, Err(FsError::ReadOnly)), "{result:?}");
    refused(write(&volume, "two/a", "no"));
    refused(write(&volume, "two/new", "no"));
    refused(write(&volume, "shared/second", "no"));
    refused(rename(&volume, "two/a", "one/a"));
    refused(rename(&volume, "one/a", "two/a"));
    refused(rename(&volume, "shared", "moved"));
    refused(volume.unlink(node(&volume, "two").unwrap(), b"a"));
    let two = node(&volume, "two/a").unwrap();
    let mode = SetAttributes { mode: Some(0o600), ..SetAttributes::default() };
    refused(volume.set_attributes(ME, two, None, &mode).map(|_| ()));
    refused(volume.link(two, NodeId::ROOT, b"link").map(|_| ()));
    write(&volume, "one/a", "yes").unwrap();
    write(&volume, "shared/first", "yes").unwrap();
    write(&volume, "free", "yes").unwrap();
    assert_eq!(read(&volume, "two/a").as_deref(), Some("two a"));
}

#[test]
fn an_upper_is_used_by_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let volume = start(folder.path(), true);
    let again = Upper::open(&folder.path().join("upper"), &folder.path().join("work"));
    assert!(again.is_err());
    drop(volume);
    drop(start(folder.path(), true));
}

#[test]
fn numbers_about_other_layers_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    work(folder.path());
    let upper = Upper::open(&folder.path().join("upper"), &folder.path().join("work")).unwrap();
    let mut others = layers(true);
    others.remove(0);
    let volume = Volume::new(others, Some(upper), VolumeOptions::default()).unwrap();
    assert_eq!(read(&volume, "one/linked").as_deref(), Some("through one name"));
    for path in ["one/linked", "one/a", "free", "two/a"] {
        let inode = volume.attributes(node(&volume, path).unwrap()).unwrap().inode;
        assert!(inode >> 63 == 1, "{path} has {inode:#x}");
    }
}

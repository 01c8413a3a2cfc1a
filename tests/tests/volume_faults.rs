//! Disks that are full or read-only: each call tells so, and nothing that was there is lost.
//!
//! Needs root, to mount a small disk; without it the tests say so and pass.
#![cfg(target_os = "linux")]
#![expect(clippy::wildcard_enum_match_arm, reason = "the others are not expected")]
#![expect(clippy::print_stderr, reason = "a skipped test says why")]
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::path::Path;
use std::sync::Arc;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_fs::overlay::Upper;
use slotfs_fs::volume::{
    Access, Caller, FsError, Lookup, NodeId, PlacedLayer, SetAttributes, Volume, VolumeOptions,
};

const WRITE: Access = Access { read: true, write: true, append: false };
const ME: Caller = Caller { user: 0, group: 0 };
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// A small disk in memory, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Option<Self> {
        if !nix::unistd::Uid::effective().is_root() {
            eprintln!("skipped: only root can mount a small disk");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        mount(Some("small"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
        Some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn make_read_only(&self) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, self.path(), None::<&str>, flags, None::<&str>).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

fn start(disk: &SmallDisk) -> Volume {
    start_with(disk, VolumeOptions::default())
}

fn start_with(disk: &SmallDisk, options: VolumeOptions) -> Volume {
    let upper = Upper::open(&disk.path().join("upper"), &disk.path().join("work")).unwrap();
    let layer = MemoryLayer::builder()
        .file("d/large", 0o644, vec![7; 3 << 20])
        .file("d/small", 0o644, *b"small")
        .build()
        .unwrap();
    let placed =
        PlacedLayer { name: "slot".into(), layer: Arc::new(layer), target: Vec::new(), writable: true };
    Volume::new(vec![placed], Some(upper), options).unwrap()
}

fn node(volume: &Volume, path: &str) -> NodeId {
    path.split('/').fold(NodeId::ROOT, |node, name| match volume.lookup(node, name.as_bytes()).unwrap() {
        Lookup::Found(entry) => entry.node,
        Lookup::Absent { .. } => panic!("there is no {path}"),
    })
}

fn errno<T: std::fmt::Debug>(result: Result<T, FsError>) -> Option<i32> {
    match result.unwrap_err() {
        FsError::Disk(error) => error.source.raw_os_error(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let Some(disk) = SmallDisk::new() else { return };
    let volume = start(&disk);
    let large = node(&volume, "d/large");
    assert_eq!(errno(volume.open(large, WRITE, false)), Some(ENOSPC), "it does not fit");
    let mut buffer = [0; 4];
    assert_eq!(volume.read(large, None, (3 << 20) - 2, &mut buffer).unwrap(), 2);
    assert_eq!(std::fs::read_dir(disk.path().join("work")).unwrap().count(), 0, "half a copy is not kept");

    let (entry, opened) = volume.create(ME, NodeId::ROOT, b"filler", 0o644, WRITE).unwrap();
    let mut written = 0;
    let full = loop {
        match volume.write(entry.node, opened.handle, written, &[1; 100_000]) {
            Ok(count) => written += count as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(errno::<()>(Err(full)), Some(ENOSPC));
    let size = volume.attributes(entry.node).unwrap().attributes.size;
    assert_eq!(size, written, "what was acknowledged is there");
    let space = volume.space().unwrap();
    assert!(space.blocks > 0 && space.blocks_free == 0, "{space:?}");

    volume.release(opened.handle);
    drop(opened);
    volume.unlink(NodeId::ROOT, b"filler").unwrap();
    volume.forget(entry.node, 1);
    let keep = SetAttributes { size: Some(1000), ..SetAttributes::default() };
    let kept = volume.set_attributes(ME, large, None, &keep).unwrap();
    assert_eq!(kept.attributes.size, 1000, "only what is kept is copied");
}

#[test]
fn a_copy_without_content_fits_and_stays_as_it_is_where_its_content_does_not() {
    let Some(disk) = SmallDisk::new() else { return };
    let volume = start_with(&disk, VolumeOptions { bare_copies: Some(1), ..VolumeOptions::default() });
    let large = node(&volume, "d/large");
    let mode = SetAttributes { mode: Some(0o600), ..SetAttributes::default() };
    let before = volume.set_attributes(ME, large, None, &mode).unwrap();
    for _ in 0..2 {
        assert_eq!(errno(volume.open(large, WRITE, false)), Some(ENOSPC), "it does not fit");
        let after = volume.attributes(large).unwrap();
        assert_eq!((after.attributes.modified, after.attributes.size), (before.attributes.modified, 3 << 20));
        let mut buffer = [0; 4];
        assert_eq!(volume.read(large, None, (3 << 20) - 2, &mut buffer).unwrap(), 2);
        assert_eq!(buffer[..2], [7, 7]);
        let space = volume.space().unwrap();
        assert!(space.blocks_free * 2 > space.blocks, "what was written of it is kept: {space:?}");
    }
    let opened = volume.open(large, WRITE, true).unwrap();
    volume.write(large, opened.handle, 0, b"new").unwrap();
    volume.release(opened.handle);
    assert_eq!(volume.attributes(large).unwrap().attributes.size, 3);
}

#[test]
fn a_disk_that_turns_read_only_is_told_and_still_read() {
    let Some(disk) = SmallDisk::new() else { return };
    let volume = start(&disk);
    let (entry, opened) = volume.create(ME, NodeId::ROOT, b"written", 0o644, WRITE).unwrap();
    volume.write(entry.node, opened.handle, 0, b"text").unwrap();
    volume.release(opened.handle);
    drop(opened);
    disk.make_read_only();
    let small = node(&volume, "d/small");
    assert_eq!(errno(volume.open(small, WRITE, false)), Some(EROFS));
    assert_eq!(errno(volume.make_directory(ME, NodeId::ROOT, b"new", 0o755)), Some(EROFS));
    assert_eq!(errno(volume.unlink(NodeId::ROOT, b"written")), Some(EROFS));
    let mut buffer = [0; 8];
    assert_eq!(volume.read(entry.node, None, 0, &mut buffer).unwrap(), 4);
    assert_eq!(volume.read(small, None, 0, &mut buffer).unwrap(), 5);
    drop(volume);
    let error = Upper::open(&disk.path().join("upper"), &disk.path().join("work")).unwrap_err();
    assert_eq!(error.source.raw_os_error(), Some(EROFS), "{error}");
}

//! stat(2), statfs(2), extended attributes.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_fs::node::{Kind, Timestamp};
use slotfs_tests::mounted::{Mounted, volume};

#[test]
fn attributes_are_shown_as_they_are() {
    let layer = MemoryLayer::builder().file("file", 0o640, vec![0; 5000]).change("file", |attributes| {
        attributes.user = 1234;
        attributes.group = 4321;
        attributes.modified = Timestamp { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
        attributes.accessed = Timestamp { seconds: -1, nanoseconds: 250_000_000 };
        attributes.changed = Timestamp { seconds: -5_000_000_000, nanoseconds: 0 };
    });
    let Some(mounted) = Mounted::new(volume(layer)) else { return };
    for _ in 0..2 {
        let shown = std::fs::metadata(mounted.path("file")).unwrap();
        assert_eq!(shown.mode(), 0o100_640);
        assert_eq!((shown.uid(), shown.gid(), shown.size(), shown.nlink()), (1234, 4321, 5000, 1));
        assert_eq!((shown.mtime(), shown.mtime_nsec()), (1_700_000_000, 123_456_789));
        assert_eq!((shown.atime(), shown.atime_nsec()), (-1, 250_000_000));
        assert_eq!((shown.ctime(), shown.ctime_nsec()), (-5_000_000_000, 0));
        assert_eq!((shown.blksize(), shown.blocks()), (4096, 10));
    }
    assert_eq!(std::fs::metadata(mounted.root()).unwrap().mode(), 0o040_755);
}

#[test]
fn device_numbers_are_shown_as_they_are() {
    let device = rustix::fs::makedev(259, 70_000);
    let layer = MemoryLayer::builder().special("device", Kind::BlockDevice, 0o600, device);
    let volume = {
        let placed = slotfs_fs::volume::PlacedLayer {
            name: "memory".into(),
            layer: std::sync::Arc::new(layer.build().unwrap()),
            target: Vec::new(),
            writable: false,
        };
        let options =
            slotfs_fs::volume::VolumeOptions { devices: true, ..slotfs_fs::volume::VolumeOptions::default() };
        slotfs_fs::volume::Volume::new(vec![placed], None, options).unwrap()
    };
    let Some(mounted) = Mounted::new(volume) else { return };
    let shown = std::fs::symlink_metadata(mounted.path("device")).unwrap();
    assert!(shown.file_type().is_block_device());
    assert_eq!(shown.rdev(), device);
}

#[test]
fn extended_attributes_are_listed_and_read() {
    let layer = MemoryLayer::builder()
        .file("file", 0o644, *b"x")
        .xattr("file", "user.colour", "blue")
        .xattr("file", "user.empty", "")
        .file("plain", 0o644, *b"x");
    let Some(mounted) = Mounted::new(volume(layer)) else { return };
    let file = mounted.path("file");
    let mut value = [0_u8; 64];
    let count = rustix::fs::getxattr(&file, "user.colour", &mut value).unwrap();
    assert_eq!(&value[..count], b"blue");
    assert_eq!(rustix::fs::getxattr(&file, "user.empty", &mut value), Ok(0));
    let missing = rustix::fs::getxattr(&file, "user.none", &mut value);
    assert_eq!(missing, Err(rustix::io::Errno::NODATA));
    assert_eq!(rustix::fs::getxattr(&file, "user.colour", &mut value[..2]), Err(rustix::io::Errno::RANGE));
    let count = rustix::fs::listxattr(&file, &mut value).unwrap();
    assert_eq!(&value[..count], b"user.colour\0user.empty\0");
    assert_eq!(rustix::fs::listxattr(mounted.path("plain"), &mut value), Ok(0));
}

#[test]
fn the_size_of_the_file_system_can_be_asked_for() {
    let Some(mounted) = Mounted::new(volume(MemoryLayer::builder())) else { return };
    let space = rustix::fs::statvfs(mounted.root()).unwrap();
    assert_eq!(space.f_namemax, 255);
    assert!(space.f_bsize > 0);
}

#[test]
fn permissions_are_checked_by_the_kernel_and_changes_refused() {
    let layer = MemoryLayer::builder().file("file", 0o644, *b"x").directory("directory", 0o755);
    let Some(mounted) = Mounted::new(volume(layer)) else { return };
    let refused = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
    assert_eq!(refused(std::fs::write(mounted.path("file"), "y")), Some(libc::EROFS));
    assert_eq!(refused(std::fs::create_dir(mounted.path("new"))), Some(libc::EROFS));
    assert_eq!(refused(std::fs::remove_file(mounted.path("file"))), Some(libc::EROFS));
    let time = rustix::fs::Timespec { tv_sec: 1, tv_nsec: 1 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let flags = rustix::fs::AtFlags::empty();
    let result = rustix::fs::utimensat(rustix::fs::CWD, mounted.path("file"), &times, flags);
    assert_eq!(result, Err(rustix::io::Errno::ROFS));
}

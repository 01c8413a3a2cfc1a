//! chmod(2), chown(2), utimensat(2), set-id bits, extended attributes; and what other users may.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, utimensat};
use slotfs_fs::driver::OpenMode;
use slotfs_fs::layer::memory::{MemoryLayer, MemoryLayerBuilder};
use slotfs_tests::mounted::Writable;

fn layer() -> MemoryLayerBuilder {
    MemoryLayer::builder()
        .file("old", 0o644, vec![b'o'; 1000])
        .file("open-to-all", 0o6777, *b"anybody may write")
        .directory("shared", 0o1777)
        .directory("group", 0o2775)
}

fn mounted() -> Option<Writable> {
    Writable::new(layer(), OpenMode::Automatic)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn mode_owner_and_times_are_set_and_stay() {
    let Some(mut mounted) = mounted() else { return };
    for name in ["old", "new"] {
        let path = mounted.path(name);
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o4751)).unwrap();
        let access = Timespec { tv_sec: -2, tv_nsec: 750_000_000 };
        let modification = Timespec { tv_sec: 5_000_000_000, tv_nsec: 1 };
        let times = Timestamps { last_access: access, last_modification: modification };
        utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
    }
    for _ in 0..2 {
        for name in ["old", "new"] {
            let shown = std::fs::metadata(mounted.path(name)).unwrap();
            assert_eq!(shown.mode() & 0o7777, 0o4751);
            assert_eq!((shown.atime(), shown.atime_nsec()), (-2, 750_000_000), "{name}");
            assert_eq!((shown.mtime(), shown.mtime_nsec()), (5_000_000_000, 1), "{name}");
        }
        mounted.remount();
    }
    assert_eq!(std::fs::read(mounted.path("old")).unwrap().len(), 1000);
}

#[test]
fn the_umask_holds_and_a_set_group_directory_hands_its_group_on() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let Some(mounted) = mounted() else { return };
    std::os::unix::fs::chown(mounted.path("group"), None, Some(4321)).unwrap();
    // Whoever owns a set-group directory keeps the bit.
    std::fs::set_permissions(mounted.path("group"), Permissions::from_mode(0o2775)).unwrap();
    std::fs::create_dir(mounted.path("group/inner")).unwrap();
    std::fs::write(mounted.path("group/file"), "x").unwrap();
    assert_eq!(std::fs::metadata(mounted.path("group/file")).unwrap().gid(), 4321);
    let inner = std::fs::metadata(mounted.path("group/inner")).unwrap();
    assert_eq!((inner.gid(), inner.mode() & 0o2000), (4321, 0o2000));
}

#[test]
fn set_id_bits_go_with_the_owner() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let Some(mounted) = mounted() else { return };
    let path = mounted.path("open-to-all");
    assert_eq!(mode(&path), 0o6777);
    std::os::unix::fs::chown(&path, Some(1000), Some(1000)).unwrap();
    let shown = std::fs::metadata(&path).unwrap();
    assert_eq!((shown.uid(), shown.gid(), shown.mode() & 0o7777), (1000, 1000, 0o0777));
}

/// Runs `action` in a thread that is an ordinary user to the file system.
fn as_user<T: Send>(action: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // The identity for file-system calls is the thread's own, and so are the rights that go with it.
            #[expect(unsafe_code, reason = "two system calls that take a number")]
            // SAFETY: both change this thread only, which ends with the action.
            unsafe {
                libc::setfsgid(1000);
                libc::setfsuid(1000);
            }
            action()
        });
        thread.join().unwrap()
    })
}

#[test]
fn an_ordinary_user_is_held_to_permissions() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let Some(mounted) = mounted() else { return };
    let (old, shared) = (mounted.path("old"), mounted.path("shared"));
    std::fs::set_permissions(&old, Permissions::from_mode(0o600)).unwrap();
    std::fs::write(shared.join("root's"), "x").unwrap();
    as_user(|| {
        let refused =
            |result: std::io::Result<()>| assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EACCES));
        refused(File::open(&old).map(drop));
        refused(std::fs::write(mounted.path("new"), "x"));
        std::fs::write(shared.join("mine"), "x").unwrap();
        assert_eq!(std::fs::metadata(shared.join("mine")).unwrap().uid(), 1000);
        let sticky = std::fs::remove_file(shared.join("root's")).unwrap_err();
        assert_eq!(sticky.raw_os_error(), Some(libc::EPERM));
    });
    assert!(shared.join("root's").exists());
}

#[test]
fn set_id_bits_go_when_an_ordinary_user_changes_the_file() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for open in [OpenMode::Automatic, OpenMode::Requests] {
        let Some(mounted) = Writable::new(layer(), open) else { return };
        let path = mounted.path("open-to-all");
        type Change = fn(&Path);
        let changes: [(&str, Change); 3] = [
            ("write", |path| {
                use std::io::Write;
                OpenOptions::new().write(true).open(path).unwrap().write_all(b"X").unwrap();
            }),
            ("truncate", |path| OpenOptions::new().write(true).open(path).unwrap().set_len(3).unwrap()),
            ("open with O_TRUNC", |path| {
                drop(OpenOptions::new().write(true).truncate(true).open(path).unwrap())
            }),
        ];
        for (what, change) in changes {
            std::fs::set_permissions(&path, Permissions::from_mode(0o6777)).unwrap();
            assert_eq!(mode(&path), 0o6777);
            as_user(|| change(&path));
            assert_eq!(mode(&path), 0o0777, "{what} with {open:?}");
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o6777)).unwrap();
        std::fs::write(&path, "by root").unwrap();
        assert_eq!(mode(&path), 0o6777, "root keeps them");
    }
}

#[test]
fn extended_attributes_are_set_replaced_and_removed() {
    let Some(mut mounted) = mounted() else { return };
    let read = |mounted: &Writable, name: &str| {
        let mut value = vec![0; 70_000];
        rustix::fs::getxattr(mounted.path("old"), name, &mut value).map(|count| value[..count].to_vec())
    };
    let set = |mounted: &Writable, name: &str, value: &[u8], flags| {
        rustix::fs::setxattr(mounted.path("old"), name, value, flags)
    };
    let missing = set(&mounted, "user.a", b"1", XattrFlags::REPLACE);
    assert_eq!(missing, Err(rustix::io::Errno::NODATA));
    set(&mounted, "user.a", b"1", XattrFlags::CREATE).unwrap();
    assert_eq!(set(&mounted, "user.a", b"2", XattrFlags::CREATE), Err(rustix::io::Errno::EXIST));
    set(&mounted, "user.a", b"2", XattrFlags::REPLACE).unwrap();
    mounted.remount();
    assert_eq!(read(&mounted, "user.a").unwrap(), b"2");
    rustix::fs::removexattr(mounted.path("old"), "user.a").unwrap();
    assert_eq!(read(&mounted, "user.a"), Err(rustix::io::Errno::NODATA));
    assert_eq!(std::fs::read(mounted.path("old")).unwrap().len(), 1000);
}

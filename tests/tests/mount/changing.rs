//! Names: mkdir(2), rename(2), link(2), symlink(2), unlink(2), mknod(2), and what the kernel remembers of them.

use std::collections::BTreeSet;
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};
use slotfs_fs::driver::{OpenMode, Operation};
use slotfs_fs::layer::memory::{MemoryLayer, MemoryLayerBuilder};
use slotfs_tests::mounted::Writable;

fn layer() -> MemoryLayerBuilder {
    MemoryLayer::builder()
        .file("directory/file", 0o644, *b"content")
        .file("directory/deep/file", 0o644, *b"deep")
        .file("other/file", 0o644, *b"other")
        .symlink("link", "directory/file")
}

fn names(place: &Path) -> BTreeSet<String> {
    std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn mounted() -> Option<Writable> {
    Writable::new(layer(), OpenMode::Automatic)
}

#[test]
fn names_come_and_go_in_listings_that_the_kernel_keeps() {
    let Some(mounted) = mounted() else { return };
    let place = mounted.path("directory");
    for _ in 0..2 {
        assert_eq!(names(&place), BTreeSet::from(["deep".into(), "file".into()]));
    }
    std::fs::write(place.join("new"), "x").unwrap();
    assert_eq!(names(&place), BTreeSet::from(["deep".into(), "file".into(), "new".into()]));
    std::fs::remove_file(place.join("file")).unwrap();
    assert_eq!(names(&place), BTreeSet::from(["deep".into(), "new".into()]));
    std::fs::rename(place.join("new"), mounted.path("moved")).unwrap();
    assert_eq!(names(&place), BTreeSet::from(["deep".into()]));
    assert!(names(mounted.root()).contains("moved"));
}

#[test]
fn a_name_that_was_absent_appears_when_it_is_made() {
    let Some(mounted) = mounted() else { return };
    let path = mounted.path("directory/later");
    for _ in 0..3 {
        assert!(!path.exists());
    }
    std::fs::write(&path, "now").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"now");
    std::fs::remove_file(&path).unwrap();
    assert!(!path.exists());
    std::fs::create_dir(&path).unwrap();
    assert!(path.is_dir());
    std::fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("file", &path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"content");
}

#[test]
fn a_warm_look_around_a_writable_volume_asks_for_nothing() {
    let Some(mounted) = mounted() else { return };
    let look = || {
        for name in ["directory/file", "directory/deep/file", "link", "absent"] {
            let _ = std::fs::symlink_metadata(mounted.path(name));
            let _ = std::fs::metadata(mounted.path(name));
        }
    };
    // Reading a link makes the kernel ask for its access time once more.
    look();
    look();
    let ((), requests) = mounted.fewest_requests_of(look);
    assert_eq!(requests, 0, "{:?}", mounted.statistics().by_operation());
}

#[test]
fn renames_replace_refuse_and_exchange() {
    let Some(mut mounted) = mounted() else { return };
    let rename = |mounted: &Writable, from: &str, to: &str, flags| {
        renameat_with(CWD, mounted.path(from), CWD, mounted.path(to), flags)
    };
    let exists = rename(&mounted, "directory/file", "other/file", RenameFlags::NOREPLACE);
    assert_eq!(exists, Err(rustix::io::Errno::EXIST));
    rename(&mounted, "directory/file", "other/file", RenameFlags::EXCHANGE).unwrap();
    let read = |mounted: &Writable, name: &str| std::fs::read_to_string(mounted.path(name)).unwrap();
    assert_eq!(
        (read(&mounted, "directory/file"), read(&mounted, "other/file")),
        ("other".into(), "content".into())
    );
    // A directory of a slot goes somewhere else, with everything in it.
    rename(&mounted, "directory", "elsewhere", RenameFlags::empty()).unwrap();
    assert_eq!(read(&mounted, "elsewhere/deep/file"), "deep");
    assert!(!mounted.path("directory").exists());
    rename(&mounted, "elsewhere/deep/file", "other/file", RenameFlags::empty()).unwrap();
    mounted.remount();
    assert_eq!(read(&mounted, "other/file"), "deep");
    assert_eq!(names(&mounted.path("elsewhere")), BTreeSet::from(["deep".into(), "file".into()]));
    assert_eq!(names(&mounted.path("elsewhere/deep")), BTreeSet::new());
    let into_itself = rename(&mounted, "elsewhere", "elsewhere/deep/x", RenameFlags::empty());
    assert_eq!(into_itself, Err(rustix::io::Errno::INVAL));
}

#[test]
fn hard_links_are_one_file() {
    let Some(mut mounted) = mounted() else { return };
    std::fs::hard_link(mounted.path("directory/file"), mounted.path("again")).unwrap();
    for _ in 0..2 {
        let inode = |name: &str| std::fs::metadata(mounted.path(name)).unwrap().ino();
        assert_eq!(inode("directory/file"), inode("again"));
        assert_eq!(std::fs::metadata(mounted.path("again")).unwrap().nlink(), 2);
        std::fs::write(mounted.path("again"), "written through the second name").unwrap();
        let text = std::fs::read_to_string(mounted.path("directory/file")).unwrap();
        assert_eq!(text, "written through the second name");
        mounted.remount();
    }
    std::fs::remove_file(mounted.path("directory/file")).unwrap();
    assert_eq!(std::fs::metadata(mounted.path("again")).unwrap().nlink(), 1);
    let directory = std::fs::hard_link(mounted.path("other"), mounted.path("linked")).unwrap_err();
    assert_eq!(directory.raw_os_error(), Some(libc::EPERM));
}

#[test]
fn inode_numbers_outlive_the_first_write_a_rename_and_a_remount() {
    let Some(mut mounted) = mounted() else { return };
    let inode = |mounted: &Writable, name: &str| std::fs::metadata(mounted.path(name)).unwrap().ino();
    let (file, directory) = (inode(&mounted, "directory/file"), inode(&mounted, "directory"));
    std::fs::write(mounted.path("directory/file"), "changed").unwrap();
    assert_eq!(inode(&mounted, "directory/file"), file);
    std::fs::rename(mounted.path("directory/file"), mounted.path("directory/renamed")).unwrap();
    assert_eq!(inode(&mounted, "directory/renamed"), file);
    std::fs::write(mounted.path("fresh"), "x").unwrap();
    let fresh = inode(&mounted, "fresh");
    mounted.remount();
    assert_eq!(inode(&mounted, "directory/renamed"), file);
    assert_eq!(inode(&mounted, "directory"), directory);
    assert_eq!(inode(&mounted, "fresh"), fresh);
    let listed = std::fs::read_dir(mounted.path("directory")).unwrap().map(|entry| entry.unwrap());
    let listed: Vec<u64> =
        listed.filter(|entry| entry.file_name() == "renamed").map(|entry| entry.ino()).collect();
    assert_eq!(listed, [file]);
}

#[test]
fn inode_numbers_that_the_disk_gives_again_do_not_mix_files_up() {
    let Some(mounted) = mounted() else { return };
    // The current directory of nobody, but known to the kernel: deleted, and its number likely given again.
    for round in 0..200_u32 {
        let path = mounted.path(format!("round{}", round % 3));
        let text = format!("round {round}");
        std::fs::write(&path, &text).unwrap();
        let held = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another").unwrap();
        assert_eq!(std::io::read_to_string(&held).unwrap(), text);
        drop(held);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "another");
        std::fs::remove_file(&path).unwrap();
    }
    assert_eq!(mounted.statistics().panics(), 0);
}

#[test]
fn special_files_are_made_and_work() {
    let Some(mounted) = mounted() else { return };
    let fifo = mounted.path("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let writer = {
        let fifo = fifo.clone();
        std::thread::spawn(move || std::fs::write(fifo, "through the pipe").unwrap())
    };
    assert_eq!(std::fs::read_to_string(&fifo).unwrap(), "through the pipe");
    writer.join().unwrap();
    let socket = mounted.path("socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
    drop(listener);
    assert!(std::fs::metadata(&socket).unwrap().file_type().is_socket());
    if rustix::process::geteuid().is_root() {
        let device = mounted.path("device");
        mknodat(CWD, &device, FileType::CharacterDevice, Mode::from(0o600), makedev(1, 3)).unwrap();
        assert_eq!(std::fs::metadata(&device).unwrap().rdev(), makedev(1, 3));
        assert_eq!(
            std::fs::File::open(&device).unwrap_err().raw_os_error(),
            Some(libc::EACCES),
            "nodev holds"
        );
    }
}

#[test]
fn directories_are_removed_only_when_empty_and_made_anew_are_empty() {
    let Some(mut mounted) = mounted() else { return };
    let full = std::fs::remove_dir(mounted.path("directory")).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOTEMPTY));
    std::fs::remove_dir_all(mounted.path("directory")).unwrap();
    std::fs::create_dir(mounted.path("directory")).unwrap();
    assert_eq!(names(&mounted.path("directory")), BTreeSet::new());
    mounted.remount();
    assert_eq!(names(&mounted.path("directory")), BTreeSet::new());
    assert!(!mounted.path("directory/file").exists());
}

#[test]
fn the_kernel_asks_once_when_a_file_is_made_and_opened() {
    let Some(mounted) = mounted() else { return };
    std::fs::write(mounted.path("directory/new"), "x").unwrap();
    assert_eq!(mounted.statistics().requests(Operation::Create), 1);
    assert_eq!(mounted.statistics().requests(Operation::Open), 0);
    assert_eq!(mounted.statistics().requests(Operation::Flush), 0);
}

#[test]
fn unnamed_temporary_files_are_refused_so_that_programs_fall_back() {
    use rustix::fs::OFlags;
    let Some(mounted) = mounted() else { return };
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let refused = rustix::fs::open(mounted.root(), flags, Mode::from(0o600)).map(drop);
    assert_eq!(refused, Err(rustix::io::Errno::OPNOTSUPP));
}

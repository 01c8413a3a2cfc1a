//! readdir(3), and names.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt};

use slotfs_fs::driver::OpenMode;
use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_fs::node::Kind;
use slotfs_tests::mounted::{Mounted, volume};

fn many(count: usize) -> slotfs_fs::layer::memory::MemoryLayerBuilder {
    (0..count).fold(MemoryLayer::builder(), |layer, number| {
        layer.file(format!("many/{number:05}-with-a-name-that-takes-some-room"), 0o644, *b"x")
    })
}

/// Every way of opening directories lists the same.
fn every_mode(layer: impl Fn() -> slotfs_fs::layer::memory::MemoryLayerBuilder, test: impl Fn(&Mounted)) {
    for mode in [OpenMode::Automatic, OpenMode::Requests] {
        let Some(mounted) = Mounted::with(volume(layer()), |options| options.open = mode) else { return };
        test(&mounted);
        // The kernel has it cached now.
        test(&mounted);
        mounted.unmount();
    }
}

#[test]
fn a_directory_of_many_names_is_listed_whole_and_once() {
    every_mode(
        || many(5000),
        |mounted| {
            let listed: Vec<OsString> = std::fs::read_dir(mounted.path("many"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            let names: BTreeSet<&OsString> = listed.iter().collect();
            assert_eq!((listed.len(), names.len()), (5000, 5000));
            assert!(names.contains(&OsString::from("04999-with-a-name-that-takes-some-room")));
        },
    );
}

#[test]
fn a_listing_tells_kind_and_inode_number_as_stat_does() {
    let layer = || {
        MemoryLayer::builder()
            .directory("directory", 0o755)
            .file("file", 0o644, *b"content")
            .hard_link("again", "file")
            .symlink("link", "file")
            .special("fifo", Kind::Fifo, 0o600, 0)
            .special("socket", Kind::Socket, 0o600, 0)
    };
    every_mode(layer, |mounted| {
        let mut seen = 0;
        for entry in std::fs::read_dir(mounted.root()).unwrap() {
            let entry = entry.unwrap();
            let metadata = std::fs::symlink_metadata(entry.path()).unwrap();
            assert_eq!(entry.ino(), metadata.ino(), "{:?}", entry.file_name());
            assert_eq!(entry.file_type().unwrap(), metadata.file_type(), "{:?}", entry.file_name());
            seen += 1;
        }
        assert_eq!(seen, 6);
        assert!(std::fs::symlink_metadata(mounted.path("fifo")).unwrap().file_type().is_fifo());
        let inode = |name: &str| std::fs::symlink_metadata(mounted.path(name)).unwrap().ino();
        assert_eq!(inode("file"), inode("again"));
    });
}

#[test]
fn names_of_any_bytes_are_listed_and_found() {
    let mut names: Vec<Vec<u8>> =
        vec![b"\xff\xfe".to_vec(), "größe 日本".into(), b"new\nline\ttab".to_vec(), vec![b'n'; 255]];
    names.extend((1..=255_u8).filter(|byte| !matches!(byte, b'/' | b'.')).map(|byte| vec![byte]));
    let layer = || {
        names.iter().fold(MemoryLayer::builder(), |layer, name| {
            layer.file([b"d/", name.as_slice()].concat(), 0o644, name.clone())
        })
    };
    every_mode(layer, |mounted| {
        let listed: BTreeSet<Vec<u8>> = std::fs::read_dir(mounted.path("d"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_vec())
            .collect();
        assert_eq!(listed, names.iter().cloned().collect());
        for name in &names {
            let path = mounted.path("d").join(OsStr::from_bytes(name));
            assert_eq!(std::fs::read(path).unwrap(), *name);
        }
    });
}

#[test]
fn a_name_that_is_too_long_says_so() {
    let Some(mounted) = Mounted::new(volume(MemoryLayer::builder())) else { return };
    let error = std::fs::metadata(mounted.path("n".repeat(256))).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
}

/// Reads a directory a few names at a time, as programs with small buffers do.
struct Slowly {
    directory: std::fs::File,
    buffer: Vec<std::mem::MaybeUninit<u8>>,
}

impl Slowly {
    fn open(path: &std::path::Path) -> Self {
        let directory = std::fs::File::open(path).unwrap();
        Self { directory, buffer: vec![std::mem::MaybeUninit::uninit(); 1024] }
    }

    /// Returns the next few names; none at the end.
    fn next(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        let mut listing = rustix::fs::RawDir::new(&self.directory, &mut self.buffer);
        while let Some(entry) = listing.next() {
            names.push(entry.unwrap().file_name().to_str().unwrap().to_owned());
            if listing.is_buffer_empty() {
                break;
            }
        }
        names.retain(|name| name != "." && name != "..");
        names
    }

    fn rest(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let more = self.next();
            if more.is_empty() {
                return names;
            }
            names.extend(more);
        }
    }
}

/// What is there all the time is listed once by everybody, however many read and whatever changes meanwhile.
#[test]
fn listings_stay_whole_while_the_directory_changes_under_several_readers() {
    for mode in [OpenMode::Automatic, OpenMode::Requests] {
        let Some(mounted) = slotfs_tests::mounted::Writable::new(many(600), mode) else { return };
        let place = mounted.path("many");
        let mut readers: Vec<(Slowly, Vec<String>)> = Vec::new();
        for round in 0..60 {
            readers.push((Slowly::open(&place), Vec::new()));
            for (reader, seen) in &mut readers {
                seen.extend(reader.next());
            }
            // Before, in the middle of and behind where the readers are.
            std::fs::write(place.join(format!("{round:05}-new")), b"").unwrap();
            std::fs::remove_file(place.join(format!("{round:05}-with-a-name-that-takes-some-room"))).unwrap();
            let victim = format!("{:05}-with-a-name-that-takes-some-room", 599 - round);
            std::fs::remove_file(place.join(victim)).unwrap();
        }
        let lasting: BTreeSet<String> =
            (60..540).map(|number| format!("{number:05}-with-a-name-that-takes-some-room")).collect();
        for (mut reader, mut seen) in readers {
            seen.extend(reader.rest());
            let names: BTreeSet<&String> = seen.iter().collect();
            assert_eq!(names.len(), seen.len(), "{mode:?}: a name comes twice");
            let missing: Vec<_> = lasting.iter().filter(|name| !names.contains(name)).collect();
            assert!(missing.is_empty(), "{mode:?}: {missing:?}");
        }
    }
}

#[test]
fn a_position_in_a_listing_can_be_returned_to() {
    for mode in [OpenMode::Automatic, OpenMode::Requests] {
        let Some(mounted) = slotfs_tests::mounted::Writable::new(many(100), mode) else { return };
        let place = mounted.path("many");
        let mut reader = Slowly::open(&place);
        let first = reader.next();
        let position = rustix::fs::tell(&reader.directory).unwrap();
        let rest = reader.rest();
        assert_eq!(first.len() + rest.len(), 100);
        std::fs::remove_file(place.join(&first[0])).unwrap();
        rustix::fs::seek(&reader.directory, rustix::fs::SeekFrom::Start(position)).unwrap();
        assert_eq!(reader.rest(), rest, "{mode:?}");
        rustix::fs::seek(&reader.directory, rustix::fs::SeekFrom::Start(0)).unwrap();
        let mut anew = reader.rest();
        anew.sort();
        let mut expected = [&first[1..], &rest[..]].concat();
        expected.sort();
        assert_eq!(anew, expected, "{mode:?}: rewinddir(3) shows the change");
    }
}

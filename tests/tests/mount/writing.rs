//! write(2), O_APPEND, truncation, holes, fallocate(2), copy_file_range(2), fsync(2).

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::FallocateFlags;
use slotfs_fs::driver::OpenMode;
use slotfs_fs::layer::memory::{MemoryLayer, MemoryLayerBuilder};
use slotfs_tests::mounted::Writable;

/// As root the first is passthrough where the content lies on the disk.
const MODES: [OpenMode; 2] = [OpenMode::Automatic, OpenMode::Requests];

fn layer() -> MemoryLayerBuilder {
    MemoryLayer::builder().file("old", 0o644, vec![b'o'; 300_000]).directory("directory", 0o755)
}

fn each(test: impl Fn(&mut Writable)) {
    for mode in MODES {
        let Some(mut writable) = Writable::new(layer(), mode) else { return };
        test(&mut writable);
    }
}

#[test]
fn a_new_file_holds_what_was_written_also_after_a_remount() {
    each(|mounted| {
        let content: Vec<u8> = (0..3_000_000_u32).map(|place| (place / 7) as u8).collect();
        std::fs::write(mounted.path("new"), &content).unwrap();
        assert!(std::fs::read(mounted.path("new")).unwrap() == content);
        mounted.remount();
        assert!(std::fs::read(mounted.path("new")).unwrap() == content);
        assert_eq!(std::fs::read(mounted.upper().join("new")).unwrap().len(), content.len());
    });
}

#[test]
fn writing_into_a_file_of_a_slot_changes_that_place_only() {
    each(|mounted| {
        let path = mounted.path("old");
        // Cached by the kernel before the change.
        assert_eq!(std::fs::read(&path).unwrap().len(), 300_000);
        let reader = File::open(&path).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"NEW", 150_000).unwrap();
        let expected: Vec<u8> = [&vec![b'o'; 150_000][..], b"NEW", &vec![b'o'; 149_997]].concat();
        assert!(std::fs::read(&path).unwrap() == expected);
        let mut seen = [0; 5];
        reader.read_exact_at(&mut seen, 149_999).unwrap();
        assert_eq!(&seen, b"oNEWo", "who had it open sees the change");
        drop((reader, file));
        mounted.remount();
        assert!(std::fs::read(mounted.path("old")).unwrap() == expected);
    });
}

#[test]
fn appends_of_several_writers_do_not_overwrite_each_other() {
    each(|mounted| {
        let path = mounted.path("log");
        File::create(&path).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4_u8 {
                let path = &path;
                scope.spawn(move || {
                    let mut file = OpenOptions::new().append(true).open(path).unwrap();
                    for _ in 0..100 {
                        file.write_all(&[b'a' + writer; 10]).unwrap();
                    }
                });
            }
        });
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content.len(), 4000);
        for piece in content.chunks(10) {
            assert!(piece.iter().all(|byte| *byte == piece[0]), "torn: {piece:?}");
        }
    });
}

#[test]
fn truncation_cuts_and_extends_with_zeros() {
    each(|mounted| {
        let path = mounted.path("old");
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        file.set_len(5).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"ooooo");
        file.set_len(8).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"ooooo\0\0\0");
        assert_eq!(file.metadata().unwrap().len(), 8);
        File::create(&path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0, "O_TRUNC is seen through another handle");
    });
}

#[test]
fn opening_with_truncation_does_not_need_the_old_content() {
    each(|mounted| {
        std::fs::write(mounted.path("old"), "short").unwrap();
        assert_eq!(std::fs::read(mounted.path("old")).unwrap(), b"short");
        mounted.remount();
        assert_eq!(std::fs::read(mounted.path("old")).unwrap(), b"short");
    });
}

#[test]
fn holes_stay_holes_and_are_found() {
    each(|mounted| {
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).open(mounted.path("sparse")).unwrap();
        file.write_all_at(b"start", 0).unwrap();
        file.write_all_at(b"end", 8 << 20).unwrap();
        let seek = |from| rustix::fs::seek(&file, from);
        let hole = seek(rustix::fs::SeekFrom::Hole(0)).unwrap();
        assert!((5..=1 << 20).contains(&hole), "{hole}");
        assert_eq!(seek(rustix::fs::SeekFrom::Data(1 << 20)), Ok(8 << 20));
        let mut middle = [1; 100];
        file.read_exact_at(&mut middle, 4 << 20).unwrap();
        assert_eq!(middle, [0; 100]);
        use std::os::unix::fs::MetadataExt;
        assert!(file.metadata().unwrap().blocks() < 1000, "it takes no room");
    });
}

#[test]
fn space_is_allocated_and_punched() {
    each(|mounted| {
        let file = OpenOptions::new().read(true).write(true).open(mounted.path("old")).unwrap();
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 300_000, 100_000).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 400_000);
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, punch, 8192, 8192).unwrap();
        let content = std::fs::read(mounted.path("old")).unwrap();
        assert!(content[..8192].iter().all(|byte| *byte == b'o'));
        assert!(content[8192..16384].iter().all(|byte| *byte == 0));
        assert!(content[16384..300_000].iter().all(|byte| *byte == b'o'));
    });
}

#[test]
fn ranges_are_copied_inside_the_mount() {
    each(|mounted| {
        let from = File::open(mounted.path("old")).unwrap();
        let to =
            OpenOptions::new().read(true).write(true).create_new(true).open(mounted.path("copy")).unwrap();
        let (mut source, mut target, mut left) = (10, 3, 250_000);
        while left > 0 {
            let copied =
                rustix::fs::copy_file_range(&from, Some(&mut source), &to, Some(&mut target), left).unwrap();
            assert!(copied > 0);
            left -= copied;
        }
        let content = std::fs::read(mounted.path("copy")).unwrap();
        assert_eq!(&content[..3], b"\0\0\0");
        assert!(content.len() == 250_003 && content[3..].iter().all(|byte| *byte == b'o'));
    });
}

#[test]
fn files_and_directories_can_be_synced() {
    each(|mounted| {
        let mut file = File::create(mounted.path("directory/file")).unwrap();
        file.write_all(b"durable").unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        File::open(mounted.path("directory")).unwrap().sync_all().unwrap();
        File::open(mounted.path("old")).unwrap().sync_all().unwrap();
        rustix::fs::syncfs(&file).unwrap();
    });
}

#[test]
fn what_was_deleted_is_usable_while_it_is_open() {
    each(|mounted| {
        for name in ["old", "fresh"] {
            let path = mounted.path(name);
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap_err().kind(), std::io::ErrorKind::NotFound);
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(b"still here").unwrap();
            file.set_len(10).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "still here");
            use std::os::unix::fs::MetadataExt;
            assert_eq!(file.metadata().unwrap().nlink(), 0, "{name}");
        }
        mounted.remount();
        assert!(!mounted.path("old").exists() && !mounted.path("fresh").exists());
    });
}

#[test]
fn the_size_of_the_disk_is_told() {
    each(|mounted| {
        let here = rustix::fs::statvfs(mounted.root()).unwrap();
        let disk = rustix::fs::statvfs(mounted.upper()).unwrap();
        assert_eq!(here.f_blocks * here.f_frsize, disk.f_blocks * disk.f_frsize);
        assert_eq!(here.f_files, disk.f_files);
    });
}

#[test]
fn a_running_program_cannot_be_truncated() {
    use rustix::fs::{Mode, OFlags, open};
    use rustix::io::Errno;

    each(|mounted| {
        let program = mounted.path("program");
        std::fs::copy("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
        let flags = [OFlags::WRONLY, OFlags::RDWR, OFlags::WRONLY | OFlags::TRUNC, OFlags::TRUNC];
        let refused = flags.map(|flags| open(&program, flags, Mode::empty()).err());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(refused, [Some(Errno::TXTBSY); 4]);
        assert_eq!(std::fs::read(&program).unwrap(), std::fs::read("/bin/sleep").unwrap());
        // What cannot run is truncated as ever.
        open(mounted.path("old"), OFlags::TRUNC, Mode::empty()).unwrap();
        assert_eq!(std::fs::read(mounted.path("old")).unwrap(), b"");
    });
}

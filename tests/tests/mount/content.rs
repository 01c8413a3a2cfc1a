//! read(2), mmap(2), exec(2), lseek(2), readlink(2).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use slotfs_fs::driver::OpenMode;
use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_tests::mounted::{Mounted, volume};

const MODES: [OpenMode; 3] = [OpenMode::Automatic, OpenMode::Requests, OpenMode::Passthrough];

/// Bytes that differ at every place, so that no part can stand for another.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|place| (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[test]
fn a_large_file_reads_the_same_forward_backward_and_at_random() {
    let content = pattern(9_000_001);
    for mode in MODES {
        let layer = MemoryLayer::builder().file("large", 0o644, content.clone());
        let Some(mounted) = Mounted::with(volume(layer), |options| options.open = mode) else { return };
        assert!(std::fs::read(mounted.path("large")).unwrap() == content);
        let file = File::open(mounted.path("large")).unwrap();
        let mut piece = vec![0; 70_000];
        for offset in [8_950_000, 4_000_003, 0, 1_048_575, 8_999_999, 9_000_001, 10_000_000] {
            let count = file.read_at(&mut piece, offset).unwrap();
            let start = content.len().min(offset as usize);
            assert!(piece[..count] == content[start..content.len().min(start + 70_000)], "at {offset}");
        }
    }
}

#[test]
fn the_end_of_a_file_and_an_empty_file_read_nothing() {
    let layer = MemoryLayer::builder().file("empty", 0o644, *b"").file("short", 0o644, *b"abc");
    let Some(mounted) = Mounted::new(volume(layer)) else { return };
    assert_eq!(std::fs::read(mounted.path("empty")).unwrap(), b"");
    let mut file = File::open(mounted.path("short")).unwrap();
    file.seek(SeekFrom::Start(3)).unwrap();
    assert_eq!(file.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(file.seek(SeekFrom::End(-1)).unwrap(), 2);
}

#[test]
fn data_and_holes_are_told_without_and_with_handles() {
    for mode in MODES {
        let layer = MemoryLayer::builder().file("file", 0o644, pattern(10_000));
        let Some(mounted) = Mounted::with(volume(layer), |options| options.open = mode) else { return };
        let file = File::open(mounted.path("file")).unwrap();
        let seek = |from| rustix::fs::seek(&file, from);
        assert_eq!(seek(rustix::fs::SeekFrom::Data(5)), Ok(5));
        assert_eq!(seek(rustix::fs::SeekFrom::Hole(5)), Ok(10_000));
        assert_eq!(seek(rustix::fs::SeekFrom::Data(10_000)), Err(rustix::io::Errno::NXIO));
    }
}

#[test]
fn programs_and_scripts_run_from_the_mount() {
    let program = std::fs::read("/bin/true").unwrap();
    for mode in MODES {
        let layer = MemoryLayer::builder()
            .file("bin/true", 0o755, program.clone())
            .file("bin/script", 0o755, *b"#!/bin/sh\necho \"$0 says $1\"\nexit 7\n")
            .file("bin/data", 0o644, program.clone());
        let Some(mounted) = Mounted::with(volume(layer), |options| options.open = mode) else { return };
        assert!(Command::new(mounted.path("bin/true")).status().unwrap().success());
        let output = Command::new(mounted.path("bin/script")).arg("hello").output().unwrap();
        assert_eq!(output.status.code(), Some(7));
        let script = mounted.path("bin/script");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{} says hello\n", script.display()));
        let refused = Command::new(mounted.path("bin/data")).status().unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    }
}

#[test]
fn maps_show_the_content_shared_and_private() {
    let content = pattern(300_000);
    for mode in MODES {
        let layer = MemoryLayer::builder().file("file", 0o644, content.clone());
        let Some(mounted) = Mounted::with(volume(layer), |options| options.open = mode) else { return };
        let file = File::open(mounted.path("file")).unwrap();
        // SAFETY: nothing truncates the file while it is mapped.
        #[expect(unsafe_code, reason = "the test is about mapping")]
        let (shared, private) = unsafe {
            (memmap2::Mmap::map(&file).unwrap(), memmap2::MmapOptions::new().map_copy(&file).unwrap())
        };
        assert!(*shared == content && *private == content);
    }
}

#[test]
fn symbolic_links_lead_where_they_say() {
    let layer = MemoryLayer::builder()
        .file("target", 0o644, *b"reached")
        .symlink("here", "target")
        .symlink("nowhere", "missing")
        .symlink("round", "round")
        .symlink("long", vec![b'x'; 4000]);
    let Some(mounted) = Mounted::new(volume(layer)) else { return };
    assert_eq!(std::fs::read(mounted.path("here")).unwrap(), b"reached");
    assert_eq!(std::fs::read_link(mounted.path("here")).unwrap(), PathBuf::from("target"));
    assert_eq!(std::fs::read_link(mounted.path("long")).unwrap().as_os_str().len(), 4000);
    let of = |name: &str| std::fs::read(mounted.path(name)).unwrap_err().raw_os_error();
    assert_eq!(of("nowhere"), Some(libc::ENOENT));
    assert_eq!(of("round"), Some(libc::ELOOP));
    assert_eq!(std::fs::read_link(mounted.path("target")).unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

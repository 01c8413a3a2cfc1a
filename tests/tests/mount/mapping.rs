//! mmap(2), shared and writable: what is stored through memory is in the file, and the other way round.
#![expect(unsafe_code, reason = "the tests are about mapping")]

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, MetadataExt};

use memmap2::MmapMut;
use slotfs_fs::driver::OpenMode;
use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_tests::mounted::Writable;

fn each(test: impl Fn(&mut Writable)) {
    for mode in [OpenMode::Automatic, OpenMode::Requests] {
        let layer = MemoryLayer::builder().file("old", 0o644, vec![b'o'; 50_000]);
        let Some(mut writable) = Writable::new(layer, mode) else { return };
        test(&mut writable);
    }
}

#[test]
fn stores_through_a_shared_map_reach_the_file_and_survive() {
    each(|mounted| {
        for name in ["old", "new"] {
            let path = mounted.path(name);
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
            file.set_len(50_000).unwrap();
            // SAFETY: nobody truncates the file below the map's length while it is mapped.
            let mut map = unsafe { MmapMut::map_mut(&file).unwrap() };
            map[10..16].copy_from_slice(b"mapped");
            map[49_990..49_996].copy_from_slice(b"mapped");
            map.flush().unwrap();
            let mut seen = [0; 6];
            file.read_exact_at(&mut seen, 10).unwrap();
            assert_eq!(&seen, b"mapped", "read(2) sees the store");
            file.write_all_at(b"written", 20_000).unwrap();
            assert_eq!(&map[20_000..20_007], b"written", "the map sees write(2)");
            drop((map, file));
            assert_eq!(&std::fs::read(&path).unwrap()[49_990..49_996], b"mapped");
        }
        mounted.remount();
        for name in ["old", "new"] {
            let content = std::fs::read(mounted.path(name)).unwrap();
            assert_eq!(
                (&content[10..16], &content[49_990..49_996]),
                (&b"mapped"[..], &b"mapped"[..]),
                "{name}"
            );
        }
    });
}

#[test]
fn a_store_without_sync_is_in_the_file_after_the_last_close() {
    each(|mounted| {
        let path = mounted.path("old");
        let before = std::fs::metadata(&path).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        // SAFETY: nobody truncates the file while it is mapped.
        let mut map = unsafe { MmapMut::map_mut(&file).unwrap() };
        drop(file);
        map[0] = b'X';
        drop(map);
        assert_eq!(std::fs::read(&path).unwrap()[0], b'X');
        mounted.remount();
        assert_eq!(std::fs::read(mounted.path("old")).unwrap()[0], b'X');
        let after = std::fs::metadata(mounted.path("old")).unwrap();
        assert!((after.mtime(), after.mtime_nsec()) > (before.mtime(), before.mtime_nsec()));
    });
}

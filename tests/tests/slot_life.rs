//! What happens to a slot over time: its index is reused and mended, its objects come and go, its package changes.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use slotfs_fs::layer::{Keeper, KeeperOptions, Layer, LayerError, SlotHome, SlotLayer, SlotOptions};
use slotfs_fs::package::{Compression, Container};
use slotfs_tests::archive::{
    COMPRESSIONS, Cache, TarMaker, Tree, assert_same, compress, find, read_all, slot_of, tree_of_layer,
};

fn text(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 20);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(format!("{:x} ", state >> 20).as_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Some small files and a larger one.
fn archive() -> Vec<u8> {
    let small = (0..40).fold(TarMaker::default(), |maker, number| {
        maker.file(&format!("small/{number}"), &text(number * 100, number as u64))
    });
    small.file("large", &text(3_000_000, 99)).symlink("link", "large").finish()
}

fn indexes(cache: &Cache) -> Vec<PathBuf> {
    let folder = cache.home.shared.join("indexes-v1");
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn objects(cache: &Cache) -> usize {
    let mut count = 0;
    cache
        .home
        .store
        .as_ref()
        .unwrap()
        .visit(&mut |_| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    count
}

fn opened(cache: &Cache, chain: &[Compression], options: SlotOptions) -> (SlotLayer, Tree) {
    let bytes = chain.iter().rev().fold(archive(), |bytes, compression| compress(*compression, &bytes));
    let slot = slot_of(&cache.file("slot", &bytes), Container::Tar, chain);
    let layer = cache.open(&slot, options);
    layer.wait_until_settled().unwrap();
    let tree = tree_of_layer(&layer, 65536);
    (layer, tree)
}

#[test]
fn a_second_package_with_the_same_slot_builds_nothing() {
    let cache = Cache::new();
    let (_, tree) = opened(&cache, &[Compression::Gzip], SlotOptions::default());
    assert_eq!(indexes(&cache).len(), 1);
    let name = indexes(&cache)[0].file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.ends_with("-tar.gzip.idx"), "{name}");
    let copy = cache.folder.path().join("other package");
    fs::copy(cache.folder.path().join("slot"), &copy).unwrap();
    let layer = cache.open(&slot_of(&copy, Container::Tar, &[Compression::Gzip]), SlotOptions::default());
    assert!(layer.index_existed() && layer.is_settled());
    assert_same(&tree_of_layer(&layer, 4096), &tree, "second package");
    assert_eq!(indexes(&cache).len(), 1);
    let statistics = layer.statistics();
    assert_eq!(statistics.nodes, 44);
    assert!(statistics.index_bytes > 4096 && statistics.decoded_bytes > 3_000_000);
    assert_eq!(statistics.pass_seconds, None);
}

#[test]
fn a_damaged_index_is_made_anew_wherever_the_damage_is() {
    let cache = Cache::new();
    let (layer, tree) = opened(&cache, &[Compression::Gzip], SlotOptions::default());
    drop(layer);
    let index = indexes(&cache).remove(0);
    let good = fs::read(&index).unwrap();
    let slot = slot_of(&cache.folder.path().join("slot"), Container::Tar, &[Compression::Gzip]);
    for at in (0..good.len()).step_by(good.len() / 12).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        fs::remove_file(&index).unwrap();
        fs::write(&index, &bad).unwrap();
        let layer = cache.open(&slot, SlotOptions::default());
        assert_same(&tree_of_layer(&layer, 65536), &tree, &format!("byte {at} of {} flipped", good.len()));
        layer.wait_until_settled().unwrap();
    }
    for cut in [0, 4095, good.len() / 2] {
        fs::remove_file(&index).unwrap();
        fs::write(&index, &good[..cut]).unwrap();
        let layer = cache.open(&slot, SlotOptions::default());
        assert!(!layer.index_existed(), "cut at {cut}");
        assert_same(&tree_of_layer(&layer, 65536), &tree, "cut");
    }
    assert_eq!(fs::read(&index).unwrap(), good, "the same slot gives the same index");
}

#[test]
fn what_cannot_be_reached_at_random_is_stored_and_made_again_when_it_is_gone() {
    for chain in [&[Compression::Xz][..], &[Compression::Zstd], &[Compression::Gzip, Compression::Bzip2]] {
        let cache = Cache::new();
        let (layer, tree) = opened(&cache, chain, SlotOptions::default());
        // Files of 0 to 512 bytes are in the index itself.
        assert_eq!(objects(&cache), 35, "{chain:?}");
        drop(layer);
        let slot = slot_of(&cache.folder.path().join("slot"), Container::Tar, chain);
        let layer = cache.open(&slot, SlotOptions::default());
        assert!(layer.index_existed());
        let host = layer.host_file(find(&layer, b"large").unwrap()).unwrap().expect("an object");
        let mut start = [0; 100];
        host.read_exact_at(&mut start, 0).unwrap();
        assert_eq!(start, text(100, 99)[..]);
        drop(layer);
        for path in object_paths(&cache) {
            fs::remove_file(path).unwrap();
        }
        let layer = cache.open(&slot, SlotOptions::default());
        assert_same(&tree_of_layer(&layer, 65536), &tree, "without objects");
        assert_eq!(objects(&cache), 35, "made again: {chain:?}");
        // Without any store, everything is decoded from the start.
        let bare = SlotHome { shared: cache.home.shared.clone(), store: None };
        let digest = slotfs_fs::disk::digest::Digest::of_range(&slot.source.stored).unwrap();
        let layer = SlotLayer::open(&slot, digest, &bare, SlotOptions::default()).unwrap();
        assert_same(&tree_of_layer(&layer, 65536), &tree, "without a store");
    }
}

fn object_paths(cache: &Cache) -> Vec<PathBuf> {
    let root = cache.home.shared.join("objects-v1");
    let folders = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    folders
        .filter(|path| path.file_name().unwrap().len() == 2)
        .flat_map(|folder| {
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn an_object_of_the_wrong_length_is_replaced() {
    let cache = Cache::new();
    let (layer, tree) = opened(&cache, &[Compression::Xz], SlotOptions::default());
    drop(layer);
    for path in object_paths(&cache) {
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"torn").unwrap();
    }
    let slot = slot_of(&cache.folder.path().join("slot"), Container::Tar, &[Compression::Xz]);
    let layer = cache.open(&slot, SlotOptions::default());
    assert_same(&tree_of_layer(&layer, 65536), &tree, "torn objects");
}

#[test]
fn a_cache_that_cannot_be_written_does_not_keep_anybody_from_reading() {
    for chain in COMPRESSIONS {
        let cache = Cache::new();
        let stored = compress(chain, &archive());
        let slot = slot_of(&cache.file("slot", &stored), Container::Tar, &[chain]);
        let nowhere = cache.file("a file", b"in the way of a folder").join("shared");
        let home = SlotHome { shared: nowhere, store: None };
        let digest = slotfs_fs::disk::digest::Digest::of_range(&slot.source.stored).unwrap();
        let layer = SlotLayer::open(&slot, digest, &home, SlotOptions::default()).unwrap();
        assert_eq!(read_all(&layer, find(&layer, b"large").unwrap(), 65536), text(3_000_000, 99));
        layer.wait_until_settled().unwrap();
        assert_eq!(tree_of_layer(&layer, 65536).len(), 44, "{chain:?}");
    }
}

#[test]
fn files_that_were_read_are_put_into_the_store_when_all_is_quiet() {
    let cache = Cache::new();
    let options = KeeperOptions { idle: Duration::from_millis(20), largest_file: 1 << 20, queue: 100 };
    let keeper = Arc::new(Keeper::new(options));
    let stored = compress(Compression::Gzip, &archive());
    let slot = slot_of(&cache.file("slot", &stored), Container::Tar, &[Compression::Gzip]);
    let layer =
        cache.open(&slot, SlotOptions { keeper: Some(Arc::clone(&keeper)), ..SlotOptions::default() });
    let node = find(&layer, b"small/30").unwrap();
    assert_eq!(read_all(&layer, node, 1000), text(3000, 30));
    // Too large to be kept, and too small to need it.
    let large = find(&layer, b"large").unwrap();
    assert_eq!(read_all(&layer, large, 65536).len(), 3_000_000);
    assert_eq!(read_all(&layer, find(&layer, b"small/2").unwrap(), 65536).len(), 200);
    assert!(keeper.wait_until_done(Duration::from_secs(20)));
    layer.wait_until_settled().unwrap();
    assert_eq!(objects(&cache), 1);
    assert_eq!(layer.statistics().kept, 1);
    assert!(layer.host_file(node).unwrap().is_some());
    assert!(layer.host_file(large).unwrap().is_none());
    assert_eq!(read_all(&layer, node, 1000), text(3000, 30));
    // What the store has is not decoded again.
    drop(layer);
    let layer = cache.open(&slot, SlotOptions::default());
    assert!(layer.host_file(find(&layer, b"small/30").unwrap()).unwrap().is_some());
}

#[test]
fn a_package_that_changes_is_noticed_and_one_that_only_moves_is_not() {
    let cache = Cache::new();
    let path = cache.file("slot", &archive());
    for chain in [&[][..], &[Compression::Gzip]] {
        let stored = chain.iter().rev().fold(archive(), |bytes, compression| compress(*compression, &bytes));
        fs::write(&path, &stored).unwrap();
        let layer = cache.open(&slot_of(&path, Container::Tar, chain), SlotOptions::default());
        layer.wait_until_settled().unwrap();
        let node = find(&layer, b"small/20").unwrap();
        assert_eq!(read_all(&layer, node, 4096), text(2000, 20));
        // A rename, a mode and a time change no byte.
        let moved = path.with_extension("moved");
        fs::rename(&path, &moved).unwrap();
        fs::set_permissions(&moved, fs::Permissions::from_mode(0o700)).unwrap();
        slotfs_fs::slot::seek::release();
        assert_eq!(read_all(&layer, node, 4096), text(2000, 20), "{chain:?}");
        // A removed package is still there for those who have it open.
        let writer = OpenOptions::new().write(true).open(&moved).unwrap();
        fs::remove_file(&moved).unwrap();
        slotfs_fs::slot::seek::release();
        assert_eq!(read_all(&layer, node, 4096), text(2000, 20), "{chain:?}");
        // A changed byte anywhere in the slot spoils all of it.
        writer.write_all_at(b"\x5a\xa5\x5a", stored.len() as u64 / 2).unwrap();
        slotfs_fs::slot::seek::release();
        let error = layer.read(node, 0, &mut [0; 4096]).unwrap_err();
        let LayerError::Corrupt { slot, path, reason } = &error else { panic!("{error}") };
        assert_eq!((slot.as_str(), path.as_str()), ("slot", "small/20"));
        assert!(reason.contains("changed"), "{reason}");
        writer.set_len(10).unwrap();
        assert!(layer.read(node, 0, &mut [0; 4096]).is_err());
    }
}

#[test]
fn many_readers_decode_each_byte_once() {
    let cache = Cache::new();
    let (layer, _) = opened(&cache, &[Compression::Gzip], SlotOptions::default());
    let node = find(&layer, b"large").unwrap();
    slotfs_fs::slot::seek::release();
    let before = slotfs_fs::slot::seek::cache_use();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(read_all(&layer, node, 4096), text(3_000_000, 99)));
        }
    });
    let after = slotfs_fs::slot::seek::cache_use();
    // Other tests of this process decode at the same time, but not as much.
    let decoded = after.decoded_bytes - before.decoded_bytes;
    assert!(decoded < 8 * 3_000_000 / 2, "{decoded} bytes decoded");
}

#[test]
fn reads_decode_no_further_than_they_need() {
    let cache = Cache::new();
    let (layer, _) = opened(&cache, &[Compression::Gzip], SlotOptions::default());
    layer.wait_until_settled().unwrap();
    let node = find(&layer, b"large").unwrap();
    slotfs_fs::slot::seek::release();
    let before = slotfs_fs::slot::seek::cache_use().decoded_bytes;
    // Points are at least 1 MiB apart: whole spans would be more. Tests run in processes of their own.
    for at in [0, 100_000, 200_000] {
        let mut buffer = [0; 4096];
        assert_eq!(layer.read(node, at, &mut buffer).unwrap(), 4096);
        assert_eq!(buffer[..], text(3_000_000, 99)[usize::try_from(at).unwrap()..][..4096]);
    }
    let decoded = slotfs_fs::slot::seek::cache_use().decoded_bytes - before;
    assert!((200_000..700_000).contains(&decoded), "{decoded} bytes decoded");
}

#[test]
fn copies_are_checked_against_the_digest() {
    let cache = Cache::new();
    let (layer, _) = opened(&cache, &[Compression::Bzip2], SlotOptions::default());
    let mut copied = Vec::new();
    let length = layer.copy(find(&layer, b"large").unwrap(), &mut |bytes| {
        copied.extend_from_slice(bytes);
        Ok(())
    });
    assert_eq!(length.unwrap(), 3_000_000);
    assert_eq!(copied, text(3_000_000, 99));
}

#[test]
fn packages_made_by_the_same_moment_share_one_process_wide_limit() {
    // Twenty passes at once finish, whatever the number of processors.
    let cache = Cache::new();
    let layers: Vec<SlotLayer> = (0..20_u64)
        .map(|number| {
            let bytes = TarMaker::default().file("f", &text(50_000, number)).finish();
            let path = cache.file(&format!("slot {number}"), &compress(Compression::Gzip, &bytes));
            cache.open(&slot_of(&path, Container::Tar, &[Compression::Gzip]), SlotOptions::default())
        })
        .collect();
    for (number, layer) in layers.iter().enumerate() {
        let node = find(layer, b"f").unwrap();
        assert_eq!(read_all(layer, node, 5000), text(50_000, number as u64));
    }
}

//! A slot shows the tree that the archive's own tool unpacks: for every format, every compression, from the growing tree
//! and from the index.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::path::Path;

use slotfs_fs::layer::{Layer, SlotOptions};
use slotfs_fs::package::{Compression, Container};
use slotfs_tests::archive::{
    COMPRESSIONS, Cache, Seen, Tree, assert_same, compress, find, run, see, slot_of, tree_of_folder,
    tree_of_layer,
};
use slotfs_tests::everything::{make_everything, noise};

/// Makes an archive of `source` with `tar` and the given options, unpacks it with `tar`, and returns both.
fn tar(work: &Path, options: &[&str]) -> (Vec<u8>, Tree) {
    let mut arguments = vec!["-cf", "archive.tar"];
    arguments.extend_from_slice(options);
    arguments.extend_from_slice(&["-C", "source", "."]);
    run(work, true, "tar", &arguments);
    (fs::read(work.join("archive.tar")).unwrap(), unpack(work))
}

fn unpack(work: &Path) -> Tree {
    let target = work.join("unpacked");
    let _ = fs::remove_dir_all(&target);
    fs::create_dir(&target).unwrap();
    run(work, true, "tar", &["-xpf", "archive.tar", "--xattrs", "-C", "unpacked"]);
    tree_of_folder(&target)
}

/// Opens the bytes twice, first without an index and then with it, and compares both with what is expected.
fn check(bytes: &[u8], container: &Container, compressions: &[Compression], expected: &Tree, what: &str) {
    let cache = Cache::new();
    let path = cache.file("slot", bytes);
    let slot = slot_of(&path, container.clone(), compressions);
    let layer = cache.open(&slot, SlotOptions::default());
    assert!(!layer.index_existed());
    // While the pass runs, every path is there and looks right.
    let mut grown = Vec::new();
    for (path, seen) in expected {
        let node = find(&layer, path).unwrap_or_else(|| panic!("{what}: no `{}`", path.escape_ascii()));
        if seen.kind == slotfs_fs::node::Kind::File {
            // More names may follow.
            let found = Seen { links: seen.links, ..see(&layer, node, 50_000) };
            assert_eq!(found, *seen, "{what}: `{}`", path.escape_ascii());
        }
        grown.push(node);
    }
    layer.wait_until_settled().unwrap();
    assert!(layer.is_settled());
    assert_same(&tree_of_layer(&layer, 10_007), expected, what);
    drop(layer);
    let layer = cache.open(&slot, SlotOptions::default());
    assert!(layer.index_existed(), "{what}");
    assert_same(&tree_of_layer(&layer, 1 << 20), expected, what);
    let again: Vec<_> = expected.keys().map(|path| find(&layer, path).unwrap()).collect();
    assert_eq!(again, grown, "{what}: nodes are numbered alike");
    assert!(find(&layer, b"bin/nothing").is_none());
}

#[test]
fn every_format_of_tar_is_shown_as_tar_unpacks_it() {
    let work = tempfile::tempdir().unwrap();
    make_everything(&work.path().join("source"));
    for format in ["v7", "oldgnu", "gnu", "ustar", "posix"] {
        let (bytes, expected) = tar(work.path(), &["--format", format, "--sort=name"]);
        assert!(expected.len() > 15, "{format}");
        check(&bytes, &Container::Tar, &[], &expected, format);
    }
}

#[test]
fn every_compression_shows_the_same_tree() {
    let work = tempfile::tempdir().unwrap();
    make_everything(&work.path().join("source"));
    let (bytes, expected) = tar(work.path(), &["--format=posix"]);
    for compression in COMPRESSIONS {
        let stored = compress(compression, &bytes);
        check(&stored, &Container::Tar, &[compression], &expected, &format!("{compression:?}"));
    }
    let twice = compress(Compression::Gzip, &compress(Compression::Gzip, &bytes));
    check(&twice, &Container::Tar, &[Compression::Gzip; 2], &expected, "gzip twice");
    let frames: Vec<u8> = bytes.chunks(500_000).flat_map(|part| compress(Compression::Zstd, part)).collect();
    check(&frames, &Container::Tar, &[Compression::Zstd], &expected, "zstd frames");
    fs::write(work.path().join("archive.tar"), &bytes).unwrap();
    run(work.path(), false, "xz", &["-k", "-T2", "--block-size=600000", "archive.tar"]);
    let blocks = fs::read(work.path().join("archive.tar.xz")).unwrap();
    check(&blocks, &Container::Tar, &[Compression::Xz], &expected, "xz blocks");
}

#[test]
fn sparse_files_keep_their_holes() {
    let work = tempfile::tempdir().unwrap();
    let source = work.path().join("source");
    fs::create_dir_all(&source).unwrap();
    for (name, runs, size) in [
        ("start", &[(0_u64, 5000_usize)][..], 3 << 20),
        ("middle", &[(1 << 20, 4096), (2 << 20, 70_000)], 4 << 20),
        ("many", &(0..60).map(|run| (run * 65536_u64, 4096)).collect::<Vec<_>>(), 8 << 20),
        ("nothing", &[], 1 << 20),
    ] {
        use std::os::unix::fs::FileExt;
        let file = fs::File::create(source.join(name)).unwrap();
        for (offset, length) in runs {
            file.write_all_at(&noise(*length), *offset).unwrap();
        }
        file.set_len(size).unwrap();
    }
    fs::write(source.join("plain"), b"plain").unwrap();
    for options in [
        &["--sparse", "--format=gnu"][..],
        &["--sparse", "--format=posix", "--sparse-version=0.0"],
        &["--sparse", "--format=posix", "--sparse-version=0.1"],
        &["--sparse", "--format=posix", "--sparse-version=1.0"],
    ] {
        let (bytes, expected) = tar(work.path(), options);
        assert!(bytes.len() < 2 << 20, "{options:?} makes a sparse archive");
        check(&bytes, &Container::Tar, &[], &expected, &format!("{options:?}"));
        for compression in [Compression::Gzip, Compression::Zstd] {
            let stored = compress(compression, &bytes);
            check(
                &stored,
                &Container::Tar,
                &[compression],
                &expected,
                &format!("{options:?} {compression:?}"),
            );
        }
        let cache = Cache::new();
        let layer =
            cache.open(&slot_of(&cache.file("slot", &bytes), Container::Tar, &[]), SlotOptions::default());
        let node = find(&layer, b"middle").unwrap();
        let attributes = layer.attributes(node).unwrap();
        assert_eq!(attributes.size, 4 << 20);
        assert!(attributes.blocks * 512 < 100_000, "{} blocks", attributes.blocks);
    }
}

#[test]
fn extended_attributes_of_users_are_shown() {
    let work = tempfile::tempdir().unwrap();
    let source = work.path().join("source");
    fs::create_dir_all(source.join("folder")).unwrap();
    fs::write(source.join("file"), b"content").unwrap();
    for (path, name, value) in [
        ("file", "user.one", &b"1"[..]),
        ("file", "user.two", b"zwei\0\xff\n="),
        ("folder", "user.on-a-folder", b"x"),
    ] {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(source.join(path), name, value, flags).expect("a disk with extended attributes");
    }
    let (bytes, expected) = tar(work.path(), &["--xattrs", "--format=posix"]);
    assert_eq!(expected[&b"file"[..]].attributes.len(), 2);
    check(&bytes, &Container::Tar, &[], &expected, "xattrs");
}

#[test]
fn zip_archives_are_shown_as_unzip_unpacks_them() {
    let work = tempfile::tempdir().unwrap();
    let source = work.path().join("source");
    make_everything(&source);
    // `zip` cannot name a line break, and follows hard links.
    fs::remove_file(source.join("names/with space\nand line")).unwrap();
    for options in [&["-0"][..], &["-6"], &["-Z", "bzip2"], &["-6", "-X"]] {
        let archive = work.path().join("archive.zip");
        let _ = fs::remove_file(&archive);
        let mut arguments = vec!["-qry"];
        arguments.extend_from_slice(options);
        arguments.extend_from_slice(&["../archive.zip", "."]);
        run(&source, false, "zip", &arguments);
        let target = work.path().join("unpacked");
        let _ = fs::remove_dir_all(&target);
        run(work.path(), false, "unzip", &["-q", "archive.zip", "-d", "unpacked"]);
        let mut expected = tree_of_folder(&target);
        // The root is no entry, and a symbolic link's time is not restored.
        let bytes = fs::read(&archive).unwrap();
        let cache = Cache::new();
        let slot = slot_of(&cache.file("slot", &bytes), Container::Zip, &[]);
        for existed in [false, true] {
            let layer = cache.open(&slot, SlotOptions::default());
            assert_eq!(layer.index_existed(), existed);
            let mut found = tree_of_layer(&layer, 4096);
            for tree in [&mut expected, &mut found] {
                for (path, seen) in tree.iter_mut() {
                    if seen.target.is_some() || path.is_empty() {
                        seen.modified = (0, 0);
                    }
                    if path.is_empty() {
                        seen.mode = 0;
                    }
                }
            }
            assert_same(&found, &expected, &format!("zip {options:?}"));
        }
    }
}

#[test]
fn a_file_slot_is_one_file() {
    for size in [0, 100, 5_000_000] {
        let bytes = noise(size);
        let mut cases = vec![(bytes.clone(), vec![])];
        cases.extend(COMPRESSIONS.map(|compression| (compress(compression, &bytes), vec![compression])));
        for (stored, chain) in cases {
            let cache = Cache::new();
            let slot = slot_of(&cache.file("slot", &stored), Container::File, &chain);
            for existed in [false, true] {
                let layer = cache.open(&slot, SlotOptions::default());
                // A plain file needs no index.
                assert_eq!(layer.index_existed(), existed || chain.is_empty());
                let seen = see(&layer, layer.root(), 100_000);
                assert_eq!(seen.size, size as u64, "{chain:?}");
                assert_eq!(seen.content, Some(slotfs_fs::disk::digest::Digest::of(&bytes)), "{chain:?}");
                assert_eq!(seen.mode, 0o640);
                assert_eq!(layer.lookup(layer.root(), b"x").unwrap(), None);
                layer.wait_until_settled().unwrap();
            }
        }
    }
}

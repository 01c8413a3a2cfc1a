//! Archives that mean harm or are broken: nothing leaves the tree, nothing panics, what is wrong is said with its path.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;

use slotfs_fs::layer::{Layer, LayerError, SlotOptions};
use slotfs_fs::node::Kind;
use slotfs_fs::package::{Compression, Container};
use slotfs_fs::slot::{Limits, NoticeKind};
use slotfs_tests::archive::{
    Cache, TarMaker, Tree, assert_same, compress, find, read_all, run, slot_of, tree_of_folder, tree_of_layer,
};

/// Everything that GNU tar has an opinion on.
fn crooked() -> TarMaker {
    TarMaker::default()
        .file("x/f", b"1")
        .file("x/../y", b"2")
        .file("../z", b"3")
        .file("/abs/q", b"4")
        .directory("d1")
        .file("d1/c", b"5")
        .file("d1", b"6")
        .directory("d2")
        .file("d2", b"7")
        .file("f1", b"8")
        .directory("f1")
        .file("f1/in", b"9")
        .file("f3", b"a")
        .file("f3/in", b"b")
        .symlink("s1", "d1")
        .file("s1/via", b"c")
        .symlink("s2", "../tt")
        .file("s2/via", b"d")
        .symlink("s3", "d1")
        .directory("s3")
        .hard_link("hl", "nonexist")
        .hard_link("h2", "/abs/q")
        .hard_link("h3", "s1")
        .hard_link("h4", "s1/via")
        .hard_link("h5", "h5")
        .hard_link("d1/c", "d1/c")
        .hard_link("h6", "d1")
        .symlink("d1", "x")
        .symlink("loop", "loop")
        .file("loop/in", b"e")
        .symlink("out", "/etc")
        .file("out/passwd", b"f")
        .file("x/f", b"second")
        .hard_link("x/g", "x/f")
        .file("x/f", b"third")
        .entry(b'6', b"fifo", b"", 0o600, b"")
        .entry(b'0', b"suid", b"", 0o6755, b"g")
        .entry(b'0', b"a-directory/", b"", 0o755, b"")
        .entry(b'9', b"unknown-is-a-file", b"", 0o644, b"h")
}

fn without_times(mut tree: Tree) -> Tree {
    for seen in tree.values_mut() {
        if seen.kind == Kind::Directory {
            seen.modified = (0, 0);
        }
        seen.mode &= 0o1777;
    }
    tree
}

#[test]
fn crooked_entries_end_where_tar_puts_them_or_nowhere() {
    let work = tempfile::tempdir().unwrap();
    let bytes = crooked().finish();
    fs::write(work.path().join("archive.tar"), &bytes).unwrap();
    fs::create_dir(work.path().join("unpacked")).unwrap();
    run(work.path(), true, "tar", &["-xpf", "archive.tar", "-C", "unpacked"]);
    let mut expected = without_times(tree_of_folder(&work.path().join("unpacked")));
    for chain in [&[][..], &[Compression::Gzip], &[Compression::Xz]] {
        let stored = chain.iter().fold(bytes.clone(), |bytes, compression| compress(*compression, &bytes));
        let cache = Cache::new();
        let slot = slot_of(&cache.file("slot", &stored), Container::Tar, chain);
        let layer = cache.open(&slot, SlotOptions::default());
        layer.wait_until_settled().unwrap();
        let found = without_times(tree_of_layer(&layer, 4096));
        expected.get_mut(&b""[..]).unwrap().mode = found[&b""[..]].mode;
        assert_same(&found, &expected, "crooked entries");
        let notices = layer.notices().unwrap();
        for (path, what) in [
            ("x/../y", NoticeKind::ParentInPath),
            ("../z", NoticeKind::ParentInPath),
            ("/abs/q", NoticeKind::Absolute),
            ("d1", NoticeKind::DirectoryInTheWay),
            ("f3/in", NoticeKind::ParentNotDirectory),
            ("s2/via", NoticeKind::LeavesThroughLink),
            ("loop/in", NoticeKind::LeavesThroughLink),
            ("out/passwd", NoticeKind::LeavesThroughLink),
            ("hl", NoticeKind::DanglingHardLink),
            ("h6", NoticeKind::DanglingHardLink),
            ("suid", NoticeKind::SetId),
            ("x/f", NoticeKind::Replaced),
        ] {
            let is_there = notices.iter().any(|notice| notice.path == path.as_bytes() && notice.what == what);
            assert!(is_there, "{path} {what:?} in {notices:?}");
        }
        // Notices live in the index, too.
        drop(layer);
        assert_eq!(cache.open(&slot, SlotOptions::default()).notices().unwrap(), notices);
    }
}

#[test]
fn set_id_bits_and_devices_are_shown_only_when_asked_for() {
    let bytes = TarMaker::default()
        .entry(b'0', b"suid", b"", 0o4755, b"x")
        .entry(b'3', b"null", b"", 0o666, b"")
        .entry(b'4', b"block", b"", 0o660, b"")
        .finish();
    let cache = Cache::new();
    let slot = slot_of(&cache.file("slot", &bytes), Container::Tar, &[]);
    for asked in [false, true] {
        let options =
            SlotOptions { set_id: asked, devices: asked, owner: Some((7, 8)), ..SlotOptions::default() };
        let layer = cache.open(&slot, options);
        let suid = layer.attributes(find(&layer, b"suid").unwrap()).unwrap();
        assert_eq!(suid.mode, if asked { 0o4755 } else { 0o755 });
        assert_eq!((suid.user, suid.group), (7, 8));
        assert_eq!(find(&layer, b"null").is_some(), asked);
        assert_eq!(tree_of_layer(&layer, 512).len(), if asked { 4 } else { 2 });
        assert_eq!(layer.notices().unwrap().len(), if asked { 0 } else { 3 });
        if asked {
            let null = layer.attributes(find(&layer, b"null").unwrap()).unwrap();
            assert_eq!((null.kind, null.device), (Kind::CharacterDevice, 0x103));
        }
    }
}

#[test]
fn truncation_is_an_error_that_names_the_entry_and_what_came_before_is_served() {
    let whole = TarMaker::default().file("first", &[1; 3000]).file("second", &[2; 5000]).finish();
    for chain in [&[][..], &[Compression::Gzip]] {
        let bytes = &whole[..512 + 3072 + 512 + 100];
        let stored = chain.iter().fold(bytes.to_vec(), |bytes, compression| compress(*compression, &bytes));
        let cache = Cache::new();
        let layer =
            cache.open(&slot_of(&cache.file("slot", &stored), Container::Tar, chain), SlotOptions::default());
        let error = layer.wait_until_settled().unwrap_err();
        assert!(error.to_string().contains("truncated inside `second`"), "{error}");
        let first = find(&layer, b"first").unwrap();
        assert_eq!(read_all(&layer, first, 512), [1; 3000], "{chain:?}");
        assert!(layer.lookup(layer.root(), b"third").is_err());
        assert!(!layer.is_settled());
        let LayerError::Corrupt { slot, .. } = layer
            .read_directory(layer.root(), None, &mut |_, _, _| std::ops::ControlFlow::Continue(()))
            .unwrap_err()
        else {
            panic!("not corrupt")
        };
        assert_eq!(slot, "slot");
    }
}

#[test]
fn ends_without_zeros_and_garbage_behind_them_are_tolerated() {
    let made = || TarMaker::default().file("a", b"content").directory("b");
    let garbage = [&made().finish()[..], &[0x55; 3000]].concat();
    for bytes in [made().unended(), made().finish(), garbage, Vec::new()] {
        let is_empty = bytes.is_empty();
        let cache = Cache::new();
        let layer =
            cache.open(&slot_of(&cache.file("slot", &bytes), Container::Tar, &[]), SlotOptions::default());
        layer.wait_until_settled().unwrap();
        assert_eq!(tree_of_layer(&layer, 512).len(), if is_empty { 1 } else { 3 });
    }
}

#[test]
fn bombs_end_at_the_limit() {
    let limits = Limits { decoded_bytes: 1 << 20, ..Limits::default() };
    let options = || SlotOptions { limits, ..SlotOptions::default() };
    let bytes = TarMaker::default().file("small", b"s").file("bomb", &vec![0; 4 << 20]).finish();
    for compression in slotfs_tests::archive::COMPRESSIONS {
        let cache = Cache::new();
        let stored = compress(compression, &bytes);
        let layer =
            cache.open(&slot_of(&cache.file("slot", &stored), Container::Tar, &[compression]), options());
        let error = layer.wait_until_settled().unwrap_err();
        assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
    }
    let entries = Limits { entries: 10, ..Limits::default() };
    let many = (0..20).fold(TarMaker::default(), |maker, number| maker.file(&number.to_string(), b""));
    let cache = Cache::new();
    let slot = slot_of(&cache.file("slot", &many.finish()), Container::Tar, &[]);
    let layer = cache.open(&slot, SlotOptions { limits: entries, ..SlotOptions::default() });
    assert!(layer.wait_until_settled().unwrap_err().to_string().contains("more than 10 entries"));
}

#[test]
fn names_that_no_disk_takes_are_refused_one_by_one() {
    let deep = "d/".repeat(10_000) + "f";
    let long = "n".repeat(300);
    let bytes = TarMaker::default()
        .pax("path", deep.as_bytes())
        .file("placeholder", b"1")
        .pax("path", long.as_bytes())
        .file("placeholder", b"2")
        .pax("path", b"nul\0inside")
        .file("placeholder", b"3")
        .pax("path", b"\xff\xfe/bytes")
        .file("placeholder", b"4")
        .finish();
    let cache = Cache::new();
    let layer =
        cache.open(&slot_of(&cache.file("slot", &bytes), Container::Tar, &[]), SlotOptions::default());
    layer.wait_until_settled().unwrap();
    let notices = layer.notices().unwrap();
    assert_eq!(notices.iter().filter(|notice| notice.what == NoticeKind::BadName).count(), 3);
    let node = find(&layer, b"\xff\xfe/bytes").unwrap();
    assert_eq!(read_all(&layer, node, 10), b"4");
}

#[test]
fn what_is_no_archive_is_said_so() {
    for (container, bytes, expected) in [
        (Container::Tar, &b"#!/bin/sh\n"[..], "truncated"),
        (Container::Tar, &[b'x'; 2000], "tar archive is damaged at byte 512"),
        (Container::Zip, &[b'x'; 2000], "no end of a central directory"),
        (Container::Zip, b"", "no end of a central directory"),
    ] {
        let cache = Cache::new();
        let layer = cache.open(&slot_of(&cache.file("slot", bytes), container, &[]), SlotOptions::default());
        let error = layer.wait_until_settled().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn zip_entries_that_leave_or_cannot_be_read_are_refused() {
    use std::io::Write;
    use zip::write::SimpleFileOptions;
    let plain = SimpleFileOptions::default();
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in [("../up", "1"), ("/absolute", "2"), ("fine", "3"), ("fine", "4")] {
        // The library refuses duplicates, so one is renamed below.
        let name = if content == "4" { "FINE" } else { name };
        writer.start_file(name, plain).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.add_symlink("link", "../../etc", plain).unwrap();
    writer.start_file("link/below", plain).unwrap();
    writer.write_all(b"5").unwrap();
    let mut bytes = writer.finish().unwrap().into_inner();
    while let Some(at) = bytes.windows(4).position(|window| window == b"FINE") {
        bytes[at..at + 4].copy_from_slice(b"fine");
    }
    let cache = Cache::new();
    let layer =
        cache.open(&slot_of(&cache.file("slot", &bytes), Container::Zip, &[]), SlotOptions::default());
    layer.wait_until_settled().unwrap();
    assert_eq!(read_all(&layer, find(&layer, b"fine").unwrap(), 10), b"4", "the last of a name counts");
    assert_eq!(read_all(&layer, find(&layer, b"absolute").unwrap(), 10), b"2");
    assert_eq!(layer.read_link(find(&layer, b"link").unwrap()).unwrap(), b"../../etc");
    let paths: Vec<_> = tree_of_layer(&layer, 10).into_keys().collect();
    assert_eq!(paths, [&b""[..], b"absolute", b"fine", b"link"]);
    assert_eq!(layer.notices().unwrap().len(), 4);
}

//! `slotfs extract`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use slotfs_tests::command::{Done, Home, Running, skip, wait_for};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};

use super::packages::{application, write};
use super::shown::{check, shown, transcript};

/// Every path with mode, size and target; directories without their sizes, which depend on the disk.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            let line = if metadata.is_dir() {
                open.push(path.clone());
                format!("directory {mode:04o}")
            } else if metadata.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else {
                format!("file {mode:04o} {}", metadata.len())
            };
            found.insert(path.strip_prefix(root).unwrap().display().to_string(), line);
        }
    }
    found
}

fn expected(lines: &[(&str, &str)]) -> BTreeMap<String, String> {
    lines.iter().map(|(path, line)| ((*path).to_owned(), (*line).to_owned())).collect()
}

/// Names in the home that begin with a dot and are no part of it.
fn leftovers(home: &Home) -> Vec<String> {
    let names = fs::read_dir(home.root()).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with('.') && name != ".cache").collect()
}

/// The time that a command took, left out.
fn timeless(text: &str) -> String {
    let Some((before, after)) = text.split_once(" in ") else { return text.to_owned() };
    let rest = after.split_once('\n').map_or("", |(_, rest)| rest);
    format!("{before} in [TIME]\n{rest}")
}

#[test]
fn a_package_is_written_as_it_would_be_mounted() {
    let home = Home::new();
    write(&home, &application().build());
    check!("extract", timeless(&shown(&home, "extract hello.psp out")));
    let lines = [
        ("bin", "directory 0755"),
        ("bin/hello", "file 0755 21"),
        ("bin/hi", "-> hello"),
        ("etc", "directory 0755"),
        ("etc/app.toml", "file 0755 6"),
        ("lib", "directory 0755"),
        ("lib/data.bin", "file 0644 5000"),
        ("wheels", "directory 0755"),
        ("wheels/a.whl", "file 0755 3000"),
    ];
    assert_eq!(listing(&home.path("out")), expected(&lines));
    assert_eq!(fs::metadata(home.path("out/bin/hello")).unwrap().mtime(), 1_700_000_000);
    check!("extract_not_empty", shown(&home, "extract hello.psp out"));
    home.run(["extract", "hello.psp", "out", "--force", "--slot", "settings", "--slot", "2", "-q"]).success();
    assert_eq!(listing(&home.path("out")).len(), 4);
    check!("extract_unknown_slot", shown(&home, "extract hello.psp out2 --slot nothing"));
    assert!(leftovers(&home).is_empty(), "{:?}", leftovers(&home));
    assert!(!home.path("out2").exists());
}

#[test]
fn every_chain_gives_the_same_tree() {
    let home = Home::new();
    let tree = || {
        let mut tree = Tree::new().directory("empty", 0o750).symlink("link", "data/0");
        for number in 0..20_u32 {
            let content: Vec<u8> = (0..number * 997).map(|at| (at * number / 7) as u8).collect();
            tree = tree.file(format!("data/{number}"), 0o644, &content);
        }
        tree.hard_link("data/again", "data/7")
    };
    let mut listings = Vec::new();
    for chain in ["tar", "tar.gzip", "tar.bzip2", "tar.xz", "tar.zstd"] {
        let slot = SlotSpec::tree("all", chain, tree());
        write(&home, &PackageBuilder::new("chains", chain).slot(slot).build());
        home.run(["extract", "hello.psp", chain]).success();
        let root = home.path(chain);
        let inode = |path: &str| fs::metadata(root.join(path)).unwrap().ino();
        assert_eq!(inode("data/7"), inode("data/again"), "{chain}");
        let content = fs::read(root.join("data/19")).unwrap();
        listings.push((listing(&root), content));
    }
    assert!(listings[0].0.len() == 24 && listings.windows(2).all(|pair| pair[0] == pair[1]), "{listings:?}");
}

#[test]
fn what_cannot_be_shown_is_left_out_and_told() {
    let home = Home::new();
    let tree = Tree::new()
        .file("bin/su", 0o4755, b"x")
        .file("../escape", 0o644, b"x")
        .file("/absolute", 0o644, b"x")
        .symlink("out", "/etc")
        .file("out/passwd", 0o644, b"x");
    let windows = SlotSpec::file("exe", "a.exe", "raw", b"x")
        .lifecycle("platform", 10)
        .key("platform", json!("windows"));
    let package = PackageBuilder::new("odd", "1").slot(SlotSpec::tree("app", "tar", tree)).slot(windows);
    write(&home, &package.build());
    check!("extract_odd", timeless(&shown(&home, "extract hello.psp inner/out")));
    let lines = [
        ("absolute", "file 0644 1"),
        ("bin", "directory 0755"),
        ("bin/su", "file 0755 1"),
        ("out", "-> /etc"),
    ];
    assert_eq!(listing(&home.path("inner/out")), expected(&lines));
    assert!(!home.path("escape").exists() && !home.path("inner/escape").exists());
    check!("inspect_after_extract", shown(&home, "inspect hello.psp"));
    let report: Value = serde_json::from_str(&home.run(["inspect", "hello.psp", "--json"]).stdout).unwrap();
    let index = &report["package"]["slots"][0]["index"];
    assert_eq!((index["exists"].as_bool(), index["entries"].as_u64()), (Some(true), Some(5)), "{index}");
    assert!(index["notices"].as_array().unwrap().len() >= 4, "{index}");
}

#[test]
fn a_damaged_package_leaves_nothing() {
    let home = Home::new();
    let mut built = application().build();
    let at = built.slots[0].start + 600;
    built.bytes[at] ^= 1;
    write(&home, &built);
    check!("extract_damaged", shown(&home, "extract hello.psp out"));
    assert!(!home.path("out").exists() && leftovers(&home).is_empty());
    // Rightly signed, and not what its chain says.
    let torn = SlotSpec::stored("torn", "{workenv}", &[0x01, 0x10], b"\x1f\x8b\x08 nothing like that");
    write(&home, &PackageBuilder::new("torn", "1").slot(torn).build());
    check!("extract_torn", shown(&home, "extract hello.psp out"));
    assert!(!home.path("out").exists() && leftovers(&home).is_empty());
}

#[test]
fn archives_and_directories_are_written_too() {
    let home = Home::new();
    fs::create_dir(home.path("folder")).unwrap();
    fs::write(home.path("folder/file"), "x").unwrap();
    fs::write(home.path("archive.tar"), Tree::new().file("file", 0o640, b"x").archive()).unwrap();
    home.run(["extract", "folder", "from-folder"]).success();
    home.run(["extract", "archive.tar", "from-archive"]).success();
    assert_eq!(fs::read(home.path("from-folder/file")).unwrap(), b"x");
    assert_eq!(listing(&home.path("from-archive")), expected(&[("file", "file 0640 1")]));
    check!("inspect_archive", shown(&home, "inspect archive.tar"));
    check!("inspect_directory", shown(&home, "inspect folder"));
}

#[test]
fn a_full_disk_leaves_nothing() {
    let home = Home::new();
    let mut tree = Tree::new();
    for number in 0..60 {
        tree = tree.file(format!("file-{number}"), 0o644, b"x");
    }
    write(&home, &PackageBuilder::new("many", "1").slot(SlotSpec::tree("app", "tar", tree)).build());
    fs::create_dir(home.path("small")).unwrap();
    let inside = |options: &str, command: &str| {
        let script = format!(
            "mount -t tmpfs -o {options} none small && {{ {command}; }}; code=$?; ls -A small; exit $code"
        );
        let mut shell = home.program("unshare");
        shell.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
        Done::of(&mut shell)
    };
    if inside("size=1m", "true").code != 0 {
        skip("no tmpfs can be mounted in a user namespace here".into());
        return;
    }
    let line = "extract hello.psp small/out";
    let command = format!("{} {line}", slotfs_tests::command::binary().display());
    // Too few inodes: seen only while writing.
    let full = inside("size=1m,nr_inodes=20", &command).code(106);
    check!("extract_disk_full", transcript(&home, line, &full));
    assert_eq!(full.stdout, "", "something was left");
    // Too few bytes: seen before.
    let small = inside("size=64k", &command).code(106);
    check!("extract_no_space", transcript(&home, line, &small));
}

#[test]
fn ctrl_c_leaves_nothing() {
    let home = Home::new();
    let mut package = PackageBuilder::new("large", "1");
    for number in 0..4 {
        let tree = Tree::new().file(format!("file-{number}"), 0o644, &vec![number; 24 << 20]);
        package = package.slot(SlotSpec::tree(&format!("slot-{number}"), "tar", tree));
    }
    write(&home, &package.build());
    let is_begun = || leftovers(&home).iter().any(|name| name.starts_with(".out."));
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let running = Running::start(&mut home.slotfs(["extract", "hello.psp", "out"]));
        wait_for("the first files", is_begun);
        running.signal(signal);
        let done = running.finish();
        if done.code == 0 {
            // It was quicker than the signal.
            fs::remove_dir_all(home.path("out")).unwrap();
            continue;
        }
        assert_eq!(done.code, 130, "{}", done.stderr);
        assert!(done.stderr.contains("was interrupted"), "{}", done.stderr);
        assert!(!home.path("out").exists() && leftovers(&home).is_empty(), "{:?}", leftovers(&home));
    }
    // What a kill leaves is swept by the next one.
    let running = Running::start(&mut home.slotfs(["extract", "hello.psp", "out"]));
    wait_for("the first files", is_begun);
    running.signal(Signal::SIGKILL);
    running.finish();
    let _ = fs::remove_dir_all(home.path("out"));
    home.run(["extract", "hello.psp", "out"]).success();
    assert!(leftovers(&home).is_empty(), "{:?}", leftovers(&home));
}

#[test]
fn a_cache_that_cannot_be_written_does_not_matter() {
    let home = Home::new();
    write(&home, &application().build());
    fs::write(home.path("file"), "").unwrap();
    let done = home.run(["extract", "hello.psp", "out", "--cache-dir", "file/cache"]).success();
    assert!(done.stderr.contains("nothing will be remembered"), "{}", done.stderr);
    assert!(home.path("out/bin/hello").exists());
}

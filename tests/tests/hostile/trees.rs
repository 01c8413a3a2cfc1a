//! Trees that lead nowhere, round in circles, out of the work environment, or down for ever.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use slotfs_tests::command::{Done, Home, missing_fuse, shell_package};
use slotfs_tests::package::{SlotSpec, Tree};

use super::support::{LIMIT, calm, server_log, slotfs};

#[test]
fn links_in_circles_end() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let tree = Tree::new()
        .symlink("self", "self")
        .symlink("a", "b")
        .symlink("b", "a")
        .symlink("dir/up", "..")
        .symlink("dir/here", ".")
        .symlink("out", "/etc/hostname")
        .symlink("empty-target", "")
        .hard_link("hard-self", "hard-self")
        .hard_link("hard-one", "hard-two")
        .hard_link("hard-two", "hard-one")
        .file("real", 0o644, b"real\n")
        .hard_link("hard-real", "real");
    let package = shell_package("app", "true").slot(SlotSpec::tree("links", "tar.gzip", tree));
    let path = home.package("app.psp", package);
    slotfs(&home, ["mount".as_ref(), path.as_os_str()]).success();
    let root = home.workenv("app");
    for name in ["self", "a", "b"] {
        let error = std::fs::read(root.join(name)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::ELOOP), "{name}");
    }
    assert_eq!(std::fs::read_to_string(root.join("dir/up/dir/here/here/up/hard-real")).unwrap(), "real\n");
    assert_eq!(std::fs::metadata(root.join("real")).unwrap().nlink(), 2);
    // `find -L` and `du` walk every link; both end.
    for tool in [&["find", "-L", "."][..], &["du", "-a", "."], &["ls", "-laR", "."]] {
        let mut command = home.program(tool[0]);
        let done = Done::within(LIMIT, command.args(&tool[1..]).current_dir(&root));
        assert!(done.code <= 1, "{tool:?}: {}", done.stderr);
    }
    slotfs(&home, ["unmount", "app"]).success();
    slotfs(&home, ["extract".as_ref(), path.as_os_str(), "out".as_ref()]).success();
    assert_eq!(std::fs::read_to_string(home.path("out/hard-real")).unwrap(), "real\n");
    assert_eq!(std::fs::read_link(home.path("out/self")).unwrap().to_str(), Some("self"));
}

#[test]
fn entries_that_lead_out_stay_out_and_are_reported() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let outside = home.path("outside");
    std::fs::create_dir(&outside).unwrap();
    let tree = Tree::new()
        .file("inside", 0o4755, b"inside\n")
        .file("../escaped", 0o644, b"bad\n")
        .file("a/../../escaped", 0o644, b"bad\n")
        .file("/tmp/slotfs-absolute", 0o644, b"placed below\n")
        .symlink("door", outside.to_str().unwrap())
        .file("door/escaped", 0o644, b"bad\n")
        .symlink("etc", "../../../../../../etc")
        .file("etc/slotfs-escaped", 0o644, b"bad\n")
        .hard_link("shadow", "/etc/shadow")
        .special(tar::EntryType::Char, "device", 0o666)
        .special(tar::EntryType::Fifo, "pipe", 0o644);
    let package = shell_package("app", "true").slot(SlotSpec::tree("bad", "tar.gzip", tree));
    let path = home.package("app.psp", package);
    let check = |root: &std::path::Path| {
        assert_eq!(std::fs::read_to_string(root.join("inside")).unwrap(), "inside\n");
        assert_eq!(
            std::fs::metadata(root.join("inside")).unwrap().permissions().mode() & 0o7000,
            0,
            "set-id"
        );
        assert!(
            !root.join("device").exists() && !root.join("escaped").exists() && !root.join("shadow").exists()
        );
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert!(!std::path::Path::new("/etc/slotfs-escaped").exists());
        assert!(!std::path::Path::new("/tmp/slotfs-absolute").exists());
    };
    slotfs(&home, ["mount".as_ref(), path.as_os_str()]).success();
    check(&home.workenv("app"));
    slotfs(&home, ["unmount", "app"]).success();
    let done = slotfs(&home, ["extract".as_ref(), path.as_os_str(), "out".as_ref()]).success();
    check(&home.path("out"));
    assert!(done.stderr.contains("escaped"), "what was left out is not reported: {}", done.stderr);
    assert!(!home.path("escaped").exists());
    let _ = server_log(&home, "app");
}

#[test]
fn a_path_of_ten_thousand_directories_is_refused_alone() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let deep = format!("{}file", "d/".repeat(10_000));
    let tree = Tree::new()
        .file("first", 0o644, b"first\n")
        .file(&deep, 0o644, b"deep\n")
        .file("last", 0o644, b"last\n");
    let package = shell_package("app", "cat {workenv}/first {workenv}/last")
        .slot(SlotSpec::tree("deep", "tar.gzip", tree));
    let path = home.package("app.psp", package);
    let done = slotfs(&home, ["run".as_ref(), path.as_os_str()]).success();
    assert_eq!(done.stdout, "first\nlast\n");
    let done = slotfs(&home, ["extract".as_ref(), path.as_os_str(), "out".as_ref()]).success();
    assert_eq!(std::fs::read_to_string(home.path("out/last")).unwrap(), "last\n");
    assert!(done.stderr.contains("depth"), "what was left out is not reported: {}", done.stderr);
}

/// As deep as is served: deeper than any single path of the kernel's (4096 bytes) can say.
#[test]
fn two_thousand_directories_inside_each_other_are_served() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let deep = format!("{}file", "dir/".repeat(2_000));
    let tree = Tree::new().file(&deep, 0o644, b"deep\n");
    let package = shell_package("app", "true").slot(SlotSpec::tree("deep", "tar.gzip", tree));
    let path = home.package("app.psp", package);
    let walk = |root: &std::path::Path| {
        use nix::fcntl::{OFlag, open, openat};
        use nix::sys::stat::Mode;
        // Other tests start programs meanwhile, which must not keep the mount busy.
        let passing = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut at = open(root, passing, Mode::empty()).unwrap();
        for level in 0..2000 {
            at = openat(&at, "dir", passing, Mode::empty())
                .unwrap_or_else(|error| panic!("level {level}: {error}"));
        }
        let mut text = String::new();
        let file = openat(&at, "file", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        std::fs::File::from(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "deep\n");
    };
    slotfs(&home, ["mount".as_ref(), path.as_os_str()]).success();
    walk(&home.workenv("app"));
    slotfs(&home, ["unmount", "app"]).success();
    // Extraction names files by paths, which are at most 4095 bytes long.
    let done = slotfs(&home, ["extract".as_ref(), path.as_os_str(), "out".as_ref()]).success();
    assert!(done.stderr.contains("its path is longer than this system can write"), "{}", done.stderr);
}

/// Names that break naive tools: newlines, escape sequences, bytes that are no text, dots, the longest there can be.
#[test]
fn names_of_any_bytes_are_served_as_they_are() {
    if missing_fuse().is_some() {
        return;
    }
    use std::os::unix::ffi::OsStrExt as _;
    let home = Home::new();
    let longest = [b'n'; 255];
    let names: [&[u8]; 7] = [b"new\nline", b"\x1b[2J", b"\xff\xfe\x80", b" ", b"...", b"-rf", &longest];
    let too_long = [b'x'; 256];
    let tree = names.iter().fold(Tree::new(), |tree, name| tree.file(name, 0o644, name));
    let tree = tree.file(too_long, 0o644, b"no").file(b"a\0b", 0o644, b"cut");
    let package = shell_package("app", "true").slot(SlotSpec::tree("names", "tar.gzip", tree));
    let path = home.package("app.psp", package);
    slotfs(&home, ["mount".as_ref(), path.as_os_str()]).success();
    for name in names {
        let file = home.workenv("app").join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(std::fs::read(&file).unwrap(), name, "{}", file.display());
    }
    slotfs(&home, ["unmount", "app"]).success();
    let done = calm(slotfs(&home, ["extract".as_ref(), path.as_os_str(), "out".as_ref()])).success();
    assert!(!done.stderr.contains('\u{1b}'), "a name reached the terminal: {:?}", done.stderr);
    for name in names {
        let file = home.path("out").join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(std::fs::read(&file).unwrap(), name, "{}", file.display());
    }
}

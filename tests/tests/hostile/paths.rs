//! What is given in place of a package, and in place of a directory to mount on.

use std::os::unix::net::UnixListener;

use slotfs_tests::command::{Home, missing_fuse};

use super::support::{TEXT, all_refuse, application, nothing_left, says, slotfs};

#[test]
fn what_is_no_package_is_refused_with_path_and_reason() {
    let home = Home::new();
    std::fs::write(home.path("empty.psp"), "").unwrap();
    std::fs::write(home.path("text.psp"), "just a text\n").unwrap();
    std::fs::write(home.path("notes.txt"), "just a text\n").unwrap();
    std::fs::copy("/bin/true", home.path("program")).unwrap();
    std::fs::write(home.path("magic.psp"), "\u{1fa84}").unwrap();
    std::fs::write(home.path("not.tar"), [7; 4096]).unwrap();
    std::fs::write(home.path("not.zip"), [7; 4096]).unwrap();
    std::fs::write(home.path("not.tar.gz"), [7; 4096]).unwrap();
    nix::unistd::mkfifo(&home.path("pipe.psp"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(home.path("socket.psp")).unwrap();
    std::os::unix::fs::symlink("loop.psp", home.path("loop.psp")).unwrap();
    std::os::unix::fs::symlink("nowhere.psp", home.path("dangling.psp")).unwrap();
    for (name, code, reason) in [
        ("empty.psp", 102, "empty"),
        ("text.psp", 102, "its last 4 bytes are not the end mark"),
        ("notes.txt", 102, "its first are not those of an archive"),
        ("program", 102, "its first are not those of an archive"),
        ("magic.psp", 102, "its 4 bytes are fewer"),
        ("not.tar", 102, "not.tar"),
        ("not.zip", 102, "not.zip"),
        ("not.tar.gz", 102, "not.tar.gz"),
        ("pipe.psp", 102, "pipe"),
        ("socket.psp", 102, "socket"),
        ("loop.psp", 106, "symbolic links"),
        ("dangling.psp", 111, "dangling.psp"),
        ("missing.psp", 111, "missing.psp"),
        ("text.psp/inside.psp", 111, "inside.psp"),
    ] {
        all_refuse(&home, &home.path(name), code, &[&format!("{name}`"), reason]);
    }
    all_refuse(&home, "/dev/null".as_ref(), 102, &["`/dev/null`", "device"]);
}

#[test]
fn a_directory_is_a_package_of_one_slot() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    std::fs::create_dir_all(home.path("folder/sub")).unwrap();
    std::fs::write(home.path("folder/sub/file"), TEXT).unwrap();
    slotfs(&home, ["verify", "folder"]).success();
    slotfs(&home, ["mount", "folder", "at"]).success();
    assert_eq!(std::fs::read_to_string(home.path("at/sub/file")).unwrap(), TEXT);
    // What is written goes beside, not into the directory.
    std::fs::write(home.path("at/sub/new"), "x").unwrap();
    assert!(!home.path("folder/sub/new").exists());
    slotfs(&home, ["unmount", "at"]).success();
    says(&slotfs(&home, ["run", "folder"]), "run", 104, &["folder", "command", "slotfs mount"]);
    nothing_left(&home, "run");
}

#[test]
fn a_mountpoint_that_cannot_be_one_is_named() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", application());
    let package = package.to_str().unwrap();
    std::fs::write(home.path("file"), "").unwrap();
    for (place, words) in [("file", "file"), ("file/below", "file/below"), ("/proc/slotfs", "/proc/slotfs")] {
        let done = slotfs(&home, ["mount", package, place]);
        assert!([103, 106].contains(&done.code), "{place}: {} {}", done.code, done.stderr);
        assert!(done.stderr.contains(words), "{place}: {}", done.stderr);
        nothing_left(&home, place);
    }
    for (place, reason) in [("file", "not a directory"), ("full", "not empty")] {
        std::fs::create_dir_all(home.path("full/inside")).unwrap();
        let done = slotfs(&home, ["extract", package, place]);
        says(&done, place, 106, &[place, reason]);
    }
    assert!(home.path("full/inside").exists());
}

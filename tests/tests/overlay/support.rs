//! Directories to lay over each other, and what serves them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use slotfs_tests::command::{Done, Home, is_ours, wait_for};

/// A home with the directories `a`, `b`, `upper`, `work` and `target`, and a file of its own name in `a` and `b`, which
/// both have `both`, too.
pub(crate) fn home() -> Home {
    let home = Home::new();
    for name in ["a", "b", "upper", "work", "target"] {
        std::fs::create_dir(home.path(name)).unwrap();
    }
    for name in ["a", "b"] {
        std::fs::write(home.path(name).join(format!("in-{name}")), name).unwrap();
        std::fs::write(home.path(name).join("both"), name).unwrap();
    }
    home
}

/// The options of a writable mount of `a` over `b`.
pub(crate) const WRITABLE: &str = "lowerdir=a:b,upperdir=upper,workdir=work";

/// Mounts on `target` in the home.
pub(crate) fn mount(home: &Home, options: &str) -> PathBuf {
    let done = overlay(home, options).success();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("target\n", ""));
    assert_eq!(home.mounts(), [home.path("target")]);
    home.path("target")
}

/// Asks for a mount on `target` in the home.
pub(crate) fn overlay(home: &Home, options: &str) -> Done {
    home.run(["overlay", "-o", options, "target"])
}

/// Ends the mount on `target`, and waits for the end of its server.
pub(crate) fn unmount(home: &Home) {
    home.run(["unmount", "target"]).success();
    assert_eq!(home.mounts(), Vec::<PathBuf>::new());
    served_no_more(home);
}

pub(crate) fn served_no_more(home: &Home) {
    wait_for("the end of the server", || servers(home).is_empty());
}

/// Returns the serving processes that were started in this home.
pub(crate) fn servers(home: &Home) -> Vec<i32> {
    let mut mine = OsString::from("HOME=");
    mine.push(home.root());
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let of_home = |pid: &i32| {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let has = |text: &[u8], word: &[u8]| text.split(|&byte| byte == 0).any(|part| part == word);
        is_ours(*pid) && has(&read("cmdline"), b"__serve") && has(&read("environ"), mine.as_encoded_bytes())
    };
    numbers.filter(of_home).collect()
}

/// Returns the names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Returns the line of the mount table for `target`.
pub(crate) fn table_line(home: &Home) -> String {
    let table = std::fs::read_to_string("/proc/mounts").unwrap();
    let wanted = format!(" {} ", home.path("target").display());
    table.lines().find(|line| line.contains(&wanted)).unwrap().to_owned()
}

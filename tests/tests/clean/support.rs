//! Environments to be cleaned, and looking at a whole cache.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike as _};
use serde_json::{Value, json};
use slotfs_tests::command::{Done, Home, shell_package};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};

/// A package with a file of its own, which prints it.
pub(crate) fn package(name: &str, text: &str) -> PackageBuilder {
    let tree = Tree::new().directory("lib", 0o755).file("lib/text", 0o644, text.as_bytes());
    shell_package(name, "cat {workenv}/lib/text").slot(SlotSpec::tree("app", "tar.gzip", tree))
}

/// Runs a package once, unpacked or mounted.
pub(crate) fn ran(home: &Home, name: &str, mode: &str) -> PathBuf {
    let path = home.package(&format!("{name}.psp"), package(name, name));
    assert_eq!(home.run(["run", "--mode", mode, path.to_str().unwrap()]).success().stdout, name);
    home.settle();
    path
}

/// Makes what a package's own launcher leaves behind.
pub(crate) fn launcher_environment(home: &Home, name: &str) {
    let metadata = metadata(home, name);
    fs::create_dir_all(metadata.join("instance/extract")).unwrap();
    fs::create_dir_all(metadata.join("package")).unwrap();
    fs::create_dir_all(home.workenv(name).join("lib")).unwrap();
    fs::write(home.workenv(name).join("lib/file"), [b'x'; 10_000]).unwrap();
    fs::write(metadata.join("instance/extract/complete"), "123\n").unwrap();
    fs::write(metadata.join("instance/package.checksum"), "3c9c6793").unwrap();
    let document = json!({ "package": { "name": name, "version": "1" } });
    fs::write(metadata.join("package/psp.json"), document.to_string()).unwrap();
}

/// Returns the metadata directory of an environment.
pub(crate) fn metadata(home: &Home, name: &str) -> PathBuf {
    home.cache().join(format!(".{name}.pspf"))
}

/// Makes everything of an environment look as if it had last been used `days` ago, and a minute.
pub(crate) fn age(home: &Home, name: &str, days: u64) {
    for place in [home.workenv(name), metadata(home, name)] {
        age_tree(&place, days);
    }
}

/// Sets both times of all that is in a tree.
pub(crate) fn age_tree(place: &Path, days: u64) {
    if !place.is_symlink() && place.is_dir() {
        for entry in fs::read_dir(place).unwrap().flatten() {
            age_tree(&entry.path(), days);
        }
    }
    let time = SystemTime::now() - Duration::from_secs(days * 86_400 + 60);
    let seconds = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let time = TimeSpec::seconds(i64::try_from(seconds).unwrap());
    utimensat(AT_FDCWD, place, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
}

/// Cleans and returns what it says as JSON.
#[track_caller]
pub(crate) fn clean(home: &Home, arguments: &[&str]) -> Value {
    let done = home.run(["clean", "--json", "--yes"].iter().chain(arguments)).success();
    serde_json::from_str(&done.stdout).unwrap()
}

/// Returns the names in a list of a report.
pub(crate) fn names(report: &Value, list: &str) -> Vec<String> {
    report[list].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

/// Returns the names of the environments that `slotfs list` shows, sorted.
pub(crate) fn listed(home: &Home) -> Vec<String> {
    let report: Value = serde_json::from_str(&home.run(["list", "--json"]).success().stdout).unwrap();
    let mut names = names(&report, "environments");
    names.sort();
    names
}

/// Returns every path below `place` with kind, inode, size and times of change and modification.
pub(crate) fn everything(place: &Path) -> BTreeMap<PathBuf, (u32, u64, u64, i64, i64)> {
    let mut all = BTreeMap::new();
    let mut open = vec![place.to_owned()];
    while let Some(path) = open.pop() {
        let known = fs::symlink_metadata(&path).unwrap();
        if known.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let times = (known.ctime_nsec() ^ known.ctime(), known.mtime_nsec() ^ known.mtime());
        all.insert(path, (known.mode(), known.ino(), known.size(), times.0, times.1));
    }
    all
}

/// Asserts that nothing of an environment is left.
#[track_caller]
pub(crate) fn is_gone(home: &Home, name: &str) {
    for place in [home.workenv(name), metadata(home, name)] {
        assert!(fs::symlink_metadata(&place).is_err(), "`{}` is still there", place.display());
    }
    nothing_aside(home);
}

/// Asserts that what was removed is deleted.
#[track_caller]
pub(crate) fn nothing_aside(home: &Home) {
    let left = fs::read_dir(home.cache().join(".slotfs/removed-v1")).into_iter().flatten().flatten();
    assert_eq!(left.map(|entry| entry.path()).collect::<Vec<_>>(), Vec::<PathBuf>::new());
}

/// Asserts that a command says each of `words`.
#[track_caller]
pub(crate) fn says(done: &Done, words: &[&str]) {
    let said = format!("{}{}", done.stdout, done.stderr);
    for word in words {
        assert!(said.contains(word), "`{word}` is not said:\n{said}");
    }
}

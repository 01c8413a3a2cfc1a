//! `slotfs store check`: every flipped byte in the shared store is found, and what is damaged is made again.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use slotfs_tests::command::{Home, missing_fuse, shell_package, wait_until};
use slotfs_tests::package::{SlotSpec, Tree};

const SCRIPT: &str = "cat {workenv}/a/* {workenv}/b/* | cksum";

/// Runs a package of two slots, one of whose contents lies in the store, and returns where it is and what it printed.
fn ran(home: &Home) -> (PathBuf, String) {
    let text = |number: usize| format!("{number} of all\n").repeat(3000 + number).into_bytes();
    let tree = |folder: &str, from: usize| {
        let tree = Tree::new().directory(folder, 0o755);
        (from..from + 4)
            .fold(tree, |tree, number| tree.file(format!("{folder}/{number}"), 0o644, &text(number)))
    };
    let package = shell_package("app", SCRIPT)
        .slot(SlotSpec::tree("one", "tar.xz", tree("a", 0)))
        .slot(SlotSpec::tree("two", "tar.gzip", tree("b", 4)));
    let path = home.package("app.psp", package);
    let done = home.run(["run", path.to_str().unwrap()]).success();
    home.settle();
    assert!(wait_until(|| files(home, "indexes-v1").len() == 2 && files(home, "objects-v1").len() >= 4));
    (path, done.stdout)
}

/// Everything that is finished in a folder of the store.
fn files(home: &Home, folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![home.cache().join(".slotfs").join(folder)];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let path = entry.path();
            let unfinished =
                path.ends_with("staging") || path.extension().is_some_and(|suffix| suffix == "tmp");
            match entry.file_type().unwrap().is_dir() {
                _ if unfinished => {}
                true => open.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

/// Flips a bit, and leaves everything else of the file as it was.
fn flip(path: &Path, offset: u64) {
    let metadata = fs::metadata(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
    fs::set_permissions(path, metadata.permissions()).unwrap();
}

fn checked(home: &Home, flags: &[&str]) -> (i32, Value) {
    let done = home.run(["store", "check", "--json"].iter().chain(flags));
    (done.code, serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", done.stderr)))
}

#[test]
fn a_sound_store_is_told_and_an_empty_one_is_sound() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let (code, report) = checked(&home, &[]);
    assert_eq!((code, &report["contents"], &report["bytes"]), (0, &0.into(), &0.into()));
    ran(&home);
    let (code, report) = checked(&home, &[]);
    assert_eq!((code, &report["indexes"]), (0, &2.into()));
    assert!(
        report["contents"].as_u64().unwrap() >= 4 && report["bytes"].as_u64().unwrap() > 100_000,
        "{report}"
    );
    let done = home.run(["store", "check"]).success();
    assert!(done.stderr.contains("indexes: 2;") && done.stderr.contains("0 damaged"), "{}", done.stderr);
}

#[test]
fn every_flipped_byte_is_found_and_made_again() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let (path, printed) = ran(&home);
    let kinds = [("objects-v1", "content"), ("indexes-v1", "index")];
    let all =
        kinds.iter().flat_map(|(folder, kind)| files(&home, folder).into_iter().map(|file| (file, *kind)));
    for (number, (file, kind)) in all.collect::<Vec<_>>().into_iter().enumerate() {
        let before = fs::read(&file).unwrap();
        let length = before.len() as u64;
        for offset in [0, length / 3, length - 1 - number as u64] {
            flip(&file, offset);
            let (code, report) = checked(&home, &[]);
            let damaged = report["damaged"].as_array().unwrap();
            assert_eq!((code, damaged.len()), (1, 1), "{} at {offset}: {report}", file.display());
            assert_eq!(damaged[0]["what"], kind);
            assert_eq!(damaged[0]["environments"], serde_json::json!(["app"]));
            assert_ne!(fs::read(&file).unwrap(), before, "a check changed something");

            let (code, report) = checked(&home, &["--repair"]);
            assert_eq!((code, &report["repaired"]), (0, &true.into()), "{report}");
            assert_eq!(report["rebuilt_slots"].as_array().unwrap().len(), 1, "{report}");
            assert_eq!(checked(&home, &[]).0, 0);
            assert_eq!(fs::read(&file).unwrap(), before, "{}", file.display());
        }
    }
    assert_eq!(home.run(["run", path.to_str().unwrap()]).success().stdout, printed);
}

#[test]
fn a_repair_under_a_mount_changes_nothing_for_who_uses_it() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let (path, _) = ran(&home);
    let expected: Vec<Vec<u8>> =
        (0..4).map(|number| format!("{number} of all\n").repeat(3000 + number).into_bytes()).collect();
    home.run(["mount", path.to_str().unwrap()]).success();
    for file in files(&home, "objects-v1").into_iter().chain(files(&home, "indexes-v1")) {
        flip(&file, fs::metadata(&file).unwrap().len() / 2);
    }
    assert_eq!(checked(&home, &["--repair"]).0, 0);
    for (number, expected) in expected.iter().enumerate() {
        // What was damaged before it was read is an error for whoever has it open; never wrong bytes.
        match fs::read(home.workenv("app").join(format!("a/{number}"))) {
            Ok(found) => assert_eq!(&found, expected),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}"),
        }
    }
    home.run(["unmount", "app"]).success();
    assert_eq!(checked(&home, &[]).0, 0);
    home.run(["run", path.to_str().unwrap()]).success();
}

#[test]
fn what_has_no_package_any_more_is_removed_and_comes_back_with_it() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let (path, printed) = ran(&home);
    let aside = home.path("aside.psp");
    fs::rename(&path, &aside).unwrap();
    let object = files(&home, "objects-v1").remove(0);
    flip(&object, 5);
    let done = home.run(["store", "check"]).code(1);
    assert!(done.stderr.contains("hint: `slotfs store check --repair`"), "{}", done.stderr);
    assert!(done.stdout.contains("it does not hold what its name says"), "{}", done.stdout);
    let (code, report) = checked(&home, &["--repair"]);
    assert_eq!((code, report["left_slots"].as_array().unwrap().len()), (0, 1), "{report}");
    assert!(!object.exists());
    fs::rename(&aside, &path).unwrap();
    assert_eq!(home.run(["run", path.to_str().unwrap()]).success().stdout, printed);
    home.settle();
    assert!(wait_until(|| object.exists()), "it did not come back");
}

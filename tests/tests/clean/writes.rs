//! What a clean drops while the environment stays: writes over `cached` slots and all that should have gone earlier.

use std::fs;

use slotfs_tests::command::{Home, missing_fuse, shell_package};
use slotfs_tests::package::{SlotSpec, Tree};

use super::support::{clean, everything, names, says};

const SLOTS: [(&str, &str, u8, bool); 5] = [
    ("cached", "cached", 4, false),
    ("kept", "persistent", 2, true),
    ("usual", "runtime", 2, true),
    ("starting", "startup", 1, false),
    ("configured", "config", 9, true),
];

fn package(home: &Home) -> String {
    let mut package = shell_package("app", "true");
    for (name, lifecycle, code, _) in SLOTS {
        let tree = Tree::new().directory(name, 0o755).file(format!("{name}/file"), 0o644, b"packaged").file(
            format!("{name}/removed"),
            0o644,
            b"packaged",
        );
        package = package.slot(SlotSpec::tree(name, "tar.gzip", tree).lifecycle(lifecycle, code));
    }
    home.package("app.psp", package).to_str().unwrap().to_owned()
}

fn change(home: &Home, path: &str) {
    home.run(["mount", path]).success();
    for (name, ..) in SLOTS {
        let folder = home.workenv("app").join(name);
        fs::write(folder.join("file"), "changed").unwrap();
        fs::write(folder.join("new"), [b'x'; 20_000]).unwrap();
        fs::remove_file(folder.join("removed")).unwrap();
    }
    fs::write(home.workenv("app").join("nobodys"), "kept").unwrap();
    home.run(["unmount", "app"]).success();
    home.settle();
}

#[test]
fn cached_slots_are_as_packaged_after_a_clean_and_the_rest_is_kept() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let path = package(&home);
    change(&home, &path);
    let before = everything(&home.cache());
    says(
        &home.run(["clean", "--dry-run"]).success(),
        &["app: writes", "can be made again", "or more would be freed"],
    );
    assert_eq!(everything(&home.cache()), before);
    let report = clean(&home, &[]);
    assert_eq!(names(&report, "dropped_writes"), ["app"], "{report}");
    assert!(report["freed_bytes"].as_u64().unwrap() >= 40_000, "{report}");
    assert!(report["freed_bytes"].as_u64().unwrap() < 80_000, "{report}");
    assert_eq!(names(&clean(&home, &[]), "dropped_writes"), Vec::<String>::new(), "nothing is left to drop");

    home.run(["mount", &path]).success();
    for (name, _, _, kept) in SLOTS {
        let folder = home.workenv("app").join(name);
        let expected = if kept { "changed" } else { "packaged" };
        assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), expected, "{name}");
        assert_eq!((folder.join("new").exists(), folder.join("removed").exists()), (kept, !kept), "{name}");
    }
    assert_eq!(fs::read_to_string(home.workenv("app").join("nobodys")).unwrap(), "kept");
    home.run(["unmount", "app"]).success();
    home.settle();
}

#[test]
fn a_package_that_is_gone_keeps_what_was_written_over_it() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let path = package(&home);
    change(&home, &path);
    let content = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let report = clean(&home, &[]);
    assert_eq!(names(&report, "skipped"), ["app"], "{report}");
    says(&home.run(["clean", "-y"]).success(), &["`app` stays", "its writes cannot be told apart"]);
    assert_eq!(fs::read(home.session("app").join("upper/cached/file")).unwrap(), b"changed");
    fs::write(&path, content).unwrap();
}

#[test]
fn writes_stay_while_somebody_uses_the_mount() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let path = package(&home);
    change(&home, &path);
    home.run(["mount", &path]).success();
    let report = clean(&home, &[]);
    assert_eq!(names(&report, "dropped_writes"), Vec::<String>::new());
    assert_eq!(fs::read(home.workenv("app").join("cached/file")).unwrap(), b"changed");
    home.run(["unmount", "app"]).success();
    home.settle();
}

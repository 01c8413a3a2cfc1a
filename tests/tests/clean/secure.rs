//! Deletion that overwrites first: whoever still holds a file open sees what is left on the disk.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;

use slotfs_tests::command::{Home, missing_fuse, shell_package};
use slotfs_tests::package::{SlotSpec, Tree};

use super::support::{clean, is_gone, metadata};

const SECRET: &[u8] = b"what nobody may find again\n";
const SLOTS: [(&str, &str, u8); 4] = [
    ("passing", "temporary", 5),
    ("forgetful", "volatile", 2),
    ("again", "cached", 4),
    ("kept", "persistent", 2),
];

fn package(home: &Home) -> PathBuf {
    let mut package = shell_package("app", "true");
    for (name, lifecycle, code) in SLOTS {
        let tree = Tree::new()
            .directory(name, 0o755)
            .file(format!("{name}/file"), 0o644, b"packaged")
            .hard_link(format!("{name}/second-name"), format!("{name}/file"));
        package = package.slot(SlotSpec::tree(name, "tar.gzip", tree).lifecycle(lifecycle, code));
    }
    home.package("app.psp", package)
}

/// The written files of every slot, held open: a new one, and one that replaces what the slot has under two names.
struct Held([(&'static str, Vec<File>); 4]);

impl Held {
    /// Writes secrets into a mount and ends it.
    fn written(home: &Home, mount: &[&str]) -> Self {
        let package = package(home);
        home.run(["mount", package.to_str().unwrap()].iter().chain(mount)).success();
        let held = SLOTS.map(|(slot, ..)| {
            let files = ["new", "file"].map(|file| {
                fs::write(home.workenv("app").join(slot).join(file), SECRET).unwrap();
                File::open(home.session("app").join("upper").join(slot).join(file)).unwrap()
            });
            (slot, files.into())
        });
        home.run(["unmount", "app"]).success();
        home.settle();
        Self(held)
    }

    /// Asserts that exactly the files of these slots were overwritten since.
    #[track_caller]
    fn are_overwritten(self, expected: &[&str]) {
        for (slot, files) in self.0 {
            for mut file in files {
                let mut content = Vec::new();
                file.read_to_end(&mut content).unwrap();
                let zeros = vec![0; SECRET.len()];
                let expected = if expected.contains(&slot) { &zeros[..] } else { SECRET };
                assert_eq!(content, expected, "{slot}");
            }
        }
    }
}

#[test]
fn a_secure_removal_overwrites_what_was_written() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let held = Held::written(&home, &[]);
    home.run(["remove", "app", "--yes"]).success();
    held.are_overwritten(&[]);
    let held = Held::written(&home, &[]);
    home.run(["remove", "app", "--secure", "--yes"]).success();
    is_gone(&home, "app");
    // The passing ones went when the mount did.
    held.are_overwritten(&["again", "kept"]);
}

#[test]
fn a_secure_mount_overwrites_what_goes_with_it() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    Held::written(&home, &["--secure"]).are_overwritten(&["passing", "forgetful"]);
    assert_eq!(fs::read(home.session("app").join("upper/kept/file")).unwrap(), SECRET);
}

#[test]
fn a_secure_clean_overwrites_what_it_drops() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let held = Held::written(&home, &[]);
    clean(&home, &["--secure"]);
    assert!(!home.session("app").join("upper/again/new").exists());
    held.are_overwritten(&["again"]);
    let held = Held::written(&home, &[]);
    clean(&home, &["--all", "--secure"]);
    is_gone(&home, "app");
    held.are_overwritten(&["again", "kept"]);
}

#[test]
fn the_configuration_file_can_ask_for_it() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    fs::create_dir_all(home.path(".config/slotfs")).unwrap();
    fs::write(home.path(".config/slotfs/config.json"), "{ \"secure\": true }").unwrap();
    let held = Held::written(&home, &[]);
    home.run(["remove", "app", "--yes"]).success();
    held.are_overwritten(&["passing", "forgetful", "again", "kept"]);
}

#[test]
fn a_secure_removal_that_was_killed_goes_on_as_one() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let held = Held::written(&home, &[]);
    // As it is when everything is moved and the note is deleted already.
    let entry = home.cache().join(".slotfs/removed-v1/1-0/0-erase");
    fs::create_dir_all(&entry).unwrap();
    fs::rename(metadata(&home, "app"), entry.join("metadata")).unwrap();
    clean(&home, &[]);
    assert!(!entry.exists());
    held.are_overwritten(&["again", "kept"]);
}

#[test]
fn a_mount_that_does_not_overwrite_is_not_joined_by_who_asks_for_that() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = package(&home);
    home.run(["mount".as_ref(), package.as_os_str()]).success();
    let refused = home.run(["run", "--secure", package.to_str().unwrap()]).code(110);
    assert!(refused.stderr.contains("does not overwrite what goes"), "{}", refused.stderr);
    home.run(["unmount", "app"]).success();
}

#[test]
fn what_has_a_name_elsewhere_keeps_its_content() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let held = Held::written(&home, &[]);
    let elsewhere = home.path("elsewhere");
    fs::hard_link(home.session("app").join("upper/kept/new"), &elsewhere).unwrap();
    home.run(["remove", "app", "--secure", "--yes"]).success();
    assert_eq!(fs::read(&elsewhere).unwrap(), SECRET);
    drop(held);
}

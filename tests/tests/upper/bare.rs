//! Large files of which only attributes or names were changed: told, archived, kept, taken back, bounded and completed
//! like all others.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;
use slotfs_tests::command::{Home, missing_fuse, shell_package};
use slotfs_tests::ordinary::Ordinary;
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};
use slotfs_tests::tree;
use slotfs_tests::workplace::assert_same;

use super::support::{apply, archive, shown, unmount};

/// Large enough to be left in the package, and no multiple of anything.
const LARGE: usize = (3 << 20) + 4321;

fn content() -> Vec<u8> {
    (0..LARGE).map(|at| (at / 7 % 251) as u8).collect()
}

fn data() -> Tree {
    Tree::new()
        .file("data/mode", 0o644, &content())
        .file("data/moved", 0o644, &content())
        .file("data/linked", 0o644, &content())
        .file("data/touched", 0o644, &content())
        .file("data/cut", 0o644, &content())
        .file("data/two", 0o644, &content())
        .hard_link("data/two-too", "data/two")
        .file("data/small", 0o644, b"small")
}

fn package() -> PackageBuilder {
    shell_package("app", "true").slot(SlotSpec::tree("data", "tar.gzip", data()))
}

fn mounted() -> (Home, PathBuf) {
    let home = Home::new();
    let package = home.package("app.psp", package());
    home.run(["mount", package.to_str().unwrap()]).success();
    let root = home.workenv("app");
    (home, root)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Every change that leaves content where it is.
fn change(root: &Path) {
    let data = root.join("data");
    set_mode(&data.join("mode"), 0o600);
    fs::rename(data.join("moved"), root.join("elsewhere")).unwrap();
    fs::hard_link(data.join("linked"), data.join("linked-too")).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::open(data.join("touched")).unwrap().set_modified(time).unwrap();
    set_mode(&data.join("two"), 0o640);
}

/// Tells whether the file in the upper directory says that its content is elsewhere.
fn is_bare(path: impl AsRef<Path>) -> bool {
    let mut value = [0; 8];
    rustix::fs::lgetxattr(path.as_ref(), "user.overlay.metacopy", &mut value[..]).is_ok()
}

/// What the files in the upper directory take, in bytes.
fn taken(home: &Home) -> u64 {
    let upper = home.session("app").join("upper");
    let files = tree::walk(&upper).into_iter().filter(|(_, metadata)| metadata.is_file());
    files.map(|(_, metadata)| metadata.blocks() * 512).sum()
}

#[test]
fn changes_of_attributes_are_told_as_such_and_archived_with_their_content() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    change(&root);
    let live = home.run(["diff", "app"]).success().stdout;
    insta::assert_snapshot!("diff_bare", live);
    let before = tree::describe(&root);
    let first = archive(&home, "live.tar");
    unmount(&home);
    assert!(taken(&home) < 200_000, "content was copied");
    assert_eq!(home.run(["diff", "app"]).success().stdout, live);
    let json: Value = serde_json::from_str(&home.run(["diff", "app", "--json"]).success().stdout).unwrap();
    let moved =
        json["changes"].as_array().unwrap().iter().find(|change| change["path"] == "elsewhere").unwrap();
    assert_eq!((&moved["change"], &moved["content_of"]), (&"added".into(), &"data/moved".into()));
    assert_eq!((&moved["size"], &moved["moved_from"]), (&LARGE.into(), &Value::Null));
    let after = archive(&home, "after.tar");
    assert!(fs::read(&first).unwrap() == fs::read(&after).unwrap(), "it depends on whether it is mounted");
    let copy = home.path("copy");
    home.run(["extract", "app.psp", "copy"]).success();
    apply(&home, &after, &copy);
    assert_same(&before, &tree::describe(&copy), "from the archive");
    assert!(fs::read(copy.join("elsewhere")).unwrap() == content());
}

#[test]
fn without_the_package_its_content_is_not_made_up() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    change(&root);
    unmount(&home);
    fs::rename(home.path("app.psp"), home.path("away")).unwrap();
    let told = home.run(["diff", "app"]).success();
    assert!(told.stdout.contains("A elsewhere (content of data/moved)"), "{}", told.stdout);
    assert!(told.stdout.contains("m data/mode"), "{}", told.stdout);
    let refused = home.run(["diff", "app", "--tar"]).code(111);
    assert!(refused.stderr.contains("its content is in the package"), "{}", refused.stderr);
    let refused = home.run(["path", "app", "--whole"]).code(111);
    assert!(refused.stderr.contains("put the package back"), "{}", refused.stderr);
    assert!(is_bare(home.session("app").join("upper/elsewhere")));
}

#[test]
fn a_snapshot_keeps_them_as_they_are_and_takes_no_room() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    change(&root);
    let before = tree::describe(&root);
    unmount(&home);
    home.run(["snapshot", "app", "first"]).success();
    let json: Value =
        serde_json::from_str(&home.run(["snapshots", "app", "--json"]).success().stdout).unwrap();
    assert_eq!(json["snapshots"][0]["bytes"], 0);
    home.run(["mount", "app.psp"]).success();
    for name in ["data/mode", "elsewhere", "data/two-too"] {
        fs::OpenOptions::new().write(true).open(root.join(name)).unwrap().write_all_at(b"!", 9).unwrap();
    }
    unmount(&home);
    assert!(taken(&home) > 3 * LARGE as u64);
    home.run(["restore", "app", "first", "-y"]).success();
    assert!(taken(&home) < 200_000);
    assert_same(&before, &shown(&home), "from the snapshot");
}

#[test]
fn they_are_taken_back_alone_and_all_together() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    let before = tree::describe(&root);
    change(&root);
    unmount(&home);
    home.run(["reset", "app", "data/mode", "data/two-too", "data/moved", "-y"]).success();
    let told = home.run(["diff", "app"]).success().stdout;
    assert!(!told.contains("data/mode") && !told.contains("data/two"), "{told}");
    // The content of what was moved is still that of the package, beside the file that is there again.
    let now = shown(&home);
    assert_eq!(now[Path::new("data/moved")], before[Path::new("data/moved")]);
    assert_eq!(
        now[Path::new("elsewhere")].split_whitespace().last(),
        before[Path::new("data/moved")].split_whitespace().last()
    );
    home.run(["mount", "app.psp"]).success();
    assert!(fs::read(root.join("elsewhere")).unwrap() == content());
    let inode = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
    assert_ne!(inode("elsewhere"), inode("data/moved"));
    unmount(&home);
    home.run(["reset", "app", "-y"]).success();
    assert_same(&before, &shown(&home), "all was taken back");
}

#[test]
fn a_bound_lets_attributes_change_and_keeps_content_out_that_does_not_fit() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", package());
    let package = package.to_str().unwrap();
    home.run(["mount", "--max-upper", "1M", package]).success();
    let root = home.workenv("app");
    change(&root);
    let before = tree::describe(&root);
    for name in ["data/mode", "elsewhere", "data/two"] {
        let error = fs::OpenOptions::new().write(true).open(root.join(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{name}");
    }
    assert_same(&before, &tree::describe(&root), "nothing changed");
    nix::unistd::truncate(&root.join("data/two"), 100_000).unwrap();
    assert!(fs::read(root.join("data/two-too")).unwrap() == content()[..100_000]);
    unmount(&home);
    assert!(taken(&home) < 1 << 20);
    // With room, the content comes.
    home.run(["mount", "--max-upper", "4M", package]).success();
    fs::OpenOptions::new().write(true).open(root.join("data/mode")).unwrap().write_all_at(b"!", 0).unwrap();
    let error = fs::OpenOptions::new().write(true).open(root.join("elsewhere")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(fs::read(root.join("data/mode")).unwrap()[1..] == content()[1..]);
    unmount(&home);
    assert!(taken(&home) < 4 << 20);
}

#[test]
fn the_upper_is_made_whole_for_other_programs_when_asked() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    change(&root);
    // Its name in the upper directory goes; the copy is still needed for the other one.
    fs::remove_file(root.join("data/two")).unwrap();
    let told = home.run(["path", "app"]).success();
    assert!(told.stderr.contains("--whole"), "{}", told.stderr);
    set_mode(&root.join("data/cut"), 0o600);
    home.run(["path", "app", "--whole"]).success();
    assert!(
        fs::read(home.session("app").join("upper/data/cut")).unwrap() == content(),
        "while it is mounted"
    );
    home.run(["reset", "app", "data/cut", "-y"]).success();
    // Once more, at rest.
    home.run(["reset", "app", "-y"]).success();
    change(&root);
    fs::remove_file(root.join("data/two")).unwrap();
    let before = tree::describe(&root);
    unmount(&home);
    let upper = home.session("app").join("upper");
    assert_eq!(home.run(["path", "app", "--whole"]).success().stdout, format!("{}\n", upper.display()));
    for name in ["data/mode", "elsewhere", "data/linked", "data/linked-too", "data/touched"] {
        assert!(!is_bare(upper.join(name)), "{name}");
        assert!(fs::read(upper.join(name)).unwrap() == content(), "{name}");
    }
    for entry in fs::read_dir(home.session("app").join("upper-index")).unwrap() {
        assert!(!is_bare(entry.unwrap().path()));
    }
    let told = home.run(["path", "app"]).success();
    assert_eq!(told.stderr, "");
    assert_same(&before, &shown(&home), "made whole");
}

#[test]
fn content_of_another_build_is_never_shown_in_its_place() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    set_mode(&root.join("data/mode"), 0o600);
    unmount(&home);
    // The next build keeps this directory as the user's own, and has other bytes of the same length there.
    let other: Vec<u8> = content().iter().map(|byte| byte ^ 1).collect();
    let slot = SlotSpec::tree("data", "tar.gzip", Tree::new().file("data/mode", 0o644, &other));
    let own = serde_json::json!({ "directories": [{ "path": "{workenv}/data", "mode": "0755" }], "env": {} });
    let next = shell_package("app", "true").slot(slot).section("workenv", own);
    home.package("app.psp", next);
    home.run(["mount", "app.psp"]).success();
    let kept = is_bare(home.session("app").join("upper/data/mode"));
    assert!(kept, "the test needs a directory that is carried over");
    let error = fs::read(root.join("data/mode")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert_eq!(fs::metadata(root.join("data/mode")).unwrap().mode() & 0o777, 0o600);
    unmount(&home);
    let lost = home.run(["path", "app", "--whole"]).code(111);
    assert!(lost.stderr.contains("the content of `data/mode` is in another build"), "{}", lost.stderr);
    let lost = home.run(["diff", "app", "--tar"]).code(106);
    assert!(lost.stderr.contains("left out `data/mode`"), "{}", lost.stderr);
    home.run(["reset", "app", "data/mode", "-y"]).success();
    home.run(["mount", "app.psp"]).success();
    assert!(fs::read(root.join("data/mode")).unwrap() == other);
    unmount(&home);
}

#[test]
fn a_user_who_forbids_himself_to_read_a_file_does_not_lose_it() {
    if missing_fuse().is_some() {
        return;
    }
    let Some(user) = Ordinary::new() else { return };
    let path = user.home().package("app.psp", package());
    user.own(&path);
    let shown = path.to_str().unwrap();
    user.run(["mount", shown]).success();
    let root = user.home().workenv("app");
    let (mode, touched) = (root.join("data/mode"), root.join("data/touched"));
    user.shell(&format!("chmod 0 '{}'; chmod 600 '{}'; chmod 0 '{1}'", mode.display(), touched.display()))
        .success();
    user.run(["unmount", "app"]).success();
    user.home().settle();
    user.run(["mount", shown]).success();
    for path in [mode, touched] {
        let shown = path.display();
        user.shell(&format!(
            "test $(stat -c %a '{shown}') = 0; chmod 600 '{shown}'; cp '{shown}' '{}'",
            user.home().path("copy").display()
        ))
        .success();
        assert!(fs::read(user.home().path("copy")).unwrap() == content(), "{shown}");
    }
    user.run(["unmount", "app"]).success();
    user.home().settle();
}

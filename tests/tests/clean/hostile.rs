//! A cache that somebody prepared: nothing outside is touched, nothing that is not ours goes, nothing hangs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::time::Duration;

use slotfs_tests::command::{Done, Home, binary, skip};

use super::support::{
    clean, everything, is_gone, launcher_environment, listed, metadata, names, nothing_aside, ran, says,
};

/// A folder outside of the cache that looks like everything a clean removes.
fn outside(home: &Home) -> std::path::PathBuf {
    let outside = home.path("outside");
    for folder in ["instance/extract", "package", "slotfs/upper", "lib", "ab"] {
        fs::create_dir_all(outside.join(folder)).unwrap();
    }
    for file in ["instance/extract/complete", "slotfs/upper/kept", "lib/kept", "ab/cd"] {
        fs::write(outside.join(file), "kept").unwrap();
    }
    outside
}

#[test]
fn links_are_neither_followed_nor_taken_for_environments() {
    let home = Home::new();
    let outside = outside(&home);
    let before = everything(&outside);
    ran(&home, "real", "extract");
    // A link in the place of the files, of the metadata, and of parts of them.
    launcher_environment(&home, "files");
    fs::remove_dir_all(home.workenv("files")).unwrap();
    symlink(&outside, home.workenv("files")).unwrap();
    symlink(&outside, metadata(&home, "linked")).unwrap();
    symlink(&outside, home.workenv("linked")).unwrap();
    for part in ["slotfs", "instance", "instance/extract"] {
        let name = format!("part-{}", part.replace('/', "-"));
        launcher_environment(&home, &name);
        let place = metadata(&home, &name).join(part);
        let _ = fs::remove_dir_all(&place);
        symlink(&outside, place).unwrap();
    }
    for part in ["upper", "work", "upper-index", "earlier", "start.lock", "leases.lock"] {
        let name = format!("own-{part}");
        launcher_environment(&home, &name);
        fs::create_dir(metadata(&home, &name).join("slotfs")).unwrap();
        let target = if part.ends_with("lock") { outside.join("lib/kept") } else { outside.clone() };
        symlink(target, metadata(&home, &name).join("slotfs").join(part)).unwrap();
    }
    let report = clean(&home, &["--all"]);
    assert_eq!(names(&report, "environments"), ["files", "real"], "{report}");
    assert_eq!(report["skipped"].as_array().unwrap().len(), 9, "{report}");
    assert_eq!(everything(&outside), before);
    assert!(home.workenv("files").is_symlink() && home.workenv("linked").is_symlink());
    assert!(metadata(&home, "linked").is_symlink() && !metadata(&home, "files").exists());
    nothing_aside(&home);
    let refused = home.run(["remove", "part-slotfs", "-y"]).code(106);
    says(&refused, &["neither slotfs nor a launcher made", "part-slotfs.pspf/slotfs`", "by hand"]);
    home.run(["remove", "linked", "-y"]).code(111);
    assert_eq!(everything(&outside), before);
}

#[test]
fn what_is_not_ours_stays() {
    let home = Home::new();
    fs::create_dir_all(home.cache().join("plain/lib")).unwrap();
    fs::write(home.cache().join("plain/lib/file"), "mine").unwrap();
    fs::create_dir_all(home.cache().join(".notes.pspf/diary")).unwrap();
    fs::create_dir_all(home.cache().join("notes")).unwrap();
    fs::write(home.cache().join("notes.txt"), "mine").unwrap();
    // A file in the place of the directory, with a launcher's metadata.
    launcher_environment(&home, "filed");
    fs::remove_dir_all(home.workenv("filed")).unwrap();
    fs::write(home.workenv("filed"), "mine").unwrap();
    let kept = ["plain", ".notes.pspf", "notes", "notes.txt", "filed"].map(|name| home.cache().join(name));
    let before = kept.clone().map(|path| everything(&path));
    let report = clean(&home, &["--all"]);
    assert_eq!(names(&report, "environments"), ["filed"], "{report}");
    assert_eq!(kept.map(|path| everything(&path)), before);
    assert!(!metadata(&home, "filed").exists());
}

#[test]
fn a_shared_folder_that_leads_elsewhere_is_not_cleaned() {
    let home = Home::new();
    let outside = outside(&home);
    ran(&home, "app", "extract");
    let shared = home.cache().join(".slotfs");
    for folder in ["objects-v1", "indexes-v1", "verified-v1"] {
        let _ = fs::remove_dir_all(shared.join(folder));
        symlink(&outside, shared.join(folder)).unwrap();
    }
    let before = everything(&outside);
    clean(&home, &["--all"]);
    assert_eq!(everything(&outside), before);
    is_gone(&home, "app");
    launcher_environment(&home, "app");
    fs::remove_dir_all(&shared).unwrap();
    symlink(&outside, &shared).unwrap();
    says(&home.run(["remove", "app", "-y"]).code(106), &[".slotfs`", "no directory of its own"]);
    assert_eq!(listed(&home), ["app"]);
    assert!(!outside.join("removed-v1").exists());
}

#[test]
fn pipes_and_damage_do_not_hold_it_up() {
    let home = Home::new();
    ran(&home, "app", "extract");
    fs::remove_file(home.session("app").join("served.json")).unwrap();
    let pipe = |path: &Path| {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    };
    pipe(&home.session("app").join("served.json"));
    pipe(&home.workenv("app").join("pipe"));
    launcher_environment(&home, "locked");
    fs::create_dir(metadata(&home, "locked").join("slotfs")).unwrap();
    pipe(&metadata(&home, "locked").join("slotfs/start.lock"));
    let shared = home.cache().join(".slotfs");
    // A package that was made this very moment is not noted there.
    fs::create_dir_all(shared.join("verified-v1")).unwrap();
    pipe(&shared.join("verified-v1/1-1.json"));
    fs::write(shared.join("verified-v1/2-2.json"), "{").unwrap();
    for stored in fs::read_dir(shared.join("indexes-v1")).unwrap().flatten() {
        fs::set_permissions(stored.path(), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(stored.path(), b"damaged").unwrap();
    }
    let mut command = home.slotfs(["clean", "--all", "--yes"]);
    let done = Done::within(Duration::from_secs(30), &mut command).success();
    says(&done, &["`locked` stays: neither slotfs nor a launcher made"]);
    is_gone(&home, "app");
}

#[test]
fn an_ordinary_user_removes_what_cannot_be_read() {
    const NOBODY: u32 = 65534;
    if !nix::unistd::geteuid().is_root() {
        skip("only root can become somebody else".into());
        return;
    }
    let home = Home::new();
    let program = home.path("slotfs");
    if fs::hard_link(binary(), &program).is_err() {
        fs::copy(binary(), &program).unwrap();
    }
    launcher_environment(&home, "app");
    let closed = home.workenv("app").join("closed");
    fs::create_dir_all(closed.join("deep/er")).unwrap();
    fs::write(closed.join("deep/er/file"), "x").unwrap();
    fs::write(closed.join("file"), "x").unwrap();
    give(home.root(), NOBODY);
    for (path, mode) in [("deep/er", 0o500), ("deep", 0o300), ("", 0o000)] {
        fs::set_permissions(closed.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = home.program("setpriv");
    let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
    command.args([&user, &group, "--clear-groups", "--"]).arg(&program).args(["remove", "app", "-y"]);
    Done::of(&mut command).success();
    is_gone(&home, "app");
}

fn give(path: &Path, user: u32) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap().flatten() {
            give(&entry.path(), user);
        }
    }
    // The program is the tester's.
    if path.file_name().is_some_and(|name| name != "slotfs") || path.is_dir() {
        chown(path, Some(user), Some(user)).unwrap();
    }
}

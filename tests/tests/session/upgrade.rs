//! A package goes to a new build: files of `config` slots that the user has changed are kept, the others are the new
//! build's, and the command says which.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use slotfs_tests::command::{Home, missing_fuse, shell_package};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};

/// Two `config` slots, an archive and a single file, and one that is none. `marked` is in every file that differs
/// between builds.
fn build(chain: &str, marked: &str, more: impl FnOnce(Tree) -> Tree) -> PackageBuilder {
    let text = |name: &str| format!("{name} {marked}\n").into_bytes();
    let config = Tree::new()
        .directory("etc", 0o755)
        .file("etc/changed", 0o644, &text("changed"))
        .file("etc/removed", 0o644, &text("removed"))
        .file("etc/untouched", 0o644, &text("untouched"))
        .file("etc/only-opened", 0o644, &text("only-opened"))
        .file("etc/only-mode", 0o644, &text("only-mode"))
        .file("etc/same", 0o644, b"in both builds\n")
        .file("etc/same-changed", 0o644, b"in both builds\n");
    let data = Tree::new().directory("data", 0o755).file("data/file", 0o644, &text("data"));
    shell_package("app", "cd {workenv} && head -n 9 etc/* etc/sub/* single data/* 2>/dev/null || true")
        .slot(SlotSpec::tree("config", chain, more(config)).lifecycle("config", 9))
        .slot(SlotSpec::file("single", "{workenv}/single", "raw", &text("single")).lifecycle("config", 9))
        .slot(SlotSpec::tree("data", chain, data))
}

/// What a user does to the environment of the earlier build.
fn change(root: &Path) {
    std::fs::write(root.join("etc/changed"), "mine\n").unwrap();
    std::fs::write(root.join("etc/same-changed"), "mine\n").unwrap();
    std::fs::remove_file(root.join("etc/removed")).unwrap();
    std::fs::OpenOptions::new().append(true).open(root.join("etc/only-opened")).unwrap();
    std::fs::set_permissions(root.join("etc/only-mode"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::create_dir(root.join("etc/sub")).unwrap();
    std::fs::write(root.join("etc/sub/added"), "mine\n").unwrap();
    std::fs::write(root.join("data/file"), "mine\n").unwrap();
}

/// Mounts a build, changes its files, and returns where the package is.
fn used(home: &Home, package: PackageBuilder, change: impl FnOnce(&Path)) -> PathBuf {
    let package = home.package("app.psp", package);
    home.run(["mount".as_ref(), package.as_os_str()]).success();
    change(&home.workenv("app"));
    home.run(["unmount", "app"]).success();
    package
}

fn contents(stdout: &str) -> Vec<(&str, &str)> {
    let entries = stdout.split("==> ").filter_map(|entry| entry.split_once(" <==\n"));
    entries.map(|(path, content)| (path, content.trim_end())).collect()
}

#[test]
fn changed_config_files_are_kept_and_the_others_replaced() {
    if missing_fuse().is_some() {
        return;
    }
    // The index of a plain archive knows no digests: sizes and times tell.
    for chain in ["tar.gzip", "tar"] {
        let home = Home::new();
        let package = used(&home, build(chain, "old", |tree| tree), change);
        home.package("app.psp", build(chain, "newer", |tree| tree.file("etc/fresh", 0o644, b"fresh\n")));
        let done = home.run(["run".as_ref(), package.as_os_str()]).success();
        let found = [
            ("etc/changed", "mine"),
            ("etc/fresh", "fresh"),
            ("etc/only-mode", "only-mode newer"),
            ("etc/only-opened", "only-opened newer"),
            ("etc/same", "in both builds"),
            ("etc/same-changed", "mine"),
            ("etc/sub", ""),
            ("etc/untouched", "untouched newer"),
            ("etc/sub/added", "mine"),
            ("single", "single newer"),
            ("data/file", "data newer"),
        ];
        assert_eq!(contents(&done.stdout), found, "{chain}: {}", done.stderr);
        let told: Vec<&str> =
            done.stderr.lines().filter(|line| line.contains("`etc") || line.contains("single")).collect();
        let lines = [
            "kept as you changed it: `etc/changed`; the new build has another version",
            "kept as you removed it: `etc/removed`; the new build has another version",
            "kept as you changed it: `etc/same-changed`",
            "kept as you added it: `etc/sub`",
            "now the new build's: `etc/only-mode`",
            "now the new build's: `etc/only-opened`",
            "now the new build's: `etc/untouched`",
            "now the new build's: `single`",
        ];
        let ends_with = |(told, line): (&&str, &&str)| told.ends_with(line);
        assert!(told.len() == lines.len() && told.iter().zip(&lines).all(ends_with), "{chain}: {told:#?}");
        // What was written over other slots, and what was not changed, is set aside.
        let earlier =
            std::fs::read_dir(home.session("app").join("earlier")).unwrap().next().unwrap().unwrap();
        assert_eq!(std::fs::read(earlier.path().join("upper/data/file")).unwrap(), b"mine\n");
        assert!(!earlier.path().join("upper/etc/changed").exists());
    }
}

#[test]
fn a_changed_single_file_is_kept_and_one_that_was_only_written_again_is_replaced() {
    if missing_fuse().is_some() {
        return;
    }
    for (content, expected) in [("mine\n", "mine"), ("single old\n", "single new")] {
        let home = Home::new();
        let change = |root: &Path| std::fs::write(root.join("single"), content).unwrap();
        let package = used(&home, build("tar.gzip", "old", |tree| tree), change);
        home.package("app.psp", build("tar.gzip", "new", |tree| tree));
        let done = home.run(["run".as_ref(), package.as_os_str()]).success();
        let found = contents(&done.stdout);
        assert!(found.contains(&("single", expected)), "{found:?}\n{}", done.stderr);
    }
}

#[test]
fn what_nobody_has_changed_is_not_told_of_and_nothing_is_set_aside() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = used(&home, build("tar.gzip", "old", |tree| tree), |_| {});
    home.package("app.psp", build("tar.gzip", "old", |tree| tree).section("description", "another".into()));
    let done = home.run(["run".as_ref(), package.as_os_str()]).success();
    assert!(!done.stderr.contains("kept") && !done.stderr.contains("earlier"), "{}", done.stderr);
    assert!(!done.stderr.contains("new build's"), "{}", done.stderr);
}

#[test]
fn where_nobody_can_tell_what_was_changed_all_is_set_aside_and_that_is_said() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = used(&home, build("tar.gzip", "old", |tree| tree), change);
    for index in std::fs::read_dir(home.cache().join(".slotfs/indexes-v1")).unwrap() {
        std::fs::remove_file(index.unwrap().path()).unwrap();
    }
    home.package("app.psp", build("tar.gzip", "new", |tree| tree));
    let done = home.run(["run".as_ref(), package.as_os_str()]).success();
    assert!(contents(&done.stdout).contains(&("etc/changed", "changed new")), "{}", done.stdout);
    assert!(done.stderr.contains("nobody can tell any more which files of slot `config`"), "{}", done.stderr);
    let earlier = std::fs::read_dir(home.session("app").join("earlier")).unwrap().next().unwrap().unwrap();
    assert_eq!(std::fs::read(earlier.path().join("upper/etc/changed")).unwrap(), b"mine\n");
}

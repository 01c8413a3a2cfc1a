//! Where nothing can be mounted, the same command unpacks the same tree.

use std::path::Path;

use serde_json::json;
use slotfs_tests::command::{Done, Home, missing_fuse, setup_script, shell_package};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};

fn package() -> PackageBuilder {
    let tree = Tree::new()
        .directory("bin", 0o755)
        .file("bin/tool", 0o755, b"#!/bin/sh\necho tool\n")
        .symlink("link", "bin/tool");
    let script = "{workenv}/link; ls {workenv}; cat {workenv}/installed; echo mine >> {workenv}/home/file; \
                  cat {workenv}/home/file; grep -c {workenv} /proc/self/mounts; exit 6";
    shell_package("app", script)
        .slot(SlotSpec::tree("app", "tar.gzip", tree))
        .slot(SlotSpec::file("wheel", "wheels/one.whl", "raw", b"wheel").lifecycle("init", 0))
        .section(
            "setup_commands",
            json!([setup_script("cat {workenv}/wheels/one.whl >> {workenv}/installed")]),
        )
        .section(
            "workenv",
            json!({ "directories": [{ "path": "{workenv}/home", "mode": "0700" }], "env": {} }),
        )
}

fn assert_ran(done: &Done, runs: usize, mounts: usize) {
    let mine = "mine\n".repeat(runs);
    let expected = format!("tool\nbin\nhome\ninstalled\nlink\nwheel{mine}{mounts}\n");
    assert_eq!((done.code, done.stdout.as_str()), (6, expected.as_str()), "{}", done.stderr);
}

#[test]
fn unpacked_and_mounted_programs_see_the_same_and_setup_is_done_once() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let file = home.package("app.psp", package());
    let path = file.to_str().unwrap();
    for runs in 1..=2 {
        assert_ran(&home.run(["run", "--mode", "extract", path]), runs, 0);
    }
    let marker = home.cache().join(".app.pspf/instance/package.checksum");
    assert!(marker.exists(), "a launcher would unpack again");
    let other = Home::new();
    let file = other.package("app.psp", package());
    for runs in 1..=2 {
        assert_ran(&other.run(["run", "--mode", "mount", file.to_str().unwrap()]), runs, 1);
    }
    // What was unpacked is not lost by a mount over it, nor taken back with that mount.
    home.run(["run", path]).code(6);
    assert!(marker.exists());
    assert_ran(&home.run(["run", "--mode", "extract", path]), 3, 0);
}

#[test]
fn a_rebuilt_package_is_unpacked_anew_with_the_users_directories() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let file = home.package("app.psp", package());
    let path = file.to_str().unwrap();
    assert_ran(&home.run(["run", "--mode", "extract", path]), 1, 0);
    std::fs::write(home.workenv("app").join("stray"), b"").unwrap();
    home.package("app.psp", package().section("description", json!("another build")));
    let done = home.run(["run", "--mode", "extract", path]);
    assert!(done.stderr.contains("earlier"), "{}", done.stderr);
    assert_ran(&done, 2, 0);
}

#[test]
fn a_mounted_environment_is_not_unpacked_under_its_mount() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let file = home.package("app.psp", package());
    let path = file.to_str().unwrap();
    home.run(["mount", path]).success();
    let done = home.run(["run", "--mode", "extract", path]).code(110);
    assert!(done.stderr.contains("is mounted"), "{}", done.stderr);
    home.run(["unmount", "app"]).success();
}

/// Runs slotfs where `/dev` has no `fuse`.
fn without_device(home: &Home, arguments: &[&str]) -> Done {
    let script = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec \"$0\" \"$@\"";
    let mut command = home.program("unshare");
    command.args(["--mount", "/bin/sh", "-c", script]).arg(slotfs_tests::command::binary()).args(arguments);
    Done::of(&mut command)
}

#[test]
fn without_fuse_run_unpacks_and_says_so_in_one_line() {
    if missing_fuse().is_some() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    let file = home.package("app.psp", package());
    let path = file.to_str().unwrap();
    let done = without_device(&home, &["run", path]);
    assert_ran(&done, 1, 0);
    let said: Vec<&str> = done.stderr.lines().filter(|line| line.contains("instead of mounting")).collect();
    assert_eq!(said.len(), 1, "{}", done.stderr);
    assert!(said[0].contains("/dev/fuse"), "{}", said[0]);
    assert_ran(&without_device(&home, &["run", path]), 2, 0);

    let done = without_device(&home, &["run", "--mode", "mount", path]);
    assert_eq!(done.code, 112, "{}", done.stderr);
    assert!(done.stderr.contains("slotfs doctor"), "{}", done.stderr);
    assert!(Path::new(&home.workenv("app")).join("bin/tool").exists());
}

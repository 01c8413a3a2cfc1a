//! The same as an ordinary user, where mounting goes through `fusermount3`.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use slotfs_tests::command::{is_ours, missing_fuse, real_launcher, setup_script, shell_package, wait_for};
use slotfs_tests::ordinary::{NOBODY, Ordinary};
use slotfs_tests::package::{SlotSpec, Tree};

fn readable(path: &Path) -> &str {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap()
}

fn tree() -> Tree {
    Tree::new().directory("lib", 0o755).file("lib/text", 0o644, b"packaged\n").file(
        "lib/tool",
        0o755,
        b"#!/bin/sh\n",
    )
}

#[test]
fn an_ordinary_user_runs_from_the_mount_and_keeps_what_was_written() {
    if missing_fuse().is_some() {
        return;
    }
    let Some(user) = Ordinary::new() else { return };
    let script = "grep -c {workenv} /proc/self/mounts; cat {workenv}/lib/text; \
                  stat -c %u:%a {workenv}/lib/tool; echo $0 >> {workenv}/lib/text";
    let package = shell_package("app", script).slot(SlotSpec::tree("app", "tar.gzip", tree()));
    let package = user.home().package("app.psp", package);
    let path = readable(&package);
    for (word, before) in [("one", ""), ("two", "one\n"), ("three", "one\ntwo\n")] {
        let done = user.run(["run", path, "--", word]).success();
        assert_eq!(done.stdout, format!("1\npackaged\n{before}{NOBODY}:755\n"));
        assert_eq!(user.mounts(), [""; 0]);
    }
    let upper = user.home().session("app").join("upper/lib/text");
    assert_eq!(upper.metadata().unwrap().uid(), NOBODY);
}

#[test]
fn an_ordinary_users_mount_is_used_changed_killed_and_mounted_again() {
    if missing_fuse().is_some() {
        return;
    }
    let Some(user) = Ordinary::new() else { return };
    let package = shell_package("app", "true").slot(SlotSpec::tree("app", "tar", tree()));
    let package = user.home().package("app.psp", package);
    let path = readable(&package);
    user.run(["mount", path]).success();
    let place = user.home().workenv("app");
    let place = place.to_str().unwrap();
    assert_eq!(user.mounts(), [place]);
    let change = "cd $0/lib && chmod 600 text && mv tool instrument && ln text again && mkdir new && echo x > new/file \
                  && setfattr -n user.note -v value text && rm instrument && sync new/file";
    let done = slotfs_tests::command::Done::of(&mut user.program("sh", ["-ec", change, place]));
    done.success();
    let look = "cd $0/lib && ls -A && stat -c '%a %h %s' text again && getfattr --only-values -n user.note again && cat new/file";
    let look =
        || slotfs_tests::command::Done::of(&mut user.program("sh", ["-ec", look, place])).success().stdout;
    let expected = "again\nnew\ntext\n600 2 9\n600 2 9\nvaluex\n";
    assert_eq!(look(), expected);
    let server = user.home().servers()[0];
    kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
    wait_for("the end of the server", || !is_ours(server));
    let done = user.run(["mount", path]).success();
    assert!(done.stderr.contains("cleared the mount of a killed server"), "{}", done.stderr);
    assert_eq!(look(), expected);
    user.run(["unmount", "app"]).success();
    assert_eq!(user.mounts(), [""; 0]);
}

#[test]
fn an_ordinary_user_is_told_what_works() {
    if missing_fuse().is_some() {
        return;
    }
    let Some(user) = Ordinary::new() else { return };
    let report: serde_json::Value = serde_json::from_str(&user.run(["doctor", "--json"]).stdout).unwrap();
    let state = |name: &str| {
        let checks = report["findings"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).map(|check| check["state"].clone())
    };
    assert_eq!(state("mount"), Some("ok".into()), "{report:#}");
    assert_eq!(state("mount-helper"), Some("ok".into()), "{report:#}");
}

/// Plain `./app.psp`, by the launchers that people already have.
#[test]
fn launchers_of_an_ordinary_user_start_from_the_mount() {
    if missing_fuse().is_some() {
        return;
    }
    for language in ["rs", "go"] {
        let Some(launcher) = real_launcher(language) else { return };
        let Some(user) = Ordinary::new() else { return };
        let package = shell_package(
            "app",
            "cat {workenv}/lib/text {workenv}/installed; grep -c {workenv} /proc/self/mounts",
        )
        .launcher(&std::fs::read(launcher).unwrap())
        .section("setup_commands", json!([setup_script("echo once >> {workenv}/installed")]))
        .slot(SlotSpec::tree("app", "tar.gzip", tree()));
        let package = user.home().package("app.psp", package);
        let path = readable(&package).to_owned();
        user.own(&package);
        user.run(["mount", "--for-launcher", &path]).success();
        for _ in 0..2 {
            let done = user.shell(&format!("FLAVOR_LOG_LEVEL=error '{path}'")).success();
            assert_eq!(done.stdout, "packaged\nonce\n1\n", "{language}");
        }
        user.run(["unmount", "app"]).success();
    }
}

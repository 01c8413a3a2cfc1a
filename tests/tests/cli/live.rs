//! What `list` and `inspect` show of environments that slotfs mounts.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use slotfs_tests::command::{Home, missing_fuse, wait_for};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};

use super::packages::write;
use super::shown::{check, shown_loosely};

fn environment(home: &Home) -> Value {
    let done = home.run(["list", "--json"]).success();
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    report["environments"][0].clone()
}

/// The number of the serving process, left out.
fn without_pid(home: &Home, line: &str) -> String {
    let pid = environment(home)["mount"]["pid"].to_string();
    shown_loosely(home, line).replace(&pid, "[PID]")
}

#[test]
fn a_mounted_environment_is_shown_with_its_server() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let tree = Tree::new().file("bin/true", 0o755, b"#!/bin/sh\n");
    write(&home, &PackageBuilder::new("lively", "2").slot(SlotSpec::tree("app", "tar", tree)).build());
    home.run(["mount", "hello.psp"]).success();
    fs::write(home.workenv("hello").join("note"), [b'x'; 100]).unwrap();
    let found = environment(&home);
    assert_eq!(found["state"], "mounted");
    assert_eq!(found["made_by"], "slotfs");
    assert_eq!(found["mount"]["file_system"], "fuse.slotfs");
    assert_eq!(found["mount"]["mountpoint"], home.workenv("hello").to_str().unwrap());
    assert_eq!(found["written_bytes"], 100);
    assert_eq!(home.servers(), [found["mount"]["pid"].as_i64().unwrap() as i32]);
    check!("list_mounted", without_pid(&home, "list"));
    check!("inspect_mounted", without_pid(&home, "inspect hello"));
    home.run(["unmount", "hello"]).success();
    home.settle();
    check!("list_unmounted", shown_loosely(&home, "list"));
    assert_eq!(environment(&home)["mount"], Value::Null);
}

#[test]
fn a_mount_elsewhere_is_shown_where_it_is() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let slot = SlotSpec::file("app", "file", "raw", b"x");
    write(&home, &PackageBuilder::new("lively", "2").slot(slot).build());
    home.run(["mount", "hello.psp", "place", "--ro"]).success();
    let found = environment(&home);
    assert_eq!(found["mount"]["mountpoint"], home.path("place").to_str().unwrap());
    check!("list_elsewhere", without_pid(&home, "list"));
    home.run(["unmount", "place"]).success();
    home.settle();
}

#[test]
fn a_dead_mount_is_cleared_before_it_is_listed() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let slot = SlotSpec::file("app", "file", "raw", b"x");
    write(&home, &PackageBuilder::new("lively", "2").slot(slot).build());
    home.run(["mount", "hello.psp"]).success();
    for server in home.servers() {
        kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
    }
    wait_for("the end of the server", || home.servers().is_empty());
    // It is no process of slotfs any more before the kernel has closed its files, and with them let go of its locks.
    let lock = std::fs::File::open(home.session("hello").join("serving.lock")).unwrap();
    wait_for("the server's lock", || lock.try_lock_shared().is_ok());
    drop(lock);
    check!("list_dead", shown_loosely(&home, "list"));
    assert!(home.mounts().is_empty());
}

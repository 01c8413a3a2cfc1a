//! What somebody uses stays: `clean` skips it, `remove` refuses and names who it is.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slotfs_tests::command::{Home, Running, binary, missing_fuse, shell_package, wait_for};
use slotfs_tests::package::{SlotSpec, Tree};

use super::support::{clean, everything, is_gone, launcher_environment, metadata, names, ran, says};

/// Asserts that neither command takes `app` away, and that both say each of `words`.
#[track_caller]
fn stays(home: &Home, words: &[&str]) {
    let report = clean(home, &["--all"]);
    let skipped = report["skipped"].as_array().unwrap().iter().find(|one| one["name"] == "app").unwrap();
    assert!(words.iter().all(|word| skipped["reason"].as_str().unwrap().contains(word)), "{report}");
    let refused = home.run(["remove", "app", "--yes"]).code(110);
    says(&refused, &["`app` is in use"]);
    says(&refused, words);
    assert!(metadata(home, "app").exists() && home.workenv("app").exists());
}

#[test]
fn a_live_mount_stays_and_its_users_are_named() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let path = ran(&home, "app", "mount");
    home.run(["mount", path.to_str().unwrap()]).success();
    let mut sleeper = home.program("sleep");
    let sleeper = Running::start(sleeper.arg("60").current_dir(home.workenv("app")));
    stays(&home, &["it is mounted at"]);
    says(
        &home.run(["remove", "app", "-y"]).code(110),
        &[&format!("used by process {}", sleeper.pid()), "sleep 60"],
    );
    assert_eq!(fs::read(home.workenv("app").join("lib/text")).unwrap(), b"app");
    drop(sleeper);
    home.run(["unmount", "app"]).success();
    home.settle();
    home.run(["remove", "app", "-y"]).success();
    is_gone(&home, "app");
}

#[test]
fn a_mount_elsewhere_counts_too() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let path = ran(&home, "app", "mount");
    home.run(["mount", path.to_str().unwrap(), "place"]).success();
    stays(&home, &[]);
    home.run(["unmount", "place"]).success();
    home.settle();
}

#[test]
fn a_mount_inside_its_files_keeps_an_environment() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    ran(&home, "app", "extract");
    let other = home.package("other.psp", super::support::package("other", "other"));
    let inside = home.workenv("app").join("lib/inside");
    home.run(["mount".as_ref(), other.as_os_str(), inside.as_os_str()]).success();
    stays(&home, &["it is mounted at", "lib/inside"]);
    home.run(["unmount".as_ref(), inside.as_os_str()]).success();
    home.settle();
    home.run(["remove", "app", "--yes"]).success();
    is_gone(&home, "app");
}

#[test]
fn a_dead_mount_is_cleared_and_its_environment_goes() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let path = ran(&home, "app", "mount");
    home.run(["mount", path.to_str().unwrap()]).success();
    for server in home.servers() {
        kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
    }
    wait_for("the end of the server", || home.servers().is_empty());
    says(&home.run(["remove", "app", "--yes"]).success(), &["cleared the mount of a killed server"]);
    is_gone(&home, "app");
}

#[test]
fn a_program_in_unpacked_files_keeps_them() {
    let home = Home::new();
    let tree = Tree::new().directory("lib", 0o755).file("lib/text", 0o644, b"x");
    let package = shell_package("app", "echo ready; read line").slot(SlotSpec::tree("app", "tar", tree));
    let path = home.package("app.psp", package);
    let mut running = Running::start(&mut home.slotfs(["run", "--mode", "extract", path.to_str().unwrap()]));
    assert_eq!(running.line(), "ready");
    stays(&home, &["a program runs in it"]);
    running.tell("\n");
    running.finish();
    // A launcher's program holds no lock of ours, but it has files open.
    let open = fs::File::open(home.workenv("app").join("lib/text")).unwrap();
    stays(&home, &["uses its files"]);
    drop(open);
    home.run(["remove", "app", "--yes"]).success();
    is_gone(&home, "app");
}

#[test]
fn every_lock_keeps_an_environment() {
    let home = Home::new();
    ran(&home, "app", "extract");
    let locks = [("start.lock", "prepares it"), ("serving.lock", "serves it"), ("leases.lock", "runs in it")];
    for (lock, words) in locks {
        let file =
            fs::File::options().write(true).create(true).truncate(false).open(home.session("app").join(lock));
        let file = file.unwrap();
        file.lock().unwrap();
        stays(&home, &[words]);
        drop(file);
    }
    let lock = metadata(&home, "app").join("instance/extract/lock");
    let launcher = Running::start(Command::new("sleep").arg("60"));
    fs::write(&lock, format!("{}\n", launcher.pid())).unwrap();
    stays(&home, &[&format!("process {} unpacks it", launcher.pid())]);
    drop(launcher);
    home.run(["remove", "app", "--yes"]).success();
    is_gone(&home, "app");
}

#[test]
fn one_in_use_keeps_all_that_are_named_with_it() {
    let home = Home::new();
    launcher_environment(&home, "free");
    launcher_environment(&home, "taken");
    let open = fs::File::open(home.workenv("taken").join("lib/file")).unwrap();
    let before = everything(&home.workenv("free"));
    says(&home.run(["remove", "free", "taken", "-y"]).code(110), &["`taken` is in use"]);
    assert_eq!(everything(&home.workenv("free")), before);
    drop(open);
    let report = clean(&home, &["--all"]);
    assert_eq!(names(&report, "environments"), ["free", "taken"]);
}

#[test]
fn a_start_that_waits_for_a_removal_makes_the_environment_again() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let path = ran(&home, "app", "mount");
    let lock = fs::File::options().write(true).open(home.session("app").join("start.lock")).unwrap();
    lock.lock().unwrap();
    let heard = home.path("heard");
    let mut run = home.program("sh");
    run.args(["-c", "exec \"$0\" run \"$1\" 2> \"$2\""]).args([binary(), &path, &heard]);
    let run = Running::start(&mut run);
    wait_for("the run to wait for the lock", || {
        fs::read_to_string(&heard).is_ok_and(|text| text.contains("waiting for process"))
    });
    // As a removal does it, with the lock in hand.
    fs::rename(metadata(&home, "app"), home.path("gone")).unwrap();
    drop(lock);
    assert_eq!(run.finish().success().stdout, "app");
    home.settle();
    assert!(metadata(&home, "app").join("instance/extract/complete").exists());
}

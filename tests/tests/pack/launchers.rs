//! slotfs itself as the launcher of a package, and another launcher on a package that somebody else signed.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;
use slotfs_tests::command::{
    Done, Home, Running, binary, missing_fuse, mounts_below, real_package, wait_for,
};

use super::support::{application, file, inspected, launchers, metadata, pack, started, verified};

const COMMAND: [&str; 4] = ["--command", "{workenv}/bin/show fixed", "--env", "COLOUR=blue"];

/// Packs the application with slotfs in front.
fn packed(home: &Home, profile: &str) {
    application(home);
    let line = ["app", "-o", "app.psp", "--launcher", "slotfs", "--profile", profile, "--key-seed", "s"];
    pack(home, &[&line[..], &COMMAND].concat()).success();
}

/// Starts `package` by itself where no slotfs is installed.
fn alone(home: &Home, package: &Path, arguments: &[&str]) -> Done {
    Done::of(home.program(package).args(arguments))
}

/// Waits until nothing is mounted, whoever serves it.
fn settled(home: &Home) {
    wait_for("no mount", || mounts_below(home.root()).is_empty());
}

#[test]
fn a_package_runs_where_nothing_is_installed() {
    if missing_fuse().is_some() {
        return;
    }
    for profile in ["compatible", "fast"] {
        let home = Home::new();
        packed(&home, profile);
        verified(&home, "app.psp");
        // Where there is nothing but the package.
        let elsewhere = Home::new();
        let moved = elsewhere.path("some where/my app.psp");
        std::fs::create_dir(elsewhere.path("some where")).unwrap();
        std::fs::rename(home.path("app.psp"), &moved).unwrap();
        for arguments in [&["--help", "two words"][..], &["__serve", "verify"], &[]] {
            let done = alone(&elsewhere, &moved, arguments).code(42);
            let line = [&["blue fixed"], arguments].concat().join(" ");
            assert!(
                done.stdout.starts_with(&format!("{}\n", line.trim())) || arguments.is_empty(),
                "{}",
                done.stdout
            );
            assert!(done.stdout.contains(" ./lib/data.bin\n"), "{}", done.stdout);
        }
        settled(&elsewhere);
        let log = elsewhere.session("my app").join("server.log");
        assert!(!std::fs::read_to_string(log).unwrap_or_default().contains("error"));
    }
}

#[test]
fn signals_reach_the_program_and_two_starts_share_one_mount() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let script = "#!/bin/sh\ntrap 'echo caught; read -r line; exit 7' TERM\necho ready\nread -r line\necho \"$line\"\n";
    file(&home, "app/bin/wait", 0o755, script);
    let line = ["app", "-o", "app.psp", "--launcher", "slotfs", "--command", "{workenv}/bin/wait"];
    pack(&home, &line).success();
    let mut first = Running::start(&mut home.program(home.path("app.psp")));
    assert_eq!(first.line(), "ready");
    let mut second = Running::start(&mut home.program(home.path("app.psp")));
    assert_eq!(second.line(), "ready");
    assert_eq!(mounts_below(home.root()).len(), 1);
    second.tell("hello\n");
    let done = second.finish().success();
    assert_eq!(done.stdout, "hello\n");
    first.signal(Signal::SIGTERM);
    assert_eq!(first.line(), "caught");
    first.finish().code(7);
    settled(&home);
}

#[test]
fn the_launcher_takes_commands_when_it_is_asked_to() {
    let home = Home::new();
    packed(&home, "compatible");
    let asked = |arguments: &[&str]| {
        let mut command = home.program(home.path("app.psp"));
        Done::of(command.args(arguments).env("FLAVOR_LAUNCHER_CLI", "1"))
    };
    assert!(asked(&["verify"]).success().stdout.contains("accepted"));
    assert!(asked(&["info"]).success().stdout.contains("tar.gzip"));
    let shown: Value = serde_json::from_str(&asked(&["metadata"]).success().stdout).unwrap();
    assert_eq!(shown["package"]["name"], "app");
    assert_eq!(asked(&["--version"]).success().stdout, format!("slotfs {}\n", env!("CARGO_PKG_VERSION")));
    // It makes packages with itself in front, not with what is behind it.
    file(&home, "more", 0o644, "x");
    asked(&["pack", "more", "-o", "more.psp", "--launcher", "slotfs"]).success();
    let size = |package: &str| inspected(&home, package)["package"]["launcher_size"].clone();
    assert_eq!(size("more.psp"), size("app.psp"));
    assert_eq!(size("app.psp"), binary().metadata().unwrap().len());
}

#[test]
fn the_plain_program_is_not_taken_for_a_package() {
    let home = Home::new();
    packed(&home, "compatible");
    assert_eq!(home.run(["--version"]).success().stdout, format!("slotfs {}\n", env!("CARGO_PKG_VERSION")));
    // A damaged package says so, and never takes the program's arguments for its own.
    let bytes = std::fs::read(home.path("app.psp")).unwrap();
    let mut torn = bytes.clone();
    let middle = torn.len() - 4000;
    torn[middle] ^= 1;
    file(&home, "torn.psp", 0o755, torn);
    let done = alone(&home, &home.path("torn.psp"), &["list"]).code(107);
    assert!(done.stderr.contains("torn.psp") && done.stdout.is_empty(), "{}", done.stderr);
}

#[test]
fn a_relaunched_package_keeps_slots_metadata_and_signature() {
    for (language, launcher) in launchers() {
        let home = Home::new();
        application(&home);
        let line = ["app", "-o", "old/app.psp", "--key-seed", "theirs", "--launcher"];
        let launcher = launcher.display().to_string();
        for folder in ["old", "new", "back"] {
            std::fs::create_dir(home.path(folder)).unwrap();
        }
        pack(&home, &[&line[..], &[&launcher], &COMMAND].concat()).success();
        home.run(["relaunch", "old/app.psp", "new/app.psp"]).success();
        verified(&home, "new/app.psp");
        assert_eq!(metadata(&home, "new/app.psp"), metadata(&home, "old/app.psp"));
        let (old, new) = (inspected(&home, "old/app.psp"), inspected(&home, "new/app.psp"));
        assert_eq!(new["package"]["signature"], old["package"]["signature"]);
        assert_eq!(new["package"]["slots"], old["package"]["slots"]);
        assert_eq!(new["package"]["launcher_size"], binary().metadata().unwrap().len());
        if missing_fuse().is_none() {
            let log = home.session("app").join("server.log");
            let mut command = home.program(home.path("new/app.psp"));
            let done = Done::of(command.env("SLOTFS_LOG", "slotfs_fs=debug")).code(42);
            assert!(done.stdout.starts_with("blue fixed\n"), "{}", done.stdout);
            settled(&home);
            let log = std::fs::read_to_string(log).unwrap();
            assert!(log.contains("the package's own index is used"), "the index is still found: {log}");
        }
        // And back again, in its own place, with the launcher of the first one: byte for byte the same slots.
        std::fs::copy(home.path("new/app.psp"), home.path("back/app.psp")).unwrap();
        home.run(["relaunch", "back/app.psp", "back/app.psp", "--launcher", "old/app.psp"]).success();
        let read = |path: &str| std::fs::read(home.path(path)).unwrap();
        assert!(read("back/app.psp") == read("old/app.psp"), "{language}");
        let again = Home::new();
        std::fs::copy(home.path("back/app.psp"), again.path("app.psp")).unwrap();
        started(&again, &again.path("app.psp"), &[]);
    }
}

#[test]
fn packages_of_every_builder_can_get_another_launcher() {
    for name in ["chain-tgz.rs-rs.psp", "chain-tgz.go-go.psp", "application-demoapp.py-rs.psp"] {
        let Some(package) = real_package(name) else { return };
        let home = Home::new();
        home.run(["relaunch".as_ref(), package.as_os_str(), "new.psp".as_ref()]).success();
        verified(&home, "new.psp");
        let old = home.run(["inspect".as_ref(), "--json".as_ref(), package.as_os_str()]).success();
        let old: Value = serde_json::from_str(&old.stdout).unwrap();
        let new = inspected(&home, "new.psp");
        assert_eq!(new["package"]["slots"], old["package"]["slots"], "{name}");
        assert_eq!(new["package"]["signature"], old["package"]["signature"], "{name}");
        home.run(["extract".as_ref(), package.as_os_str(), "old".as_ref()]).success();
        home.run(["extract", "new.psp", "new"]).success();
        Done::of(home.program("diff").args(["-r", "--no-dereference", "old", "new"])).success();
    }
}

#[test]
fn what_has_no_launcher_gets_none() {
    let home = Home::new();
    application(&home);
    file(&home, "archive.tar", 0o644, slotfs_tests::package::Tree::new().file("a", 0o644, b"x").archive());
    pack(&home, &["app", "-o", "app.psp"]).success();
    for (line, code, reason) in [
        (&["app", "x.psp"][..], 102, "it has no launcher"),
        (&["archive.tar", "x.psp"], 102, "it has no launcher"),
        (&["nowhere", "x.psp"], 111, "`nowhere`"),
        (&["app.psp", "app"], 2, "is a directory"),
        (&["app.psp", "archive.tar"], 2, "is there already and is no package"),
        (&["app.psp", "x.psp", "--launcher", "nowhere"], 106, "cannot open `nowhere`"),
    ] {
        let done = home.run([&["relaunch"], line].concat()).code(code);
        assert!(done.stderr.contains(reason), "{reason}: {}", done.stderr);
        assert!(!home.path("x.psp").exists(), "{reason}");
    }
}

/// What asks in advance for what earlier launches touched is started with the package, too.
#[test]
fn a_package_that_learns_its_launches_runs_its_program_once_each_time() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    for number in 0..60 {
        file(&home, &format!("app/lib/{number}"), 0o644, "text\n");
    }
    file(
        &home,
        "app/bin/count",
        0o755,
        "#!/bin/sh\necho run >> \"$HOME/runs\"\ncat \"${0%/*}\"/../lib/* | wc -l\nsleep 0.3\n",
    );
    let line = ["app", "-o", "app.psp", "--launcher", "slotfs", "--command", "{workenv}/bin/count"];
    pack(&home, &line).success();
    let runs = home.path("runs");
    for count in 1..=3 {
        let done = alone(&home, &home.path("app.psp"), &[]).success();
        assert_eq!(done.stdout.trim(), "60");
        settled(&home);
        wait_for("the profile", || home.session("app").join("profile.json").exists());
        assert_eq!(std::fs::read_to_string(&runs).unwrap().lines().count(), count);
    }
}

//! `--verify while-serving`: the program starts at once, and a package that turns out to be another one ends it.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use slotfs_tests::command::{Done, Home, missing_fuse, setup_script, shell_package, wait_for};
use slotfs_tests::package::{Built, PackageBuilder, SlotSpec, Tree, codes_of};

const BESIDE: &str = "--verify=while-serving";

fn with_slots(package: PackageBuilder) -> PackageBuilder {
    let noise: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    package
        .slot(SlotSpec::tree("app", "tar.gzip", Tree::new().file("text", 0o644, b"hello\n")))
        .slot(SlotSpec::tree("library", "tar.gzip", Tree::new().file("noise", 0o644, &noise)))
}

/// Writes the package with another byte near the end of its second slot.
fn changed(built: &Built, path: &Path) {
    let mut built = built.clone();
    let at = built.slots[1].end - 1000;
    built.bytes[at] ^= 1;
    built.write(path);
}

fn remembered(home: &Home) -> usize {
    std::fs::read_dir(home.cache().join(".slotfs/verified-v1")).map_or(0, Iterator::count)
}

#[test]
fn a_good_package_runs_and_is_remembered() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    home.package("app.psp", with_slots(shell_package("app", "cat {workenv}/text")));
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(home.run(["run", BESIDE, "app.psp"]).success().stdout, "hello\n");
    home.settle();
    wait_for("the record of the verification", || remembered(&home) == 1);
    let folder = home.cache().join(".slotfs/verified-v1");
    let record = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let record = std::fs::read_to_string(record).unwrap();
    assert_eq!(record.matches("\"full\"").count(), 2, "{record}");
    // From now on it is known, whoever asks.
    assert_eq!(home.run(["run", "app.psp"]).success().stdout, "hello\n");
    // The same from a variable and from the file.
    for given in ["variable", "file"] {
        let home = Home::new();
        home.package("app.psp", with_slots(shell_package("app", "cat {workenv}/text")));
        let mut command = home.slotfs(["run", "app.psp"]);
        let command = if given == "file" {
            std::fs::write(home.path("c.json"), r#"{ "verify": "standard,while-serving" }"#).unwrap();
            command.env("SLOTFS_CONFIG", home.path("c.json"))
        } else {
            command.env("SLOTFS_VERIFY", "while-serving")
        };
        assert_eq!(Done::of(command).success().stdout, "hello\n");
        home.settle();
        assert!(!home.session("app").join("verifying").exists());
    }
    let wrong = home.run(["run", "--verify=later", "app.psp"]).code(2);
    assert!(wrong.stderr.contains("`while-serving`"), "{}", wrong.stderr);
}

#[test]
fn a_changed_package_starts_and_is_ended_with_107() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let started = home.path("started");
    // Hashing it takes longer than to start a program.
    let long = SlotSpec::stored("library", "{workenv}/zeros", &codes_of("raw"), &vec![0; 150 << 20]);
    let package = shell_package("app", &format!("echo yes > {}; exec sleep 60", started.display()));
    let first = SlotSpec::tree("app", "tar.gzip", Tree::new().file("text", 0o644, b"hello\n"));
    let built = package.slot(first).slot(long).build();
    let path = home.path("app.psp");
    changed(&built, &path);
    let refused = home.run(["run", "app.psp"]).code(107);
    assert!(refused.stderr.contains("`library`") && !started.exists(), "{}", refused.stderr);
    let begun = Instant::now();
    let done = home.run(["run", BESIDE, "app.psp"]).code(107);
    assert!(started.exists(), "it was started at once");
    assert!(begun.elapsed() < Duration::from_secs(50), "it was not waited for");
    assert!(done.stderr.contains("slot 1 (`library`)") && done.stderr.contains("app.psp"), "{}", done.stderr);
    assert!(done.stderr.contains("hint: get it again"), "{}", done.stderr);
    home.settle();
    assert!(home.mounts().is_empty());
    assert_eq!(remembered(&home), 0);
    let log = std::fs::read_to_string(home.session("app").join("server.log")).unwrap();
    assert!(log.contains("slot 1 (`library`)") && log.contains("taken away"), "{log}");
    // Nothing was made of it that another package with this slot would use.
    let indexes = std::fs::read_dir(home.cache().join(".slotfs/indexes-v1")).unwrap();
    let finished = indexes.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".idx")
    });
    assert!(finished.count() <= 1, "at most that of the good slot");
    // With the right file all is well again.
    let right = with_slots(shell_package("app", "cat {workenv}/text")).build();
    right.write(&path);
    assert_eq!(home.run(["run", BESIDE, "app.psp"]).success().stdout, "hello\n");
}

#[test]
fn a_program_that_was_quicker_is_refused_all_the_same() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let built = with_slots(shell_package("app", "true")).build();
    changed(&built, &home.path("app.psp"));
    let done = home.run(["run", BESIDE, "app.psp"]).code(107);
    assert!(done.stderr.contains("`library`"), "{}", done.stderr);
    home.settle();
    assert!(home.mounts().is_empty());
}

#[test]
fn a_mount_of_a_changed_package_goes_away() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let built = with_slots(shell_package("app", "true")).build();
    changed(&built, &home.path("app.psp"));
    home.run(["mount", BESIDE, "app.psp"]).success();
    wait_for("the end of the mount", || home.mounts().is_empty());
    home.settle();
    assert!(!home.workenv("app").join("text").exists());
    let log = std::fs::read_to_string(home.session("app").join("server.log")).unwrap();
    assert!(log.contains("`library`"), "{log}");
    home.run(["mount", "app.psp"]).code(107);
    let done = Done::of(&mut home.slotfs(["mount", "--foreground", BESIDE, "app.psp"])).code(107);
    assert!(done.stderr.contains("`library`"), "{}", done.stderr);
}

#[test]
fn what_setup_made_of_a_changed_package_does_not_count() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let setup = json!([setup_script("echo made > {workenv}/made")]);
    let package = with_slots(shell_package("app", "cat {workenv}/made")).section("setup_commands", setup);
    let built = package.build();
    let path = home.path("app.psp");
    changed(&built, &path);
    home.run(["run", BESIDE, "app.psp"]).code(107);
    home.settle();
    assert!(!home.session("app").join("prepared").exists());
    built.write(&path);
    assert_eq!(home.run(["run", BESIDE, "app.psp"]).success().stdout, "made\n");
}

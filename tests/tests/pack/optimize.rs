//! `slotfs pack --optimize`: what a package shows stays the same, and it is read better.

use std::path::{Path, PathBuf};

use serde_json::Value;
use slotfs_fs::package::{Package, SlotSource};
use slotfs_tests::command::{Done, Home, flavor, missing_fuse};
use slotfs_tests::package::{SlotSpec, Tree};
use slotfs_tests::tree;
use slotfs_tests::workplace::assert_same;

use super::index::run;
use super::support::{application, file, launchers, metadata, noise, pack, started, verified};

fn optimized(home: &Home, old: &str, new: &str, more: &[&str]) -> Value {
    let line = ["--optimize", old, "-o", new, "--key-seed", "another", "--json"];
    serde_json::from_str(&pack(home, &[&line[..], more].concat()).success().stdout).unwrap()
}

/// Unpacks the package; files that are slots of their own have the time of the package.
fn tree_of(home: &Home, package: &str, folder: &str) -> std::collections::BTreeMap<PathBuf, String> {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let file = std::fs::File::options().append(true).open(home.path(package)).unwrap();
    file.set_modified(time).unwrap();
    home.run(["extract", package, folder, "--force"]).success();
    tree::describe(&home.path(folder))
}

/// The metadata without what follows from the bytes of the slots.
fn lasting(home: &Home, package: &str) -> Value {
    let mut metadata: Value = serde_json::from_str(&metadata(home, package)).unwrap();
    metadata.as_object_mut().unwrap().remove("slotfs");
    for slot in metadata["slots"].as_array_mut().unwrap() {
        for key in ["size", "checksum", "operations"] {
            slot.as_object_mut().unwrap().remove(key);
        }
    }
    metadata
}

#[test]
fn packages_of_every_builder_show_the_same_afterwards() {
    let Some(folder) = slotfs_tests::fixtures::packages() else { return };
    let known: Value = serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let known = known.as_array().or_else(|| known["packages"].as_array()).unwrap().clone();
    let home = Home::new();
    let mut seen = 0;
    for package in &known {
        let name = package["file"].as_str().unwrap();
        let is_wanted = ["chain-", "class-", "edge-", "field-", "lifecycle-all"];
        if package["runs"] != true || !is_wanted.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        seen += 1;
        std::fs::copy(folder.join(name), home.path("old.psp")).unwrap();
        let expected = tree_of(&home, "old.psp", "old");
        // Most come from two builders, and so in both.
        let profile = if name.contains(".go-") { "fast" } else { "compatible" };
        optimized(&home, "old.psp", "new.psp", &["--profile", profile]);
        home.run(["verify", "new.psp"]).success();
        assert_same(&expected, &tree_of(&home, "new.psp", "new"), &format!("{name}, {profile}"));
        assert_eq!(lasting(&home, "old.psp"), lasting(&home, "new.psp"), "{name}");
    }
    assert!(seen > 50, "{seen}");
    if let Some(flavor) = flavor() {
        Done::of(home.program(flavor).args(["verify", "new.psp"])).success();
    }
}

#[test]
fn a_foreign_package_runs_alike_and_starts_without_a_pass() {
    if missing_fuse().is_some() {
        return;
    }
    for (_, launcher) in launchers() {
        let home = Home::new();
        application(&home);
        let line = "tar -C app --hard-dereference -chf app.tar . && gzip app.tar";
        Done::of(home.program("sh").args(["-c", line])).success();
        let gzip = std::fs::read(home.path("app.tar.gz")).unwrap();
        let command = "{workenv}/bin/show one";
        let package = slotfs_tests::package::PackageBuilder::new("old", "1.0")
            .command(command)
            .launcher(&std::fs::read(&launcher).unwrap())
            .slot(SlotSpec::stored("app", "{workenv}", &[0x01, 0x10], &gzip).lifecycle("eager", 7))
            .slot(SlotSpec::file("note", "etc/note", "gzip", &noise(300_000)).permissions(0o640))
            .slot(SlotSpec::file("raw", "etc/raw", "raw", b"raw"));
        home.package("old.psp", package);
        let told = optimized(&home, "old.psp", "new.psp", &[]);
        let fates: Vec<&str> =
            told["slots"].as_array().unwrap().iter().map(|slot| slot["fate"].as_str().unwrap()).collect();
        assert_eq!(fates, ["rewritten", "rewritten", "kept"]);
        verified(&home, "new.psp");
        let expected = started(&home, &home.path("old.psp"), &[]).0;
        let (mounted, log) = run(&home, "new.psp");
        assert_eq!(mounted, expected);
        assert_eq!(log.matches("the package's own index is used").count(), 2, "{log}");
        assert!(!log.contains(" indexed"), "{log}");
        let other = Home::new();
        std::fs::copy(home.path("new.psp"), other.path("new.psp")).unwrap();
        assert_eq!(started(&other, &other.path("new.psp"), &[]).0, expected);
        let fast = ["--optimize", "old.psp", "-o", "fast.psp", "--profile", "fast"];
        let told = pack(&home, &fast).success().stderr;
        assert!(told.contains("the package cannot start itself"), "{told}");
        let told = pack(&home, &[&fast[..], &["--launcher", "slotfs"]].concat()).success().stderr;
        assert!(!told.contains("the package cannot start itself"), "{told}");
        assert_eq!(started(&home, &home.path("fast.psp"), &[]).0, expected);
        let head = std::fs::read(&launcher).unwrap();
        assert!(std::fs::read(home.path("new.psp")).unwrap().starts_with(&head), "the launcher stays");
    }
}

#[test]
fn what_an_archive_says_of_its_files_is_kept() {
    let home = Home::new();
    let tree = Tree::new()
        .file("a/one", 0o640, b"1")
        .hard_link("a/two", "a/one")
        .symlink("a/link", "../nowhere")
        .directory("sticky", 0o1777);
    let package = slotfs_tests::package::PackageBuilder::new("old", "1.0");
    home.package("old.psp", package.slot(SlotSpec::tree("app", "tar.xz", tree)));
    let expected = tree_of(&home, "old.psp", "old");
    optimized(&home, "old.psp", "fast.psp", &["--profile", "fast"]);
    assert_same(&expected, &tree_of(&home, "fast.psp", "fast"), "fast");
    let told = optimized(&home, "old.psp", "common.psp", &[]);
    let differences = &told["slots"][0]["differences"];
    assert_eq!(differences[0]["path"], "a/two", "{differences}");
    assert_eq!(differences.as_array().unwrap().len(), 1, "{differences}");
    assert_eq!(tree_of(&home, "common.psp", "common").len(), expected.len());
}

/// Returns the names in the first slot's archive, in order.
fn entries(package: &Path) -> Vec<String> {
    let package = Package::open(package, &Default::default()).unwrap();
    let SlotSource { stored, compressions, .. } = package.slot(0).unwrap().source.clone();
    let content = slotfs_fs::slot::chain::open(&stored, &compressions, &Default::default(), None);
    let mut archive = tar::Archive::new(content);
    let names = archive.entries().unwrap();
    names.map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

#[test]
fn what_launches_touched_comes_first() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    for number in 0..60 {
        file(&home, &format!("app/lib/{number:02}"), 0o644, noise(3_000 + number));
    }
    file(
        &home,
        "app/bin/main",
        0o755,
        "#!/bin/sh\nfor n in $(seq 39 -1 1); do cat lib/$(printf %02d $n); done\n",
    );
    let command = ["--command", "/bin/sh -c 'cd {workenv} && . bin/main'"];
    pack(&home, &[&["app", "-o", "app.psp", "--key-seed", "s"], &command[..]].concat()).success();
    let refused = pack(&home, &["--optimize", "app.psp", "-o", "x.psp", "--recorded", "app"]).code(111);
    assert!(refused.stderr.contains("`app`"), "{}", refused.stderr);
    home.run(["run", "app.psp"]).success();
    home.settle();
    let first: Vec<String> = (1..40).rev().map(|number| format!("lib/{number:02}")).collect();
    optimized(&home, "app.psp", "new.psp", &["--recorded", "app"]);
    let names: Vec<String> = entries(&home.path("new.psp"));
    let files: Vec<&String> = names.iter().filter(|name| !name.ends_with('/')).collect();
    assert_eq!(files[0], "bin/main");
    assert!(files[1..].iter().copied().eq(first.iter().chain(files[40..].iter().copied())), "{files:?}");
    assert_eq!(files.len(), 61);
    let mut again = names.clone();
    again.sort();
    again.dedup();
    assert_eq!(again.len(), names.len(), "each path comes once");
    // The same for sources, inside the directories that they are put into.
    let line = ["app", "-o", "first.psp", "--key-seed", "s", "--profile", "fast", "--recorded", "app"];
    pack(&home, &[&line[..], &command].concat()).success();
    assert_eq!(entries(&home.path("first.psp"))[..5], ["bin/", "bin/main", "lib/", "lib/39", "lib/38"]);
    let expected = tree_of(&home, "app.psp", "old");
    for name in ["new.psp", "first.psp"] {
        assert_same(&expected, &tree_of(&home, name, "new"), name);
        verified(&home, name);
    }
}

#[test]
fn what_cannot_be_optimized_is_refused() {
    let home = Home::new();
    application(&home);
    pack(&home, &["app", "-o", "app.psp"]).success();
    for more in [&["app"][..], &["--command", "x"], &["--manifest", "m"], &["--keep-links"]] {
        pack(&home, &[&["--optimize", "app.psp", "-o", "x.psp"], more].concat()).code(2);
    }
    Done::of(home.program("tar").args(["-cf", "app.tar", "app"])).success();
    let refused = pack(&home, &["--optimize", "app.tar", "-o", "x.psp"]).code(2);
    assert!(refused.stderr.contains("no package of format PSPF/2025"), "{}", refused.stderr);
    let mut bytes = std::fs::read(home.path("app.psp")).unwrap();
    let slot = Package::open(&home.path("app.psp"), &Default::default()).unwrap();
    let at = usize::try_from(slot.slot(0).unwrap().source.stored.offset()).unwrap();
    bytes[at + 100] ^= 1;
    std::fs::write(home.path("bad.psp"), bytes).unwrap();
    pack(&home, &["--optimize", "bad.psp", "-o", "x.psp"]).code(107);
    assert!(!home.path("x.psp").exists());
}

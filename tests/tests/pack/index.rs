//! The index that a package carries: the first mount goes over no slot, whoever damages it gets the ordinary pass, and
//! what one package says about a slot is shown to no other.

use std::path::{Path, PathBuf};

use serde_json::Value;
use slotfs_tests::command::{Done, Home, missing_fuse};
use slotfs_tests::package::{PackageBuilder, SlotSpec, codes_of};

use super::support::{application, file, inspected, launchers, metadata, noise, pack, started, verified};

const COMMAND: [&str; 4] = ["--command", "{workenv}/bin/show", "--env", "COLOUR=blue"];

/// Packs the application and returns where each slot's index lies in the file.
fn packed(home: &Home, output: &str, profile: &str) -> Vec<std::ops::Range<usize>> {
    application(home);
    file(home, "big.txt", 0o644, noise(3_000_000));
    let sources = ["app", "big.txt", "settings,operations=raw"];
    file(home, "settings", 0o644, "x");
    pack(home, &[&sources[..], &COMMAND, &["-o", output, "--key-seed", "s", "--profile", profile]].concat())
        .success();
    indexes(home, output)
}

pub(crate) fn indexes(home: &Home, package: &str) -> Vec<std::ops::Range<usize>> {
    let bytes = std::fs::read(home.path(package)).unwrap();
    let index = &bytes[bytes.len() - 8196..];
    let metadata_at = usize::try_from(u64::from_le_bytes(index[24..32].try_into().unwrap())).unwrap();
    let metadata: Value = serde_json::from_str(&metadata(home, package)).unwrap();
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let sections = metadata["slotfs"]["indexes"].as_array().unwrap().iter();
    sections
        .map(|section| {
            let start = metadata_at - number(&section["before"]);
            start..start + number(&section["size"])
        })
        .collect()
}

/// Runs the package and returns what the program said and what slotfs wrote to its log.
pub(crate) fn run(home: &Home, package: &str) -> (String, String) {
    let mut command = home.slotfs(["run", package]);
    let done = Done::of(command.env("SLOTFS_LOG", "slotfs_fs::layer=debug,slotfs_fs::slot=debug")).code(42);
    home.settle();
    let name = Path::new(package).file_stem().unwrap().to_string_lossy().into_owned();
    let log = std::fs::read_to_string(home.session(&name).join("server.log")).unwrap_or_default();
    (done.stdout, log)
}

fn kept_indexes(home: &Home) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(home.cache().join(".slotfs/indexes-v1")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn the_first_mount_goes_over_no_slot() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    assert_eq!(packed(&home, "app.psp", "compatible").len(), 2, "a file stored as it is needs none");
    assert!(kept_indexes(&home).is_empty(), "packing leaves nothing in the cache");
    let (first, log) = run(&home, "app.psp");
    assert_eq!(log.matches("the package's own index is used").count(), 2, "{log}");
    assert!(!log.contains(" indexed"), "{log}");
    assert_eq!(kept_indexes(&home).len(), 2);
    let shown = inspected(&home, "app.psp");
    let index = &shown["package"]["slots"][0]["index"];
    assert_eq!((&index["carried"], &index["exists"]), (&true.into(), &true.into()), "{index}");
    home.run(["clean", "--all", "--yes"]).success();
    assert!(kept_indexes(&home).is_empty(), "a clean takes the copies, too");
    // As a pass over the slots would have it.
    let without = Home::new();
    let mut bytes = std::fs::read(home.path("app.psp")).unwrap();
    for range in indexes(&home, "app.psp") {
        bytes[range].fill(0);
    }
    std::fs::write(without.path("app.psp"), bytes).unwrap();
    assert_eq!(run(&without, "app.psp").0, first);
    assert!(first.contains(" ./big.txt\n") && first.contains(" ./lib/data.bin\n"), "{first}");
}

/// Who cleans up behind a session must not find the copy there again when the server's process ends.
#[test]
fn the_index_is_copied_once() {
    use slotfs_fs::layer::{SlotHome, SlotLayer, SlotOptions};
    let home = Home::new();
    packed(&home, "app.psp", "compatible");
    let package = slotfs_fs::package::Package::open(&home.path("app.psp"), &Default::default()).unwrap();
    let slot = package.slot(0).unwrap();
    let shared = SlotHome { shared: home.path("shared"), store: None };
    let kept = || std::fs::read_dir(home.path("shared/indexes-v1")).unwrap().flatten().next();
    let layer = SlotLayer::open(slot, slot.digest.unwrap(), &shared, SlotOptions::default()).unwrap();
    layer.keep_index();
    std::fs::remove_file(kept().unwrap().path()).unwrap();
    drop(layer);
    assert!(kept().is_none());
}

#[test]
fn reading_at_random_begins_at_a_piece() {
    for profile in ["compatible", "fast"] {
        read_at_random(profile);
    }
}

fn read_at_random(profile: &str) {
    use slotfs_fs::layer::{Layer, SlotHome, SlotLayer, SlotOptions};
    let home = Home::new();
    packed(&home, "app.psp", profile);
    let package = slotfs_fs::package::Package::open(&home.path("app.psp"), &Default::default()).unwrap();
    let slot = package.slot(1).unwrap();
    let shared = SlotHome { shared: home.path("shared"), store: None };
    let layer = SlotLayer::open(slot, slot.digest.unwrap(), &shared, SlotOptions::default()).unwrap();
    assert!(layer.index_existed());
    let content = noise(3_000_000);
    let mut at = content.len() - 4096;
    let mut buffer = vec![0; 4096];
    // From the end to the front, across the borders of pieces.
    loop {
        assert_eq!(layer.read(layer.root(), at as u64, &mut buffer).unwrap(), 4096);
        assert!(buffer == content[at..at + 4096], "{at}");
        let Some(next) = at.checked_sub(37_777) else { break };
        at = next;
    }
    // What is stored before the piece is not looked at: with that gone, the last bytes are still there.
    let path = home.path("app.psp");
    let mut bytes = std::fs::read(&path).unwrap();
    let start = usize::try_from(slot.source.stored.offset()).unwrap();
    let length = usize::try_from(slot.source.stored.len()).unwrap();
    bytes[start..start + length / 2].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let damaged = slotfs_fs::package::Package::open(&path, &Default::default()).unwrap();
    let slot = damaged.slot(1).unwrap();
    let layer = SlotLayer::open(slot, slot.digest.unwrap(), &shared, SlotOptions::default()).unwrap();
    let at = content.len() - 4096;
    assert_eq!(layer.read(layer.root(), at as u64, &mut buffer).unwrap(), 4096);
    assert!(buffer == content[at..]);
}

#[test]
fn a_damaged_index_is_never_used() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let places = packed(&home, "app.psp", "compatible");
    let whole = std::fs::read(home.path("app.psp")).unwrap();
    let right = run(&home, "app.psp").0;
    let place = places[0].clone();
    for (turn, at) in [0, 9, 100, 4097, place.len() / 2, place.len() - 1].into_iter().enumerate() {
        let other = Home::new();
        let mut bytes = whole.clone();
        bytes[place.start + at] ^= 1 << (turn % 8);
        std::fs::write(other.path("app.psp"), &bytes).unwrap();
        let verified = other.run(["verify", "app.psp"]).success().stdout;
        assert!(verified.contains("✗  index of app") && verified.contains("✓  index of big"), "{verified}");
        let (shown, log) = run(&other, "app.psp");
        assert_eq!(shown, right, "byte {at}");
        assert!(
            log.contains("slot `app` is indexed anew: its index in the package cannot be used"),
            "{at}: {log}"
        );
        let refused = log.matches("its index in the package cannot be used").count();
        assert_eq!(refused, 1, "the other one is good: {log}");
    }
}

#[test]
fn any_flipped_byte_is_found() {
    use slotfs_fs::slot::index::{Identity, Index};
    let home = Home::new();
    application(&home);
    pack(&home, &["app", "-o", "app.psp"]).success();
    let path = home.path("app.psp");
    let place = indexes(&home, "app.psp")[0].clone();
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let package = slotfs_fs::package::Package::open(&path, &Default::default()).unwrap();
    let slot = package.slot(0).unwrap();
    let identity = Identity::of(&slot.source, slot.digest.unwrap());
    let carried = slot.carried_index.as_ref().unwrap();
    use std::os::unix::fs::FileExt as _;
    for (turn, at) in place.clone().step_by(7).enumerate() {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at as u64).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << (turn % 8))], at as u64).unwrap();
        let shared = home.path("shared");
        let opened = Index::open_carried(&shared, &identity, carried);
        let error = opened.and_then(|index| index.check()).unwrap_err();
        assert!(
            error.to_string().contains("damaged") || error.to_string().contains("version"),
            "{at}: {error}"
        );
        Index::keep_carried(&shared, &identity, carried).unwrap_err();
        file.write_all_at(&byte, at as u64).unwrap();
        assert_eq!(std::fs::read_dir(shared.join("indexes-v1")).unwrap().count(), 0);
    }
    let index = Index::open_carried(&home.path("shared"), &identity, carried).unwrap();
    assert!(index.is_in_package());
    Index::keep_carried(&home.path("shared"), &identity, carried).unwrap();
    // A copy that a crash has damaged is made anew.
    let copy = identity.carried_path(&home.path("shared"), carried);
    let whole = std::fs::read(&copy).unwrap();
    assert!(whole == index.as_bytes());
    std::fs::remove_file(&copy).unwrap();
    std::fs::write(&copy, vec![0; whole.len()]).unwrap();
    assert!(Index::open_carried(&home.path("shared"), &identity, carried).unwrap().is_in_package());
    Index::keep_carried(&home.path("shared"), &identity, carried).unwrap();
    assert!(std::fs::read(&copy).unwrap() == whole);
    assert!(!Index::open_carried(&home.path("shared"), &identity, carried).unwrap().is_in_package());
}

#[test]
fn a_damaged_copy_is_found_and_made_anew() {
    if missing_fuse().is_some() {
        return;
    }
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
    let home = Home::new();
    packed(&home, "app.psp", "compatible");
    let right = run(&home, "app.psp").0;
    home.run(["store", "check"]).success();
    let copy = kept_indexes(&home).remove(0);
    let damage = || {
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::File::options().write(true).open(&copy).unwrap().write_all_at(b"damage", 4200).unwrap();
    };
    damage();
    home.run(["store", "check"]).code(1);
    home.run(["store", "check", "--repair"]).success();
    home.run(["store", "check"]).success();
    assert_eq!(run(&home, "app.psp").0, right);
    // Without a repair, nothing is shown of what is damaged.
    damage();
    assert_eq!(run(&home, "app.psp").0, right);
    home.run(["store", "check"]).success();
}

#[test]
fn both_launchers_and_flavor_verify_do_not_mind() {
    for (language, launcher) in launchers() {
        let home = Home::new();
        application(&home);
        let launcher = launcher.display().to_string();
        let line = [&["app", "-o", "app.psp", "--launcher", &launcher], &COMMAND[..]].concat();
        pack(&home, &line).success();
        assert_eq!(indexes(&home, "app.psp").len(), 1, "{language}");
        verified(&home, "app.psp");
        started(&home, &home.path("app.psp"), &[]);
    }
}

#[test]
fn what_a_package_says_about_a_slot_is_shown_to_no_other() {
    let home = Home::new();
    packed(&home, "app.psp", "compatible");
    home.run(["extract", "app.psp", "one"]).success();
    // Another package with the same slots, which says nothing about them.
    let package = slotfs_fs::package::Package::open(&home.path("app.psp"), &Default::default()).unwrap();
    let bytes = std::fs::read(home.path("app.psp")).unwrap();
    let stored = |position: u32| {
        let range = &package.slot(position).unwrap().source.stored;
        let start = usize::try_from(range.offset()).unwrap();
        bytes[start..][..usize::try_from(range.len()).unwrap()].to_vec()
    };
    let other = PackageBuilder::new("other", "1")
        .slot(SlotSpec::stored("app", "{workenv}", &codes_of("tar.gzip"), &stored(0)))
        .slot(SlotSpec::stored("big", "big.txt", &codes_of("gzip"), &stored(1)).permissions(0o644))
        .slot(SlotSpec::file("settings", "settings", "raw", b"x").permissions(0o644));
    home.package("other.psp", other);
    let before = kept_indexes(&home);
    home.run(["extract", "other.psp", "two"]).success();
    let after = kept_indexes(&home);
    assert_eq!((before.len(), after.len()), (2, 4), "made for itself: {after:?}");
    Done::of(home.program("diff").args(["-r", "one", "two"])).success();
}

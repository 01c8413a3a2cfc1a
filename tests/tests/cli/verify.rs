//! `slotfs verify`.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use slotfs_tests::command::Home;
use slotfs_tests::package::{descriptor, index};

use super::packages::{application, write};
use super::shown::{check, shown};

#[test]
fn a_sound_package_is_accepted() {
    let home = Home::new();
    write(&home, &application().build());
    check!("verify_sound", shown(&home, "verify hello.psp"));
    check!("verify_sound_json", shown(&home, "verify hello.psp --json"));
    assert!(!home.cache().exists(), "a check makes no cache");
}

#[test]
fn a_changed_slot_is_refused_although_its_descriptor_was_made_to_fit() {
    let home = Home::new();
    let mut built = application().build();
    let slot = built.slots[1].clone();
    built.bytes[slot.start] ^= 1;
    let checksum = Sha256::digest(&built.bytes[slot]);
    let built = built.with_descriptor(1, |bytes| {
        bytes[descriptor::CHECKSUM..][..8].copy_from_slice(&checksum[..8]);
    });
    write(&home, &built);
    check!("verify_changed_slot", shown(&home, "verify hello.psp"));
    // No level lets it pass.
    for level in ["standard", "relaxed", "minimal", "none"] {
        home.run(["verify", "hello.psp", "--verify", level]).code(107);
    }
}

#[test]
fn a_wrong_signature_counts_as_the_level_says() {
    let home = Home::new();
    let built = application().build().with_index(|bytes| bytes[index::SIGNATURE] ^= 1);
    write(&home, &built);
    check!("verify_wrong_signature", shown(&home, "verify hello.psp"));
    check!("verify_wrong_signature_relaxed", shown(&home, "verify hello.psp --verify relaxed"));
    let unsigned = application().build().with_index(|bytes| bytes[index::SIGNATURE..][..512].fill(0));
    write(&home, &unsigned);
    for (level, code) in [("strict", 107), ("standard", 0), ("minimal", 0)] {
        home.run(["verify", "hello.psp", "--verify", level]).code(code);
    }
}

#[test]
fn what_is_no_package_says_why() {
    let home = Home::new();
    let built = application().build();
    std::fs::write(home.path("cut.psp"), &built.bytes[..built.bytes.len() - 1]).unwrap();
    std::fs::write(home.path("empty.psp"), "").unwrap();
    std::fs::write(home.path("notes.txt"), "hello").unwrap();
    let flipped = {
        let mut bytes = built.bytes.clone();
        bytes[built.index.start + 700] ^= 1;
        bytes
    };
    std::fs::write(home.path("flipped.psp"), flipped).unwrap();
    let line = "verify cut.psp empty.psp notes.txt missing.psp flipped.psp";
    check!("verify_no_packages", shown(&home, line));
    for (name, code) in
        [("cut.psp", 102), ("empty.psp", 102), ("notes.txt", 102), ("missing.psp", 111), ("flipped.psp", 107)]
    {
        home.run(["verify", name]).code(code);
    }
}

#[test]
fn several_packages_are_all_checked() {
    let home = Home::new();
    write(&home, &application().build());
    std::fs::write(home.path("bad.psp"), "no").unwrap();
    let done = home.run(["verify", "bad.psp", "hello.psp", "--json"]).code(102);
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    let accepted: Vec<bool> =
        report["packages"].as_array().unwrap().iter().map(|p| p["accepted"].as_bool().unwrap()).collect();
    assert_eq!(accepted, [false, true]);
}

#[test]
fn an_operator_may_ask_for_trusted_keys() {
    let home = Home::new();
    write(&home, &application().build());
    let folder = home.path(".config/flavor");
    std::fs::create_dir_all(folder.join("trusted-keys")).unwrap();
    std::fs::write(folder.join("trusted-keys/broken.pub"), "not a key").unwrap();
    let policy = r#"{"version": 1, "trust": {"require_trusted_key": true}}"#;
    std::fs::write(folder.join("policy.json"), policy).unwrap();
    check!("verify_untrusted_key", shown(&home, "verify hello.psp"));
    std::fs::write(folder.join("policy.json"), r#"{"version": 7}"#).unwrap();
    check!("verify_wrong_policy", shown(&home, "verify hello.psp"));
}

#[test]
fn archives_and_directories_are_packages_of_one_slot() {
    let home = Home::new();
    std::fs::create_dir(home.path("folder")).unwrap();
    std::fs::write(home.path("folder/file"), "x").unwrap();
    let archive = slotfs_tests::package::Tree::new().file("file", 0o644, b"x").archive();
    std::fs::write(home.path("archive.tar"), archive).unwrap();
    check!("verify_archives", shown(&home, "verify archive.tar folder"));
}

#[test]
fn a_verification_is_remembered_where_there_is_a_cache() {
    let home = Home::new();
    write(&home, &application().build());
    std::fs::create_dir_all(home.cache().join(".slotfs")).unwrap();
    // A file written within the last clock tick cannot be told from one that changes once more.
    std::thread::sleep(std::time::Duration::from_millis(100));
    home.run(["verify", "hello.psp"]).success();
    let folder = home.cache().join(".slotfs/verified-v1");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}

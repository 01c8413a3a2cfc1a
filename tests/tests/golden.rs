//! The packages in `fixtures/` open and verify on every platform, with nothing of FlavorPack installed.
//!
//! They are real and never made anew, so that a reader and a test builder which are wrong in the same way
//! cannot agree with each other.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use slotfs_fs::package::signature::SignatureState;
use slotfs_fs::package::verify::verify;
use slotfs_fs::package::{Limits, Package};

/// Opens a fixture, verifies it whole, and returns each slot's identifier and chain.
fn slots(name: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    let package = Package::open(&path, &Limits::default()).unwrap();
    assert_eq!(package.evidence().unwrap().signature, SignatureState::Valid, "{name}");
    let verification = verify(&package, &|_| {}).unwrap();
    assert_eq!(verification.failures().collect::<Vec<_>>(), [""; 0], "{name}");
    package.slots().iter().map(|slot| (slot.id.clone(), slot.chain.clone())).collect()
}

fn expected(slots: &[(&str, &str)]) -> Vec<(String, String)> {
    slots.iter().map(|(id, chain)| ((*id).to_owned(), (*chain).to_owned())).collect()
}

#[test]
fn a_package_of_the_rust_builder() {
    assert_eq!(slots("rust-builder.psp"), expected(&[("show", "raw"), ("t", "tar")]));
}

#[test]
fn a_package_of_the_go_builder() {
    assert_eq!(slots("go-builder.psp"), expected(&[("show", "raw"), ("t", "tar")]));
}

#[test]
fn a_package_of_the_python_builder() {
    let all = expected(&[("data", "xz"), ("tail", "raw"), ("_attestation", "raw")]);
    assert_eq!(slots("python-builder.psp"), all);
}

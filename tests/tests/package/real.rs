//! Packages that FlavorPack's Rust, Go and Python builders made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use slotfs_fs::package::signature::{Claim, SignatureState};
use slotfs_fs::package::verify::{Outcome, verify};
use slotfs_fs::package::{Limits, Package, PackageError};

fn packages_in(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().filter(|path| path.extension().is_some_and(|suffix| suffix == "psp"))
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// Why a package is refused although its builder made it: no launcher places these targets either.
fn has_impossible_target(error: &PackageError) -> bool {
    error.to_string().contains(" has the target `")
}

#[test]
fn every_package_of_every_builder_opens_and_verifies() {
    let Some(folder) = slotfs_tests::fixtures::packages() else { return };
    let mut chains: BTreeMap<String, usize> = BTreeMap::new();
    let mut opened = 0;
    for path in packages_in(&folder).filter(|path| !stem(path).starts_with("bad-")) {
        let package = match Package::open(&path, &Limits::default()) {
            Err(error) if has_impossible_target(&error) && stem(&path).contains("target") => continue,
            result => result.unwrap(),
        };
        opened += 1;
        let evidence = package.evidence().unwrap();
        assert_eq!(evidence.signature, SignatureState::Valid, "{}", path.display());
        assert_eq!(evidence.fingerprint_claim, Claim::True, "{}", path.display());
        assert_ne!(evidence.attestation_claim, Claim::False, "{}", path.display());
        assert_ne!(evidence.policy_claim, Claim::False, "{}", path.display());
        for slot in package.slots() {
            *chains.entry(slot.chain.clone()).or_default() += 1;
        }
        let verification = verify(&package, &|_| {}).unwrap();
        assert_eq!(verification.failures().collect::<Vec<_>>(), [""; 0], "{}", path.display());
        for (slot, verified) in package.slots().iter().zip(&verification.slots) {
            let expected = match slot.lifecycle.as_str() {
                _ if slot.self_reference => Outcome::Unstated,
                "attestation" if slot.id == "_attestation" => Outcome::Short,
                _ => Outcome::Full,
            };
            assert_eq!(verified.outcome, expected, "{} {}", path.display(), slot.id);
        }
    }
    assert!(opened > 100, "{opened}");
    for chain in
        ["raw", "tar", "gzip", "tar.gzip", "tar.bzip2", "tar.xz", "tar.zstd", "gzip.gzip", "gzip.tar"]
    {
        assert!(chains.contains_key(chain), "{chain} is missing in {chains:?}");
    }
}

#[test]
fn damaged_copies_are_refused_or_found() {
    let Some(folder) = slotfs_tests::fixtures::packages() else { return };
    let told = |name: &str| {
        let path = folder.join(format!("bad-{name}.psp"));
        match Package::open(&path, &Limits::default()) {
            Err(error) => error.to_string().replace(&path.display().to_string(), name),
            Ok(package) => {
                let evidence = package.evidence().unwrap();
                let failures = verify(&package, &|_| {}).unwrap().failures().collect::<Vec<_>>().join("; ");
                format!("{:?} {:?} {failures}", evidence.signature, evidence.fingerprint_claim)
            }
        }
    };
    for (name, message) in [
        ("index-checksum", "the checksum of its index is"),
        ("index-reserved", "the checksum of its index is"),
        ("key-fingerprint", "Valid False "),
        ("magic-end", "its last 4 bytes are not the end mark"),
        ("magic-start", "the mark before its index, 8200 bytes from the end, is missing"),
        ("metadata-checksum", "the SHA-256 of its metadata is not the one in its index"),
        ("metadata", "the SHA-256 of its metadata is not the one in its index"),
        ("package-size", "its index says"),
        ("public-key", "Invalid False "),
        ("signature", "Invalid True "),
        ("slot-checksum", "not the checksum in the slot's descriptor"),
        ("slot-data-and-descriptor", "although the descriptor was made to fit"),
        ("slot-data", "neither the signed metadata's SHA-256 nor the descriptor's checksum"),
        ("slot-size-huge", "should be 1099511627776 bytes at offset"),
        ("slot-table-offset", "the slot table should be"),
        ("slot-unknown-op", "operation 0x77 (a checksum) cannot be undone"),
        ("trailing-byte", "its last 4 bytes are not the end mark"),
        ("truncated-1", "its last 4 bytes are not the end mark"),
        ("truncated-half-trailer", "its last 4 bytes are not the end mark"),
        ("truncated-no-trailer", "its last 4 bytes are not the end mark"),
    ] {
        let told = told(name);
        assert!(told.contains(message), "{name}: {told}");
    }
}

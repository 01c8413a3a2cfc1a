//! Every byte that the reader looks at, changed; every length. Either an error, or provably the same package.

use std::fs::File;
use std::path::Path;

use slotfs_fs::package::signature::SignatureState;
use slotfs_fs::package::trailer::Index;
use slotfs_fs::package::verify::verify;
use slotfs_fs::package::{Limits, Package, PackageError};
use slotfs_tests::package::{Built, descriptor, fix_index_checksum, index};

use crate::support::{built, file_of, slots_shown, write_at};

/// A package in a file, in which bytes are changed and put back.
struct Patched {
    built: Built,
    file: File,
}

impl Patched {
    fn new() -> Self {
        let built = built();
        Self { file: file_of(&built.bytes), built }
    }

    /// Opens the package with the bytes at `offset` replaced, looks at it, then restores it.
    fn open_with<T>(
        &self,
        offset: usize,
        bytes: &[u8],
        look: impl FnOnce(Result<Package, PackageError>) -> T,
    ) -> T {
        write_at(&self.file, bytes, offset);
        let seen = look(self.open());
        let original = &self.built.bytes[offset..offset + bytes.len()];
        write_at(&self.file, original, offset);
        seen
    }

    fn open(&self) -> Result<Package, PackageError> {
        Package::read(self.file.try_clone().unwrap(), Path::new("app.psp"), &Limits::default())
    }
}

/// A different bit for every byte of a run of eight.
fn flipped(byte: u8, position: usize) -> u8 {
    byte ^ 1 << (position % 8)
}

#[test]
fn no_byte_of_the_trailer_can_change_unnoticed() {
    let built = built();
    let mut trailer = built.bytes[built.trailer.clone()].to_vec();
    assert!(Index::parse(&trailer).is_ok());
    for position in 0..trailer.len() {
        let original = trailer[position];
        trailer[position] = flipped(original, position);
        assert!(Index::parse(&trailer).is_err(), "byte {position} of the trailer");
        trailer[position] = original;
    }
}

#[test]
fn no_byte_of_the_metadata_can_change_unnoticed() {
    let patched = Patched::new();
    for offset in patched.built.metadata.clone() {
        let changed = flipped(patched.built.bytes[offset], offset);
        let result = patched.open_with(offset, &[changed], |result| result);
        assert!(result.is_err_and(|error| error.is_checksum()), "byte {offset}");
    }
}

/// An attacker makes the checksums fit. What then still opens has the signed text, or is not validly signed.
#[test]
fn metadata_changed_by_somebody_who_fixes_checksums_is_the_same_or_unsigned() {
    let original = built();
    let mut opened = 0;
    for offset in 0..original.metadata.len() {
        let mut compressed = original.bytes[original.metadata.clone()].to_vec();
        compressed[offset] = flipped(compressed[offset], offset);
        let checksum = slotfs_fs::disk::digest::Digest::of(&compressed).0;
        let mut forged = original.clone();
        forged.bytes[original.metadata.clone()].copy_from_slice(&compressed);
        let forged = forged.with_index(|block| {
            block[index::METADATA_CHECKSUM..][..32].copy_from_slice(&checksum);
        });
        let Ok(package) = crate::support::open(&forged.bytes) else { continue };
        opened += 1;
        let signed = package.evidence().unwrap().signature == SignatureState::Valid;
        assert_eq!(signed, package.metadata_json() == original.json, "byte {offset}");
    }
    assert!(opened > 0, "some bytes of a gzip header mean nothing");
}

/// The index is not signed either. Whatever still opens shows the same slots and the same text.
#[test]
fn an_index_changed_by_somebody_who_fixes_its_checksum_shows_the_same_or_nothing() {
    let patched = Patched::new();
    let original = patched.open().unwrap();
    let block = patched.built.bytes[patched.built.trailer.clone()].to_vec();
    let telling = (0..index::RESERVED).chain((index::RESERVED..index::SIZE).step_by(61));
    for position in telling.filter(|position| !(4..8).contains(position)) {
        let mut trailer = block.clone();
        trailer[4 + position] = flipped(trailer[4 + position], position);
        fix_index_checksum(&mut trailer);
        let Some(package) = patched.open_with(patched.built.trailer.start, &trailer, Result::ok) else {
            continue;
        };
        assert_eq!(slots_shown(&package), slots_shown(&original), "byte {position} of the index");
        assert_eq!(package.metadata_json(), original.metadata_json(), "byte {position} of the index");
        let judged = (index::PUBLIC_KEY..index::METADATA_CHECKSUM).contains(&position)
            || (index::SIGNATURE..index::SIGNATURE + 64).contains(&position);
        let valid = package.evidence().unwrap().signature == SignatureState::Valid;
        assert_eq!(valid, !judged, "byte {position} of the index");
    }
}

/// Nothing signs the slot table. What a change of it can do without an error at opening or verifying is change
/// what the descriptor alone decides: the operations, the mode, and codes that the metadata overrides.
#[test]
fn a_changed_slot_table_is_refused_or_found_or_concerns_what_it_alone_decides() {
    let patched = Patched::new();
    let original = slots_shown(&patched.open().unwrap());
    let rows = patched.built.table.len() / descriptor::SIZE;
    for row in 0..rows {
        for position in 0..descriptor::SIZE {
            let offset = patched.built.descriptor(row).start + position;
            for bit in 0..8 {
                let changed = patched.built.bytes[offset] ^ 1 << bit;
                let harmless = patched.open_with(offset, &[changed], |result| {
                    let Ok(package) = result else { return true };
                    slots_shown(&package) == original || !verify(&package, &|_| {}).unwrap().is_good()
                });
                let decides =
                    matches!(position, 40..48 | descriptor::LIFECYCLE | descriptor::PLATFORM | 62 | 63);
                assert!(harmless || decides, "bit {bit} of byte {position} of descriptor {row}");
            }
        }
    }
}

#[test]
fn a_package_cut_off_anywhere_is_refused() {
    let patched = Patched::new();
    for length in (0..patched.built.bytes.len()).rev() {
        patched.file.set_len(length as u64).unwrap();
        let error = patched.open().unwrap_err();
        let expected = if length == 0 {
            matches!(error, PackageError::Empty { .. })
        } else {
            matches!(error, PackageError::NotAPackage { .. })
        };
        assert!(expected, "{length}: {error}");
    }
}

#[test]
fn a_package_that_lost_its_front_is_refused() {
    let built = built();
    for length in (4..built.bytes.len()).step_by(7) {
        let error = crate::support::open(&built.bytes[built.bytes.len() - length..]).unwrap_err();
        assert!(matches!(error, PackageError::Damaged { .. }), "{length}: {error}");
    }
}

//! The damage that FlavorPack's own launchers were measured on, row by row, and what this reader says about it.

use slotfs_fs::package::signature::{Claim, SignatureState};
use slotfs_fs::package::verify::verify;
use slotfs_fs::package::{Package, PackageError};
use slotfs_tests::package::{Built, SlotSpec, descriptor, fix_index_checksum, index, put_u32, put_u64};

use crate::support::{built, open, refusal, sample};

/// Changes the index and makes its checksum right again.
fn fixed(edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    built().with_index(edit).bytes
}

/// Changes bytes without making anything right.
fn broken(edit: impl FnOnce(&mut Built)) -> Vec<u8> {
    let mut built = built();
    edit(&mut built);
    built.bytes
}

#[test]
fn what_cannot_be_a_package_is_refused_and_named() {
    let last = built().bytes.len();
    let body = built().trailer.start;
    for (bytes, message) in [
        (
            broken(|built| built.bytes[built.trailer.start] ^= 1),
            "the mark before its index, 8200 bytes from the end",
        ),
        (broken(|built| built.bytes[built.trailer.end - 1] ^= 1), "its last 4 bytes are not the end mark"),
        (broken(|built| built.bytes.truncate(last - 1)), "its last 4 bytes are not the end mark"),
        (broken(|built| built.bytes.truncate(last - 4100)), "its last 4 bytes are not the end mark"),
        (broken(|built| built.bytes.truncate(body)), "its last 4 bytes are not the end mark"),
        (broken(|built| built.bytes.push(0)), "its last 4 bytes are not the end mark"),
        (broken(|built| built.bytes.extend([0; 4096])), "its last 4 bytes are not the end mark"),
        (broken(|built| drop(built.bytes.drain(..last - 4))), "its 4 bytes are fewer than the 8200"),
        (broken(|built| drop(built.bytes.drain(..8))), "its index says"),
        (broken(|built| built.bytes[built.index.start + 4] ^= 1), "the checksum of its index is"),
        (
            broken(|built| built.bytes[built.index.start + index::RESERVED] ^= 1),
            "the checksum of its index is",
        ),
        (
            broken(|built| built.bytes[built.index.start + 4..][..4].fill(0)),
            "the checksum of its index is 00000000",
        ),
        (
            fixed(|block| put_u32(block, index::FORMAT_VERSION, 0x2025_0002)),
            "its format version is 0x20250002",
        ),
        (fixed(|block| put_u64(block, index::PACKAGE_SIZE, 10)), "its index says 10 bytes, the file has"),
        (broken(|built| built.bytes[built.metadata.start + 12] ^= 1), "the SHA-256 of its metadata is not"),
        (fixed(|block| block[index::METADATA_CHECKSUM] ^= 1), "the SHA-256 of its metadata is not"),
        (
            fixed(|block| block[index::METADATA_CHECKSUM..][..32].fill(0)),
            "the SHA-256 of its metadata is not",
        ),
        (
            fixed(|block| put_u64(block, index::SLOT_TABLE_OFFSET, 1 << 40)),
            "the slot table should be 192 bytes at",
        ),
        (fixed(|block| put_u32(block, index::SLOT_COUNT, 0)), "its slot table has 192 bytes, 0 slots need 0"),
        (
            fixed(|block| put_u32(block, index::SLOT_COUNT, 4)),
            "its slot table has 192 bytes, 4 slots need 256",
        ),
        (
            fixed(|block| put_u64(block, index::LAUNCHER_SIZE, 1 << 40)),
            "the launcher should be 1099511627776 bytes",
        ),
    ] {
        let refused = refusal(&bytes);
        assert!(refused.contains(message), "{refused}\nshould say: {message}");
        assert!(refused.starts_with("`app.psp` "), "{refused}");
        assert!(!refused.ends_with('.'), "{refused}");
    }
}

#[test]
fn fewer_descriptors_than_listed_slots_are_refused() {
    let bytes = sample().edit_table(|table| table.truncate(128)).build().bytes;
    assert_eq!(refusal(&bytes), "`app.psp` is damaged: its metadata lists 3 slots, its slot table has 2");
}

#[test]
fn wrong_checksums_are_told_from_wrong_form() {
    let is_checksum = |bytes: &[u8]| open(bytes).unwrap_err().is_checksum();
    assert!(is_checksum(&broken(|built| built.bytes[built.index.start + 4] ^= 1)));
    assert!(is_checksum(&fixed(|block| block[index::METADATA_CHECKSUM] ^= 1)));
    assert!(!is_checksum(&broken(|built| built.bytes[built.trailer.start] ^= 1)));
}

/// Damage that only somebody's judgement can call a reason not to run: it opens, and the evidence tells.
#[test]
fn what_concerns_trust_is_evidence() {
    let evidence = |bytes: &[u8]| {
        let evidence = open(bytes).unwrap().evidence().unwrap().clone();
        (evidence.signature, evidence.fingerprint_claim, evidence.attestation_claim, evidence.policy_claim)
    };
    use Claim::{Absent, False, True};
    use SignatureState::{Invalid, Valid};
    for (what, bytes, expected) in [
        ("intact", built().bytes, (Valid, True, Absent, Absent)),
        ("signature", fixed(|block| block[index::SIGNATURE] ^= 1), (Invalid, True, Absent, Absent)),
        (
            "no signature",
            fixed(|block| block[index::SIGNATURE..][..64].fill(0)),
            (SignatureState::Absent, True, Absent, Absent),
        ),
        ("key", fixed(|block| block[index::PUBLIC_KEY] ^= 1), (Invalid, False, Absent, Absent)),
        ("no key", fixed(|block| block[index::PUBLIC_KEY..][..32].fill(0)), (Invalid, False, Absent, Absent)),
        ("fingerprint", fixed(|block| block[index::KEY_FINGERPRINT] ^= 1), (Valid, False, Absent, Absent)),
        (
            "no fingerprint",
            fixed(|block| block[index::KEY_FINGERPRINT..][..64].fill(0)),
            (Valid, Absent, Absent, Absent),
        ),
        (
            "attestation without such a slot",
            fixed(|block| block[index::ATTESTATION_DIGEST..][..64].fill(b'a')),
            (Valid, True, False, Absent),
        ),
        (
            "policy hash without policy",
            fixed(|block| block[index::POLICY_HASH..][..64].fill(b'a')),
            (Valid, True, Absent, False),
        ),
    ] {
        assert_eq!(evidence(&bytes), expected, "{what}");
    }
}

#[test]
fn another_text_with_the_same_signature_is_not_signed() {
    let original = built();
    let changed = String::from_utf8(original.json.clone()).unwrap().replace("/bin/true", "/bin/evil");
    let signature = original.bytes[original.index.start + index::SIGNATURE..][..64].to_vec();
    let forged = sample()
        .json_text(changed)
        .edit_index(move |block| block[index::SIGNATURE..][..64].copy_from_slice(&signature))
        .build();
    let package = open(&forged.bytes).unwrap();
    assert_eq!(package.metadata().execution.as_ref().unwrap().command, "/bin/evil");
    assert_eq!(package.evidence().unwrap().signature, SignatureState::Invalid);
}

#[test]
fn metadata_may_be_compressed_anew_without_a_new_signature() {
    let stored = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    let original = built();
    let mut encoder = stored;
    std::io::Write::write_all(&mut encoder, &original.json).unwrap();
    let package = open(&sample().compressed_metadata(encoder.finish().unwrap()).build().bytes).unwrap();
    assert_eq!(package.evidence().unwrap().signature, SignatureState::Valid);
}

#[test]
fn metadata_that_is_not_one_gzip_stream_of_json_is_refused() {
    let gzip = |bytes: &[u8]| slotfs_tests::package::compress("gzip", bytes);
    let json = built().json;
    for (compressed, message) in [
        (json.clone(), "its metadata is not one gzip stream: "),
        (Vec::new(), "its metadata is not one gzip stream: "),
        ([gzip(&json), gzip(b" ")].concat(), "its metadata is not one gzip stream: 21 bytes follow its end"),
        ([gzip(&json), vec![0; 8]].concat(), "its metadata is not one gzip stream: 8 bytes follow its end"),
        (gzip(b""), "its metadata is not valid: it is not a JSON object"),
        (gzip(b"[1]"), "its metadata is not valid: it is not a JSON object"),
        (gzip(&json[..json.len() - 2]), "its metadata is not valid: "),
        (
            gzip(br#"{"execution": {"command": ["sh"]}}"#),
            "invalid type: sequence, expected a string at line 1",
        ),
    ] {
        let refused = refusal(&sample().compressed_metadata(compressed).build().bytes);
        assert!(refused.contains(message), "{refused}\nshould say: {message}");
    }
}

/// What `verify` says, one sentence a slot.
fn failures(bytes: &[u8]) -> Vec<String> {
    let package: Package = open(bytes).unwrap();
    verify(&package, &|_| {}).unwrap().failures().collect()
}

#[test]
fn changed_slot_data_is_found_also_when_the_descriptor_was_made_to_fit() {
    assert!(failures(&built().bytes).is_empty());
    let changed = broken(|built| built.bytes[built.slots[1].start] ^= 1);
    assert_eq!(
        failures(&changed),
        [
            "slot 1 (`settings`): its bytes have neither the signed metadata's SHA-256 nor the descriptor's checksum"
        ]
    );
    let made_to_fit = broken(|built| {
        let place = built.slots[1].clone();
        built.bytes[place.start] ^= 1;
        let checksum = slotfs_fs::disk::digest::Digest::of(&built.bytes[place]).0;
        let row = built.descriptor(1).start;
        built.bytes[row + descriptor::CHECKSUM..][..8].copy_from_slice(&checksum[..8]);
    });
    assert_eq!(
        failures(&made_to_fit),
        [
            "slot 1 (`settings`): its bytes have not the SHA-256 in the signed metadata, although the descriptor was \
             made to fit"
        ]
    );
}

#[test]
fn a_wrong_descriptor_checksum_is_found() {
    for checksum in [[0; 8], [1; 8]] {
        let bytes = built()
            .with_descriptor(1, |row| row[descriptor::CHECKSUM..][..8].copy_from_slice(&checksum))
            .bytes;
        assert_eq!(
            failures(&bytes),
            ["slot 1 (`settings`): its bytes have not the checksum in the slot's descriptor"]
        );
    }
}

#[test]
fn a_moved_slot_is_found() {
    // Eight bytes on, slot 2 of 5000 compressed bytes is still inside the file, but other bytes.
    let offset = built().slots[0].start as u64;
    let bytes = built()
        .with_descriptor(0, |row| {
            put_u64(row, descriptor::OFFSET, offset + 8);
            put_u64(row, descriptor::STORED_SIZE, 16);
        })
        .bytes;
    assert_eq!(failures(&bytes).len(), 1);
}

#[test]
fn fields_that_no_reader_uses_change_nothing() {
    for offset in
        [descriptor::ID, descriptor::NAME_HASH, descriptor::ORIGINAL_SIZE, descriptor::PRIORITY, 60, 61]
    {
        let changed = open(&built().with_descriptor(0, |row| row[offset] ^= 0x55).bytes).unwrap();
        let original = open(&built().bytes).unwrap();
        assert_eq!(crate::support::slots_shown(&changed), crate::support::slots_shown(&original), "{offset}");
    }
    let mut bytes = built().bytes;
    let flags = built().index.start + index::FLAGS;
    bytes[flags] = 0xFF;
    fix_index_checksum(&mut bytes);
    assert!(open(&bytes).is_ok());
}

#[test]
fn operations_that_cannot_be_undone_are_named_with_their_slot() {
    for (code, message) in [
        (0xFF, "slot 0 (`a`): operation 0xff cannot be undone"),
        (0x1E, "slot 0 (`a`): operation 0x1e (a kind of compression) cannot be undone"),
        (0x31, "slot 0 (`a`): operation 0x31 (a kind of encryption) cannot be undone"),
    ] {
        let package = slotfs_tests::package::PackageBuilder::new("n", "1");
        let bytes = package.slot(SlotSpec::stored("a", "a", &[code], b"x")).build().bytes;
        let error = open(&bytes).unwrap_err();
        assert!(matches!(error, PackageError::Unsupported { .. }));
        assert_eq!(error.to_string(), format!("`app.psp` cannot be used: {message}"));
    }
}

#[test]
fn targets_outside_the_work_environment_are_refused() {
    for (target, reason) in [
        ("../x", "it leaves the work environment"),
        ("{workenv}/a/../../x", "it leaves the work environment"),
        ("/etc/passwd", "an absolute path cannot lie in the work environment"),
    ] {
        let package = slotfs_tests::package::PackageBuilder::new("n", "1");
        let bytes = package.slot(SlotSpec::file("a", target, "raw", b"x")).build().bytes;
        let expected = format!("`app.psp` is damaged: slot 0 (`a`) has the target `{target}`: {reason}");
        assert_eq!(refusal(&bytes), expected);
    }
}

//! Central directories as different systems write them.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use super::*;
use crate::slot::chain::tests::range;

/// One entry by hand: name, version made by, external attributes, extra field, flags.
fn archive(name: &[u8], host: u8, external: u32, extra: &[u8], flags: u16) -> Vec<u8> {
    let content = b"content";
    let mut crc = flate2::Crc::new();
    crc.update(content);
    let mut bytes = b"PK\x03\x04\x0a\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend(crc.sum().to_le_bytes());
    bytes.extend([7, 0, 0, 0, 7, 0, 0, 0]);
    bytes.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(content);
    let directory = bytes.len();
    bytes.extend(b"PK\x01\x02");
    bytes.extend([20, host, 10, 0]);
    bytes.extend(flags.to_le_bytes());
    // Stored; 2023-11-14 22:13:20.
    bytes.extend([0, 0, 0xaa, 0xb1, 0x6e, 0x57]);
    bytes.extend(crc.sum().to_le_bytes());
    bytes.extend([7, 0, 0, 0, 7, 0, 0, 0]);
    bytes.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
    bytes.extend(u16::try_from(extra.len()).unwrap().to_le_bytes());
    bytes.extend([0; 6]);
    bytes.extend(external.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(extra);
    let length = bytes.len() - directory;
    bytes.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    bytes.extend(u32::try_from(length).unwrap().to_le_bytes());
    bytes.extend(u32::try_from(directory).unwrap().to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

fn only(bytes: &[u8]) -> Entry {
    let mut scanner = ZipScanner::new(range(bytes), Limits::default()).unwrap();
    let entry = scanner.next_entry().unwrap().unwrap();
    assert!(scanner.next_entry().unwrap().is_none());
    entry
}

#[test]
fn modes_and_kinds_follow_the_system_that_made_it() {
    for (name, host, external, mode, is_directory) in [
        (&b"f"[..], 3, 0o100_755 << 16, 0o755, false),
        (b"f", 3, 0, 0o644, false),
        (b"d/", 3, 0o040_711 << 16, 0o711, true),
        (b"d/", 0, 0x10, 0o755, true),
        (b"d", 0, 0x10, 0o755, true),
        (b"f", 0, 1, 0o444, false),
        (b"f", 0, 0x20, 0o644, false),
        (b"f", 0, 0o100_600 << 16, 0o600, false),
        (b"f", 3, 0o104_755 << 16, 0o4755, false),
        (b"f", 3, 0o101_755 << 16, 0o755, false),
    ] {
        let entry = only(&archive(name, host, external, b"", 0));
        assert_eq!((entry.mode, entry.body == Body::Directory), (mode, is_directory), "{host} {external:o}");
    }
}

#[test]
fn names_are_utf_8_where_said_and_code_page_437_from_dos() {
    assert_eq!(only(&archive(b"\x81ber", 0, 0, b"", 0)).path, "über".as_bytes());
    assert_eq!(only(&archive(b"\x81ber", 3, 0, b"", 0)).path, b"\x81ber");
    assert_eq!(only(&archive("über".as_bytes(), 0, 0, b"", 0x800)).path, "über".as_bytes());
    assert_eq!(only(&archive(b"a\\b", 0, 0, b"", 0)).path, b"a/b");
    assert_eq!(only(&archive(b"a\\b", 3, 0, b"", 0)).path, b"a\\b");
    let mut crc = flate2::Crc::new();
    crc.update(b"\xff");
    let mut extra = b"\x75\x70\x07\0\x01".to_vec();
    extra.extend(crc.sum().to_le_bytes());
    extra.extend("é".as_bytes());
    assert_eq!(only(&archive(b"\xff", 0, 0, &extra, 0)).path, "é".as_bytes());
}

#[test]
fn times_are_utc_unless_a_better_one_is_beside() {
    assert_eq!(only(&archive(b"f", 3, 0, b"", 0)).modified.seconds, 1_700_000_000);
    let extra = b"UT\x05\0\x01\x01\0\0\0";
    assert_eq!(only(&archive(b"f", 3, 0, extra, 0)).modified.seconds, 1);
}

#[test]
fn bytes_before_the_archive_shift_it() {
    let shifted = [&b"#!/bin/sh\nexit\n"[..], &archive(b"f", 3, 0, b"", 0)].concat();
    let Body::File(Content::Zip(content)) = only(&shifted).body else { panic!("no file") };
    let mut out = Vec::new();
    open(&range(&shifted), &content, &Limits::default()).unwrap().read_to_end(&mut out).unwrap();
    assert_eq!(out, b"content");
}

#[test]
fn encrypted_entries_and_changed_contents_do_not_pass() {
    assert_eq!(only(&archive(b"f", 3, 0, b"", 1)).body, Body::Unreadable);
    let mut bytes = archive(b"f", 3, 0, b"", 0);
    let Body::File(Content::Zip(content)) = only(&bytes).body else { panic!("no file") };
    bytes[33] ^= 1;
    let mut reader = open(&range(&bytes), &content, &Limits::default()).unwrap();
    let error = SlotError::from_read(reader.read_to_end(&mut Vec::new()).unwrap_err());
    assert!(error.to_string().contains("CRC-32"), "{error}");
}

#[test]
fn every_flipped_byte_gives_an_answer() {
    let good = archive(b"folder/file", 3, 0o100_644 << 16, b"UT\x05\0\x01\x01\0\0\0", 0);
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let stored = range(&bad);
            let Ok(mut scanner) = ZipScanner::new(stored.clone(), Limits::default()) else { continue };
            while let Ok(Some(entry)) = scanner.next_entry() {
                if let Body::File(Content::Zip(content)) = entry.body
                    && let Ok(mut reader) = open(&stored, &content, &Limits::default())
                {
                    let _ = reader.read_to_end(&mut Vec::new());
                }
            }
        }
    }
}

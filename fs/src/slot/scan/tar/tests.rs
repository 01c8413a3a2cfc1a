//! Headers and records in every spelling.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use super::*;
use crate::slot::scan::{Extent, StreamInput};

fn header(kind: u8, name: &[u8], size: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000644");
    block[124..124 + size.len()].copy_from_slice(size);
    block[136..147].copy_from_slice(b"14371421400");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    sum(&mut block);
    block
}

fn sum(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

fn scan(bytes: &[u8]) -> Result<Vec<Entry>, SlotError> {
    let mut scanner = TarScanner::new(StreamInput::new(bytes), Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = scanner.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

/// A record with its length before it.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let digits = (1..).find(|digits| (rest.len() + digits).to_string().len() == *digits).unwrap();
    [(rest.len() + digits).to_string().into_bytes(), rest].concat()
}

fn pax(records: &[u8]) -> Vec<u8> {
    let mut bytes = header(b'x', b"pax", format!("{:011o}", records.len()).as_bytes()).to_vec();
    bytes.extend_from_slice(records);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

#[test]
fn numbers_are_octal_or_base_256() {
    let table: [(&[u8], Option<i64>); 13] = [
        (b"0000644\0", Some(0o644)),
        (b"   644 \0", Some(0o644)),
        (b"644", Some(0o644)),
        (b"\0\0\0", Some(0)),
        (b"     ", Some(0)),
        (b"0000648\0", None),
        (b"-1", None),
        (b"777777777777", Some(0o777_777_777_777)),
        (b"\x80\0\0\0\0\0\0\0\0\0\0\x05", Some(5)),
        (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
        (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
        (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
    ];
    for (field, expected) in table {
        assert_eq!(number::field(field), expected, "{}", field.escape_ascii());
    }
    for (text, expected) in [
        ("0", Some(0)),
        ("9223372036854775807", Some(i64::MAX as u64)),
        ("9223372036854775808", None),
        ("", None),
        ("-1", None),
        ("1 ", None),
    ] {
        assert_eq!(number::decimal(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn checksums_may_be_signed_and_must_be_right() {
    let mut block = header(b'0', b"na\xefve", b"00000000000");
    assert!(Header::parse(block).is_ok());
    block[148..156].fill(b' ');
    let signed: i32 = block.iter().map(|byte| i32::from(byte.cast_signed())).sum();
    block[148..155].copy_from_slice(format!("{signed:06o}\0").as_bytes());
    assert!(Header::parse(block).is_ok());
    block[0] ^= 1;
    assert!(Header::parse(block).is_err());
}

#[test]
fn pax_records_override_the_header() {
    let records = [
        record("path", b"sub/folder"),
        record("mtime", b"-1.25000"),
        record("uid", b"777"),
        record("SCHILY.xattr.user.a", b"\0b\n=c"),
    ];
    let mut bytes = pax(&records.concat());
    bytes.extend(header(b'0', b"placeholder", b"00000000000"));
    let entries = scan(&bytes).unwrap();
    assert_eq!(entries[0].path, b"sub/folder");
    assert_eq!(entries[0].modified, Timestamp { seconds: -2, nanoseconds: 750_000_000 });
    assert_eq!(entries[0].user, 777);
    assert_eq!(entries[0].attributes, [(b"user.a".to_vec(), b"\0b\n=c".to_vec())]);
}

#[test]
fn broken_pax_records_are_errors() {
    for records in
        [&b"x path=a\n"[..], b"8 path=a", b"99 path=a\n", b"0 path=a\n", b"8 patha\n", b"8 path=a\n"]
    {
        let mut bytes = pax(records);
        bytes.extend(header(b'0', b"a", b"00000000000"));
        let error = scan(&bytes).unwrap_err().to_string();
        assert!(error.contains("extended header"), "{}: {error}", records.escape_ascii());
    }
}

#[test]
fn libarchive_attributes_are_decoded() {
    let mut records = Records::default();
    records.parse(&record("LIBARCHIVE.xattr.user.%6ea%6De", b"AP8x")).unwrap();
    assert_eq!(records.attributes(), [(b"user.name".to_vec(), b"\0\xff1".to_vec())]);
}

#[test]
fn global_records_hold_until_replaced() {
    let mut bytes = pax(&record("gid", b"444"));
    bytes[156] = b'g';
    sum((&mut bytes[..BLOCK]).try_into().unwrap());
    bytes.extend(header(b'0', b"one", b"00000000000"));
    bytes.extend(pax(&[record("gid", b"5"), vec![0; 2]].concat()));
    bytes.extend(header(b'0', b"two", b"00000000000"));
    bytes.extend(header(b'0', b"three", b"00000000000"));
    let groups: Vec<u32> = scan(&bytes).unwrap().iter().map(|entry| entry.group).collect();
    assert_eq!(groups, [444, 5, 444]);
}

#[test]
fn a_prefix_belongs_to_ustar_only() {
    let mut block = header(b'0', b"name", b"00000000000");
    block[345..351].copy_from_slice(b"prefix");
    sum(&mut block);
    assert_eq!(scan(&block).unwrap()[0].path, b"prefix/name");
    block[257..265].copy_from_slice(b"ustar  \0");
    sum(&mut block);
    assert_eq!(scan(&block).unwrap()[0].path, b"name");
}

#[test]
fn kinds_are_those_of_gnu_tar() {
    for (kind, name, expected) in [
        (0, &b"file"[..], Body::File(Content::Whole { decoded: 512, size: 0 })),
        (b'0', b"folder/", Body::Directory),
        (b'7', b"contiguous", Body::File(Content::Whole { decoded: 512, size: 0 })),
        (b'5', b"folder", Body::Directory),
        (b'D', b"dumped", Body::Directory),
        (b'M', b"continued", Body::Unknown),
        (b'6', b"fifo", Body::Fifo),
        (b'?', b"unknown", Body::File(Content::Whole { decoded: 512, size: 0 })),
    ] {
        assert_eq!(
            scan(&header(kind, name, b"00000000000")).unwrap()[0].body,
            expected,
            "{}",
            name.escape_ascii()
        );
    }
    assert!(scan(&header(b'V', b"label", b"00000000000")).unwrap().is_empty());
}

#[test]
fn sizes_are_never_allocated() {
    let huge = header(b'x', b"pax", b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
    assert!(scan(&huge).unwrap_err().to_string().contains("longer than the limit"));
    let huge = header(b'0', b"huge", b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
    assert!(matches!(scan(&huge), Err(SlotError::Truncated { entry }) if entry == "huge"));
}

/// A sparse map, the stored bytes, the file's size, and whether they fit together.
type SparseCase<'a> = (&'a [(u64, u64)], u64, u64, bool);

#[test]
fn sparse_maps_must_fit_the_file_and_the_stored_bytes() {
    let table: [SparseCase<'_>; 7] = [
        (&[(0, 10), (20, 5)], 15, 30, true),
        (&[(0, 10), (20, 5), (30, 0)], 15, 30, true),
        (&[], 0, 1 << 40, true),
        (&[(0, 10), (5, 5)], 15, 30, false),
        (&[(0, 10), (20, 15)], 25, 30, false),
        (&[(0, 10), (20, 5)], 14, 30, false),
        (&[(u64::MAX, 10)], 10, u64::MAX, false),
    ];
    for (map, stored, size, fits) in table {
        assert_eq!(sparse::extents(map, 512, stored, size).is_ok(), fits, "{map:?}");
    }
    let laid = sparse::extents(&[(0, 10), (20, 5)], 512, 15, 30).unwrap();
    assert_eq!(laid[1], Extent { offset: 20, decoded: 522, length: 5 });
}

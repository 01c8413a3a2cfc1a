//! Streams of many parts, garbage behind them, truncation, limits, and decoding from every reported point.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use super::*;
use crate::slot::SlotError;

pub(crate) fn range(bytes: &[u8]) -> FileRange {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    FileRange::new(Arc::<File>::new(file), 0, bytes.len() as u64).unwrap()
}

/// Text that compresses about 3:1, different at every place.
pub(crate) fn sample(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(length + 32);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        writeln!(bytes, "def function_{:04x}(value):", state >> 50).unwrap();
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    gzip_at(bytes, 1)
}

/// Level 1 of the encoder makes one block with fixed codes, others many with their own.
fn gzip_at(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn bzip2(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    liblzma::read::XzEncoder::new(bytes, 1).read_to_end(&mut out).unwrap();
    out
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn encode(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::Gzip => gzip(bytes),
        Compression::Bzip2 => bzip2(bytes, 1),
        Compression::Xz => xz(bytes),
        Compression::Zstd => zstd(bytes),
    }
}

const ALL: [Compression; 4] = [Compression::Gzip, Compression::Bzip2, Compression::Xz, Compression::Zstd];

fn decode(stored: &[u8], chain: &[Compression]) -> Result<Vec<u8>, SlotError> {
    let mut out = Vec::new();
    open(&range(stored), chain, &Limits::default(), None)
        .read_to_end(&mut out)
        .map_err(SlotError::from_read)?;
    Ok(out)
}

#[test]
fn parts_that_follow_each_other_are_all_decoded() {
    for compression in ALL {
        let parts = [sample(300_000), Vec::new(), sample(10), sample(150_001)];
        let stored: Vec<u8> = parts.iter().flat_map(|part| encode(compression, part)).collect();
        assert!(decode(&stored, &[compression]).unwrap() == parts.concat(), "{compression:?}");
    }
}

#[test]
fn chains_are_undone_in_order() {
    let bytes = sample(100_000);
    let stored = xz(&gzip(&zstd(&gzip(&bytes))));
    let chain = [Compression::Xz, Compression::Gzip, Compression::Zstd, Compression::Gzip];
    assert!(decode(&stored, &chain).unwrap() == bytes);
}

#[test]
fn garbage_after_gzip_and_bzip2_is_ignored_but_a_broken_member_is_not() {
    let bytes = sample(5000);
    for garbage in [&b"\0\0\0\0"[..], b"hello", b"\x1f\x8b", b"BZ"] {
        for compression in [Compression::Gzip, Compression::Bzip2] {
            let stored = [&encode(compression, &bytes)[..], garbage].concat();
            assert!(decode(&stored, &[compression]).unwrap() == bytes, "{compression:?} {garbage:?}");
        }
    }
    let mut broken = [gzip(&bytes), gzip(&bytes)].concat();
    let middle = broken.len() * 3 / 4;
    broken[middle] ^= 0xff;
    assert!(matches!(decode(&broken, &[Compression::Gzip]), Err(SlotError::Decode { .. })));
}

#[test]
fn truncated_and_flipped_data_is_an_error_and_never_wrong_bytes() {
    let bytes = sample(20_000);
    for compression in ALL {
        let stored = encode(compression, &bytes);
        for end in (0..stored.len()).step_by(stored.len() / 40) {
            let error = decode(&stored[..end], &[compression]).expect_err(&format!("{compression:?} {end}"));
            assert!(matches!(error, SlotError::Decode { .. }), "{error}");
        }
        for at in (0..stored.len()).step_by(stored.len() / 60) {
            let mut flipped = stored.clone();
            flipped[at] ^= 0x10;
            // Some header bits carry no meaning (gzip's time stamp, say); then the content is right.
            if let Ok(decoded) = decode(&flipped, &[compression]) {
                assert!(decoded == bytes, "{compression:?}: byte {at} changed the content unseen");
            }
        }
    }
}

#[test]
fn output_beyond_the_limit_is_an_error() {
    let limits = Limits { decoded_bytes: 50_000, ..Limits::default() };
    let bombs = Limits { ratio_floor: 10_000, ratio: 10, ..Limits::default() };
    for compression in ALL {
        let stored = range(&encode(compression, &vec![0; 100_000]));
        for limits in [limits, bombs] {
            let error =
                open(&stored, &[compression], &limits, None).read_to_end(&mut Vec::new()).unwrap_err();
            assert!(matches!(SlotError::from_read(error), SlotError::TooLarge { .. }));
        }
    }
}

#[test]
fn decoding_gzip_from_every_point_gives_the_rest() {
    let bytes = sample(3_600_000);
    let same = vec![7; 5_000_000];
    check_points(Compression::Gzip, &bytes, &gzip(&bytes));
    check_points(Compression::Gzip, &bytes, &gzip_at(&bytes, 6));
    check_points(Compression::Gzip, &bytes, &gzip_at(&bytes, 0));
    check_points(Compression::Gzip, &same, &gzip_at(&same, 6));
    let (first, second) = bytes.split_at(1_800_000);
    check_points(Compression::Gzip, &bytes, &[gzip(first), gzip(second)].concat());
}

#[test]
fn decoding_bzip2_from_every_point_gives_the_rest() {
    // Blocks of 100 kB and of 300 kB.
    let bytes = sample(900_000);
    check_points(Compression::Bzip2, &bytes, &bzip2(&bytes, 3));
    let (first, second) = bytes.split_at(250_001);
    check_points(Compression::Bzip2, &bytes, &[bzip2(first, 1), bzip2(second, 3)].concat());
}

#[test]
fn decoding_zstd_from_every_point_gives_the_rest() {
    let bytes = sample(3_600_000);
    check_points(Compression::Zstd, &bytes, &bytes.chunks(700_000).flat_map(zstd).collect::<Vec<u8>>());
}

/// Decodes `stored`, which must give `bytes`, as a whole and from every point that is met.
fn check_points(compression: Compression, bytes: &[u8], stored: &[u8]) {
    let stored = range(stored);
    let points = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&points);
    let observe: Observer = Box::new(move |point| seen.lock().unwrap().push(point));
    let limits = Limits::default();
    let mut out = Vec::new();
    open(&stored, &[compression], &limits, Some(observe)).read_to_end(&mut out).unwrap();
    assert!(out == bytes);
    let points = points.lock().unwrap();
    assert!(points.len() >= 3, "{compression:?}: {} points", points.len());
    assert_eq!(points[0].decoded, 0);
    if compression == Compression::Gzip {
        let longest = points.windows(2).map(|pair| pair[1].decoded - pair[0].decoded).max().unwrap();
        assert!(longest < POINT_INTERVAL * 3 / 2, "{longest} between two points");
    }
    for point in points.iter() {
        let mut rest = Vec::new();
        resume(&stored, compression, point, &limits).read_to_end(&mut rest).unwrap_or_else(|error| {
            panic!("{compression:?} at {} {} {:?}: {error}", point.decoded, point.stored_bits, point.header)
        });
        assert!(rest == bytes[point.decoded as usize..], "{compression:?} at {}", point.decoded);
    }
}

#[test]
fn raw_deflate_ends_where_it_ends() {
    let bytes = sample(70_000);
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&bytes).unwrap();
    let stored = [encoder.finish().unwrap(), b"more".to_vec()].concat();
    let mut out = Vec::new();
    single(&range(&stored), Single::Deflate, &Limits::default()).read_to_end(&mut out).unwrap();
    assert!(out == bytes);
}

//! Bytes to the whole path of opening and verifying a package.
//!
//! Checksums and compression would keep a fuzzer outside for ever, so that the first byte chooses what is made
//! right around the rest: see [`Recipe`].
#![no_main]

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};
use slotfs_fs::package::verify::verify;
use slotfs_fs::package::{Limits, Package};

const TRAILER: usize = 8200;
const ROW: usize = 64;

thread_local! {
    static FILE: RefCell<File> = RefCell::new(unnamed_file());
}

fuzz_target!(|input: &[u8]| {
    let Some((flags, rest)) = input.split_first() else { return };
    let bytes = if flags & 0x80 != 0 { rest.to_vec() } else { Recipe::new(*flags, rest).build() };
    let name = if flags & 0x40 != 0 { "fuzz.tar.gz" } else { "fuzz.psp" };
    FILE.with_borrow_mut(|file| open(file, &bytes, name));
});

fn open(file: &mut File, bytes: &[u8], name: &str) {
    file.set_len(0).expect("truncate");
    file.seek(SeekFrom::Start(0)).expect("seek");
    file.write_all(bytes).expect("write");
    let limits = Limits { metadata_size: 1 << 20, decoder_memory: 16 << 20, ..Limits::default() };
    let package = match Package::read(file.try_clone().expect("duplicate"), Path::new(name), &limits) {
        Ok(package) => package,
        Err(error) => {
            let message = error.to_string();
            assert!(!message.chars().any(char::is_control), "{message:?}");
            return;
        }
    };
    for slot in package.slots() {
        let stored = &slot.source.stored;
        assert!(stored.offset() + stored.len() <= bytes.len() as u64);
        for name in &slot.target {
            assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/'));
        }
    }
    let verification = verify(&package, &|_| {}).expect("nobody writes to the file");
    assert_eq!(verification.slots.len(), package.slots().len());
}

/// A package around fuzzed metadata, descriptors and slot data.
///
/// Flag bits: 1 take the index's numbers from the input; 2 take descriptors' offsets as they are, not relative to
/// the slot data; 4 the metadata is compressed already; 8 leave the metadata's checksum zero.
struct Recipe<'a> {
    flags: u8,
    numbers: &'a [u8],
    metadata: &'a [u8],
    table: Vec<u8>,
    data: &'a [u8],
}

impl<'a> Recipe<'a> {
    fn new(flags: u8, input: &'a [u8]) -> Self {
        let (lengths, input) = input.split_at(input.len().min(3));
        let length = |position: usize| usize::from(lengths.get(position).copied().unwrap_or(0));
        let (numbers, input) = input.split_at(if flags & 1 != 0 { input.len().min(52) } else { 0 });
        let (metadata, input) = input.split_at(input.len().min(length(0) | length(1) << 8));
        let (table, data) = input.split_at(input.len().min(length(2) * ROW) / ROW * ROW);
        Self { flags, numbers, metadata, table: table.to_vec(), data }
    }

    fn build(mut self) -> Vec<u8> {
        let launcher = b"#!/bin/sh\n";
        let metadata = if self.flags & 4 != 0 { self.metadata.to_vec() } else { gzip(self.metadata) };
        let table_start = launcher.len() + metadata.len();
        let data_start = table_start + self.table.len();
        if self.flags & 2 == 0 {
            for row in self.table.chunks_exact_mut(ROW) {
                let offset = &mut row[16..24];
                let relative = u64::from_le_bytes(offset.try_into().expect("eight bytes"));
                offset.copy_from_slice(&relative.wrapping_add(data_start as u64).to_le_bytes());
            }
        }
        let mut bytes = [launcher.as_slice(), &metadata, &self.table, self.data].concat();
        let mut block = vec![0; TRAILER - 8];
        block[0..4].copy_from_slice(&0x2025_0001_u32.to_le_bytes());
        let numbers = [
            bytes.len() + TRAILER,
            launcher.len(),
            launcher.len(),
            metadata.len(),
            table_start,
            self.table.len(),
            self.table.len() / ROW,
        ];
        for (position, number) in numbers.into_iter().enumerate() {
            block[8 + position * 8..][..8].copy_from_slice(&(number as u64).to_le_bytes());
        }
        block[8..][..self.numbers.len()].copy_from_slice(self.numbers);
        if self.flags & 8 == 0 {
            block[96..128].copy_from_slice(&Sha256::digest(&metadata));
        }
        let checksum = adler32(&block);
        block[4..8].copy_from_slice(&checksum.to_le_bytes());
        bytes.extend([0xF0, 0x9F, 0x93, 0xA6]);
        bytes.extend(block);
        bytes.extend([0xF0, 0x9F, 0xAA, 0x84]);
        bytes
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

fn adler32(bytes: &[u8]) -> u32 {
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
}

fn unnamed_file() -> File {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let path = folder.join(format!("slotfs-fuzz-{}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("create");
    std::fs::remove_file(&path).expect("remove");
    file
}

//! Bytes to entries to a tree to an index: what the growing tree answers, the index answers too.
//!
//! The first byte chooses the container and the compression; a tar archive is also read by hopping, which must give the
//! same entries. Checksums of tar headers are made right, or a fuzzer would stay outside.
#![no_main]

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use slotfs_fs::disk::digest::Digest;
use slotfs_fs::disk::range::FileRange;
use slotfs_fs::package::Compression;
use slotfs_fs::slot::index::{Identity, IndexWriter};
use slotfs_fs::slot::scan::tar::TarScanner;
use slotfs_fs::slot::scan::zip::{self, ZipScanner};
use slotfs_fs::slot::scan::{Body, Content, Entry, Input, RangeInput, StreamInput};
use slotfs_fs::slot::seek::Plan;
use slotfs_fs::slot::tree::{GrowingTree, tables};
use slotfs_fs::slot::{Limits, SlotError, chain};

const BLOCK: usize = 512;

thread_local! {
    static FILE: RefCell<File> = RefCell::new(unnamed_file());
}

fn limits() -> Limits {
    Limits {
        decoded_bytes: 4 << 20,
        decoder_memory: 8 << 20,
        entries: 10_000,
        path_depth: 64,
        header_bytes: 64 << 10,
        ..Limits::default()
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    match choice % 8 {
        0..=2 => scan_tar(&with_checksums(bytes)),
        3 => scan_tar(bytes),
        4 => FILE.with_borrow_mut(|file| scan_zip(&stored(file, bytes))),
        other => FILE.with_borrow_mut(|file| decode(&stored(file, bytes), other)),
    }
});

/// Makes the checksum of every block right that could be a header.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(BLOCK) {
        if block[148..156] == *b"checksum" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}

fn entries<I: Input>(input: I) -> (Vec<Entry>, Result<(), String>) {
    let mut scanner = TarScanner::new(input, limits());
    let mut entries = Vec::new();
    loop {
        match scanner.next_entry() {
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) => return (entries, Ok(())),
            Err(error) => return (entries, Err(error.to_string())),
        }
    }
}

fn scan_tar(bytes: &[u8]) {
    let streamed = entries(StreamInput::new(bytes));
    FILE.with_borrow_mut(|file| {
        let hopped = entries(RangeInput::new(stored(file, bytes)));
        assert_eq!(streamed.0, hopped.0);
        assert_eq!(streamed.1.is_ok(), hopped.1.is_ok());
    });
    for entry in &streamed.0 {
        if let Body::File(Content::Sparse { extents, size }) = &entry.body {
            let mut end = 0;
            for extent in extents {
                assert!(extent.offset >= end);
                end = extent.offset + extent.length;
            }
            assert!(end <= *size);
        }
    }
    grow(&streamed.0, bytes);
}

fn scan_zip(range: &FileRange) {
    let Ok(mut scanner) = ZipScanner::new(range.clone(), limits()) else { return };
    let mut found = Vec::new();
    while let Ok(Some(entry)) = scanner.next_entry() {
        if let Body::File(Content::Zip(content)) = &entry.body
            && let Ok(reader) = zip::open(range, content, &limits())
        {
            let _ = std::io::copy(&mut reader.take(1 << 20), &mut std::io::sink());
        }
        found.push(entry);
    }
    grow(&found, b"zip");
}

/// Places the entries and compares the tree with the index that is made of it.
fn grow(entries: &[Entry], bytes: &[u8]) {
    let tree = GrowingTree::of_archive(limits());
    for entry in entries {
        if tree.place(entry).is_err() {
            break;
        }
    }
    tree.end(Ok(()));
    let identity = Identity { digest: Digest::of(bytes), stored: bytes.len() as u64, chain: "tar".into() };
    let writer = IndexWriter::new(Path::new("/dev/null/no such folder/index"));
    let nodes = tree.nodes();
    let index = writer.finish(&identity, &nodes, &[], bytes.len() as u64).expect("tables fit");
    index.check().expect("a fresh index is whole");
    assert_eq!(index.count(), nodes.count());
    let mut seen = 0;
    for directory in 0..index.count() {
        let mut last: Option<Vec<u8>> = None;
        let mut names = Vec::new();
        index
            .entries(directory, None, &mut |name, node, _| {
                assert!(last.as_deref().is_none_or(|last| last < name));
                last = Some(name.to_vec());
                names.push((name.to_vec(), node));
                std::ops::ControlFlow::Continue(())
            })
            .expect("entries");
        for (name, node) in names {
            assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/'));
            assert_eq!(index.lookup(directory, &name).expect("look up"), Some(node));
            assert_eq!(tree.lookup(directory, &name).expect("look up"), Some(node));
            let attributes = tables::attributes(&index, node).expect("attributes");
            assert_eq!(attributes.kind, tree.attributes(node).expect("attributes").kind);
            seen += 1;
        }
    }
    assert!(seen <= entries.len() * 64);
    assert_eq!(index.notices().expect("notices"), tree.notices());
}

fn decode(range: &FileRange, choice: u8) {
    let compression = match choice {
        5 => Compression::Gzip,
        6 => Compression::Bzip2,
        _ if range.len() % 2 == 0 => Compression::Xz,
        _ => Compression::Zstd,
    };
    let points = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&points);
    let observe: chain::Observer = Box::new(move |point| log.lock().expect("points").push(point));
    let mut out = Vec::new();
    let result = chain::open(range, &[compression], &limits(), Some(observe)).read_to_end(&mut out);
    if let Err(error) = &result {
        let _ = SlotError::from_read(std::io::Error::new(error.kind(), error.to_string())).to_string();
    }
    // From every point, what follows is what was decoded from the start.
    for point in points.lock().expect("points").iter().take(4) {
        let start = usize::try_from(point.decoded).expect("small");
        let mut rest = vec![0; out.len() - start];
        let decoded = chain::resume(range, compression, point, &limits()).read_exact(&mut rest);
        assert!(decoded.is_ok() && rest == out[start..], "{compression:?} from {start}");
    }
    let source = slotfs_fs::package::SlotSource {
        stored: range.clone(),
        compressions: vec![compression],
        container: slotfs_fs::package::Container::Tar,
    };
    let _ = Plan::of(&source);
}

fn stored(file: &mut File, bytes: &[u8]) -> FileRange {
    file.set_len(0).expect("truncate");
    file.seek(SeekFrom::Start(0)).expect("seek");
    file.write_all(bytes).expect("write");
    let file = Arc::new(file.try_clone().expect("duplicate"));
    FileRange::new(file, 0, bytes.len() as u64).expect("small")
}

fn unnamed_file() -> File {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let path = folder.join(format!("slotfs-fuzz-scan-{}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("create");
    std::fs::remove_file(&path).expect("remove");
    file
}

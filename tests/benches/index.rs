//! How long it takes to open a slot's index and find one file in it: the same for a thousand files and a million.
//!
//! Prints one JSON object a size, every single time in it; `scripts/bench index` makes the table. Sizes take turns,
//! so that whatever else the machine does meets both.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark stops at the first surprise and prints its times"
)]

use std::fs::File;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use slotfs_fs::disk::digest::Digest;
use slotfs_fs::disk::mapped::Mapping;
use slotfs_fs::node::Timestamp;
use slotfs_fs::slot::Limits;
use slotfs_fs::slot::index::{Identity, Index, IndexWriter};
use slotfs_fs::slot::scan::{Body, Content, Entry};
use slotfs_fs::slot::tree::{GrowingTree, tables};

const SIZES: [u32; 2] = [1_000, 1_000_000];
const FILES_IN_A_DIRECTORY: u32 = 100;

/// An index on disk, and the times measured on it.
struct Subject {
    files: u32,
    path: PathBuf,
    identity: Identity,
    open_seconds: Vec<f64>,
    find_seconds: Vec<f64>,
    map_seconds: Vec<f64>,
}

fn directory(number: u32) -> String {
    format!("directory-{:05}", number / FILES_IN_A_DIRECTORY)
}

fn file(number: u32) -> String {
    format!("file-{number:07}.txt")
}

/// Makes the index of a tar slot of this many files, as the pass over one would.
fn build(folder: &Path, files: u32) -> Subject {
    let stored = u64::from(files) * 1024;
    let identity = Identity { digest: Digest::of(&files.to_le_bytes()), stored, chain: "tar".into() };
    let path = identity.path(folder);
    let writer = IndexWriter::new(&path);
    let tree = GrowingTree::of_archive(Limits::default());
    let modified = Timestamp { seconds: 1_700_000_000, nanoseconds: 0 };
    for number in 0..files {
        let entry = Entry {
            path: format!("{}/{}", directory(number), file(number)).into_bytes(),
            body: Body::File(Content::Whole { decoded: u64::from(number) * 1024 + 512, size: 512 }),
            mode: 0o644,
            user: 0,
            group: 0,
            modified,
            attributes: Vec::new(),
        };
        tree.place(&entry).unwrap();
    }
    tree.end(Ok(()));
    writer.finish(&identity, &tree.nodes(), &[], stored).unwrap();
    Subject {
        files,
        path,
        identity,
        open_seconds: Vec::new(),
        find_seconds: Vec::new(),
        map_seconds: Vec::new(),
    }
}

impl Subject {
    /// Opens the index, then finds and describes the file `number`: what the first look-up after a start costs.
    fn open_and_find(&mut self, number: u32) {
        let start = Instant::now();
        let index = Index::open(&self.path, &self.identity).unwrap().unwrap();
        self.open_seconds.push(start.elapsed().as_secs_f64());
        let folder = index.lookup(0, directory(number).as_bytes()).unwrap().unwrap();
        let node = index.lookup(folder, file(number).as_bytes()).unwrap().unwrap();
        black_box(tables::attributes(&index, node).unwrap());
        self.find_seconds.push(start.elapsed().as_secs_f64());
    }

    /// What no index can do without: opening a file, mapping it, and touching one page.
    fn map_only(&mut self) {
        let start = Instant::now();
        let mapping = Mapping::of(&File::open(&self.path).unwrap()).unwrap();
        black_box(mapping[0]);
        self.map_seconds.push(start.elapsed().as_secs_f64());
    }
}

/// Reads `--repetitions N`; cargo adds arguments of its own.
fn repetitions() -> u32 {
    let arguments: Vec<String> = std::env::args().collect();
    let given = arguments.iter().position(|argument| argument == "--repetitions");
    given.map_or(100, |at| arguments[at + 1].parse().unwrap())
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let mut subjects = SIZES.map(|files| build(folder.path(), files));
    for round in 0..repetitions() {
        for subject in &mut subjects {
            // Another file each time, spread over the whole index.
            subject.open_and_find((u64::from(round) * 7919 * 104_729 % u64::from(subject.files)) as u32);
            subject.map_only();
        }
    }
    for subject in subjects {
        let bytes = std::fs::metadata(&subject.path).unwrap().len();
        let line = serde_json::json!({
            "files": subject.files, "bytes": bytes, "open_seconds": subject.open_seconds,
            "find_seconds": subject.find_seconds, "map_seconds": subject.map_seconds,
        });
        println!("{line}");
    }
}

//! Damaged indexes whose checksums are right: every answer ends, and none panics.
//!
//! The input overwrites parts of a good index: runs of position (3 bytes), length (1 byte), bytes.
#![no_main]

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};
use slotfs_fs::disk::digest::Digest;
use slotfs_fs::node::Timestamp;
use slotfs_fs::slot::Limits;
use slotfs_fs::slot::chain::Point;
use slotfs_fs::slot::index::{Identity, Index, IndexWriter};
use slotfs_fs::slot::scan::{Body, Content, Entry, Extent, ZipContent};
use slotfs_fs::slot::seek::PointLog;
use slotfs_fs::slot::tree::{GrowingTree, tables};

const BLOCK: usize = 4096;
/// Where the header has the place of the section of sums, and the sums of the section behind it.
const SUMS_SPAN: usize = 160 + 12 * 16;
const TOP_SUMS: usize = 392;

fn identity() -> Identity {
    Identity { digest: Digest::of(b"slot"), stored: 100_000, chain: "tar.gzip".into() }
}

fn good() -> &'static [u8] {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("slotfs-fuzz-index-{}", std::process::id()));
        let path = identity().path(&folder);
        let writer = Arc::new(IndexWriter::new(&path));
        let points = PointLog::new(Arc::clone(&writer));
        for number in 0..5_u8 {
            points.add(&Point {
                decoded: u64::from(number) * 10_000,
                stored_bits: u64::from(number) * 8003,
                context: vec![number; usize::from(number) * 3000],
                header: None,
            });
        }
        let tree = GrowingTree::of_archive(Limits::default());
        for (number, body) in bodies().into_iter().enumerate() {
            let entry = Entry {
                path: format!("folder{}/entry{number}", number % 3).into_bytes(),
                body,
                mode: 0o644,
                user: 1,
                group: 2,
                modified: Timestamp { seconds: 1_700_000_000, nanoseconds: 5 },
                attributes: vec![(b"user.name".to_vec(), b"value".to_vec())],
            };
            let placed = tree.place(&entry).expect("place").expect("placed");
            if number == 0 {
                tree.set_inline(placed.node, b"small");
                tree.set_digest(placed.node, Digest::of(b"small"), false).expect("digest");
            }
        }
        tree.end(Ok(()));
        writer.finish(&identity(), &tree.nodes(), &points.records(), 50_000).expect("index");
        let bytes = std::fs::read(&path).expect("read");
        std::fs::remove_dir_all(&folder).expect("remove");
        bytes
    })
}

fn bodies() -> Vec<Body> {
    let extent = |offset, decoded, length| Extent { offset, decoded, length };
    vec![
        Body::File(Content::Whole { decoded: 512, size: 5 }),
        Body::File(Content::Whole { decoded: 2048, size: 30_000 }),
        Body::File(Content::Sparse { extents: vec![extent(10, 600, 20), extent(90, 620, 9)], size: 100 }),
        Body::File(Content::Zip(ZipContent { header: 0, stored: 5, size: 9, method: 8, crc: 1 })),
        Body::Symlink(b"entry0".to_vec()),
        Body::Directory,
        Body::Fifo,
    ]
}

fuzz_target!(|input: &[u8]| {
    let mut bytes = good().to_vec();
    let mut rest = input;
    while let Some((head, tail)) = rest.split_at_checked(4) {
        let at = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let count = usize::from(head[3] % 32).min(tail.len());
        let at = at % bytes.len();
        let end = (at + count).min(bytes.len());
        bytes[at..end].copy_from_slice(&tail[..end - at]);
        rest = &tail[count..];
    }
    make_sums_right(&mut bytes);
    let Ok(index) = Index::in_memory(Arc::new(bytes), &identity()) else { return };
    use_all(&index);
});

/// Recomputes every checksum, as far as the header still says where they are.
fn make_sums_right(bytes: &mut [u8]) {
    let number = |bytes: &[u8], at: usize| {
        usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"))).unwrap_or(usize::MAX)
    };
    let start = number(bytes, SUMS_SPAN);
    if start >= BLOCK && start <= bytes.len() {
        let sums = sums_of(&bytes[BLOCK..start]);
        let upper = sums_of(&sums);
        let top = sums_of(&upper);
        if start + sums.len() + upper.len() == bytes.len() && TOP_SUMS + top.len() <= BLOCK {
            bytes[start..].copy_from_slice(&[sums, upper].concat());
            bytes[TOP_SUMS..][..top.len()].copy_from_slice(&top);
        }
    }
    bytes[8..40].fill(0);
    let sum = Sha256::digest(&bytes[..BLOCK]);
    bytes[8..40].copy_from_slice(&sum);
}

fn sums_of(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(BLOCK).flat_map(Sha256::digest).collect()
}

fn use_all(index: &Index) {
    let _ = index.check();
    let _ = index.notices();
    for node in 0..index.count().min(64) {
        let _ = tables::attributes(index, node);
        let _ = tables::content(index, node);
        let _ = tables::target(index, node);
        let _ = tables::extended_attributes(index, node);
        let _ = tables::path(index, node);
        let mut visited = 0;
        let _ = index.entries(node, Some(b"a"), &mut |name, child, _| {
            let _ = index.lookup(node, name);
            let _ = tables::attributes(index, child);
            visited += 1;
            if visited < 1000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let _ = index.lookup(node, b"entry1");
    }
    for at in [0, 1, 9_999, 10_000, 49_999, u64::MAX] {
        let _ = index.point(at);
    }
}

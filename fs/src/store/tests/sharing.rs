//! Large contents that share most of their bytes are kept once, and read as if each were there.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand_like::bytes;

use super::*;

/// Bytes that do not repeat, the same for the same seed.
mod rand_like {
    pub(super) fn bytes(seed: u64, length: usize) -> Vec<u8> {
        // xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016).
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

const SIZE: usize = 5 << 20;

fn open() -> (tempfile::TempDir, Arc<Store>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    (folder, store)
}

/// Publishes a content by itself.
fn publish(store: &Arc<Store>, content: &[u8]) -> Digest {
    let batch = store.batch().unwrap();
    let digest = put(&batch, &[content]);
    batch.publish().unwrap();
    digest
}

fn usage(store: &Store) -> BTreeMap<Digest, Usage> {
    let mut seen = BTreeMap::new();
    store
        .visit(&mut |usage| {
            seen.insert(usage.digest, usage);
            ControlFlow::Continue(())
        })
        .unwrap();
    seen
}

/// The content with `inserted` in the middle.
fn longer(content: &[u8], inserted: &[u8]) -> Vec<u8> {
    let (one, other) = content.split_at(content.len() / 2);
    [one, inserted, other].concat()
}

fn seal(path: &Path, digest: &Digest) {
    File::options().write(true).open(path).unwrap().set_modified(layout::seal(digest)).unwrap();
}

#[test]
fn what_versions_share_is_kept_once() {
    let (_folder, store) = open();
    let first = bytes(1, SIZE);
    let versions: Vec<Vec<u8>> = (0..10).map(|number| longer(&first, &bytes(100 + number, 1000))).collect();
    let base = publish(&store, &first);
    let digests: Vec<Digest> = versions.iter().map(|version| publish(&store, version)).collect();
    let other = publish(&store, &bytes(2, SIZE));

    let used = usage(&store);
    assert_eq!(used[&base].length, SIZE as u64);
    assert!(
        store.object(&base).unwrap().unwrap().file().is_some(),
        "the first version stays a file of its own"
    );
    assert!(store.object(&other).unwrap().unwrap().file().is_some(), "so does what is like nothing");
    let shared: u64 = digests.iter().map(|digest| used[digest].length).sum();
    assert!(shared < SIZE as u64 / 2, "ten versions take {shared} bytes more");
    for (digest, version) in digests.iter().zip(&versions) {
        assert!(store.contains(digest, version.len() as u64));
        assert_eq!(used[digest].sources[..], [base]);
        assert!(content(&store, digest).unwrap() == *version);
        assert_eq!(store.is_intact(digest).unwrap(), Some(true));
        assert!(store.object_of(digest, version.len() as u64 - 1).unwrap().is_none(), "another length");
        assert!(!store.contains(digest, version.len() as u64));
    }
}

#[test]
fn versions_that_come_together_are_shared_too() {
    let (_folder, store) = open();
    let first = bytes(1, SIZE);
    let second = longer(&first, b"more");
    let third = longer(&second, &bytes(3, 300_000));
    let batch = store.batch().unwrap();
    let digests = [&first, &second, &third].map(|content| put(&batch, &[content]));
    batch.publish().unwrap();
    let whole = digests.iter().filter(|digest| store.object(digest).unwrap().unwrap().file().is_some());
    assert_eq!(whole.count(), 1, "in whatever order they were taken");
    for (digest, version) in digests.iter().zip([&first, &second, &third]) {
        assert!(content(&store, digest).unwrap() == *version);
    }
}

#[test]
fn bytes_are_taken_from_whole_objects_only() {
    let (_folder, store) = open();
    let first = bytes(1, SIZE);
    let second = longer(&first, &bytes(3, 2 << 20));
    let third = [&second[..], b"the end"].concat();
    let digests = [&first, &second, &third].map(|content| publish(&store, content));
    let used = usage(&store);
    for digest in &digests[1..] {
        // What an object in parts has of its own depends on what was there when it was made.
        assert_eq!(used[digest].sources[..], [digests[0]]);
    }
    assert!(content(&store, &digests[2]).unwrap() == third);
    store.remove(&digests[1]).unwrap();
    assert!(content(&store, &digests[2]).unwrap() == third);
}

#[test]
fn what_two_publish_at_once_is_there_once_and_right() {
    let (_folder, store) = open();
    let first = bytes(1, SIZE);
    let second = longer(&first, &bytes(3, 100_000));
    publish(&store, &first);
    for content_of in [&second, &bytes(4, SIZE)] {
        let batches = [store.batch().unwrap(), store.batch().unwrap(), store.batch().unwrap()];
        let digests = [0, 1, 2].map(|number: usize| put(&batches[number], &[content_of]));
        for batch in &batches {
            batch.publish().unwrap();
            assert!(content(&store, &digests[0]).unwrap() == *content_of);
        }
        let forms = [layout::object, layout::parts].map(|path| path(store.root(), &digests[0]).exists());
        assert!(forms[0] != forms[1]);
        assert!(!usage(&store)[&digests[0]].sources.contains(&digests[0]));
    }
}

#[test]
fn what_lost_its_source_is_made_again() {
    let (_folder, store) = open();
    let first = bytes(1, SIZE);
    let second = longer(&first, b"more");
    let third = longer(&first, b"other");
    let [base, shared, removed] = [&first, &second, &third].map(|content| publish(&store, content));
    let held = store.object(&shared).unwrap().unwrap();
    assert!(store.remove(&removed).unwrap() > 0);
    assert!(store.object(&removed).unwrap().is_none());

    assert_eq!(store.remove(&base).unwrap(), SIZE as u64);
    assert!(bytes_of(&held, second.len()) == second, "who has it open keeps it");
    assert_eq!(store.is_intact(&shared).unwrap(), Some(false));
    assert!(store.contains(&shared, second.len() as u64), "a check changes nothing");
    assert!(store.object_of(&shared, second.len() as u64).unwrap().is_none());
    assert!(!store.contains(&shared, second.len() as u64));
    assert_eq!(publish(&store, &second), shared);
    assert!(store.object(&shared).unwrap().unwrap().file().is_some());
    assert!(content(&store, &shared).unwrap() == second);
}

#[test]
fn nothing_is_taken_from_a_source_that_has_other_bytes() {
    let (_folder, store) = open();
    let first = bytes(1, SIZE);
    let base = publish(&store, &first);
    // A disk that rots: everything but the bytes says that they are there.
    let path = layout::object(store.root(), &base);
    let mut rotten = first.clone();
    rotten[SIZE / 4] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, &rotten).unwrap();
    seal(&path, &base);
    let second = longer(&first, b"more");
    let shared = publish(&store, &second);
    assert_eq!(usage(&store)[&shared].sources[..], [base]);
    assert!(content(&store, &shared).unwrap() == second);
    // And of one that is written to, nothing.
    fs::write(&path, &rotten).unwrap();
    assert!(store.object(&shared).unwrap().is_none());
    let again = publish(&store, &second);
    assert!(store.object(&again).unwrap().unwrap().file().is_some());
}

#[test]
fn every_damaged_byte_of_a_table_is_found() {
    let (_folder, store) = open();
    let first = bytes(1, SIZE);
    publish(&store, &first);
    let second = longer(&first, b"more");
    let digest = publish(&store, &second);
    let path = layout::parts(store.root(), &digest);
    let good = fs::read(&path).unwrap();
    let writable = || {
        let _ = fs::remove_file(&path);
        File::create(&path).unwrap()
    };
    // Three records and the trailer, and some bytes of its own before them.
    for at in good.len() - (3 * 48 + 64 + 8)..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        std::io::Write::write_all(&mut writable(), &bad).unwrap();
        seal(&path, &digest);
        if let Some(found) = content(&store, &digest) {
            // Before the table come bytes of the content itself, which `store check` compares.
            assert!(found.len() == second.len(), "byte {at}");
            assert_eq!(store.is_intact(&digest).unwrap(), Some(false), "byte {at}");
        }
    }
    for length in [0, 1, 63, 64, 100, good.len() - 1] {
        std::io::Write::write_all(&mut writable(), &good[..length]).unwrap();
        seal(&path, &digest);
        assert!(store.object(&digest).unwrap().is_none(), "{length} bytes");
    }
}

#[test]
fn lists_of_what_is_gone_go_and_nonsense_is_no_list() {
    let (_folder, store) = open();
    let first = bytes(1, SIZE);
    let base = publish(&store, &first);
    let list = layout::chunk_list(store.root(), &base);
    assert!(list.exists());
    let nonsense = layout::chunk_list(store.root(), &Digest::of(b"x"));
    fs::write(&nonsense, b"slotchk\x01 and more").unwrap();
    store.remove(&base).unwrap();
    publish(&store, &longer(&first, b"more"));
    assert!(!list.exists() && !nonsense.exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// Whatever was changed between two versions, and wherever one reads.
    #[test]
    fn every_version_reads_as_it_was_given(
        edits in prop::collection::vec((0..SIZE, 0..200_000_usize, 0..200_000_usize), 0..4),
        reads in prop::collection::vec((0..SIZE, 0..500_000_usize), 1..20),
    ) {
        let (_folder, store) = open();
        let mut version = bytes(1, SIZE);
        publish(&store, &version);
        for (number, (at, removed, added)) in edits.into_iter().enumerate() {
            let at = at.min(version.len());
            let end = (at + removed).min(version.len());
            version.splice(at..end, bytes(1000 + number as u64, added));
            let digest = publish(&store, &version);
            let object = store.object_of(&digest, version.len() as u64).unwrap().unwrap();
            prop_assert!(bytes_of(&object, version.len()) == version);
            for (offset, length) in &reads {
                let offset = *offset.min(&version.len());
                let end = (offset + length).min(version.len());
                let mut piece = vec![0; end - offset];
                object.read_exact_at(version.len() as u64, offset as u64, &mut piece).unwrap();
                prop_assert!(piece == version[offset..end]);
            }
            let mut beyond = [0; 2];
            prop_assert!(object.read_exact_at(version.len() as u64, version.len() as u64 - 1, &mut beyond).is_err());
        }
    }
}

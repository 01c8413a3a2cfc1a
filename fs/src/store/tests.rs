//! Objects are published whole, once, read-only; left-overs of the dead go, those of the living stay.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod sharing;

use std::ops::ControlFlow;

use super::*;

fn put(batch: &Batch, pieces: &[&[u8]]) -> Digest {
    let mut writer = batch.writer();
    for piece in pieces {
        writer.write(piece).unwrap();
    }
    let staged = writer.finish().unwrap();
    let digest = staged.digest;
    batch.add(staged).unwrap();
    digest
}

fn content(store: &Store, digest: &Digest) -> Option<Vec<u8>> {
    let object = store.object(digest).unwrap()?;
    let length = match &object {
        Object::Whole(file) | Object::Among { file, .. } => file.metadata().unwrap().len(),
        Object::Parts(parts) => parts.len(),
    };
    Some(bytes_of(&object, usize::try_from(length).unwrap()))
}

/// The content of an object that waits in the batch.
fn waiting(batch: &Batch, digest: &Digest, length: usize) -> Option<Vec<u8>> {
    Some(bytes_of(&batch.staged(digest).unwrap()?, length))
}

fn bytes_of(object: &Object, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    object.read_exact_at(length as u64, 0, &mut bytes).unwrap();
    bytes
}

#[test]
fn objects_are_readable_when_added_and_in_the_store_when_published() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    let batch = store.batch().unwrap();
    let large = vec![7; 3 << 20];
    let digests = [put(&batch, &[b"hello ", b"world"]), put(&batch, &[&large, b"end"]), put(&batch, &[])];
    assert_eq!(digests[0], Digest::of(b"hello world"));
    assert!(!store.contains(&digests[0], 0));
    assert_eq!(waiting(&batch, &digests[0], 11).unwrap(), b"hello world");
    assert!(waiting(&batch, &digests[1], large.len() + 3).unwrap().ends_with(b"end"));
    let second = put(&batch, &[b"one ", b"more"]);
    let kept = batch.staged(&second).unwrap().unwrap();
    assert!(!kept.lasts(), "small contents share a file until they are published");
    batch.publish().unwrap();
    assert!(batch.staged(&second).unwrap().is_none());
    assert_eq!(bytes_of(&kept, 8), b"one more", "who has it open keeps it");
    assert_eq!(content(&store, &second).unwrap(), b"one more");
    assert_eq!(content(&store, &digests[0]).unwrap(), b"hello world");
    assert_eq!(content(&store, &digests[1]).unwrap().len(), large.len() + 3);
    assert_eq!(content(&store, &digests[2]).unwrap(), b"");
    let file = store.object(&digests[0]).unwrap().unwrap().file().unwrap();
    assert!(file.metadata().unwrap().permissions().readonly());
    assert!(folder.path().join("CACHEDIR.TAG").exists());

    let mut seen = Vec::new();
    store
        .visit(&mut |usage| {
            seen.push((usage.digest, usage.length));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen.len(), 4);
    assert_eq!(store.remove(&digests[0]).unwrap(), 11);
    assert_eq!(store.remove(&digests[0]).unwrap(), 0);
    assert!(store.object(&digests[0]).unwrap().is_none());
}

#[test]
fn a_batch_that_is_dropped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    let batch = store.batch().unwrap();
    let digest = put(&batch, &[&vec![1; 2 << 20]]);
    drop(batch);
    assert!(!store.contains(&digest, 0));
    assert_eq!(fs::read_dir(store.root().join("staging")).unwrap().count(), 0);
}

#[test]
fn left_overs_of_the_dead_are_swept_and_those_of_the_living_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    let dead = store.root().join("staging").join("999999-0");
    fs::create_dir_all(&dead).unwrap();
    fs::write(dead.join("0"), b"half").unwrap();
    fs::write(dead.with_extension("lock"), b"").unwrap();
    let batch = store.batch().unwrap();
    assert!(!dead.exists(), "swept before the first batch");
    let digest = put(&batch, &[b"alive"]);
    sweep(&store).unwrap();
    batch.publish().unwrap();
    assert!(store.contains(&digest, 0));
}

#[test]
fn damage_is_found_by_length_at_once_and_by_digest_when_verified() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    let batch = store.batch().unwrap();
    let digests = [put(&batch, &[b"short"]), put(&batch, &[b"flipped"])];
    batch.publish().unwrap();
    for (digest, bytes) in [(digests[0], &b"shor"[..]), (digests[1], b"fluPped")] {
        let path = layout::object(store.root(), &digest);
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        // As a disk that rots leaves it.
        File::options().write(true).open(&path).unwrap().set_modified(layout::seal(&digest)).unwrap();
    }
    assert!(store.object_of(&digests[0], 5).unwrap().is_none());
    assert!(!store.contains(&digests[0], 0));
    assert!(store.object_of(&digests[1], 7).unwrap().is_some());
    assert!(!store.verify(&digests[1]).unwrap());
    assert!(!store.contains(&digests[1], 0));
}

#[test]
fn holes_count_as_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    let batch = store.batch().unwrap();
    for size in [1000_usize, 5 << 20] {
        let mut writer = batch.writer();
        writer.write(b"start").unwrap();
        writer.hole(size as u64).unwrap();
        writer.write(b"end").unwrap();
        writer.hole(10).unwrap();
        let staged = writer.finish().unwrap();
        let expected = [&b"start"[..], &vec![0; size], b"end", &[0; 10]].concat();
        assert_eq!(staged.digest, Digest::of(&expected));
        let digest = staged.digest;
        batch.add(staged).unwrap();
        assert!(waiting(&batch, &digest, expected.len()).unwrap() == expected);
        batch.publish().unwrap();
        assert!(content(&store, &digest).unwrap() == expected);
    }
}

#[test]
fn an_object_that_somebody_wrote_to_is_not_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    let batch = store.batch().unwrap();
    let digests = [put(&batch, &[b"first"]), put(&batch, &[b"second"]), put(&batch, &[&vec![7; 3 << 20]])];
    batch.publish().unwrap();
    let path = |digest: &Digest| layout::object(store.root(), digest);
    let replace = |digest: &Digest, bytes: &[u8]| {
        fs::remove_file(path(digest)).unwrap();
        fs::write(path(digest), bytes).unwrap();
    };
    replace(&digests[0], b"fIrst");
    assert!(store.object(&digests[0]).unwrap().is_none());
    assert!(!store.contains(&digests[0], 0), "it is removed, so that it is made again");
    // Restored from a backup that keeps no times: right, and sealed again.
    replace(&digests[1], b"second");
    assert_eq!(content(&store, &digests[1]).unwrap(), b"second");
    let sealed = fs::metadata(path(&digests[1])).unwrap().modified().unwrap();
    assert_eq!(sealed, layout::seal(&digests[1]));
    let untouched = fs::metadata(path(&digests[2])).unwrap().modified().unwrap();
    assert_eq!(untouched, layout::seal(&digests[2]));
    assert!(store.object_of(&digests[2], 5).unwrap().is_none());
}

//! What is written is read again; every flipped byte is found or harmless.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use super::*;
use crate::node::Timestamp;
use crate::slot::Limits;
use crate::slot::scan::{Body, Content, Entry, Extent};
use crate::slot::seek::{PointLog, Points};
use crate::slot::tree::record::kind_code;
use crate::slot::tree::{GrowingTree, Place};

fn identity() -> Identity {
    Identity { digest: Digest::of(b"a slot"), stored: 12345, chain: "tar.gzip".into() }
}

fn entry(path: &str, body: Body) -> Entry {
    Entry {
        path: path.into(),
        body,
        mode: 0o750,
        user: 10,
        group: 20,
        modified: Timestamp { seconds: -3, nanoseconds: 999_999_999 },
        attributes: vec![(b"user.b".to_vec(), b"2".to_vec()), (b"user.a".to_vec(), Vec::new())],
    }
}

/// An index with a node of every kind, in a file below `folder`.
fn make(folder: &Path) -> Index {
    let writer = Arc::new(IndexWriter::new(&identity().path(folder)));
    let points = PointLog::new(Arc::clone(&writer));
    for number in 0..4_u64 {
        let context = vec![u8::try_from(number).unwrap(); usize::try_from(number * 100).unwrap()];
        points.add(&Point { decoded: number * 1000, stored_bits: number * 803, context, header: None });
    }
    let tree = GrowingTree::of_archive(Limits::default());
    let extents = vec![Extent { offset: 5, decoded: 700, length: 6 }];
    for (path, body) in [
        ("file", Body::File(Content::Whole { decoded: 512, size: 100 })),
        ("folder/small", Body::File(Content::Whole { decoded: 1024, size: 5 })),
        ("folder/sparse", Body::File(Content::Sparse { extents, size: 50 })),
        ("link", Body::Symlink(b"folder/small".to_vec())),
        ("folder/again", Body::HardLink(b"file".to_vec())),
        ("../refused", Body::Fifo),
    ] {
        tree.place(&entry(path, body)).unwrap();
    }
    for number in 0..40 {
        let mut fifo = entry(&format!("many/{number:03}"), Body::Fifo);
        fifo.attributes.clear();
        tree.place(&fifo).unwrap();
    }
    let small = tree.lookup(tree.lookup(0, b"folder").unwrap().unwrap(), b"small").unwrap().unwrap();
    tree.set_inline(small, b"small");
    tree.set_digest(small, Digest::of(b"small"), false).unwrap();
    tree.end(Ok(()));
    points.end(Ok(4000));
    writer.finish(&identity(), &tree.nodes(), &points.records(), 4000).unwrap()
}

/// Everything that an index answers.
fn answers(index: &Index) -> Result<Vec<String>, IndexError> {
    let mut seen = Vec::new();
    let mut todo = vec![0];
    while let Some(node) = todo.pop() {
        let kind = tables::kind(&tables::record(index, node)?, node)?;
        seen.push(format!("{:?}", tables::attributes(index, node)?));
        seen.push(format!("{:?}", tables::extended_attributes(index, node)?));
        seen.push(tables::path(index, node));
        if kind == Kind::File {
            seen.push(format!("{:?}", tables::content(index, node)?));
        } else if kind == Kind::Symlink {
            seen.push(format!("{:?}", tables::target(index, node)?));
        }
        let mut names = Vec::new();
        index.entries(node, None, &mut |name, child, kind| {
            names.push((name.to_vec(), child, kind));
            ControlFlow::Continue(())
        })?;
        for (name, child, kind) in names {
            assert_eq!(index.lookup(node, &name)?, Some(child));
            seen.push(format!("{name:?} {child} {kind:?}"));
            todo.push(child);
        }
    }
    seen.push(format!("{:?}", index.notices()?));
    for at in [0, 999, 1000, 3999] {
        seen.push(format!("{:?}", index.point(at)?));
    }
    Ok(seen)
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let index = make(folder.path());
    assert!(index.lookup(0, b"nothing").unwrap().is_none());
    assert!(index.lookup(0, b"fil").unwrap().is_none());
    assert!(index.lookup(0, b"filee").unwrap().is_none());
    let file = index.lookup(0, b"file").unwrap().unwrap();
    assert!(index.lookup(file, b"below a file").unwrap().is_none());
    let attributes = tables::attributes(&index, file).unwrap();
    assert_eq!((attributes.size, attributes.links, attributes.user, attributes.mode), (100, 2, 10, 0o750));
    assert_eq!(attributes.modified, Timestamp { seconds: -3, nanoseconds: 999_999_999 });
    assert_eq!(tables::extended_attributes(&index, file).unwrap()[0].0, b"user.a");
    assert_eq!(tables::content(&index, file).unwrap().place, Place::Run(512));
    let inner = index.lookup(0, b"folder").unwrap().unwrap();
    let small = index.lookup(inner, b"small").unwrap().unwrap();
    let content = tables::content(&index, small).unwrap();
    assert_eq!(content.place, Place::Inline(b"small".to_vec()));
    assert_eq!(content.digest, Some(Digest::of(b"small")));
    assert_eq!(tables::path(&index, small), "folder/small");
    assert_eq!(index.notices().unwrap().len(), 1);
    let (point, end) = index.span(2500).unwrap().unwrap();
    assert_eq!((point.decoded, point.stored_bits, point.context.len(), end), (2000, 1606, 200, 3000));
    assert_eq!(index.span(u64::MAX).unwrap().unwrap().1, 4000);
    index.check().unwrap();

    let path = identity().path(folder.path());
    let opened = Index::open(&path, &identity()).unwrap().unwrap();
    assert_eq!(answers(&opened).unwrap(), answers(&index).unwrap());
    let other = Identity { stored: 1, ..identity() };
    assert!(matches!(Index::open(&path, &other), Err(IndexError::OtherSlot)));
    let other = Identity { chain: "tar".into(), ..identity() };
    assert!(matches!(Index::open(&path, &other), Err(IndexError::OtherSlot)));
    let missing = Identity { digest: Digest::of(b""), ..identity() };
    assert!(Index::open(&missing.path(folder.path()), &missing).unwrap().is_none());
}

#[test]
fn listing_goes_on_behind_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let index = make(folder.path());
    let many = index.lookup(0, b"many").unwrap().unwrap();
    for (after, first) in
        [(None, Some("000")), (Some("000"), Some("001")), (Some("0095"), Some("010")), (Some("039"), None)]
    {
        let mut found = None;
        index
            .entries(many, after.map(str::as_bytes), &mut |name, _, _| {
                found = Some(String::from_utf8(name.to_vec()).unwrap());
                ControlFlow::Break(())
            })
            .unwrap();
        assert_eq!(found.as_deref(), first, "after {after:?}");
    }
}

#[test]
fn every_flipped_byte_is_found_or_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let expected = answers(&make(folder.path())).unwrap();
    let good = std::fs::read(identity().path(folder.path())).unwrap();
    let mut found = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let answer = Index::in_memory(Arc::new(bad), &identity()).and_then(|index| answers(&index));
        match answer {
            Ok(answer) => assert_eq!(answer, expected, "byte {at} changed an answer"),
            Err(_) => found += 1,
        }
    }
    // Padding between sections shares its blocks with them, so that nearly every flip is found.
    assert!(found > good.len() * 9 / 10, "{found} of {}", good.len());
    for length in 0..good.len() {
        if length % 97 == 0 || length + 200 > good.len() {
            assert!(Index::in_memory(Arc::new(good[..length].to_vec()), &identity()).is_err(), "{length}");
        }
    }
}

#[test]
fn left_over_temporaries_are_swept_unless_somebody_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = identity().path(folder.path());
    let writer = IndexWriter::new(&path);
    // The file is made with the first bytes.
    writer.add_window(b"window").unwrap();
    let dead = path.with_file_name(".x.1-2.tmp");
    std::fs::write(&dead, b"half").unwrap();
    assert_eq!(sweep(path.parent().unwrap()).unwrap(), 1);
    assert!(!dead.exists());
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    drop(writer);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
}

/// Passes begin side by side, and each begins with a sweep.
#[test]
fn writers_that_begin_together_do_not_sweep_each_other_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for round in 0..50 {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let path = path(&format!("{round}-{thread}.idx"));
                scope.spawn(move || {
                    let writer = IndexWriter::new(&path);
                    writer.add_window(b"window").unwrap();
                    assert!(writer.is_on_disk(), "swept away");
                    assert_eq!(writer.window(0, 6).unwrap(), b"window");
                });
            }
            scope.spawn(|| super::write::sweep(folder.path()).unwrap());
        });
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "what was not published goes");
}

/// Makes every checksum right again, as somebody would who knows the format.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let block = usize::try_from(BLOCK).unwrap();
    let (mut header, _) = Header::read_from_prefix(&bytes).unwrap();
    let start = usize::try_from(header.sections[Section::Sums.place()].offset.get()).unwrap();
    let sums = write::sums_of(&bytes[block..start]);
    let upper = write::sums_of(sums.as_flattened());
    let top = write::sums_of(upper.as_flattened());
    bytes.truncate(start);
    bytes.extend_from_slice(sums.as_flattened());
    bytes.extend_from_slice(upper.as_flattened());
    header.sum = [0; 32];
    header.sum = Sha256::digest(write::header_block(&header, &top)).into();
    bytes[..block].copy_from_slice(&write::header_block(&header, &top));
    bytes
}

/// A change to an index's bytes.
type Edit<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn a_carried_index_that_is_no_tree_is_refused_although_its_signer_says_so() {
    use crate::disk::range::FileRange;
    let folder = tempfile::tempdir().unwrap();
    let index = make(folder.path());
    let good = index.as_bytes().to_vec();
    let section =
        |section: Section| usize::try_from(index.header.sections[section.place()].offset.get()).unwrap();
    let (entries, names) = (section(Section::Entries), section(Section::Table(Table::Names)));
    let first = index.entry(0).unwrap();
    let name = names + usize::try_from(first.name.get()).unwrap();
    let nodes = section(Section::Table(Table::Nodes));
    let size = size_of::<EntryRecord>();
    let opened = |bytes: &[u8]| {
        let path = folder.path().join("package");
        std::fs::write(&path, bytes).unwrap();
        let file = Arc::new(File::open(path).unwrap());
        let stored = FileRange::new(file, 0, bytes.len() as u64).unwrap();
        let carried = CarriedIndex { stored, root: Digest::of(&bytes[..4096]) };
        Index::open_carried(&folder.path().join("shared"), &identity(), &carried)
    };
    assert_eq!(answers(&opened(&resealed(good.clone())).unwrap()).unwrap(), answers(&index).unwrap());
    let wrong: [(&str, Edit<'_>); 6] = [
        ("the root in a directory", &|bytes| {
            bytes[entries..entries + 4].fill(0);
            bytes[entries + 10] = 2;
        }),
        ("a slash in a name", &|bytes| (bytes[name], bytes[entries + 12]) = (b'/', b'/')),
        ("a name twice", &|bytes| bytes.copy_within(entries + size..entries + 2 * size, entries)),
        ("a node that is not there", &|bytes| bytes[entries..entries + 4].fill(0x7F)),
        ("more entries than there are", &|bytes| bytes[nodes + 52] = 0xFF),
        ("a root that is a link", &|bytes| bytes[nodes] = kind_code(Kind::Symlink)),
    ];
    for (what, edit) in wrong {
        let mut bytes = good.clone();
        edit(&mut bytes);
        let bytes = resealed(bytes);
        assert!(
            Index::in_memory(Arc::new(bytes.clone()), &identity()).is_ok(),
            "{what}: checksums are right"
        );
        assert!(answers(&opened(&bytes).unwrap()).is_err(), "{what}");
    }
}

/// Packages of earlier versions carry such an index; the slot is hashed and gone over as ever.
#[test]
fn a_carried_index_of_version_1_is_told_from_a_damaged_one() {
    use crate::disk::range::FileRange;
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = make(folder.path()).as_bytes().to_vec();
    bytes[7] = 1;
    let path = folder.path().join("package");
    std::fs::write(&path, &bytes).unwrap();
    let stored = FileRange::new(Arc::new(File::open(path).unwrap()), 0, bytes.len() as u64).unwrap();
    // The digest that they state is that of the whole.
    let carried = CarriedIndex { stored, root: Digest::of(&bytes) };
    let error = Index::open_in_package(&identity(), &carried).unwrap_err();
    assert!(matches!(error, IndexError::OtherVersion), "{error}");
}

/// Directories in circles are never entered, wherever a signer puts them.
#[test]
fn no_way_through_directories_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let index = make(folder.path());
    let good = index.as_bytes().to_vec();
    let section =
        |section: Section| usize::try_from(index.header.sections[section.place()].offset.get()).unwrap();
    let (entries, size) = (section(Section::Entries), size_of::<EntryRecord>());
    let count = usize::try_from(index.rows::<EntryRecord>(Section::Entries)).unwrap();
    let directories: Vec<u32> = (0..index.count())
        .filter(|&node| tables::record(&index, node).unwrap().kind() == Some(Kind::Directory))
        .collect();
    assert_eq!(directories.len(), 3);
    for place in 0..count {
        for &directory in &directories {
            let mut bytes = good.clone();
            let at = entries + place * size;
            if bytes[at..at + 4] == directory.to_le_bytes() {
                continue;
            }
            bytes[at..at + 4].copy_from_slice(&directory.to_le_bytes());
            bytes[at + 10] = 2;
            let index = Index::in_memory(Arc::new(resealed(bytes)), &identity()).unwrap();
            assert!(answers(&index).is_err(), "entry {place} leads to {directory}");
        }
    }
}

#[test]
fn an_index_larger_than_a_block_of_sums_is_checked_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let writer = IndexWriter::new(&identity().path(folder.path()));
    // 700 blocks: six blocks of sums.
    let window: Vec<u8> = (0..700 * 4096_u32).map(|at| (at / 97) as u8).collect();
    writer.add_window(&window).unwrap();
    let tree = GrowingTree::of_archive(Limits::default());
    tree.place(&entry("file", Body::Fifo)).unwrap();
    tree.end(Ok(()));
    let chunks: Vec<Digest> = (0..4_u8).map(|number| Digest::of(&[number])).collect();
    let extras = Extras { decoded: 9, chunks: (4096, &chunks), ..Extras::default() };
    let index = writer.finish_with(&identity(), &tree.nodes(), &extras).unwrap();
    index.check().unwrap();
    assert_eq!((index.chunk_length(), index.chunk(3).unwrap()), (Some(4096), chunks[3]));
    assert!(index.chunk(4).is_err());
    // Who signs packages does not say how much is hashed for a byte, or how much memory it takes to remember that.
    for length in [1, 4095, (16 << 20) + 1, u32::MAX] {
        let count = usize::try_from(12_345_u32.div_ceil(length)).unwrap();
        let chunks = vec![Digest::of(b""); count];
        let writer = IndexWriter::in_memory();
        let extras = Extras { chunks: (length, &chunks), ..Extras::default() };
        let made = writer.finish_with(&identity(), &tree.nodes(), &extras);
        assert!(made.unwrap_err().to_string().contains("length of chunks"), "{length}");
    }
    let good = index.as_bytes().to_vec();
    for at in (0..good.len()).step_by(4093).chain(good.len() - 300..good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let checked = Index::in_memory(Arc::new(bad), &identity()).and_then(|index| index.check());
        assert!(checked.is_err(), "byte {at} of {}", good.len());
    }
}

//! Packed slots are not hashed before they are used: each chunk of them is compared with its digest when it is read. Whatever
//! byte is another one, nothing wrong is ever shown.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use slotfs_fs::disk::digest::Digest;
use slotfs_fs::layer::stack::{Lower, PlacedLayer, Stack};
use slotfs_fs::layer::{SlotHome, SlotLayer, SlotOptions};
use slotfs_fs::node::Kind;
use slotfs_fs::package::signature::SignatureState;
use slotfs_fs::package::verify::{Checking, Outcome, verify_rest};
use slotfs_fs::package::{Package, Slot};
use slotfs_fs::slot::index;
use slotfs_fs::store::Store;
use slotfs_tests::command::{Home, missing_fuse};

use super::index::indexes;
use super::support::{file, noise_of, pack};

const CHUNK: usize = 64 << 10;

/// Packs a tree, a compressed file and a file stored as it is, each of several chunks.
fn packed(home: &Home, profile: &str) -> PathBuf {
    packed_with(home, profile, 200_000)
}

/// As [`packed`], with so many bytes in the longest file of the tree.
fn packed_with(home: &Home, profile: &str, middle: usize) -> PathBuf {
    file(home, "app/bin/run", 0o755, "#!/bin/sh\ncat \"$FLAVOR_WORKENV/lib/first\"\n");
    file(home, "app/lib/first", 0o644, noise_of(1, 20_000));
    file(home, "app/lib/middle", 0o644, noise_of(2, middle));
    file(home, "app/lib/small", 0o644, "in the index");
    std::os::unix::fs::symlink("small", home.path("app/lib/zlink")).unwrap();
    file(home, "one", 0o644, noise_of(3, 150_000));
    file(home, "plain", 0o600, noise_of(4, 200_000));
    file(home, "little", 0o640, "less than a chunk");
    let sources = ["app", "one", "plain,operations=raw", "little,operations=raw"];
    let rest = ["--command", "{workenv}/bin/run", "--key-seed", "s", "--profile", profile, "-o", "app.psp"];
    pack(home, &[&sources[..], &rest].concat()).success();
    home.path("app.psp")
}

/// Everything that a tree shows: path to kind, mode and content.
type Tree = BTreeMap<String, (Kind, u32, Vec<u8>)>;

/// Opens a package as a mount does, without hashing what it vouches for, and reads everything; or says why that cannot be.
fn served(path: &Path, home: &SlotHome) -> Result<Tree, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let package = Package::open(path, &Default::default()).map_err(|error| text(&error))?;
    if package.evidence().map(|evidence| evidence.signature) != Some(SignatureState::Valid) {
        return Err("the signature is wrong".into());
    }
    let verification = verify_rest(&package, &index::checking, &|_| {}).map_err(|error| text(&error))?;
    if let Some(failure) = verification.failures().next() {
        return Err(failure);
    }
    let layer = |slot: &Slot| {
        let verified = verification.slot(slot.position).unwrap();
        let options = SlotOptions { checking: verified.checking(), ..SlotOptions::default() };
        let layer =
            SlotLayer::open(slot, verified.digest.unwrap(), home, options).map_err(|error| text(&error))?;
        let (name, target) = (slot.id.clone(), slot.target.clone());
        Ok(PlacedLayer { name, layer: Arc::new(layer), target, writable: false })
    };
    let stack = Stack::new(package.slots().iter().map(layer).collect::<Result<_, String>>()?);
    let mut tree = Tree::new();
    let root = stack.root().map_err(|error| text(&error))?;
    read(&stack, &root, "", &mut tree).map_err(|error| text(&error))?;
    Ok(tree)
}

fn read(
    stack: &Stack,
    node: &Lower,
    path: &str,
    tree: &mut Tree,
) -> Result<(), slotfs_fs::layer::LayerError> {
    let attributes = stack.attributes(node)?;
    let mut content = Vec::new();
    let (layer, at) = node.top().unwrap_or((0, slotfs_fs::layer::LayerNode(0)));
    let layer = stack.layer(layer);
    match node.kind {
        Kind::File => {
            content.resize(usize::try_from(attributes.size).unwrap(), 0);
            let mut done = 0;
            while done < content.len() {
                let end = content.len().min(done + 50_000);
                let count = layer.layer.read(at, done as u64, &mut content[done..end])?;
                assert!(count > 0, "{path} ends early");
                done += count;
            }
        }
        Kind::Symlink => content = layer.layer.read_link(at)?,
        Kind::Directory | Kind::Fifo | Kind::Socket | Kind::CharacterDevice | Kind::BlockDevice => {}
    }
    tree.insert(path.to_owned(), (node.kind, attributes.mode, content));
    let mut names = Vec::new();
    if node.kind == Kind::Directory {
        stack.list(node, &mut |name, _, _| {
            names.push(name.to_vec());
            std::ops::ControlFlow::Continue(())
        })?;
    }
    for name in names {
        if let Some(child) = stack.lookup(node, &name)? {
            read(stack, &child, &format!("{path}/{}", String::from_utf8_lossy(&name)), tree)?;
        }
    }
    Ok(())
}

/// Numbers that look as if they came from nowhere, always the same ones.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % limit as u64).unwrap()
    }
}

fn flip(path: &Path, at: usize, bit: usize) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << bit], at as u64).unwrap();
}

/// Flips bits of copies of the package on several threads, and returns how many of them were refused.
fn flips(bytes: &[u8], places: &[usize], truth: &Tree) -> usize {
    const THREADS: usize = 6;
    std::thread::scope(|scope| {
        let work = |thread: usize| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("app.psp");
            let mut refused = 0;
            for (turn, &at) in places.iter().enumerate().skip(thread).step_by(THREADS) {
                let mut bytes = bytes.to_vec();
                bytes[at] ^= 1 << (turn % 8);
                std::fs::write(&path, &bytes).unwrap();
                let home = SlotHome { shared: folder.path().join(turn.to_string()), store: None };
                match served(&path, &home) {
                    Ok(tree) => assert!(tree == *truth, "byte {at}, bit {} changes what is shown", turn % 8),
                    Err(_) => refused += 1,
                }
                let _ = std::fs::remove_dir_all(&home.shared);
            }
            refused
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

#[test]
fn a_flipped_byte_of_a_package_is_found_or_changes_nothing() {
    for profile in ["compatible", "fast"] {
        let home = Home::new();
        let path = packed(&home, profile);
        let bytes = std::fs::read(&path).unwrap();
        let shared = || SlotHome { shared: home.path("shared"), store: None };
        let truth = served(&path, &shared()).unwrap();
        assert_eq!(truth["/plain"].2, noise_of(4, 200_000));
        assert_eq!(truth["/lib/middle"].2, noise_of(2, 200_000));
        let package = Package::open(&path, &Default::default()).unwrap();
        let mut random = Random(11);
        let stored: Vec<std::ops::Range<usize>> =
            package.slots().iter().map(|slot| range(&slot.source.stored)).collect();
        // In the slots, each flip is found.
        let longest = stored.iter().map(|range| range.end - range.start).max().unwrap();
        assert!(longest > 2 * CHUNK, "several chunks");
        let places: Vec<usize> = (0..300)
            .map(|turn| &stored[turn % stored.len()])
            .map(|range| range.start + random.below(range.len()))
            .collect();
        let refused = flips(&bytes, &places, &truth);
        assert_eq!(refused, places.len(), "{profile}: a flip in a slot went unnoticed");
        // Behind the launcher anything may be hit; in the indexes, what is not found another way is made anew.
        let launcher = stored[0].start;
        let mut places: Vec<usize> =
            (0..450).map(|_| launcher + random.below(bytes.len() - launcher)).collect();
        for index in indexes(&home, "app.psp") {
            places.extend((0..80).map(|_| index.start + random.below(index.len())));
        }
        let end = stored.last().unwrap().end;
        places.extend((0..250).map(|_| end + random.below(bytes.len() - end)));
        let refused = flips(&bytes, &places, &truth);
        assert!(refused > 0 && refused < places.len(), "{profile}: {refused}");
    }
}

fn range(stored: &slotfs_fs::disk::range::FileRange) -> std::ops::Range<usize> {
    let start = usize::try_from(stored.offset()).unwrap();
    start..start + usize::try_from(stored.len()).unwrap()
}

#[test]
fn a_flipped_byte_of_a_copied_index_or_of_the_store_is_found_and_made_anew() {
    let home = Home::new();
    let path = packed(&home, "compatible");
    let shared = home.path("shared");
    let with_store =
        || SlotHome { shared: shared.clone(), store: Some(Arc::new(Store::open(&shared).unwrap())) };
    let truth = served(&path, &with_store()).unwrap();
    let mut random = Random(5);
    let copies: Vec<PathBuf> =
        std::fs::read_dir(shared.join("indexes-v1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(copies.len(), 3, "made when the package was closed");
    let whole: Vec<Vec<u8>> = copies.iter().map(|copy| std::fs::read(copy).unwrap()).collect();
    for turn in 0..300 {
        let (copy, whole) = (&copies[turn % 3], &whole[turn % 3]);
        flip(copy, random.below(whole.len()), turn % 8);
        assert!(served(&path, &with_store()).unwrap() == truth, "{turn}");
        if std::fs::read(copy).unwrap() != *whole {
            // What was not looked at is not found out; that would be with the next look.
            index::check(copy).unwrap_err();
            std::fs::write(copy, whole).unwrap();
        }
    }
    // Objects: put into the store, flipped, and served from the package again.
    let package = Package::open(&path, &Default::default()).unwrap();
    let store = Arc::new(Store::open(&shared).unwrap());
    for (path, (kind, _, content)) in &truth {
        if *kind == Kind::File && content.len() > 1000 {
            let batch = store.batch().unwrap();
            let mut writer = batch.writer();
            writer.write(content).unwrap();
            batch.add(writer.finish().unwrap()).unwrap();
            batch.publish().unwrap();
            let digest = Digest::of(content).to_string();
            let object = shared.join("objects-v1").join(&digest[..2]).join(&digest[2..]);
            for turn in 0..30 {
                flip(&object, random.below(content.len()), turn % 8);
                assert!(served(package.path(), &with_store()).unwrap() == truth, "{path}");
                if !object.exists() {
                    let mut writer = batch.writer();
                    writer.write(content).unwrap();
                    batch.add(writer.finish().unwrap()).unwrap();
                    batch.publish().unwrap();
                }
            }
        }
    }
}

#[test]
fn nothing_is_hashed_before_the_start_and_what_is_damaged_gives_eio_through_a_mount() {
    if missing_fuse().is_some() {
        return;
    }
    for profile in ["compatible", "fast"] {
        let home = Home::new();
        let path = packed_with(&home, profile, 3_000_000);
        let package = Package::open(&path, &Default::default()).unwrap();
        let verification = verify_rest(&package, &index::checking, &|_| {}).unwrap();
        let outcomes: Vec<&Outcome> = verification.slots.iter().map(|slot| &slot.outcome).collect();
        let in_chunks = &Outcome::InChunks;
        assert_eq!(outcomes, [in_chunks, in_chunks, in_chunks, &Outcome::Full], "a small one costs nothing");
        // The last bytes of a file that the program does not read.
        let plain = range(&package.slot(2).unwrap().source.stored);
        let archive = range(&package.slot(0).unwrap().source.stored);
        flip(&path, plain.end - 10, 0);
        flip(&path, archive.start + archive.len() / 10 * 9, 3);
        let expected = noise_of(1, 20_000);
        let ran = home.run(["run", "app.psp"]).success();
        assert!(ran.stdout.contains('\u{1}'), "the program has read its file");
        home.settle();
        home.run(["mount", "app.psp"]).success();
        let root = home.workenv("app");
        assert_eq!(std::fs::read(root.join("lib/first")).unwrap(), expected);
        assert_eq!(std::fs::read(root.join("one")).unwrap(), noise_of(3, 150_000));
        for name in ["plain", "lib/middle"] {
            let error = std::fs::read(root.join(name)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "{profile} {name}");
        }
        // What lies in other chunks of the same file is there.
        let file = std::fs::File::open(root.join("plain")).unwrap();
        let mut start = vec![0; 5000];
        file.read_exact_at(&mut start, 0).unwrap();
        drop(file);
        assert!(start == noise_of(4, 200_000)[..5000]);
        let log = std::fs::read_to_string(home.session("app").join("server.log")).unwrap();
        assert!(
            log.contains("slot `plain`") && log.contains("chunk 3 (stored bytes 196608 to 200000)"),
            "{log}"
        );
        assert!(log.contains("lib/middle") && log.contains("slot `app`"), "{log}");
        home.run(["unmount", "app"]).success();
        let shown = home.run(["verify", "app.psp"]).code(107).stdout;
        assert!(shown.contains("not the signed one") && shown.contains("chunk 3 (stored"), "{shown}");
        let unpacked = home.run(["extract", "app.psp", "copy"]);
        assert_ne!(unpacked.code, 0);
        assert!(unpacked.stderr.contains("chunk"), "{}", unpacked.stderr);
        assert!(!home.path("copy").exists());
    }
}

/// As the flips above, through the whole program and the kernel.
#[test]
fn a_flipped_byte_is_never_shown_through_a_mount() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let path = packed(&home, "fast");
    let bytes = std::fs::read(&path).unwrap();
    let package = Package::open(&path, &Default::default()).unwrap();
    let launcher = range(&package.slot(0).unwrap().source.stored).start;
    let files = [
        ("lib/first", noise_of(1, 20_000)),
        ("lib/middle", noise_of(2, 200_000)),
        ("lib/small", b"in the index".to_vec()),
        ("one", noise_of(3, 150_000)),
        ("plain", noise_of(4, 200_000)),
        ("little", b"less than a chunk".to_vec()),
    ];
    let (mut refused, mut failed, mut right) = (0, 0, 0);
    let mut random = Random(77);
    for turn in 0..16 {
        let mut flipped = bytes.clone();
        flipped[launcher + random.below(bytes.len() - launcher)] ^= 1 << (turn % 8);
        std::fs::write(&path, &flipped).unwrap();
        let mounted = home.run(["mount", "app.psp"]);
        if mounted.code != 0 {
            assert!([102, 107].contains(&mounted.code), "{}", mounted.stderr);
            refused += 1;
            continue;
        }
        for (name, content) in &files {
            match std::fs::read(home.workenv("app").join(name)) {
                Ok(read) => {
                    assert!(read == *content, "turn {turn}: `{name}` has wrong bytes");
                    right += 1;
                }
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "turn {turn}: `{name}`: {error}");
                    failed += 1;
                }
            }
        }
        home.run(["unmount", "app"]).success();
        home.settle();
        home.run(["remove", "app", "--yes"]).success();
    }
    assert!(failed > 0 && right > failed, "{refused} refused, {failed} failed, {right} right");
}

#[test]
fn what_changes_under_a_mount_is_checked_again() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let path = packed(&home, "compatible");
    let package = Package::open(&path, &Default::default()).unwrap();
    home.run(["mount", "app.psp"]).success();
    let root = home.workenv("app");
    let file = std::fs::File::open(root.join("plain")).unwrap();
    let mut part = vec![0; 4096];
    file.read_exact_at(&mut part, 0).unwrap();
    let plain = range(&package.slot(2).unwrap().source.stored);
    // In a chunk that was checked, behind what the kernel has read ahead.
    std::thread::sleep(std::time::Duration::from_millis(60));
    flip(&path, plain.start + 190_000, 0);
    let mut part = vec![0; 4096];
    let error = file.read_exact_at(&mut part, 188_416).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::EIO));
    // As it was: it is served again, also what was checked under the other times.
    flip(&path, plain.start + 190_000, 0);
    drop(file);
    assert!(std::fs::read(root.join("plain")).unwrap() == noise_of(4, 200_000));
    assert!(std::fs::read(root.join("lib/middle")).unwrap() == noise_of(2, 200_000));
    home.run(["unmount", "app"]).success();
}

/// A signer whose chunks are not those of the slot that the package says it has: its own package may show that, but nothing
/// is made of it that others with the real slot would use.
#[test]
fn chunks_that_are_not_the_slots_own_make_nothing_for_others() {
    let home = Home::new();
    let path = packed(&home, "compatible");
    let package = Package::open(&path, &Default::default()).unwrap();
    let mut slot = package.slot(0).unwrap().clone();
    // As if the index were damaged, so that it is made anew: by a pass over bytes that are not the stated ones.
    let place = indexes(&home, "app.psp")[0].clone();
    flip(&path, place.start + place.len() / 2, 0);
    slot.digest = Some(Digest::of(b"an interpreter that everybody knows"));
    let shared = SlotHome { shared: home.path("shared"), store: None };
    let options = SlotOptions { checking: Checking::Chunks, ..SlotOptions::default() };
    let layer = SlotLayer::open(&slot, slot.digest.unwrap(), &shared, options).unwrap();
    let error = layer.wait_until_settled().unwrap_err().to_string();
    assert!(error.contains("do not have the digest in the package's metadata"), "{error}");
    drop(layer);
    let kept = std::fs::read_dir(shared.shared.join("indexes-v1")).map_or(0, Iterator::count);
    assert_eq!(kept, 0);
}

#[test]
fn a_descriptor_that_says_something_else_than_the_metadata_is_refused() {
    let home = Home::new();
    let path = packed(&home, "compatible");
    let bytes = std::fs::read(&path).unwrap();
    let trailer = &bytes[bytes.len() - 8196..];
    let table = usize::try_from(u64::from_le_bytes(trailer[40..48].try_into().unwrap())).unwrap();
    for (at, what) in [(40, "operations"), (62, "permissions")] {
        flip(&path, table + 2 * 64 + at, 0);
        let done = home.run(["verify", "app.psp"]);
        assert!(done.stdout.contains(what) || done.stdout.contains("operation"), "{at}: {}", done.stdout);
        assert_ne!(done.code, 0);
        std::fs::write(&path, &bytes).unwrap();
    }
    home.run(["verify", "app.psp"]).success();
}

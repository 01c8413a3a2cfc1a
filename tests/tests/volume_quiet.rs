//! Files of a slot that were only looked at take no slot in the table, get one with the same number when they need it, and
//! nobody can tell.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use slotfs_fs::layer::SlotOptions;
use slotfs_fs::node::Kind;
use slotfs_fs::overlay::{Scope, Upper};
use slotfs_fs::package::Container;
use slotfs_fs::volume::{
    Access, Caller, DirectoryEntry, Lookup, NodeId, PlacedLayer, RenameMode, SetAttributes, Volume,
    VolumeOptions,
};
use slotfs_tests::archive::{Cache, TarMaker, slot_of};

const ME: Caller = Caller { user: 0, group: 0 };
const READ: Access = Access { read: true, write: false, append: false };
const WRITE: Access = Access { read: true, write: true, append: false };

const DIRECTORIES: usize = 20;
const FILES: usize = 100;

/// Some thousand files, a symbolic link, and a file with two names.
fn archive() -> Vec<u8> {
    let mut maker = TarMaker::default();
    for directory in 0..DIRECTORIES {
        maker = maker.directory(&format!("d{directory}"));
        for file in 0..FILES {
            let name = format!("d{directory}/f{file}");
            maker = maker.file(&name, name.as_bytes());
        }
    }
    maker.symlink("link", "d0/f0").file("twice", b"twice").hard_link("again", "twice").finish()
}

/// A volume over that archive in a real slot, in `folder`.
fn volume(cache: &Cache, folder: Option<&Path>) -> Volume {
    let slot = slot_of(&cache.file("slot", &archive()), Container::Tar, &[]);
    let layer = cache.open(&slot, SlotOptions::default());
    layer.wait_until_settled().unwrap();
    let placed = PlacedLayer { name: "s".into(), layer: Arc::new(layer), target: Vec::new(), writable: true };
    let upper = folder.map(|folder| Upper::open(&folder.join("upper"), &folder.join("work")).unwrap());
    Volume::new(vec![placed], upper, VolumeOptions::default()).unwrap()
}

fn find(volume: &Volume, path: &str) -> Option<NodeId> {
    let mut held = Vec::new();
    for name in path.split('/') {
        let parent = held.last().copied().unwrap_or(NodeId::ROOT);
        let Lookup::Found(entry) = volume.lookup(parent, name.as_bytes()).unwrap() else { break };
        held.push(entry.node);
    }
    let found = (held.len() == path.split('/').count()).then(|| held.pop()).flatten();
    held.into_iter().for_each(|node| volume.forget(node, 1));
    found
}

/// Looks at all there is as `find -printf %s` does; returns a reference to each node.
fn walk(volume: &Volume) -> Vec<NodeId> {
    let mut found = Vec::new();
    let mut waiting = vec![NodeId::ROOT];
    while let Some(directory) = waiting.pop() {
        let handle = volume.open_directory(directory).unwrap();
        let mut visit = |shown: &DirectoryEntry<'_>| {
            if let Some(entry) = shown.entry {
                found.push(entry.node);
                if shown.kind == Kind::Directory {
                    waiting.push(entry.node);
                }
            }
            true
        };
        volume.read_directory(directory, Some(handle), 0, true, &mut visit).unwrap();
        volume.release_directory(handle);
    }
    found
}

fn content(volume: &Volume, node: NodeId) -> Vec<u8> {
    let mut buffer = vec![0; 100];
    let count = volume.read(node, None, 0, &mut buffer).unwrap();
    buffer.truncate(count);
    buffer
}

fn set_mode(volume: &Volume, node: NodeId, mode: u32) {
    let changes = SetAttributes { mode: Some(mode), ..SetAttributes::default() };
    volume.set_attributes(ME, node, None, &changes).unwrap();
}

#[test]
fn a_walk_over_files_keeps_nothing_but_their_references() {
    let (cache, folder) = (Cache::new(), tempfile::tempdir().unwrap());
    for folder in [None, Some(folder.path())] {
        let volume = volume(&cache, folder);
        // The root, the directories, and the file with two names.
        let kept = 1 + DIRECTORIES + 1;
        let all = kept + DIRECTORIES * FILES + 1;
        let known = walk(&volume);
        assert_eq!((volume.known_nodes(), volume.kept_nodes()), (all, kept));
        for node in &known {
            let status = volume.attributes(*node).unwrap();
            assert!(volume.extended_attribute_names(*node).unwrap().is_empty());
            volume.sync(*node, None, false).unwrap();
            if status.attributes.kind == Kind::File {
                let opened = volume.open(*node, READ, false).unwrap();
                assert_eq!(content(&volume, *node).len() as u64, status.attributes.size);
                volume.release(opened.handle);
            } else if status.attributes.kind == Kind::Symlink {
                assert_eq!(volume.read_link(*node).unwrap(), b"d0/f0");
            }
        }
        let paths: Vec<_> = known.iter().map(|node| volume.path_of(*node).unwrap()).collect();
        assert!(paths.contains(&b"d3/f7".to_vec()) && paths.contains(&b"link".to_vec()), "{paths:?}");
        let again = walk(&volume);
        assert_eq!(again, known, "the same numbers");
        assert_eq!((volume.known_nodes(), volume.kept_nodes()), (all, kept), "reading is no change");
        known.iter().chain(&again).for_each(|node| volume.forget(*node, 1));
        assert_eq!((volume.known_nodes(), volume.kept_nodes()), (1, 1));
    }
}

#[test]
fn a_change_is_made_to_the_node_that_was_looked_at() {
    let (cache, folder) = (Cache::new(), tempfile::tempdir().unwrap());
    let volume = volume(&cache, Some(folder.path()));
    let known = walk(&volume);
    let kept = volume.kept_nodes();
    let file = find(&volume, "d5/f5").unwrap();
    let before = volume.attributes(file).unwrap();
    set_mode(&volume, file, 0o600);
    assert_eq!(volume.kept_nodes(), kept + 1, "of that one more is kept");
    let after = volume.attributes(file).unwrap();
    assert_eq!((after.inode, after.attributes.mode), (before.inode, 0o600));
    assert_eq!(find(&volume, "d5/f5"), Some(file));
    assert!(folder.path().join("upper/d5/f5").exists());
    volume.forget(file, 2);
    known.into_iter().for_each(|node| volume.forget(node, 1));
    assert_eq!(volume.known_nodes(), 1);
}

#[test]
fn a_file_is_found_by_its_directory_though_that_was_forgotten_and_moved() {
    let (cache, folder) = (Cache::new(), tempfile::tempdir().unwrap());
    let volume = volume(&cache, Some(folder.path()));
    let file = find(&volume, "d1/f1").unwrap();
    assert_eq!(volume.known_nodes(), 3, "the directory stays for it");
    volume.rename(NodeId::ROOT, b"d1", NodeId::ROOT, b"moved", RenameMode::Replace).unwrap();
    assert_eq!(volume.path_of(file), Some(b"moved/f1".to_vec()));
    assert_eq!(find(&volume, "moved/f1"), Some(file));
    volume.forget(file, 1);
    let opened = volume.open(file, WRITE, false).unwrap();
    assert_eq!(volume.write(file, opened.handle, 0, b"X").unwrap(), 1);
    volume.release(opened.handle);
    assert_eq!(content(&volume, find(&volume, "moved/f1").unwrap()), b"X1/f1");
    assert_eq!(find(&volume, "d1"), None);
    volume.forget(file, 2);
    assert_eq!(volume.known_nodes(), 1);
}

#[test]
fn what_is_open_is_kept_and_goes_when_it_is_closed() {
    let (cache, folder) = (Cache::new(), tempfile::tempdir().unwrap());
    let volume = volume(&cache, Some(folder.path()));
    let file = find(&volume, "d2/f2").unwrap();
    let handles = [0; 2].map(|_| volume.open(file, READ, false).unwrap().handle);
    volume.forget(file, 1);
    assert_eq!((volume.known_nodes(), volume.kept_nodes()), (3, 2), "its directory stays, too");
    volume.release(handles[0]);
    assert_eq!(content(&volume, file), b"d2/f2");
    // The second handle goes on to count after the change.
    set_mode(&volume, file, 0o640);
    volume.release(handles[1]);
    assert_eq!(volume.known_nodes(), 1);
}

#[test]
fn what_was_removed_keeps_its_number_from_what_comes_back() {
    let (cache, folder) = (Cache::new(), tempfile::tempdir().unwrap());
    let volume = volume(&cache, Some(folder.path()));
    let removed = find(&volume, "d4/f4").unwrap();
    let other = find(&volume, "d4/f5").unwrap();
    let directory = find(&volume, "d4").unwrap();
    volume.unlink(directory, b"f4").unwrap();
    assert_eq!(volume.attributes(removed).unwrap().attributes.links, 0);
    set_mode(&volume, removed, 0o600);
    volume.take_back(&Scope::of(Vec::new())).0.unwrap();
    let back = find(&volume, "d4/f4").unwrap();
    assert_ne!(back, removed);
    let modes = [back, removed].map(|node| volume.attributes(node).unwrap().attributes.mode);
    assert_eq!(modes, [0o644, 0o600]);
    assert_eq!(find(&volume, "d4/f5"), Some(other), "what was not changed stays what it was");
    set_mode(&volume, back, 0o640);
    assert_eq!(volume.attributes(removed).unwrap().attributes.mode, 0o600);
    for (node, count) in [(removed, 1), (back, 1), (other, 2), (directory, 1)] {
        volume.forget(node, count);
    }
    assert_eq!(volume.known_nodes(), 1);
}

#[test]
fn what_is_put_in_the_place_of_a_file_that_is_known_is_another_one() {
    let [one, two] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let cache = Cache::new();
    let wanted = volume(&cache, Some(two.path()));
    let directory = find(&wanted, "d6").unwrap();
    wanted.unlink(directory, b"f6").unwrap();
    wanted.make_directory(ME, directory, b"f6", 0o755).unwrap();
    wanted.rename(directory, b"f7", directory, b"f8", RenameMode::Replace).unwrap();
    drop(wanted);
    let live = volume(&cache, Some(one.path()));
    let known = walk(&live);
    let files = ["d6/f6", "d6/f7", "d6/f8", "d7/f7"].map(|path| find(&live, path).unwrap());
    let (result, _) = live.replace(&Scope::default(), |upper, _| {
        upper.clear()?;
        let from = slotfs_fs::disk::unix::Directory::open(&two.path().join("upper"))?;
        slotfs_fs::overlay::duplicate(&[(Arc::new(from), Arc::clone(upper.root()))], None, &mut |_| {})?;
        Ok::<(), slotfs_fs::layer::LayerError>(())
    });
    result.unwrap();
    let now = ["d6/f6", "d6/f7", "d6/f8", "d7/f7"].map(|path| find(&live, path));
    assert_eq!((now[1], now[3]), (None, Some(files[3])));
    assert!(now[0] != Some(files[0]) && now[2] != Some(files[2]), "{now:?} and {files:?}");
    assert_eq!(live.attributes(now[0].unwrap()).unwrap().attributes.kind, Kind::Directory);
    assert_eq!(content(&live, now[2].unwrap()), b"d6/f7");
    // Whoever still has the old ones changes nothing of the new ones.
    set_mode(&live, files[0], 0o600);
    set_mode(&live, files[2], 0o600);
    assert_eq!(content(&live, files[2]), b"d6/f8");
    assert_eq!(live.attributes(now[2].unwrap()).unwrap().attributes.mode, 0o644);
    known.into_iter().chain(files).chain(now.into_iter().flatten()).for_each(|node| live.forget(node, 1));
    assert_eq!(live.known_nodes(), 1);
}

/// Whoever finds a name while it is taken back finds what was there before or after, and only the latter stays.
#[test]
fn who_looks_during_a_replacement_leaves_nothing_wrong_behind() {
    const ROUNDS: usize = 20;
    let (cache, folder) = (Cache::new(), tempfile::tempdir().unwrap());
    let volume = volume(&cache, Some(folder.path()));
    let directory = find(&volume, "d9").unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let found: Vec<_> =
                        (0..8).filter_map(|file| find(&volume, &format!("d9/f{file}"))).collect();
                    found.iter().for_each(|node| drop(volume.attributes(*node)));
                    found.into_iter().for_each(|node| volume.forget(node, 1));
                }
            });
        }
        for _ in 0..ROUNDS {
            let changed = find(&volume, "d9/f1").unwrap();
            set_mode(&volume, changed, 0o600);
            volume.forget(changed, 1);
            volume.unlink(directory, b"f2").unwrap();
            volume.rename(directory, b"f3", directory, b"f4", RenameMode::Replace).unwrap();
            volume
                .make_directory(ME, directory, b"f3", 0o755)
                .map(|made| volume.forget(made.node, 1))
                .unwrap();
            volume.take_back(&Scope::of(Vec::new())).0.unwrap();
            for file in 0..8 {
                let path = format!("d9/f{file}");
                let node = find(&volume, &path).unwrap();
                let seen = volume.attributes(node).map(|status| status.attributes.mode);
                assert_eq!((seen.ok(), content(&volume, node)), (Some(0o644), path.clone().into_bytes()));
                assert_eq!(volume.path_of(node), Some(path.into_bytes()));
                volume.forget(node, 1);
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
    volume.forget(directory, 1);
    assert_eq!((volume.known_nodes(), volume.kept_nodes()), (1, 1));
}

//! Many threads on one volume, and layers that make their callers wait: nobody waits who need not.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_fs::layer::{ExtendedAttributes, Layer, LayerError, LayerNode, Visit};
use slotfs_fs::node::Attributes;
use slotfs_fs::overlay::Upper;
use slotfs_fs::volume::{
    Access, Caller, FsError, Lookup, NodeId, PlacedLayer, RenameMode, SetAttributes, Volume, VolumeOptions,
};

const WRITE: Access = Access { read: true, write: true, append: false };
const APPEND: Access = Access { read: false, write: true, append: true };
const ME: Caller = Caller { user: 0, group: 0 };

/// A layer whose lookups of `slow` and reads wait until the gate is opened.
#[derive(Debug)]
struct GatedLayer {
    inner: MemoryLayer,
    gate: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicBool,
}

impl GatedLayer {
    fn wait(&self) {
        self.waiting.store(true, Ordering::SeqCst);
        let open = self.gate.lock().unwrap();
        let (_open, timeout) =
            self.opened.wait_timeout_while(open, Duration::from_secs(10), |open| !*open).unwrap();
        assert!(!timeout.timed_out(), "the gate was never opened: somebody else is stuck");
    }

    fn open(&self) {
        *self.gate.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn until_somebody_waits(&self) {
        while !self.waiting.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Layer for GatedLayer {
    fn root(&self) -> LayerNode {
        self.inner.root()
    }
    fn lookup(&self, directory: LayerNode, name: &[u8]) -> Result<Option<LayerNode>, LayerError> {
        if name == b"slow" {
            self.wait();
        }
        self.inner.lookup(directory, name)
    }
    fn attributes(&self, node: LayerNode) -> Result<Attributes, LayerError> {
        self.inner.attributes(node)
    }
    fn read_directory(
        &self,
        directory: LayerNode,
        after: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), LayerError> {
        self.inner.read_directory(directory, after, visit)
    }
    fn read_link(&self, node: LayerNode) -> Result<Vec<u8>, LayerError> {
        self.inner.read_link(node)
    }
    fn extended_attributes(&self, node: LayerNode) -> Result<ExtendedAttributes, LayerError> {
        self.inner.extended_attributes(node)
    }
    fn read(&self, node: LayerNode, offset: u64, buffer: &mut [u8]) -> Result<usize, LayerError> {
        if self.inner.attributes(node)?.size > 1000 {
            self.wait();
        }
        self.inner.read(node, offset, buffer)
    }
    fn host_file(&self, node: LayerNode) -> Result<Option<Arc<File>>, LayerError> {
        self.inner.host_file(node)
    }
    fn is_settled(&self) -> bool {
        *self.gate.lock().unwrap()
    }
}

fn start(folder: &Path, layer: Arc<dyn Layer>) -> Volume {
    let upper = Upper::open(&folder.join("upper"), &folder.join("work")).unwrap();
    let placed = PlacedLayer { name: "slot".into(), layer, target: Vec::new(), writable: true };
    Volume::new(vec![placed], Some(upper), VolumeOptions::default()).unwrap()
}

fn gated() -> Arc<GatedLayer> {
    let inner = MemoryLayer::builder()
        .file("large", 0o644, vec![5; 3 << 20])
        .file("small", 0o644, *b"small")
        .file("slow", 0o644, *b"slow");
    let inner = inner.build().unwrap();
    Arc::new(GatedLayer {
        inner,
        gate: Mutex::default(),
        opened: Condvar::new(),
        waiting: AtomicBool::new(false),
    })
}

fn found(volume: &Volume, parent: NodeId, name: &[u8]) -> Option<NodeId> {
    match volume.lookup(parent, name).unwrap() {
        Lookup::Found(entry) => Some(entry.node),
        Lookup::Absent { .. } => None,
    }
}

/// Everything that must go on while one caller waits for a layer.
fn everything_else(volume: &Volume) {
    let small = found(volume, NodeId::ROOT, b"small").unwrap();
    let opened = volume.open(small, WRITE, false).unwrap();
    volume.write(small, opened.handle, 0, b"SM").unwrap();
    volume.sync(small, Some(opened.handle), false).unwrap();
    volume.release(opened.handle);
    let directory = volume.make_directory(ME, NodeId::ROOT, b"new", 0o755).unwrap().node;
    volume.rename(NodeId::ROOT, b"small", directory, b"moved", RenameMode::Replace).unwrap();
    volume.unlink(directory, b"moved").unwrap();
    volume.remove_directory(NodeId::ROOT, b"new").unwrap();
    let handle = volume.open_directory(NodeId::ROOT).unwrap();
    let mut count = 0;
    let mut visit = |_: &slotfs_fs::volume::DirectoryEntry<'_>| {
        count += 1;
        true
    };
    volume.read_directory(NodeId::ROOT, Some(handle), 0, false, &mut visit).unwrap();
    volume.release_directory(handle);
    assert_eq!(count, 4);
}

#[test]
fn a_lookup_that_waits_for_the_pass_blocks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let layer = gated();
    let volume = start(folder.path(), Arc::<GatedLayer>::clone(&layer));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| volume.lookup(NodeId::ROOT, b"slow").unwrap());
        layer.until_somebody_waits();
        everything_else(&volume);
        layer.open();
        let Lookup::Found(entry) = waiting.join().unwrap() else { panic!("it is there") };
        assert!(entry.status.lasting);
    });
}

#[test]
fn copying_up_a_large_file_blocks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let layer = gated();
    let volume = start(folder.path(), Arc::<GatedLayer>::clone(&layer));
    thread::scope(|scope| {
        let large = found(&volume, NodeId::ROOT, b"large").unwrap();
        let copying = scope.spawn(|| {
            let mode = SetAttributes { mode: Some(0o600), ..SetAttributes::default() };
            volume.set_attributes(ME, found(&volume, NodeId::ROOT, b"large").unwrap(), None, &mode).unwrap()
        });
        layer.until_somebody_waits();
        everything_else(&volume);
        let before = volume.attributes(large).unwrap();
        assert_eq!(before.attributes.mode, 0o644, "half of a copy is never seen");
        layer.open();
        let after = copying.join().unwrap();
        assert_eq!(
            (after.inode, after.attributes.mode, after.attributes.size),
            (before.inode, 0o600, 3 << 20)
        );
    });
}

#[test]
fn a_file_removed_while_it_is_copied_up_stays_with_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let layer = gated();
    let volume = start(folder.path(), Arc::<GatedLayer>::clone(&layer));
    let large = found(&volume, NodeId::ROOT, b"large").unwrap();
    thread::scope(|scope| {
        let opening = scope.spawn(|| volume.open(large, WRITE, false).unwrap());
        layer.until_somebody_waits();
        volume.unlink(NodeId::ROOT, b"large").unwrap();
        layer.open();
        let opened = opening.join().unwrap();
        assert_eq!(volume.write(large, opened.handle, 0, b"mine").unwrap(), 4);
        let mut buffer = [0; 5];
        assert_eq!(volume.read(large, Some(opened.handle), 0, &mut buffer).unwrap(), 5);
        assert_eq!(&buffer, b"mine\x05");
        assert_eq!(volume.attributes(large).unwrap().attributes.links, 0);
        assert_eq!(found(&volume, NodeId::ROOT, b"large"), None);
        volume.release(opened.handle);
    });
}

/// Threads that get in each other's way in a few directories; afterwards what is there is whole.
#[test]
fn many_threads_leave_a_whole_tree() {
    let folder = tempfile::tempdir().unwrap();
    let mut lower = MemoryLayer::builder().file("log", 0o644, []);
    for directory in ["a", "b", "c"] {
        for file in ["a", "b", "c"] {
            lower =
                lower.file(format!("{directory}/{file}"), 0o644, format!("{directory}{file}").into_bytes());
        }
        lower = lower.hard_link(format!("{directory}/d"), format!("{directory}/a"));
    }
    let layer: Arc<dyn Layer> = Arc::new(lower.build().unwrap());
    let volume = start(folder.path(), Arc::clone(&layer));
    thread::scope(|scope| {
        for seed in 1..=8_u64 {
            let volume = &volume;
            scope.spawn(move || work(volume, seed));
        }
    });
    assert_eq!((volume.known_nodes(), volume.open_handles()), (1, 0));
    let before = tree(&volume);
    let log = found(&volume, NodeId::ROOT, b"log").unwrap();
    assert_eq!(volume.attributes(log).unwrap().attributes.size, 8 * 150 * 10, "no append was lost");
    drop(volume);
    let volume = start(folder.path(), layer);
    assert_eq!(tree(&volume), before, "a restart shows the same");
}

fn work(volume: &Volume, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) % below
    };
    let names: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
    for _ in 0..150 {
        let log = found(volume, NodeId::ROOT, b"log").unwrap();
        let opened = volume.open(log, APPEND, false).unwrap();
        assert_eq!(volume.write(log, opened.handle, 0, b"0123456789").unwrap(), 10);
        volume.release(opened.handle);
        volume.forget(log, 1);
        let mut pick = || names[usize::try_from(next(4)).unwrap()];
        let (one, other, name, new_name) = (pick(), pick(), pick(), pick());
        let Some(one) = found(volume, NodeId::ROOT, one) else { continue };
        let other = found(volume, NodeId::ROOT, other);
        let result = match next(8) {
            0 => volume.create(ME, one, name, 0o644, WRITE).map(|(entry, opened)| {
                volume.release(opened.handle);
                volume.forget(entry.node, 1);
            }),
            1 => volume.make_directory(ME, one, name, 0o755).map(|entry| volume.forget(entry.node, 1)),
            2 => volume.unlink(one, name),
            3 => volume.remove_directory(one, name),
            4 => volume.remove_directory(NodeId::ROOT, name),
            5 => volume.rename(one, name, other.unwrap_or(one), new_name, RenameMode::Replace),
            6 => volume.rename(NodeId::ROOT, name, one, new_name, RenameMode::Exchange),
            _ => touch(volume, one, name),
        };
        volume.forget(one, 1);
        other.into_iter().for_each(|node| volume.forget(node, 1));
        let expected = matches!(
            &result,
            Ok(())
                | Err(FsError::NotFound
                    | FsError::Exists
                    | FsError::NotDirectory
                    | FsError::IsDirectory
                    | FsError::NotEmpty
                    | FsError::Invalid(_))
        );
        assert!(expected, "{result:?}");
    }
}

fn touch(volume: &Volume, parent: NodeId, name: &[u8]) -> Result<(), FsError> {
    let Lookup::Found(entry) = volume.lookup(parent, name)? else { return Ok(()) };
    let mode = SetAttributes { mode: Some(0o700), ..SetAttributes::default() };
    let changed = volume.set_attributes(ME, entry.node, None, &mode);
    if let Ok(changed) = &changed {
        assert_eq!(changed.inode, entry.status.inode);
    }
    volume.forget(entry.node, 1);
    changed.map(|_| ())
}

fn tree(volume: &Volume) -> BTreeSet<(Vec<u8>, u64, u32)> {
    let mut all = BTreeSet::new();
    let mut waiting = vec![(Vec::new(), NodeId::ROOT)];
    while let Some((path, node)) = waiting.pop() {
        let mut visit = |entry: &slotfs_fs::volume::DirectoryEntry<'_>| {
            if let Some(found) = entry.entry {
                let path = [&path[..], b"/", entry.name].concat();
                let attributes = found.status.attributes;
                let links = if attributes.kind == slotfs_fs::node::Kind::Directory {
                    waiting.push((path.clone(), found.node));
                    0
                } else {
                    attributes.links
                };
                all.insert((path, found.status.inode, links));
            }
            true
        };
        volume.read_directory(node, None, 0, true, &mut visit).unwrap();
    }
    all
}

//! A volume without a kernel, as a subject of operations; and the layers it starts with.
#![expect(clippy::wildcard_enum_match_arm, reason = "what is not named cannot happen or does not matter")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_fs::node::{Kind, Timestamp};
use slotfs_fs::overlay::{Upper, UpperForm};
use slotfs_fs::volume::{
    Access, Caller, Entry, FsError, HandleId, Lookup, NodeId, PlacedLayer, SetAttributes, SetTime, Volume,
    VolumeOptions, XattrMode,
};

use crate::model::{Body, Model, ModelEntry, ModelError};
use crate::operations::{Operation, OperationPath, PLACES, xattr_name};
use crate::subject::{Observed, Subject};

const READ: Access = Access { read: true, write: false, append: false };
const WRITE: Access = Access { read: true, write: true, append: false };
const APPEND: Access = Access { read: false, write: true, append: true };
const ROOT: Caller = Caller { user: 0, group: 0 };

/// A volume over [`layers`], with an upper directory that outlives it.
#[derive(Debug)]
pub struct VolumeSubject {
    volume: Option<Volume>,
    folder: PathBuf,
    layers: Vec<PlacedLayer>,
    form: UpperForm,
    bare_copies: Option<u64>,
    held: [Option<(NodeId, HandleId, bool)>; PLACES],
    /// References to give back.
    referenced: Vec<NodeId>,
    memory: Memory,
    /// References that are kept until the next start.
    remembered: Vec<NodeId>,
}

/// What of all that it has seen the subject keeps references to, as a kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Nothing that is not in use.
    Nothing,
    /// Everything.
    Everything,
    /// What is no directory.
    Files,
}

/// Any memory.
pub fn memory() -> impl Strategy<Value = Memory> {
    prop_oneof![Just(Memory::Nothing), Just(Memory::Everything), Just(Memory::Files)]
}

/// Layers that have everything a change can meet, merged, and the same tree in the oracle.
///
/// # Panics
/// Never; the calls fit.
#[must_use]
pub fn layers() -> (Vec<PlacedLayer>, Model) {
    let base = MemoryLayer::builder()
        .file("a/a", 0o644, vec![1; 10_000])
        .hard_link("a/b", "a/a")
        .hard_link("c/b", "a/a")
        .file("a/c/a", 0o755, *b"deep")
        .directory("b/a", 0o700)
        .file("b/b", 0o600, *b"hidden by the upper layer")
        .symlink("b/c", "../a")
        .special("c/a", Kind::Fifo, 0o600, 0)
        .change("a/a", |attributes| attributes.modified = Timestamp { seconds: 77, nanoseconds: 5 });
    let over = MemoryLayer::builder()
        .file("b/b", 0o640, *b"on top")
        .file("a/c/b", 0o644, [])
        .symlink("c/c", "c")
        .xattr("a/c", "user.colour", "red")
        .change("a/c", |attributes| (attributes.user, attributes.mode) = (1, 0o1755));
    let at_root = |name: &str, layer: MemoryLayer| PlacedLayer {
        name: name.into(),
        layer: Arc::new(layer),
        target: Vec::new(),
        writable: true,
    };
    let single = PlacedLayer {
        name: "file".into(),
        layer: Arc::new(MemoryLayer::single_file(0o604, *b"a file slot")),
        target: vec![b"b".to_vec(), b"a".to_vec(), b"c".to_vec()],
        writable: true,
    };
    let built = "the calls fit";
    let layers = vec![
        at_root("base", base.build().expect(built)),
        at_root("over", over.build().expect(built)),
        single,
    ];
    let mut model = merged();
    // Who may not give the upper directory away has its root.
    model.set_owner(Model::ROOT, nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    (layers, model)
}

fn merged() -> Model {
    let mut model = Model::default();
    let mut add = |parent, name: &[u8], body, mode| {
        model.make(parent, name, ModelEntry::new(body, mode)).expect("the name is free")
    };
    let directory = || Body::Directory(BTreeMap::new());
    let file = |bytes: &[u8]| Body::File(bytes.to_vec());
    let a = add(Model::ROOT, b"a", directory(), 0o755);
    let b = add(Model::ROOT, b"b", directory(), 0o755);
    let c = add(Model::ROOT, b"c", directory(), 0o755);
    let linked = add(a, b"a", file(&[1; 10_000]), 0o644);
    let a_c = add(a, b"c", directory(), 0o1755);
    add(a_c, b"a", file(b"deep"), 0o755);
    add(a_c, b"b", file(b""), 0o644);
    let b_a = add(b, b"a", directory(), 0o700);
    add(b_a, b"c", file(b"a file slot"), 0o604);
    add(b, b"b", file(b"on top"), 0o640);
    add(b, b"c", Body::Symlink(b"../a".to_vec()), 0o777);
    add(c, b"a", Body::Special(Kind::Fifo, 0), 0o600);
    add(c, b"c", Body::Symlink(b"c".to_vec()), 0o777);
    let fits = "the call fits";
    model.link(linked, a, b"b").expect(fits);
    model.link(linked, c, b"b").expect(fits);
    model.set_modified(linked, 77);
    model.set_owner(a_c, 1, 0);
    model.set_xattr(a_c, b"user.colour", b"red").expect(fits);
    for unchanged in model.reachable().into_iter().filter(|node| ![linked, Model::ROOT].contains(node)) {
        model.set_modified(unchanged, 0);
    }
    model
}

fn named(error: &FsError) -> ModelError {
    match error {
        FsError::NotFound => ModelError::NotFound,
        FsError::Exists => ModelError::Exists,
        FsError::NotDirectory => ModelError::NotDirectory,
        FsError::IsDirectory => ModelError::IsDirectory,
        FsError::NotEmpty => ModelError::NotEmpty,
        FsError::NotPermitted => ModelError::NotPermitted,
        FsError::Invalid(_) => ModelError::Invalid,
        FsError::NoAttribute => ModelError::NoAttribute,
        FsError::NotSupported(_) => ModelError::NotSupported,
        other => panic!("no answer of a file system: {other:?}"),
    }
}

impl VolumeSubject {
    /// Starts in an empty `folder`, with copies without content from so many bytes on.
    #[must_use]
    pub fn new(
        folder: PathBuf,
        layers: Vec<PlacedLayer>,
        form: impl Into<UpperForm>,
        bare_copies: Option<u64>,
    ) -> Self {
        let (held, form) = ([None; PLACES], form.into());
        let (referenced, remembered, memory) = (Vec::new(), Vec::new(), Memory::Nothing);
        let volume = None;
        let mut subject =
            Self { volume, folder, layers, form, bare_copies, held, referenced, memory, remembered };
        subject.start();
        subject
    }

    /// Keeps references from now on.
    #[must_use]
    pub fn remembering(self, memory: Memory) -> Self {
        Self { memory, ..self }
    }

    fn start(&mut self) {
        let upper = Upper::open_with(&self.folder.join("upper"), &self.folder.join("work"), self.form);
        let upper = upper.expect("it opens");
        let left = std::fs::read_dir(self.folder.join("work")).expect("it can be listed").count();
        assert_eq!(left, 0, "half-done work is cleared");
        let options =
            VolumeOptions { devices: true, bare_copies: self.bare_copies, ..VolumeOptions::default() };
        self.volume = Some(Volume::new(self.layers.clone(), Some(upper), options).expect("it starts"));
    }

    /// Stops and starts again, as a remount does.
    ///
    /// # Panics
    /// When something is kept that nobody needs.
    pub fn remount(&mut self) {
        (0..PLACES).for_each(|place| self.release(place));
        self.forget();
        let remembered = std::mem::take(&mut self.remembered);
        remembered.into_iter().for_each(|node| self.volume().forget(node, 1));
        assert_eq!(self.volume().known_nodes(), 1, "all nodes are forgotten");
        assert_eq!(self.volume().open_handles(), 0, "all handles are closed");
        self.volume = None;
        self.start();
    }

    /// Returns the volume.
    ///
    /// # Panics
    /// Never: it is there except within a remount.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        self.volume.as_ref().expect("the volume runs")
    }

    fn forget(&mut self) {
        for node in std::mem::take(&mut self.referenced) {
            let is_kept = match self.memory {
                Memory::Nothing => false,
                Memory::Everything => true,
                Memory::Files => self
                    .volume()
                    .attributes(node)
                    .is_ok_and(|status| status.attributes.kind != Kind::Directory),
            };
            if is_kept {
                self.remembered.push(node);
            } else {
                self.volume().forget(node, 1);
            }
        }
    }

    fn release(&mut self, place: usize) {
        if let Some((node, handle, _)) = self.held[place].take() {
            self.volume().release(handle);
            self.volume().forget(node, 1);
        }
    }

    fn walk(&mut self, path: &[Vec<u8>]) -> Result<NodeId, FsError> {
        let mut node = NodeId::ROOT;
        for name in path {
            match self.volume().lookup(node, name)? {
                Lookup::Found(entry) => node = entry.node,
                Lookup::Absent { .. } => return Err(FsError::NotFound),
            }
            self.referenced.push(node);
        }
        Ok(node)
    }

    fn parent<'a>(&mut self, path: &'a [Vec<u8>]) -> Result<(NodeId, &'a [u8]), FsError> {
        let (name, above) = path.split_last().ok_or(FsError::NotFound)?;
        let parent = self.walk(above)?;
        match self.volume().attributes(parent)?.attributes.kind {
            Kind::Directory => Ok((parent, name)),
            _ => Err(FsError::NotDirectory),
        }
    }

    fn note(&mut self, made: Result<Entry, FsError>) -> Result<(), FsError> {
        self.referenced.push(made?.node);
        Ok(())
    }

    fn set(&mut self, path: &[Vec<u8>], changes: SetAttributes) -> Result<(), FsError> {
        let node = self.walk(path)?;
        let status = self.volume().set_attributes(ROOT, node, None, &changes)?;
        assert_eq!(status, self.volume().attributes(node)?, "the answer is what a look shows");
        Ok(())
    }

    fn with_open(
        &mut self,
        path: &[Vec<u8>],
        access: Access,
        truncate: bool,
        action: impl FnOnce(&Volume, NodeId, HandleId) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        let node = self.walk(path)?;
        let opened = self.volume().open(node, access, truncate)?;
        let result = action(self.volume(), node, opened.handle);
        self.volume().release(opened.handle);
        result
    }

    fn carry_out(&mut self, operation: &Operation) -> Result<(), FsError> {
        use Operation as O;
        match operation {
            O::Create { path, mode } => {
                let (parent, name) = self.parent(path)?;
                let (entry, opened) = self.volume().create(ROOT, parent, name, *mode, WRITE)?;
                self.volume().release(opened.handle);
                self.referenced.push(entry.node);
                Ok(())
            }
            O::MakeDirectory { path, mode } => {
                let (parent, name) = self.parent(path)?;
                let made = self.volume().make_directory(ROOT, parent, name, *mode);
                self.note(made)
            }
            O::MakeSymlink { path, target } => {
                let (parent, name) = self.parent(path)?;
                let made = self.volume().make_symlink(ROOT, parent, name, target);
                self.note(made)
            }
            O::MakeNode { path, kind, device } => {
                let (parent, name) = self.parent(path)?;
                let made = self.volume().make_node(ROOT, parent, name, *kind, 0o640, *device);
                self.note(made)
            }
            O::Link { from, to } => {
                let node = self.walk(from)?;
                let (parent, name) = self.parent(to)?;
                let made = self.volume().link(node, parent, name);
                self.note(made)
            }
            O::Unlink { path } => {
                let (parent, name) = self.parent(path)?;
                self.volume().unlink(parent, name)
            }
            O::RemoveDirectory { path } => {
                let (parent, name) = self.parent(path)?;
                self.volume().remove_directory(parent, name)
            }
            O::Rename { from, to, mode } => {
                let (parent, name) = self.parent(from)?;
                let (new_parent, new_name) = self.parent(to)?;
                self.volume().rename(parent, name, new_parent, new_name, *mode)
            }
            O::SetXattr { path, name, value } => {
                let node = self.walk(path)?;
                self.volume().set_extended_attribute(node, &xattr_name(*name), &[*value], XattrMode::Set)
            }
            O::RemoveXattr { path, name } => {
                let node = self.walk(path)?;
                self.volume().remove_extended_attribute(node, &xattr_name(*name))
            }
            O::SetMode { path, mode } => {
                self.set(path, SetAttributes { mode: Some(*mode), ..SetAttributes::default() })
            }
            O::SetOwner { path, user, group } => {
                let (user, group) = (Some(*user), Some(*group));
                self.set(path, SetAttributes { user, group, ..SetAttributes::default() })
            }
            O::SetModified { path, seconds } => {
                let time = SetTime::At(Timestamp { seconds: *seconds, nanoseconds: 123_456_789 });
                self.set(path, SetAttributes { modified: Some(time), ..SetAttributes::default() })
            }
            O::Remount => {
                self.remount();
                Ok(())
            }
            O::Sync { .. } | O::SyncHeld { .. } | O::SyncAll => self.sync(operation),
            O::Hold { .. } | O::WriteHeld { .. } | O::SetModeHeld { .. } | O::Release { .. } => {
                self.change_held(operation)
            }
            O::Write { .. }
            | O::Append { .. }
            | O::OpenTruncate { .. }
            | O::Truncate { .. }
            | O::Punch { .. } => self.change_content(operation),
        }
    }

    fn change_content(&mut self, operation: &Operation) -> Result<(), FsError> {
        use Operation as O;
        match operation {
            O::Write { path, offset, length, byte } => {
                self.with_open(path, WRITE, false, |volume, node, handle| {
                    write(volume, node, handle, *offset, &vec![*byte; *length])
                })
            }
            // The offset of an appending write is the kernel's guess and must not matter.
            O::Append { path, length, byte } => {
                self.with_open(path, APPEND, false, |volume, node, handle| {
                    write(volume, node, handle, 3, &vec![*byte; *length])
                })
            }
            O::OpenTruncate { path } => self.with_open(path, WRITE, true, |_, _, _| Ok(())),
            O::Truncate { path, size } => {
                let size = Some(*size as u64);
                self.set(path, SetAttributes { size, ..SetAttributes::default() })
            }
            O::Punch { path, offset, length } => {
                self.with_open(path, WRITE, false, |volume, node, handle| {
                    let punch_keeping_size = 0x02 | 0x01;
                    volume.allocate(node, handle, *offset as u64, *length as u64, punch_keeping_size)
                })
            }
            _ => Ok(()),
        }
    }

    fn sync(&mut self, operation: &Operation) -> Result<(), FsError> {
        use Operation as O;
        match operation {
            O::Sync { path, data_only } => {
                let node = self.walk(path)?;
                match self.volume().attributes(node)?.attributes.kind {
                    Kind::Directory => self.volume().sync_directory(node),
                    Kind::File => self.volume().sync(node, None, *data_only),
                    _ => Err(FsError::Invalid("only files and directories are synced")),
                }
            }
            O::SyncHeld { place } => match self.held[*place] {
                Some((node, handle, _)) => self.volume().sync(node, Some(handle), false),
                None => Ok(()),
            },
            _ => self.volume().sync_all(),
        }
    }

    fn change_held(&mut self, operation: &Operation) -> Result<(), FsError> {
        use Operation as O;
        match operation {
            O::Hold { path, place, write } => {
                self.release(*place);
                let node = self.walk(path)?;
                let opened = self.volume().open(node, if *write { WRITE } else { READ }, false)?;
                // The last reference of the walk is kept as long as the file is held.
                self.referenced.pop();
                self.held[*place] = Some((node, opened.handle, *write));
            }
            O::WriteHeld { place, offset, length, byte } => {
                if let Some((node, handle, true)) = self.held[*place] {
                    write(self.volume(), node, handle, *offset, &vec![*byte; *length])?;
                }
            }
            O::SetModeHeld { place, mode } => {
                if let Some((node, handle, _)) = self.held[*place] {
                    let changes = SetAttributes { mode: Some(*mode), ..SetAttributes::default() };
                    self.volume().set_attributes(ROOT, node, Some(handle), &changes)?;
                }
            }
            O::Release { place } => self.release(*place),
            _ => {}
        }
        Ok(())
    }
}

fn write(
    volume: &Volume,
    node: NodeId,
    handle: HandleId,
    offset: usize,
    bytes: &[u8],
) -> Result<(), FsError> {
    assert_eq!(volume.write(node, handle, offset as u64, bytes)?, bytes.len(), "all is written");
    Ok(())
}

impl Subject for VolumeSubject {
    fn apply(&mut self, operation: &Operation) -> Result<(), ModelError> {
        let result = self.carry_out(operation).map_err(|error| named(&error));
        self.forget();
        result
    }

    fn observe(&mut self) -> BTreeMap<OperationPath, Observed> {
        let mut all = BTreeMap::new();
        let mut waiting = vec![(Vec::new(), NodeId::ROOT)];
        while let Some((path, node)) = waiting.pop() {
            let observed = look(self.volume(), node);
            if observed.kind == Kind::Directory {
                for (name, child) in children(self.volume(), node, observed.inode) {
                    self.referenced.push(child);
                    waiting.push(([path.clone(), vec![name]].concat(), child));
                }
            }
            all.insert(path, observed);
        }
        self.forget();
        all
    }

    fn observe_held(&mut self, place: usize) -> Option<Observed> {
        let (node, handle, _) = self.held[place]?;
        let volume = self.volume();
        let mut observed = look(volume, node);
        observed.bytes = read(volume, node, Some(handle));
        Some(observed)
    }
}

/// Lists a directory in both ways, which must tell the same, and the same as a look at each entry.
fn children(volume: &Volume, node: NodeId, inode: u64) -> Vec<(Vec<u8>, NodeId)> {
    let handle = volume.open_directory(node).expect("it opens");
    let mut plain = Vec::new();
    volume
        .read_directory(node, Some(handle), 0, false, &mut |entry| {
            plain.push((entry.name.to_vec(), entry.inode, entry.kind));
            true
        })
        .expect("it can be listed");
    assert_eq!(plain[0], (b".".to_vec(), inode, Kind::Directory));
    let mut found = Vec::new();
    let mut position = 0;
    volume
        .read_directory(node, Some(handle), 0, true, &mut |entry| {
            let listed = &plain[position];
            position += 1;
            assert_eq!((&*listed.0, listed.1, listed.2), (entry.name, entry.inode, entry.kind));
            if let Some(entry) = &entry.entry {
                let status = volume.attributes(entry.node).expect("it is there");
                assert_eq!(status, entry.status);
                assert_eq!((status.inode, status.attributes.kind), (listed.1, listed.2), "{:?}", listed.0);
                found.push((listed.0.clone(), entry.node));
            }
            true
        })
        .expect("it can be listed");
    assert_eq!((position, found.len() + 2), (plain.len(), plain.len()));
    volume.release_directory(handle);
    found
}

fn look(volume: &Volume, node: NodeId) -> Observed {
    let status = volume.attributes(node).expect("it is there");
    let attributes = status.attributes;
    let bytes = match attributes.kind {
        Kind::File => read(volume, node, None),
        Kind::Symlink => volume.read_link(node).expect("it can be read"),
        _ => Vec::new(),
    };
    if attributes.kind == Kind::File {
        assert_eq!(attributes.size, bytes.len() as u64);
    }
    let names = volume.extended_attribute_names(node).expect("they can be listed");
    let xattrs = names.into_iter().map(|name| {
        let value = volume.extended_attribute(node, &name).expect("a listed attribute is there");
        (name, value)
    });
    Observed {
        kind: attributes.kind,
        mode: attributes.mode,
        user: attributes.user,
        group: attributes.group,
        links: attributes.links,
        device: attributes.device,
        modified: attributes.modified.seconds,
        inode: status.inode,
        bytes,
        xattrs: xattrs.collect(),
    }
}

fn read(volume: &Volume, node: NodeId, handle: Option<HandleId>) -> Vec<u8> {
    let mut content = vec![0; 64 << 10];
    let count = volume.read(node, handle, 0, &mut content).expect("it can be read");
    content.truncate(count);
    content
}

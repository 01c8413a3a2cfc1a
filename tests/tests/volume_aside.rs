//! What an ordinary user's server may not set on its disk: how it is kept there, that it is shown right, and that nothing is
//! kept where the disk can hold it. Root serves here, bound to what an ordinary user may.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use slotfs_fs::disk::unix::{Directory, device_number};
use slotfs_fs::layer::Layer;
use slotfs_fs::layer::directory::DirectoryLayer;
use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_fs::layer::stack::Stack;
use slotfs_fs::node::{Attributes, Kind};
use slotfs_fs::overlay::carry::carry;
use slotfs_fs::overlay::{
    Difference, Scope, Upper, UpperForm, View, changes, duplicate, take_back, write_archive,
};
use slotfs_fs::volume::{
    Access, Caller, Entry, FsError, Lookup, NodeId, PlacedLayer, SetAttributes, Volume, VolumeOptions,
    XattrMode,
};

const VALUE: &str = "user.containers.override_stat";
/// The same of the upper directory itself.
const MARK: &str = "user.slotfs.aside";
const READ: Access = Access { read: true, write: false, append: false };
const WRITE: Access = Access { read: true, write: true, append: false };
/// Who serves, and somebody else.
const SERVER: Caller = Caller { user: 0, group: 0 };
const OTHER: Caller = Caller { user: 5, group: 6 };

/// A volume with its upper directory.
struct Place {
    volume: Option<Volume>,
    folder: tempfile::TempDir,
    form: UpperForm,
    options: VolumeOptions,
    layer: &'static str,
}

fn layers(name: &str) -> Vec<PlacedLayer> {
    let layer = MemoryLayer::builder()
        .file("old", 0o644, *b"packaged")
        .file("theirs", 0o4750, *b"packaged")
        .symlink("link", "old")
        .directory("directory", 0o755)
        .change("theirs", |attributes| (attributes.user, attributes.group) = (7, 8))
        .change("link", |attributes| (attributes.user, attributes.group) = (7, 8));
    let layer = Arc::new(layer.build().unwrap());
    vec![PlacedLayer { name: name.into(), layer, target: Vec::new(), writable: true }]
}

impl Place {
    /// `None` where this is not root, whose server keeps nothing aside unless it is told to.
    fn new(form: UpperForm) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let options = VolumeOptions { devices: true, ..VolumeOptions::default() };
        let folder = tempfile::tempdir().unwrap();
        let mut place = Self { volume: None, folder, form, options, layer: "layer" };
        place.remount();
        Some(place)
    }

    fn ordinary() -> Option<Self> {
        Self::new(UpperForm::ORDINARY)
    }

    fn remount(&mut self) {
        self.volume = None;
        let volume = Volume::new(layers(self.layer), Some(self.open()), self.options);
        self.volume = Some(volume.unwrap());
    }

    fn open(&self) -> Upper {
        Upper::open_with(&self.path("upper"), &self.path("work"), self.form).unwrap()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn volume(&self) -> &Volume {
        self.volume.as_ref().unwrap()
    }

    fn node(&self, path: &str) -> NodeId {
        path.split('/').filter(|name| !name.is_empty()).fold(NodeId::ROOT, |node, name| {
            match self.volume().lookup(node, name.as_bytes()).unwrap() {
                Lookup::Found(entry) => entry.node,
                Lookup::Absent { .. } => panic!("there is no {path}"),
            }
        })
    }

    fn shown(&self, path: &str) -> Attributes {
        self.volume().attributes(self.node(path)).unwrap().attributes
    }

    /// Owner, group and mode as shown.
    fn owner(&self, path: &str) -> (u32, u32, u32) {
        let shown = self.shown(path);
        (shown.user, shown.group, shown.mode)
    }

    fn file(&self, caller: Caller, name: &str, mode: u32) -> NodeId {
        let made = self.volume().create(caller, NodeId::ROOT, name.as_bytes(), mode, WRITE);
        let (entry, opened) = made.unwrap();
        self.volume().release(opened.handle);
        entry.node
    }

    fn symlink(&self, caller: Caller, name: &str) -> Entry {
        self.volume().make_symlink(caller, NodeId::ROOT, name.as_bytes(), b"old").unwrap()
    }

    fn chown(&self, path: &str, user: u32, group: u32) -> Result<(), FsError> {
        let changes = SetAttributes { user: Some(user), group: Some(group), ..SetAttributes::default() };
        self.volume().set_attributes(SERVER, self.node(path), None, &changes).map(drop)
    }

    fn chmod(&self, path: &str, mode: u32) {
        let changes = SetAttributes { mode: Some(mode), ..SetAttributes::default() };
        self.volume().set_attributes(SERVER, self.node(path), None, &changes).unwrap();
    }

    /// Owner and mode on the disk.
    fn on_disk(&self, path: &str) -> (u32, u32) {
        let found = std::fs::symlink_metadata(self.path("upper").join(path)).unwrap();
        (found.uid(), found.mode() & 0o7777)
    }

    fn value(&self, path: &str) -> Option<String> {
        value(&self.path("upper").join(path), if path.is_empty() { MARK } else { VALUE })
    }

    /// What the index says of symbolic links and the like, without the numbers.
    fn records(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.path("upper-index")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut records: Vec<_> =
            names.filter_map(|name| Some(name.split_once(".aside.")?.1.to_owned())).collect();
        records.sort();
        records
    }
}

fn value(path: &Path, name: &str) -> Option<String> {
    let mut buffer = [0; 256];
    let length = lgetxattr(path, name, &mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[test]
fn what_the_disk_can_hold_is_on_the_disk() {
    let Some(place) = Place::ordinary() else { return };
    place.file(SERVER, "file", 0o644);
    place.volume().make_directory(SERVER, NodeId::ROOT, b"new", 0o2755).unwrap();
    place.volume().make_node(SERVER, NodeId::ROOT, b"fifo", Kind::Fifo, 0o600, 0).unwrap();
    place.symlink(SERVER, "symlink");
    place.chmod("old", 0o664);
    place.chmod("directory", 0o700);
    for path in ["", "file", "new", "fifo", "symlink", "old", "directory"] {
        assert_eq!(place.value(path), None, "{path}");
    }
    assert_eq!(place.records(), [""; 0]);
    assert_eq!((place.on_disk("old"), place.on_disk("new")), ((0, 0o664), (0, 0o2755)));
}

#[test]
fn root_keeps_nothing_aside() {
    let Some(place) = Place::new(UpperForm::default()) else { return };
    place.file(OTHER, "file", 0);
    place.symlink(OTHER, "symlink");
    place.chmod("old", 0o4755);
    place.chown("old", 9, 9).unwrap();
    place.chown("theirs", 1, 1).unwrap();
    let node = place.node("file");
    place.volume().set_extended_attribute(node, b"trusted.note", b"x", XattrMode::Set).unwrap();
    for path in ["", "file", "symlink", "old", "theirs"] {
        assert_eq!(place.value(path), None, "{path}");
    }
    assert_eq!(place.records(), [""; 0]);
    assert_eq!((place.on_disk("file"), place.on_disk("old")), ((5, 0), (9, 0o0755)));
    assert_eq!(value(&place.path("upper/file"), "trusted.note").as_deref(), Some("x"));
}

#[test]
fn owners_and_modes_are_kept_in_the_form_that_others_know() {
    let Some(mut place) = Place::ordinary() else { return };
    place.file(OTHER, "file", 0o640);
    place.volume().make_directory(SERVER, NodeId::ROOT, b"closed", 0).unwrap();
    place.file(SERVER, "program", 0o4755);
    place.chmod("old", 0o444);
    for remount in [false, true] {
        if remount {
            place.remount();
        }
        let table = [
            ("file", (5, 6, 0o640), "5:6:0640:file", 0o600),
            ("closed", (0, 0, 0), "0:0:0000:dir", 0o700),
            ("program", (0, 0, 0o4755), "0:0:4755:file", 0o755),
            ("old", (0, 0, 0o444), "0:0:0444:file", 0o644),
            ("", (0, 0, 0o755), "0:0:0755:dir", 0o755),
        ];
        for (path, shown, kept, mode) in table {
            assert_eq!(place.owner(path), shown, "{path}");
            assert_eq!(
                (place.value(path).as_deref(), place.on_disk(path)),
                (Some(kept), (0, mode)),
                "{path}"
            );
        }
    }
    // The attribute itself is nobody's business, and a user may have one of that name.
    let node = place.node("file");
    assert!(place.volume().extended_attribute_names(node).unwrap().is_empty());
    place.volume().set_extended_attribute(node, VALUE.as_bytes(), b"1:1:0777", XattrMode::Set).unwrap();
    assert_eq!((place.owner("file"), place.value("file").as_deref()), ((5, 6, 0o640), Some("5:6:0640:file")));
    assert_eq!(place.volume().extended_attribute(node, VALUE.as_bytes()).unwrap(), b"1:1:0777");
    // What the disk can hold again is on the disk again.
    place.chown("file", 0, 0).unwrap();
    place.chmod("closed", 0o750);
    place.chmod("program", 0o755);
    assert_eq!((place.value("file"), place.on_disk("file")), (None, (0, 0o640)));
    assert_eq!((place.value("closed"), place.on_disk("closed")), (None, (0, 0o750)));
    assert_eq!((place.value("program"), place.on_disk("program")), (None, (0, 0o755)));
}

#[test]
fn the_root_can_be_given_away_and_back() {
    let Some(mut place) = Place::ordinary() else { return };
    place.chown("", 5, 6).unwrap();
    place.chmod("", 0o1770);
    place.remount();
    assert_eq!((place.owner(""), place.value("").as_deref()), ((5, 6, 0o1770), Some("5:6:1770:dir")));
    assert_eq!(place.on_disk(""), (0, 0o1700));
    place.chown("", 0, 0).unwrap();
    place.chmod("", 0o750);
    place.remount();
    assert_eq!((place.owner(""), place.on_disk("")), ((0, 0, 0o750), (0, 0o750)));
}

#[test]
fn root_shows_what_it_finds_aside_and_puts_on_the_disk_what_it_changes() {
    let Some(mut place) = Place::ordinary() else { return };
    place.file(OTHER, "file", 0o640);
    place.file(OTHER, "untouched", 0o4711);
    place.symlink(OTHER, "symlink");
    let node = place.node("file");
    place.volume().set_extended_attribute(node, b"trusted.note", b"old", XattrMode::Set).unwrap();
    place.form = UpperForm::default();
    place.remount();
    assert_eq!((place.owner("file"), place.owner("untouched")), ((5, 6, 0o640), (5, 6, 0o4711)));
    assert_eq!(place.owner("symlink"), (5, 6, 0o777));
    let node = place.node("file");
    assert_eq!(place.volume().extended_attribute(node, b"trusted.note").unwrap(), b"old");
    place.chmod("file", 0);
    place.chown("symlink", 7, 8).unwrap();
    place.volume().set_extended_attribute(node, b"trusted.note", b"new", XattrMode::Set).unwrap();
    place.file(OTHER, "new", 0);
    for remount in [false, true] {
        if remount {
            place.remount();
        }
        assert_eq!((place.owner("file"), place.owner("new")), ((5, 6, 0), (5, 6, 0)));
        assert_eq!(place.owner("symlink"), (7, 8, 0o777));
    }
    assert_eq!(
        (place.on_disk("file"), place.on_disk("new"), place.on_disk("symlink").0),
        ((5, 0), (5, 0), 7)
    );
    assert_eq!((place.value("file"), place.value("new"), place.records()), (None, None, Vec::new()));
    assert_eq!(value(&place.path("upper/file"), "trusted.note").as_deref(), Some("new"));
    assert_eq!(value(&place.path("upper/file"), "user.slotfs.aside.trusted.note"), None);
}

#[test]
fn copies_of_the_layers_keep_their_owners() {
    let Some(mut place) = Place::ordinary() else { return };
    let opened = place.volume().open(place.node("theirs"), WRITE, false).unwrap();
    place.volume().release(opened.handle);
    let link = place.node("link");
    place.volume().link(link, NodeId::ROOT, b"again").unwrap();
    for _ in 0..2 {
        assert_eq!(place.owner("theirs"), (7, 8, 0o4750));
        assert_eq!((place.owner("link"), place.owner("again")), ((7, 8, 0o777), (7, 8, 0o777)));
        assert_eq!(place.shown("link").links, 2);
        place.remount();
    }
    assert_eq!(place.records(), ["7:8:0777:symlink"]);
    assert_eq!(place.on_disk("theirs"), (0, 0o700));
}

#[test]
fn links_and_fifos_stay_what_they_are() {
    let Some(mut place) = Place::ordinary() else { return };
    place.symlink(OTHER, "symlink");
    place.volume().make_node(OTHER, NodeId::ROOT, b"fifo", Kind::Fifo, 0o640, 0).unwrap();
    place.volume().make_node(SERVER, NodeId::ROOT, b"socket", Kind::Socket, 0o600, 0).unwrap();
    place.chown("socket", 1, 2).unwrap();
    assert_eq!(place.records(), ["1:2:0600:socket", "5:6:0640:pipe", "5:6:0777:symlink"]);
    let disk = |name: &str| std::fs::symlink_metadata(place.path("upper").join(name)).unwrap().file_type();
    assert!(disk("symlink").is_symlink() && disk("fifo").is_fifo() && disk("socket").is_socket());
    let node = place.node("symlink");
    place.volume().link(node, NodeId::ROOT, b"again").unwrap();
    place.chown("again", 3, 4).unwrap();
    for _ in 0..2 {
        for name in ["symlink", "again"] {
            let shown = place.shown(name);
            assert_eq!((shown.user, shown.group, shown.links), (3, 4, 2));
        }
        assert_eq!(place.owner("fifo"), (5, 6, 0o640));
        place.remount();
    }
    place.chown("symlink", 0, 0).unwrap();
    assert_eq!(place.records(), ["1:2:0600:socket", "5:6:0640:pipe"]);
    for name in ["symlink", "again", "fifo", "socket"] {
        place.volume().unlink(NodeId::ROOT, name.as_bytes()).unwrap();
    }
    assert_eq!(place.records(), [""; 0]);
}

#[test]
fn an_owner_never_comes_to_another_node() {
    let Some(mut place) = Place::ordinary() else { return };
    for round in 0..20 {
        let held = place.symlink(OTHER, "symlink");
        place.volume().unlink(NodeId::ROOT, b"symlink").unwrap();
        // Who still has it sees whose it is; and its number is given to another one after that.
        assert_eq!(place.volume().attributes(held.node).unwrap().attributes.user, OTHER.user);
        assert_eq!(place.symlink(SERVER, "own").status.attributes.user, SERVER.user, "{round}");
        place.volume().forget(held.node, 1);
        assert_eq!(place.symlink(SERVER, "too").status.attributes.user, SERVER.user, "{round}");
        place.volume().unlink(NodeId::ROOT, b"own").unwrap();
        place.volume().unlink(NodeId::ROOT, b"too").unwrap();
    }
    // As a kill leaves it between the record and the name.
    place.symlink(OTHER, "symlink");
    std::fs::remove_file(place.path("upper/symlink")).unwrap();
    assert_eq!(place.records().len(), 1);
    place.remount();
    assert_eq!(place.records(), [""; 0]);
    assert_eq!(place.symlink(SERVER, "new").status.attributes.user, SERVER.user);
}

#[test]
fn many_at_once_get_in_nobodys_way() {
    let Some(mut place) = Place::ordinary() else { return };
    let (threads, each) = (8, 100);
    let shared = &place;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for number in 0..each {
                    let name = format!("{thread}-{number}");
                    shared.symlink(OTHER, &name);
                    if number % 2 == 0 {
                        shared.chown(&name, 7, 7).unwrap();
                    }
                    if number % 5 == 0 {
                        shared.volume().unlink(NodeId::ROOT, name.as_bytes()).unwrap();
                    }
                }
            });
        }
    });
    for _ in 0..2 {
        for thread in 0..threads {
            for number in (0..each).filter(|number| number % 5 != 0) {
                let owner = if number % 2 == 0 { 7 } else { OTHER.user };
                assert_eq!(place.owner(&format!("{thread}-{number}")).0, owner);
            }
        }
        place.remount();
    }
    assert_eq!(place.records().len(), threads * each * 4 / 5);
}

#[test]
fn devices_are_files_that_say_so() {
    let Some(mut place) = Place::ordinary() else { return };
    let device = device_number(1, 3);
    for (name, device) in [("null", device), ("zero", 0)] {
        place
            .volume()
            .make_node(OTHER, NodeId::ROOT, name.as_bytes(), Kind::CharacterDevice, 0o620, device)
            .unwrap();
    }
    for _ in 0..2 {
        let shown = place.shown("null");
        assert_eq!((shown.kind, shown.device), (Kind::CharacterDevice, device));
        assert_eq!(place.shown("zero").kind, Kind::CharacterDevice);
        assert_eq!(place.owner("null"), (5, 6, 0o620));
        place.remount();
    }
    assert_eq!(place.value("null").as_deref(), Some("5:6:0620:char-1-3"));
    assert!(place.path("upper/null").is_file());
}

#[test]
fn attributes_of_roots_are_kept_under_another_name() {
    let Some(mut place) = Place::ordinary() else { return };
    let node = place.file(OTHER, "file", 0o600);
    let set = |place: &Place, node, name: &str, mode| {
        place.volume().set_extended_attribute(node, name.as_bytes(), b"value", mode)
    };
    let missing = set(&place, node, "trusted.note", XattrMode::Replace);
    assert!(matches!(missing, Err(FsError::NoAttribute)), "{missing:?}");
    set(&place, node, "trusted.note", XattrMode::Create).unwrap();
    let there = set(&place, node, "trusted.note", XattrMode::Create);
    assert!(matches!(there, Err(FsError::Exists)), "{there:?}");
    set(&place, node, "security.capability", XattrMode::Set).unwrap();
    set(&place, node, "user.own", XattrMode::Set).unwrap();
    place.remount();
    let node = place.node("file");
    let names = place.volume().extended_attribute_names(node).unwrap();
    let expected: [&[u8]; 3] = [b"security.capability", b"trusted.note", b"user.own"];
    assert_eq!(names, expected);
    assert_eq!(place.volume().extended_attribute(node, b"trusted.note").unwrap(), b"value");
    let file = place.path("upper/file");
    assert_eq!(value(&file, "trusted.note"), None);
    assert_eq!(value(&file, "user.slotfs.aside.trusted.note").as_deref(), Some("value"));
    // Who writes to a file must not write to a privileged program.
    let opened = place.volume().open(node, READ, false).unwrap();
    place.volume().release(opened.handle);
    assert!(place.volume().extended_attribute(node, b"security.capability").is_ok());
    let opened = place.volume().open(node, WRITE, false).unwrap();
    place.volume().release(opened.handle);
    let gone = place.volume().extended_attribute(node, b"security.capability");
    assert!(matches!(gone, Err(FsError::NoAttribute)), "{gone:?}");
    place.volume().remove_extended_attribute(node, b"trusted.note").unwrap();
    let gone = place.volume().remove_extended_attribute(node, b"trusted.note");
    assert!(matches!(gone, Err(FsError::NoAttribute)), "{gone:?}");
    let link = place.symlink(SERVER, "symlink").node;
    assert!(set(&place, link, "trusted.note", XattrMode::Set).is_err(), "a link has no place for it");
}

/// Owner, a user, group, mask, others, as `linux/posix_acl_xattr.h` has them.
fn access_list(permissions: [u8; 5]) -> Vec<u8> {
    let tags: [(u16, u32); 5] = [(1, u32::MAX), (2, 1), (4, u32::MAX), (0x10, u32::MAX), (0x20, u32::MAX)];
    let entries = tags
        .into_iter()
        .zip(permissions)
        .flat_map(|((tag, id), bits)| [&tag.to_le_bytes()[..], &[bits, 0], &id.to_le_bytes()].concat());
    [2, 0, 0, 0].into_iter().chain(entries).collect()
}

#[test]
fn access_lists_hold_for_what_is_kept_aside() {
    const ACCESS: &[u8] = b"system.posix_acl_access";
    let Some(mut place) = Place::ordinary() else { return };
    let node = place.file(OTHER, "file", 0o640);
    let list = access_list([4, 7, 5, 6, 0]);
    match place.volume().set_extended_attribute(node, ACCESS, &list, XattrMode::Set) {
        Err(FsError::Disk(error)) if error.source.raw_os_error() == Some(libc::EOPNOTSUPP) => return,
        other => other.unwrap(),
    }
    for _ in 0..2 {
        assert_eq!(place.owner("file"), (5, 6, 0o460));
        assert_eq!(place.volume().extended_attribute(place.node("file"), ACCESS).unwrap(), list);
        assert_eq!(place.on_disk("file"), (0, 0o600));
        place.remount();
    }
    place.chmod("file", 0o750);
    let changed = place.volume().extended_attribute(place.node("file"), ACCESS).unwrap();
    assert_eq!(changed, access_list([7, 7, 5, 5, 0]));
    // Given back to who serves, the disk's own list is the one.
    place.chown("file", 0, 0).unwrap();
    assert_eq!((place.value("file"), place.on_disk("file")), (None, (0, 0o750)));
    assert_eq!(place.volume().extended_attribute(place.node("file"), ACCESS).unwrap(), changed);
    // A list that lets the server in again is the disk's, with the mode that goes with it.
    place.chown("directory", 0, 0).unwrap();
    place.chmod("directory", 0o3070);
    assert_eq!(place.value("directory").as_deref(), Some("0:0:3070:dir"));
    let list = access_list([7, 7, 5, 7, 0]);
    let node = place.node("directory");
    place.volume().set_extended_attribute(node, ACCESS, &list, XattrMode::Set).unwrap();
    assert_eq!((place.value("directory"), place.on_disk("directory")), (None, (0, 0o3770)));
    assert_eq!(place.volume().extended_attribute(node, ACCESS).unwrap(), list);
    // And the other way round.
    place.chown("file", 5, 6).unwrap();
    assert_eq!(place.volume().extended_attribute(place.node("file"), ACCESS).unwrap(), changed);
}

#[test]
fn changes_are_told_and_archived_as_they_are_shown() {
    let Some(place) = Place::ordinary() else { return };
    place.file(OTHER, "file", 0o2640);
    place.volume().make_directory(OTHER, NodeId::ROOT, b"new", 0o1777).unwrap();
    place.symlink(OTHER, "symlink");
    place.chown("old", 5, 0).unwrap();
    place.chmod("directory", 0);
    let node = place.node("file");
    place.volume().set_extended_attribute(node, b"trusted.note", b"x", XattrMode::Set).unwrap();
    drop(place.volume);
    let view = View::open(&place.folder.path().join("upper")).unwrap().unwrap();
    let stack = Stack::new(layers("layer"));
    let mut parts = BTreeMap::new();
    changes(&view, Some(&stack), &Scope::default(), &mut |change| {
        let path = String::from_utf8(change.path.join(&b'/')).unwrap();
        let how = match &change.difference {
            Difference::Changed(parts) => format!("{} {} {}", parts.content, parts.mode, parts.owner),
            other @ (Difference::Added { .. } | Difference::Removed) => format!("{other:?}"),
        };
        let now = change.now.unwrap();
        parts.insert(path, (how, now.user, now.group, now.mode));
        ControlFlow::Continue(())
    })
    .unwrap();
    let added = || "Added { from: None }".to_owned();
    let expected = [
        ("directory", ("false true false".to_owned(), 0, 0, 0)),
        ("file", (added(), 5, 6, 0o2640)),
        ("new", (added(), 5, 6, 0o1777)),
        ("old", ("false false true".to_owned(), 5, 0, 0o644)),
        ("symlink", (added(), 5, 6, 0o777)),
    ];
    assert_eq!(parts, expected.map(|(path, how)| (path.to_owned(), how)).into());

    let mut archive = Vec::new();
    write_archive(&view, Some(&stack), &Scope::default(), &mut archive).unwrap();
    let mut archive = tar::Archive::new(&archive[..]);
    let mut archived = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let noted = entry
            .pax_extensions()
            .unwrap()
            .is_some_and(|mut all| all.any(|one| one.unwrap().key() == Ok("SCHILY.xattr.trusted.note")));
        let header = entry.header();
        let owner = (header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap() & 0o7777, noted);
        archived.insert(entry.path().unwrap().display().to_string(), owner);
    }
    let expected = [
        ("directory/", (0, 0, 0, false)),
        ("file", (5, 6, 0o2640, true)),
        ("new/", (5, 6, 0o1777, false)),
        ("old", (5, 0, 0o644, false)),
        ("symlink", (5, 6, 0o777, false)),
    ];
    assert_eq!(archived, expected.map(|(path, owner)| (path.to_owned(), owner)).into());
}

#[test]
fn a_copy_and_other_layers_change_no_owner() {
    let Some(mut place) = Place::ordinary() else { return };
    place.file(OTHER, "file", 0o640);
    place.symlink(OTHER, "symlink");
    place.chown("link", 9, 9).unwrap();
    let shown = |place: &Place| ["file", "symlink", "link"].map(|name| place.owner(name));
    let before = shown(&place);
    place.layer = "another";
    place.remount();
    assert_eq!(shown(&place), before);
    place.volume = None;
    let pairs = ["upper", "upper-index"].map(|name| {
        let copy = place.path(&format!("copy-{name}"));
        std::fs::create_dir(&copy).unwrap();
        let open = |path: &Path| Arc::new(Directory::open(path).unwrap());
        (open(&place.path(name)), open(&copy))
    });
    duplicate(&pairs, None, &mut |_| {}).unwrap();
    for name in ["upper", "upper-index"] {
        std::fs::remove_dir_all(place.path(name)).unwrap();
        std::fs::rename(place.path(&format!("copy-{name}")), place.path(name)).unwrap();
    }
    place.remount();
    assert_eq!(shown(&place), before);
    assert_eq!(place.shown("symlink").links, 1);
}

#[test]
fn taken_back_nothing_is_left_aside() {
    let Some(mut place) = Place::ordinary() else { return };
    place.symlink(OTHER, "symlink");
    place.file(OTHER, "file", 0);
    place.chmod("old", 0);
    place.volume = None;
    let scope = Scope::of(vec![vec![b"old".to_vec()], vec![b"symlink".to_vec()]]);
    take_back::take_back(&place.open(), &Stack::new(layers("layer")), &scope).unwrap();
    place.remount();
    assert_eq!((place.owner("old"), place.owner("file")), ((0, 0, 0o644), (5, 6, 0)));
    assert_eq!(place.records(), [""; 0]);
    place.volume = None;
    let upper = place.open();
    upper.clear().unwrap();
    drop(upper);
    place.remount();
    assert_eq!(place.value(""), None);
    place.file(SERVER, "file", 0o600);
    assert_eq!((place.value("file"), place.value("")), (None, None));
}

#[test]
fn what_is_carried_over_keeps_its_owner() {
    let Some(mut place) = Place::ordinary() else { return };
    place.file(OTHER, "file", 0o640);
    place.volume = None;
    let open = |path: PathBuf| Arc::new(Directory::open(&path).unwrap());
    std::fs::rename(place.path("upper"), place.path("earlier")).unwrap();
    std::fs::create_dir(place.path("upper")).unwrap();
    let (from, to) = (open(place.path("earlier")), open(place.path("upper")));
    assert!(carry(&from, &to, &[b"file".to_vec()]).unwrap());
    place.remount();
    assert_eq!(place.owner("file"), (5, 6, 0o640));
}

/// A former upper directory, or one of another tool: the directory itself says that it is in that form.
#[test]
fn owners_below_are_shown_where_the_layer_says_so() {
    let Some(mut place) = Place::ordinary() else { return };
    place.file(OTHER, "file", 0o4640);
    place.volume().make_node(OTHER, NodeId::ROOT, b"null", Kind::CharacterDevice, 0o600, 0).unwrap();
    place.volume = None;
    let upper = place.path("upper");
    std::fs::write(upper.join("foreign"), "x").unwrap();
    lsetxattr(upper.join("foreign"), VALUE, b"3:4:0100600", XattrFlags::empty()).unwrap();
    let look = |name: &str| {
        let layer = DirectoryLayer::open_marked(&upper, false).unwrap();
        let node = layer.lookup(layer.root(), name.as_bytes()).unwrap().unwrap();
        let found = layer.attributes(node).unwrap();
        assert!(layer.extended_attributes(node).unwrap().is_empty());
        assert!(!layer.marks(node, &found).unwrap().whiteout);
        (found.kind, found.user, found.group, found.mode)
    };
    assert_eq!(look("file"), (Kind::File, 5, 6, 0o4640));
    assert_eq!(look("foreign"), (Kind::File, 3, 4, 0o600));
    assert_eq!(look("null"), (Kind::CharacterDevice, 5, 6, 0o600));
    rustix::fs::lremovexattr(&upper, MARK).unwrap();
    assert_eq!(look("file"), (Kind::File, 0, 0, 0o600));
    lsetxattr(&upper, VALUE, b"0:0:0755:dir", XattrFlags::empty()).unwrap();
    assert_eq!(look("foreign"), (Kind::File, 3, 4, 0o600));
    rustix::fs::lremovexattr(&upper, VALUE).unwrap();
    assert_eq!(look("file"), (Kind::File, 0, 0, 0o600));
}

#[test]
fn what_is_kept_aside_counts() {
    const LIMIT: u64 = 256 << 10;
    let Some(mut place) = Place::ordinary() else { return };
    place.options.limit = Some(LIMIT);
    place.remount();
    let mut refused = 0;
    for number in 0..200 {
        let name = format!("file{number}");
        place.file(SERVER, &name, 0o644);
        let node = place.node(&name);
        // It fills the inode, so that the disk needs a block for whatever else is said of the file.
        let room = place.volume().set_extended_attribute(node, b"user.note", &[7; 60], XattrMode::Set);
        match room.and_then(|()| place.chown(&name, 5, 6)) {
            Ok(()) => assert_eq!(place.owner(&name).0, 5),
            Err(FsError::Disk(error)) if error.source.raw_os_error() == Some(libc::ENOSPC) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(refused > 0, "the bound was never met");
    place.volume = None;
    assert!(place.open().count().unwrap() <= LIMIT);
}

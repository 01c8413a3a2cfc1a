//! Every entry of a tree in the order of its archive, links followed or kept.
//!
//! **Invariant:** each path comes once, a directory before what is in it.

use std::collections::{HashMap, HashSet};

use super::super::tar::Entry;
use super::super::{ExtendedAttributes, Layer, LayerError, LayerNode};
use super::{Detail, Difference, Links, MOST_LINKS, TreeError, TreeOptions, TreeReport, shown};
use crate::node::{Attributes, Kind, Timestamp};

/// Told of one entry, its node, and whether it is one more name of the entry that it links to.
pub(super) type Each<'a> = dyn FnMut(Entry, LayerNode, bool) -> Result<(), TreeError> + 'a;

/// Entries of which contents are asked for before their turn.
const AHEAD: usize = 16;

/// What is done with the files of a tree.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    /// They are read in their turn.
    Read,
    /// Nobody looks at them.
    Ignored,
}

/// Tells `each` of every entry that an archive of the tree has, in order.
pub(super) fn walk(
    (layer, contents): (&dyn Layer, Contents),
    options: &TreeOptions,
    report: &mut TreeReport,
    each: &mut Each<'_>,
) -> Result<(), TreeError> {
    let mut walk = Walk { layer, options, report, each, names: HashMap::new(), written: HashSet::new() };
    let root = layer.root();
    let attributes = layer.attributes(root)?;
    let mut path = Vec::new();
    if options.prefix.is_empty() && options.detail != Detail::Plain {
        walk.entry(b".".to_vec(), root, attributes, Vec::new())?;
    }
    for (position, name) in options.prefix.iter().enumerate() {
        path = below(&path, name);
        let is_last = position + 1 == options.prefix.len();
        // Nobody knows how the others should be.
        let node = if is_last { attributes } else { Attributes::bare(Kind::Directory, 0o755) };
        let modified = attributes.modified;
        walk.entry(path.clone(), root, Attributes { modified, ..node }, Vec::new())?;
    }
    for first in options.order.first.iter() {
        walk.ahead(&path, first)?;
    }
    let by_kind = options.order.by_kind;
    let mut open = vec![Level::new(layer, path, (vec![root], vec![root]), by_kind)?];
    while let Some(level) = open.last_mut() {
        if contents == Contents::Read {
            level.expect(layer);
        }
        let Some(found) = level.entries.next() else {
            open.pop();
            continue;
        };
        let deeper = walk.name(level, found)?;
        open.extend(deeper);
    }
    Ok(())
}

/// A directory whose entries are being written.
struct Level {
    path: Vec<u8>,
    /// Where the directory really is: itself and all above it, the root first.
    place: Vec<LayerNode>,
    /// The directories on the way here, links followed.
    way: Vec<LayerNode>,
    entries: std::vec::IntoIter<Found>,
    /// How many entries, the last ones, the layer has not heard of.
    unexpected: usize,
}

/// An entry of a directory as it was found.
struct Found {
    name: Vec<u8>,
    node: LayerNode,
    attributes: Attributes,
}

impl Level {
    fn new(
        layer: &dyn Layer,
        path: Vec<u8>,
        (place, way): (Vec<LayerNode>, Vec<LayerNode>),
        by_kind: bool,
    ) -> Result<Self, LayerError> {
        let mut entries = Vec::new();
        let node = place.last().copied().unwrap_or_else(|| layer.root());
        layer.read_whole_directory(node, &mut |name, node, attributes| {
            entries.push(Found { name: name.to_vec(), node, attributes });
        })?;
        if by_kind {
            entries.sort_by(|one, other| one.by_kind().cmp(&other.by_kind()));
        }
        Ok(Self { path, place, way, unexpected: entries.len(), entries: entries.into_iter() })
    }

    /// Lets the layer hear of the next files.
    fn expect(&mut self, layer: &dyn Layer) {
        let rest = self.entries.as_slice();
        let heard = rest.len() - self.unexpected.min(rest.len());
        let soon = rest.len().min(AHEAD);
        for found in rest.get(heard..soon).unwrap_or_default() {
            if found.attributes.kind == Kind::File && found.attributes.size > 0 {
                layer.expect(found.node, found.attributes.size);
            }
        }
        self.unexpected = self.unexpected.min(rest.len() - soon.max(heard));
    }
}

impl Found {
    /// Files before directories, those of one kind together.
    fn by_kind(&self) -> (bool, &[u8], &[u8]) {
        (self.attributes.kind == Kind::Directory, ending(&self.name), &self.name)
    }
}

struct Walk<'a, 'b> {
    layer: &'a dyn Layer,
    options: &'a TreeOptions,
    report: &'a mut TreeReport,
    each: &'a mut Each<'b>,
    /// The first name of each file that may have another one.
    names: HashMap<LayerNode, Vec<u8>>,
    /// What came ahead of its turn.
    written: HashSet<Vec<u8>>,
}

impl Walk<'_, '_> {
    /// Writes the file at `path` ahead of its turn, and the directories on the way to it; `base` is the path of the tree's
    /// root. What is no file, or behind a link, has to wait.
    fn ahead(&mut self, base: &[u8], path: &[u8]) -> Result<(), TreeError> {
        let inside = match base {
            [] => Some(path),
            base => path.strip_prefix(base).and_then(|rest| rest.strip_prefix(b"/")),
        };
        let names = inside.into_iter().flat_map(|inside| inside.split(|byte| *byte == b'/'));
        let mut found: Vec<(Vec<u8>, LayerNode, Attributes)> = Vec::new();
        for name in names.filter(|name| !name.is_empty()) {
            let (path, at) = match found.last() {
                Some((_, _, attributes)) if attributes.kind != Kind::Directory => return Ok(()),
                Some((path, node, _)) => (below(path, name), *node),
                None => (below(base, name), self.layer.root()),
            };
            let Some(node) = self.layer.lookup(at, name)? else { return Ok(()) };
            found.push((path, node, self.layer.attributes(node)?));
        }
        if found.last().is_none_or(|(_, _, attributes)| attributes.kind != Kind::File) {
            return Ok(());
        }
        for (path, node, attributes) in found {
            if self.written.insert(path.clone()) {
                self.entry(path, node, attributes, Vec::new())?;
            }
        }
        Ok(())
    }

    /// Writes an entry; returns the level below it if it is a directory.
    fn name(&mut self, level: &Level, found: Found) -> Result<Option<Level>, TreeError> {
        let Found { name, mut node, mut attributes } = found;
        let path = below(&level.path, &name);
        let mut place = None;
        if attributes.kind == Kind::Symlink {
            if self.options.links == Links::Keep {
                let target = self.layer.read_link(node)?;
                self.entry(path, node, attributes, target)?;
                return Ok(None);
            }
            let end = self.follow(&level.place, node, &path)?;
            node = end.last().copied().unwrap_or(node);
            place = Some(end);
            attributes = self.layer.attributes(node)?;
            if level.way.contains(&node) {
                return Err(link_error(&path, "leads to a directory that it lies in"));
            }
            self.report.followed += 1;
            self.report.first_followed.get_or_insert_with(|| shown(&path));
        }
        match attributes.kind {
            Kind::Directory => {
                if !self.written.contains(&path) {
                    self.entry(path.clone(), node, attributes, Vec::new())?;
                }
                let place = place.unwrap_or_else(|| [&level.place[..], &[node]].concat());
                let way = [&level.way[..], &[node]].concat();
                Ok(Some(Level::new(self.layer, path, (place, way), self.options.order.by_kind)?))
            }
            Kind::File if self.written.contains(&path) => Ok(None),
            Kind::File => {
                self.entry(path, node, attributes, Vec::new())?;
                Ok(None)
            }
            Kind::Fifo if self.options.detail != Detail::Plain => {
                self.entry(path, node, attributes, Vec::new())?;
                Ok(None)
            }
            Kind::Symlink | Kind::Fifo | Kind::Socket | Kind::CharacterDevice | Kind::BlockDevice => {
                self.differs(&path, "is neither a file nor a directory: left out");
                Ok(None)
            }
        }
    }

    fn entry(
        &mut self,
        path: Vec<u8>,
        node: LayerNode,
        attributes: Attributes,
        link: Vec<u8>,
    ) -> Result<(), TreeError> {
        if attributes.mode & 0o6000 != 0 {
            self.differs(&path, "has set-user-ID or set-group-ID bits: they are left out");
        }
        let time = attributes.modified;
        let seconds = self.options.latest.map_or(time.seconds, |latest| time.seconds.min(latest));
        let report = &mut *self.report;
        report.newest = if report.entries == 0 { seconds } else { report.newest.max(seconds) };
        report.entries += 1;
        if report.entries > u64::from(self.options.entries) {
            return Err(TreeError::TooMany { limit: self.options.entries });
        }
        let mut plain = Attributes::bare(attributes.kind, attributes.mode & 0o777);
        plain.modified = Timestamp { seconds, nanoseconds: 0 };
        let mut entry = Entry { path, link, node: plain, attributes: Vec::new() };
        if let Detail::Whole { hard_links, owner } = self.options.detail {
            entry.node.mode = attributes.mode & 0o1777;
            if seconds == time.seconds {
                entry.node.modified = time;
            }
            if owner.is_some_and(|owner| (attributes.user, attributes.group) != owner) {
                self.differs(
                    &entry.path,
                    "belongs to somebody else: in a package it belongs to who mounts it",
                );
            }
            entry.attributes = self.extended(node, &entry.path)?;
            if self.is_further_name(&mut entry, node, attributes.links, hard_links) {
                return (self.each)(entry, node, true);
            }
        }
        if attributes.kind == Kind::File {
            entry.node.size = attributes.size;
            self.report.bytes += attributes.size;
        }
        (self.each)(entry, node, false)
    }

    /// Returns the attributes that a slot shows again.
    fn extended(&mut self, node: LayerNode, path: &[u8]) -> Result<ExtendedAttributes, TreeError> {
        let mut attributes = self.layer.extended_attributes(node)?;
        let all = attributes.len();
        attributes.retain(|(name, _)| name.starts_with(b"user."));
        if attributes.len() < all {
            self.differs(path, "has an access list or other attributes of the system: they are left out");
        }
        Ok(attributes)
    }

    /// Makes the entry one more name of an earlier one, if it is and that can be kept.
    fn is_further_name(&mut self, entry: &mut Entry, node: LayerNode, links: u32, kept: bool) -> bool {
        if entry.node.kind == Kind::Directory || links < 2 {
            return false;
        }
        let Some(first) = self.names.get(&node) else {
            self.names.insert(node, entry.path.clone());
            return false;
        };
        if kept {
            entry.link.clone_from(first);
        } else {
            self.differs(&entry.path, "is one more name of a file: it becomes a file of its own");
        }
        kept
    }

    fn differs(&mut self, path: &[u8], what: &'static str) {
        self.report.differences.push(Difference { path: shown(path), what });
    }

    /// Returns where the link `node`, which lies in the directory at `place`, leads in the end.
    fn follow(&self, place: &[LayerNode], node: LayerNode, path: &[u8]) -> Result<Vec<LayerNode>, TreeError> {
        let mut at = place.to_vec();
        let mut names = components(&self.layer.read_link(node)?, path)?;
        let mut followed = 1;
        while let Some(name) = names.pop() {
            if name == b".." {
                at.pop();
                if at.is_empty() {
                    return Err(link_error(path, "leads out of the tree"));
                }
                continue;
            }
            let Some(&directory) = at.last() else { break };
            let is_directory = self.layer.attributes(directory)?.kind == Kind::Directory;
            let found = if is_directory { self.layer.lookup(directory, &name)? } else { None };
            let Some(found) = found else {
                return Err(link_error(path, "leads to nothing"));
            };
            if self.layer.attributes(found)?.kind != Kind::Symlink {
                at.push(found);
                continue;
            }
            followed += 1;
            if followed > MOST_LINKS {
                return Err(link_error(path, "leads through too many links"));
            }
            names.extend(components(&self.layer.read_link(found)?, path)?);
        }
        Ok(at)
    }
}

/// Returns the names in a link's target, the last first.
fn components(target: &[u8], path: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
    if target.starts_with(b"/") {
        return Err(link_error(path, "leads out of the tree"));
    }
    let names = target.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    Ok(names.rev().map(<[u8]>::to_vec).collect())
}

/// Returns what tells the kind of a file: what is behind the last dot of its name.
fn ending(name: &[u8]) -> &[u8] {
    match name.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if dot > 0 => &name[dot..],
        _ => b"",
    }
}

fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn link_error(path: &[u8], reason: &'static str) -> TreeError {
    TreeError::Link { path: shown(path), reason }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use std::fs::File;
    use std::sync::{Arc, Mutex};

    use super::super::Order;
    use super::*;
    use crate::layer::Visit;
    use crate::layer::memory::MemoryLayer;

    /// Notes which files are expected, and which have had their turn.
    #[derive(Debug)]
    struct Noting(MemoryLayer, Mutex<Vec<LayerNode>>);

    impl Layer for Noting {
        fn root(&self) -> LayerNode {
            self.0.root()
        }

        fn lookup(&self, directory: LayerNode, name: &[u8]) -> Result<Option<LayerNode>, LayerError> {
            self.0.lookup(directory, name)
        }

        fn attributes(&self, node: LayerNode) -> Result<Attributes, LayerError> {
            self.0.attributes(node)
        }

        fn read_directory(
            &self,
            directory: LayerNode,
            after: Option<&[u8]>,
            visit: &mut Visit<'_>,
        ) -> Result<(), LayerError> {
            self.0.read_directory(directory, after, visit)
        }

        fn read_link(&self, node: LayerNode) -> Result<Vec<u8>, LayerError> {
            self.0.read_link(node)
        }

        fn extended_attributes(&self, node: LayerNode) -> Result<ExtendedAttributes, LayerError> {
            self.0.extended_attributes(node)
        }

        fn read(&self, node: LayerNode, offset: u64, buffer: &mut [u8]) -> Result<usize, LayerError> {
            self.0.read(node, offset, buffer)
        }

        fn expect(&self, node: LayerNode, size: u64) {
            assert_eq!(size, self.attributes(node).unwrap().size);
            self.1.lock().unwrap().push(node);
        }

        fn host_file(&self, node: LayerNode) -> Result<Option<Arc<File>>, LayerError> {
            self.0.host_file(node)
        }

        fn is_settled(&self) -> bool {
            self.0.is_settled()
        }
    }

    #[test]
    fn each_file_is_expected_once_and_never_far_ahead_of_its_turn() {
        let mut builder = MemoryLayer::builder().directory("d", 0o755).directory("m", 0o755);
        for number in 0..3 * AHEAD {
            builder = builder.file(format!("d/{number:03}"), 0o644, *b"x");
            builder = builder.file(format!("m{number}"), 0o644, *b"y");
        }
        let builder = builder.file("m/empty", 0o644, *b"").file("m/full", 0o644, *b"z");
        let layer = Noting(builder.build().unwrap(), Mutex::default());
        let options = TreeOptions {
            prefix: Vec::new(),
            links: Links::Keep,
            latest: None,
            entries: 1000,
            detail: Detail::Plain,
            order: Order::default(),
            once: false,
        };
        let mut turns = 0;
        walk((&layer, Contents::Read), &options, &mut TreeReport::default(), &mut |entry, node, _| {
            let expected = layer.1.lock().unwrap();
            if entry.node.kind == Kind::File && entry.node.size > 0 {
                turns += 1;
                assert!(expected.contains(&node), "{}", shown(&entry.path));
            }
            // Of the directory and of the one that it lies in.
            assert!(expected.len() <= turns + 2 * AHEAD, "{} of {turns}", expected.len());
            Ok(())
        })
        .unwrap();
        let mut expected = std::mem::take(&mut *layer.1.lock().unwrap());
        assert_eq!((expected.len(), turns), (6 * AHEAD + 1, 6 * AHEAD + 1));
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(expected.len(), turns);
        walk((&layer, Contents::Ignored), &options, &mut TreeReport::default(), &mut |_, _, _| Ok(()))
            .unwrap();
        assert!(layer.1.lock().unwrap().is_empty());
    }
}

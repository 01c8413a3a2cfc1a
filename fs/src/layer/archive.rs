//! A layer's tree as a tar archive that comes out the same each time: entries sorted, nobody's, whole seconds.
//!
//! Symbolic links are kept or followed: FlavorPack's launchers refuse archives that hold them. Every name of a file has
//! content of its own unless [`Detail`] says otherwise, because one of the launchers drops further names without a word.
//!
//! **Invariant:** a link that is followed never leads out of the tree, and the walk ends whatever links there are.

use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::ControlFlow;

use super::tar::{Entry, TarWriter};
use super::{ExtendedAttributes, Layer, LayerError, LayerNode};
use crate::node::{Attributes, Kind, Timestamp};

/// Links followed in one path before it counts as a circle, as on Linux (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// A file from this length on, in bytes, may begin a piece of its own.
const LARGE_FILE: u64 = 512 << 10;

/// What becomes of symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// In the place of each comes what it leads to.
    Follow,
    /// They stay what they are.
    Keep,
}

/// How much of each entry an archive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Permission bits and whole seconds.
    Plain,
    /// All that a slot shows again: also the sticky bit, nanoseconds, extended attributes of users, fifos, and how the
    /// root is.
    Whole {
        /// Whether further names of a file stay names of that file.
        hard_links: bool,
        /// User and group whose files need not be named: who mounts a slot owns what is in it.
        owner: (u32, u32),
    },
}

/// How an archive is made.
#[derive(Clone, Debug)]
pub struct TreeOptions {
    /// Directories that the whole tree is put into; none for the archive's root.
    pub prefix: Vec<Vec<u8>>,
    /// What becomes of symbolic links.
    pub links: Links,
    /// No entry is younger than this, in seconds since 1970.
    pub latest: Option<i64>,
    /// Entries that an archive may have.
    pub entries: u32,
    /// How much of each entry it holds.
    pub detail: Detail,
}

/// Something that the archive does not hold as the tree has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where it is in the tree.
    pub path: String,
    /// What was done about it, in words that follow the path.
    pub what: &'static str,
}

/// What an archive holds.
#[derive(Clone, Debug, Default)]
pub struct TreeReport {
    /// Entries, directories included.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// The latest modification time of an entry, in seconds since 1970.
    pub newest: i64,
    /// Links in whose place is now what they lead to.
    pub followed: u64,
    /// The first of those.
    pub first_followed: Option<String>,
    /// What is otherwise not as in the tree.
    pub differences: Vec<Difference>,
}

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The tree cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The archive cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    /// A link cannot be followed.
    #[error("the symbolic link `{path}` {reason}")]
    Link {
        /// Where the link is in the tree.
        path: String,
        /// Why not, in words that follow the path.
        reason: &'static str,
    },
    /// There is more than an archive may have.
    #[error("there are more than {limit} files and directories")]
    TooMany {
        /// The limit.
        limit: u32,
    },
    /// Somebody writes to the tree.
    #[error("`{path}` became shorter while it was read")]
    Changed {
        /// Which file.
        path: String,
    },
}

/// Writes the tree of `layer`, whose root is a directory, to `out`, which is flushed where another directory or a large
/// file begins: good places for a compressor to start afresh. `told` hears of each piece of content, in bytes.
///
/// # Errors
/// The tree cannot be read or written; the archive is not complete then.
pub fn write_tree(
    layer: &dyn Layer,
    options: &TreeOptions,
    out: &mut dyn Write,
    told: &mut dyn FnMut(u64),
) -> Result<TreeReport, TreeError> {
    let mut tar = TarWriter::new(out);
    let mut report = TreeReport::default();
    let mut changed = None;
    let mut directory = Vec::new();
    let walked = walk(layer, options, &mut report, &mut |entry, node, is_further_name| {
        let parent = parent_of(&entry.path);
        if parent != directory || entry.node.size >= LARGE_FILE {
            parent.clone_into(&mut directory);
            tar.may_cut()?;
        }
        if is_further_name {
            return Ok(tar.hard_link(&entry)?);
        }
        if entry.node.kind != Kind::File {
            return Ok(tar.entry(&entry)?);
        }
        let mut failed = None;
        let mut read = |offset: u64, buffer: &mut [u8]| match layer.read(node, offset, buffer) {
            Ok(0) => {
                changed = Some(shown(&entry.path));
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(count) => {
                told(count as u64);
                Ok(count)
            }
            Err(error) => {
                failed = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        };
        let written = tar.content(&entry, &mut read);
        match (failed, changed.take()) {
            (Some(error), _) => Err(error.into()),
            (None, Some(path)) => Err(TreeError::Changed { path }),
            (None, None) => Ok(written?),
        }
    });
    walked?;
    tar.finish()?;
    Ok(report)
}

/// Returns how many bytes of content [`write_tree`] will write.
///
/// # Errors
/// The tree cannot be read.
pub fn measure_tree(layer: &dyn Layer, options: &TreeOptions) -> Result<u64, TreeError> {
    let mut report = TreeReport::default();
    walk(layer, options, &mut report, &mut |_, _, _| Ok(()))?;
    Ok(report.bytes)
}

/// Told of one entry, its node, and whether it is one more name of the entry that it links to.
type Each<'a> = dyn FnMut(Entry, LayerNode, bool) -> Result<(), TreeError> + 'a;

fn walk(
    layer: &dyn Layer,
    options: &TreeOptions,
    report: &mut TreeReport,
    each: &mut Each<'_>,
) -> Result<(), TreeError> {
    let mut walk = Walk { layer, options, report, each, names: HashMap::new() };
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
    let mut open = vec![Level::new(layer, path, vec![root], vec![root])?];
    while let Some(level) = open.last_mut() {
        let Some(name) = level.names.next() else {
            open.pop();
            continue;
        };
        let deeper = walk.name(level, &name)?;
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
    names: std::vec::IntoIter<Vec<u8>>,
}

impl Level {
    fn new(
        layer: &dyn Layer,
        path: Vec<u8>,
        place: Vec<LayerNode>,
        way: Vec<LayerNode>,
    ) -> Result<Self, LayerError> {
        let mut names = Vec::new();
        let node = place.last().copied().unwrap_or_else(|| layer.root());
        layer.read_directory(node, None, &mut |name, _, _| {
            names.push(name.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(Self { path, place, way, names: names.into_iter() })
    }
}

struct Walk<'a, 'b> {
    layer: &'a dyn Layer,
    options: &'a TreeOptions,
    report: &'a mut TreeReport,
    each: &'a mut Each<'b>,
    /// The first name of each file that may have another one.
    names: HashMap<LayerNode, Vec<u8>>,
}

impl Walk<'_, '_> {
    /// Writes the entry `name`; returns the level below it if it is a directory.
    fn name(&mut self, level: &Level, name: &[u8]) -> Result<Option<Level>, TreeError> {
        let Some(directory) = level.place.last() else { return Ok(None) };
        // What is gone meanwhile was not there.
        let Some(mut node) = self.layer.lookup(*directory, name)? else { return Ok(None) };
        let path = below(&level.path, name);
        let mut attributes = self.layer.attributes(node)?;
        let mut place = level.place.clone();
        place.push(node);
        if attributes.kind == Kind::Symlink {
            if self.options.links == Links::Keep {
                let target = self.layer.read_link(node)?;
                self.entry(path, node, attributes, target)?;
                return Ok(None);
            }
            place = self.follow(&level.place, node, &path)?;
            node = place.last().copied().unwrap_or(node);
            attributes = self.layer.attributes(node)?;
            if level.way.contains(&node) {
                return Err(link_error(&path, "leads to a directory that it lies in"));
            }
            self.report.followed += 1;
            self.report.first_followed.get_or_insert_with(|| shown(&path));
        }
        match attributes.kind {
            Kind::Directory => {
                self.entry(path.clone(), node, attributes, Vec::new())?;
                let mut way = level.way.clone();
                way.push(node);
                Ok(Some(Level::new(self.layer, path, place, way)?))
            }
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
            if (attributes.user, attributes.group) != owner {
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

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(&path[..0], |slash| &path[..slash])
}

fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn link_error(path: &[u8], reason: &'static str) -> TreeError {
    TreeError::Link { path: shown(path), reason }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;
    use crate::layer::memory::{MemoryLayer, MemoryLayerBuilder};

    fn options(links: Links) -> TreeOptions {
        TreeOptions { prefix: Vec::new(), links, latest: None, entries: 1000, detail: Detail::Plain }
    }

    fn archive(layer: &MemoryLayer, options: &TreeOptions) -> Result<(Vec<String>, TreeReport), TreeError> {
        let mut bytes = Vec::new();
        let report = write_tree(layer, options, &mut bytes, &mut |_| {})?;
        assert_eq!(measure_tree(layer, options).unwrap(), report.bytes);
        let mut archive = ::tar::Archive::new(&bytes[..]);
        let names = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            io::Read::read_to_string(&mut entry, &mut text).unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            let path = entry.path().unwrap().display().to_string();
            format!("{path} {:o} {text}", entry.header().mode().unwrap()).trim().to_owned()
        });
        Ok((names.collect(), report))
    }

    fn builder() -> MemoryLayerBuilder {
        MemoryLayer::builder()
            .directory("b", 0o750)
            .file("b/z", 0o644, *b"zet")
            .file("b/a", 0o4755, *b"aye")
            .file("a", 0o600, *b"first")
    }

    #[test]
    fn entries_are_sorted_and_set_id_bits_go() {
        let layer = builder().build().unwrap();
        let (names, report) = archive(&layer, &options(Links::Follow)).unwrap();
        assert_eq!(names, ["a 600 first", "b/ 750", "b/a 755 aye", "b/z 644 zet"]);
        assert_eq!((report.entries, report.bytes, report.differences.len()), (4, 11, 1));
        let prefix = vec![b"opt".to_vec(), b"x".to_vec()];
        let inside = TreeOptions { prefix, ..options(Links::Follow) };
        assert_eq!(archive(&layer, &inside).unwrap().0[..3], ["opt/ 755", "opt/x/ 755", "opt/x/a 600 first"]);
        let few = TreeOptions { entries: 3, ..options(Links::Follow) };
        assert!(matches!(archive(&layer, &few), Err(TreeError::TooMany { limit: 3 })));
    }

    #[test]
    fn links_are_followed_inside_the_tree() {
        let layer =
            builder().symlink("b/up", b"../a").symlink("c", b"./b/").symlink("d", b"c/up").build().unwrap();
        let (names, report) = archive(&layer, &options(Links::Follow)).unwrap();
        let expected = [
            "a 600 first",
            "b/ 750",
            "b/a 755 aye",
            "b/up 600 first",
            "b/z 644 zet",
            "c/ 750",
            "c/a 755 aye",
            "c/up 600 first",
            "c/z 644 zet",
            "d 600 first",
        ];
        assert_eq!(names, expected);
        assert_eq!((report.followed, report.first_followed.as_deref()), (4, Some("b/up")));
        let (kept, report) = archive(&layer, &options(Links::Keep)).unwrap();
        assert_eq!((kept.len(), report.followed), (7, 0));
    }

    #[test]
    fn links_that_cannot_be_followed_are_named() {
        for (target, reason) in [
            (&b"/etc/passwd"[..], "leads out of the tree"),
            (b"../../a", "leads out of the tree"),
            (b"nothing", "leads to nothing"),
            (b"../a/x", "leads to nothing"),
            (b"link", "leads through too many links"),
            (b"..", "leads to a directory that it lies in"),
            (b".", "leads to a directory that it lies in"),
        ] {
            let layer = builder().symlink("b/link", target).build().unwrap();
            let error = archive(&layer, &options(Links::Follow)).unwrap_err().to_string();
            assert_eq!(error, format!("the symbolic link `b/link` {reason}"));
        }
        // Two directories that lead into each other.
        let layer = MemoryLayer::builder()
            .directory("x", 0o755)
            .directory("y", 0o755)
            .symlink("x/y", b"../y")
            .symlink("y/x", b"../x")
            .build()
            .unwrap();
        assert!(
            archive(&layer, &options(Links::Follow)).unwrap_err().to_string().contains("that it lies in")
        );
    }
}

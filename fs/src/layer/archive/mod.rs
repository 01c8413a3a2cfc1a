//! A layer's tree as a tar archive that comes out the same each time: entries sorted, nobody's, whole seconds.
//!
//! Symbolic links are kept or followed: FlavorPack's launchers refuse archives that hold them. Every name of a file has
//! content of its own unless [`Detail`] says otherwise, because one of the launchers drops further names without a word.
//!
//! **Invariant:** a link that is followed never leads out of the tree, and the walk ends whatever links there are.

mod repeats;
mod walk;

use std::io::{self, Write};
use std::sync::Arc;

use super::tar::{Entry, TarWriter};
use super::{Layer, LayerError, LayerNode};
use crate::node::Kind;

use self::repeats::{Lengths, Repeats};
use self::walk::{Contents, walk};

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
        /// User and group to which everything should belong, as who mounts a slot owns what is in it; what belongs to others is
        /// told.
        owner: Option<(u32, u32)>,
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
    /// In which order they come.
    pub order: Order,
    /// Whether content that is in the archive already is not written again: such a file becomes a link to the one that has it,
    /// with a mark that it is a file of its own, which slotfs alone understands.
    pub once: bool,
}

/// In which order the entries of an archive come, directories before what is in them.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Paths of files in the archive that come first, with the directories on the way: what is needed first, and together.
    pub first: Arc<[Vec<u8>]>,
    /// Whether in a directory the files come before the directories, those of one kind together; else by name.
    pub by_kind: bool,
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

/// What was found out about a tree before its archive is written.
#[derive(Debug, Default)]
pub struct TreeSurvey {
    /// Bytes of file content, repeats included.
    pub bytes: u64,
    lengths: Lengths,
}

impl TreeSurvey {
    /// Is about one file of this length.
    #[must_use]
    pub fn of_file(bytes: u64) -> Self {
        Self { bytes, lengths: Lengths::default() }
    }
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

/// Looks at every entry of the tree that [`write_tree`] will write.
///
/// # Errors
/// The tree cannot be read.
pub fn survey_tree(layer: &dyn Layer, options: &TreeOptions) -> Result<TreeSurvey, TreeError> {
    let (mut report, mut lengths) = (TreeReport::default(), Lengths::default());
    walk((layer, Contents::Ignored), options, &mut report, &mut |entry, _, is_further_name| {
        if entry.node.kind == Kind::File && !is_further_name {
            lengths.note(entry.node.size);
        }
        Ok(())
    })?;
    Ok(TreeSurvey { bytes: report.bytes, lengths })
}

/// Writes the tree of `layer`, whose root is a directory and which was surveyed, to `out`, which is flushed where another directory or a large
/// file begins: good places for a compressor to start afresh. `told` hears of each piece of content, in bytes.
///
/// # Errors
/// The tree cannot be read or written; the archive is not complete then.
pub fn write_tree(
    layer: &dyn Layer,
    options: &TreeOptions,
    survey: &TreeSurvey,
    out: &mut dyn Write,
    told: &mut dyn FnMut(u64),
) -> Result<TreeReport, TreeError> {
    let mut tar = TarWriter::new(out);
    let mut report = TreeReport::default();
    let mut repeats = if options.once { Repeats::among(&survey.lengths) } else { Repeats::default() };
    let mut directory = Vec::new();
    walk((layer, Contents::Read), options, &mut report, &mut |mut entry, node, is_further_name| {
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
        if let Some(first) = repeats.first_with(layer, node, entry.node.size)? {
            told(entry.node.size);
            entry.link = first;
            return Ok(tar.repeated(&entry)?);
        }
        content(&mut tar, &entry, (layer, node), &mut |bytes| {
            repeats.pass(bytes);
            told(bytes.len() as u64);
        })?;
        repeats.written(&entry.path, entry.node.size);
        Ok(())
    })?;
    tar.finish()?;
    Ok(report)
}

/// Writes a file; `pass` gets what was written.
fn content(
    tar: &mut TarWriter<'_>,
    entry: &Entry,
    (layer, node): (&dyn Layer, LayerNode),
    pass: &mut dyn FnMut(&[u8]),
) -> Result<(), TreeError> {
    let (mut failed, mut changed) = (None, false);
    let mut read = |offset: u64, buffer: &mut [u8]| match layer.read(node, offset, buffer) {
        Ok(0) => {
            changed = true;
            Err(io::ErrorKind::UnexpectedEof.into())
        }
        Ok(count) => {
            pass(&buffer[..count]);
            Ok(count)
        }
        Err(error) => {
            failed = Some(error);
            Err(io::ErrorKind::Other.into())
        }
    };
    let written = tar.content(entry, &mut read);
    match (failed, changed) {
        (Some(error), _) => Err(error.into()),
        (None, true) => Err(TreeError::Changed { path: shown(&entry.path) }),
        (None, false) => Ok(written?),
    }
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(&path[..0], |slash| &path[..slash])
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;
    use crate::layer::memory::{MemoryLayer, MemoryLayerBuilder};

    fn options(links: Links) -> TreeOptions {
        let (detail, order) = (Detail::Plain, Order::default());
        TreeOptions { prefix: Vec::new(), links, latest: None, entries: 1000, detail, order, once: false }
    }

    fn archive(layer: &MemoryLayer, options: &TreeOptions) -> Result<(Vec<String>, TreeReport), TreeError> {
        let mut bytes = Vec::new();
        let survey = survey_tree(layer, options)?;
        let report = write_tree(layer, options, &survey, &mut bytes, &mut |_| {})?;
        assert_eq!(survey.bytes, report.bytes);
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
    fn what_is_wanted_first_comes_first_and_kinds_together() {
        let layer = builder()
            .file("b/m.so", 0o644, *b"1")
            .file("b/k.py", 0o644, *b"2")
            .file("b/n.py", 0o644, *b"3")
            .directory("b/f", 0o755)
            .symlink("link", b"b/k.py")
            .build()
            .unwrap();
        let names = |first: &[&str], by_kind: bool, prefix: &[&str]| {
            let first = first.iter().map(|path| path.as_bytes().to_vec()).collect();
            let order = Order { first, by_kind };
            let prefix = prefix.iter().map(|name| name.as_bytes().to_vec()).collect();
            let options = TreeOptions { order, prefix, ..options(Links::Keep) };
            let (names, _) = archive(&layer, &options).unwrap();
            names.iter().map(|name| name.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let wanted = ["b/n.py", "none", "b", "link", "b/f/x", "a", "b/n.py"];
        let expected = ["b/", "b/n.py", "a", "b/a", "b/f/", "b/k.py", "b/m.so", "b/z", "link"];
        assert_eq!(names(&wanted, false, &[]), expected);
        let expected = ["a", "link", "b/", "b/a", "b/z", "b/k.py", "b/n.py", "b/m.so", "b/f/"];
        assert_eq!(names(&[], true, &[]), expected);
        let inside = names(&["b/z", "opt/b/z"], true, &["opt"]);
        assert_eq!(inside[..3], ["opt/", "opt/b/", "opt/b/z"]);
    }

    #[test]
    fn what_was_written_before_is_not_written_again() {
        let (one, other) = (vec![1; 3000], vec![2; 3000]);
        let layer = MemoryLayer::builder()
            .file("a", 0o644, one.clone())
            .file("b", 0o600, other.clone())
            .file("c", 0o755, one.clone())
            .file("d/e", 0o644, other)
            .file("f", 0o644, vec![1; 3001])
            .file("small", 0o644, *b"1")
            .file("small too", 0o644, *b"1")
            .build()
            .unwrap();
        let mut told = 0;
        let mut bytes = Vec::new();
        let options = TreeOptions { once: true, ..options(Links::Keep) };
        let survey = survey_tree(&layer, &options).unwrap();
        let report = write_tree(&layer, &options, &survey, &mut bytes, &mut |count| told += count).unwrap();
        assert_eq!((report.bytes, told), (15_003, 15_003));
        let mut archive = ::tar::Archive::new(&bytes[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let link = entry.link_name().unwrap().map(|link| link.display().to_string());
            let marks = entry.pax_extensions().unwrap().into_iter().flatten();
            let is_marked = marks.flatten().any(|mark| mark.key() == Ok("SLOTFS.repeated"));
            (entry.path().unwrap().display().to_string(), entry.size(), link, is_marked)
        });
        let written = |name: &str, size| (name.to_owned(), size, None, false);
        let repeated = |name: &str, first: &str| (name.to_owned(), 0, Some(first.to_owned()), true);
        let expected = [
            written("a", 3000),
            written("b", 3000),
            repeated("c", "a"),
            written("d/", 0),
            repeated("d/e", "b"),
            written("f", 3001),
            written("small", 1),
            written("small too", 1),
        ];
        assert_eq!(entries.collect::<Vec<_>>(), expected);
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

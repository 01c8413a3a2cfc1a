//! The changes as a tar archive in the form of an OCI layer: put over the package's tree, it gives the volume's.
//!
//! A removed name is an empty file `.wh.{name}`, a directory that replaced one of the layers has `.wh..wh..opq` in
//! it. A directory that was moved has no form there, so all that shows in it is written.
//!
//! **Invariant:** a file that changes while it is read neither breaks the archive nor stops it: it has the length that
//! its header says, and one that vanished is left out.

mod sparse;

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::aside::Aside;
use super::changes::{listed, shown_below};
use super::format::{self, BareCopy, Found, UpperEntry};
use super::shared::{SharedName, shared_names};
use super::view::{Scope, View, present};
use crate::disk::DiskError;
use crate::disk::unix::{Directory, Spot};
use crate::layer::stack::{Lower, Stack};
use crate::layer::tar::{Entry, TarWriter};
use crate::layer::{ExtendedAttributes, LayerError};
use crate::node::{Attributes, Kind};

const WHITEOUT: &[u8] = b".wh.";
const UNREADABLE: &str = "it may not be read";
const CONTENT_LOST: &str = "its content is in another build of the package";
const NO_SOCKETS: &str = "an archive holds no sockets";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Why the archive is not complete.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A layer or the host could not answer.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The archive could not be written.
    #[error("cannot write the archive: {0}")]
    Write(#[from] io::Error),
    /// A directory was moved, and what is in it is not known without the layers.
    #[error("the directory `{path}` was moved, and its content is in the package")]
    Moved {
        /// Where it is now.
        path: String,
    },
    /// Only attributes or names of a file were changed, and its content is not known without the layers.
    #[error("only attributes or names of `{path}` were changed, and its content is in the package")]
    Bare {
        /// Where it is now.
        path: String,
    },
}

impl From<DiskError> for ArchiveError {
    fn from(error: DiskError) -> Self {
        Self::Layer(error.into())
    }
}

/// Something that an archive cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is.
    pub path: Vec<Vec<u8>>,
    /// Why it cannot be in there.
    pub reason: &'static str,
    /// Whether it is content that somebody may miss.
    pub is_loss: bool,
}

/// Writes all changes in `scope` to `out`, and returns what had to be left out. Without `stack`, directories that were
/// moved cannot be written.
///
/// # Errors
/// Something cannot be read or written; the archive is not complete then.
pub fn write_archive(
    view: &View,
    stack: Option<&Stack>,
    scope: &Scope,
    out: &mut dyn Write,
) -> Result<Vec<LeftOut>, ArchiveError> {
    let root = stack.map(Stack::root).transpose()?;
    let mut archive = Archive {
        view,
        stack,
        scope,
        fingerprint: stack.map(Stack::fingerprint).unwrap_or_default(),
        tar: TarWriter::new(out),
        written: HashMap::new(),
        left_out: Vec::new(),
        waiting: Vec::new(),
    };
    let path = Vec::new();
    archive.waiting.push(Level {
        upper: Some((Arc::clone(view.root()), None)),
        lower: root,
        path,
        moved: false,
    });
    while let Some(level) = archive.waiting.pop() {
        archive.level(&level)?;
    }
    archive.shared_names()?;
    archive.tar.finish()?;
    Ok(archive.left_out)
}

/// A directory whose entries are to be written.
struct Level {
    /// The directory above it in the upper, and its name there, if it has one: opened when its turn comes, as there may
    /// be more of them than files may be open.
    upper: Option<(Arc<Directory>, Option<Vec<u8>>)>,
    /// What of the layers shows in it.
    lower: Option<Lower>,
    path: Vec<Vec<u8>>,
    /// Whether what shows from the layers is to be written, too.
    moved: bool,
}

/// Which content has been written already: by inode of the upper's disk, or of the layers.
#[derive(PartialEq, Eq, Hash)]
enum Written {
    Upper(u64),
    Lower(u64),
}

struct Archive<'a> {
    view: &'a View,
    stack: Option<&'a Stack>,
    scope: &'a Scope,
    fingerprint: String,
    tar: TarWriter<'a>,
    written: HashMap<Written, Vec<u8>>,
    left_out: Vec<LeftOut>,
    waiting: Vec<Level>,
}

impl Archive<'_> {
    fn level(&mut self, level: &Level) -> Result<(), ArchiveError> {
        let mut names = BTreeSet::new();
        let mut upper = None;
        if let Some((parent, name)) = &level.upper {
            let Some((directory, listed)) = listed(parent, name.as_deref())? else { return Ok(()) };
            names.extend(listed);
            upper = Some(directory);
        }
        if let (true, Some(stack), Some(lower)) = (level.moved, self.stack, &level.lower) {
            stack.list(lower, &mut |name, _, _| {
                names.insert(name.to_vec());
                ControlFlow::Continue(())
            })?;
        }
        let already = self.waiting.len();
        for name in names {
            let path = [level.path.as_slice(), &[name]].concat();
            if self.scope.reaches_below(&path) {
                self.name(level, upper.as_ref(), path)?;
            }
        }
        // The first name's content comes first.
        self.waiting[already..].reverse();
        Ok(())
    }

    fn name(
        &mut self,
        level: &Level,
        upper: Option<&Arc<Directory>>,
        path: Vec<Vec<u8>>,
    ) -> Result<(), ArchiveError> {
        let name = path.last().map_or(&b""[..], Vec::as_slice);
        let original = match (self.stack, &level.lower) {
            (Some(stack), Some(lower)) => stack.lookup(lower, name)?,
            _ => None,
        };
        let seen = match upper {
            Some(directory) => self.view.examine(directory, name)?,
            None => None,
        };
        let found = seen.map(|seen| (seen.stat.inode, seen.found));
        let (Some(directory), Some((inode, found))) = (upper, found) else {
            return match original {
                Some(original) if level.moved => self.lower(original, path),
                _ => Ok(()),
            };
        };
        match found {
            Found::Nothing => Ok(()),
            Found::Whiteout if level.moved || self.stack.is_some() && original.is_none() => Ok(()),
            Found::Whiteout => self.mark(&path, WHITEOUT, name),
            Found::Entry(entry) if entry.attributes.kind == Kind::Directory => {
                self.directory(directory, &entry, original, (path, level.moved))
            }
            Found::Entry(entry) => {
                let spot = Spot::named(directory, name);
                let key = Written::Upper(inode);
                self.node((&spot, level.lower.as_ref()), &entry.attributes, key, &path)
            }
        }
    }

    /// Writes a mark in the directory that `path` is in: `prefix` and `name`.
    fn mark(&mut self, path: &[Vec<u8>], prefix: &[u8], name: &[u8]) -> Result<(), ArchiveError> {
        if self.scope.holds(path) {
            let above = path.len().saturating_sub(1);
            let mark = [&path[..above], &[[prefix, name].concat()]].concat();
            self.tar.entry(&Entry::mark(joined(&mark)))?;
        }
        Ok(())
    }

    fn directory(
        &mut self,
        parent: &Arc<Directory>,
        entry: &UpperEntry,
        original: Option<Lower>,
        (path, moved): (Vec<Vec<u8>>, bool),
    ) -> Result<(), ArchiveError> {
        let name = path.last().map_or(&b""[..], Vec::as_slice);
        let spot = Spot::named(parent, name);
        let is_moved = entry.redirect.is_some();
        if is_moved && self.stack.is_none() {
            return Err(ArchiveError::Moved { path: String::from_utf8_lossy(&joined(&path)).into_owned() });
        }
        if self.may_be_named(&path) {
            let attributes = shown_attributes(self.view.aside(), &spot)?;
            self.tar.entry(&Entry { attributes, ..Entry::of(&entry.attributes, joined(&path)) })?;
        }
        let covers = self.stack.is_none() || original.as_ref().is_some_and(|one| one.kind == Kind::Directory);
        if (entry.opaque || is_moved) && covers && !moved {
            self.mark(&[path.as_slice(), &[Vec::new()]].concat(), OPAQUE, b"")?;
        }
        let lower = match self.stack {
            Some(stack) => shown_below(stack, entry, original)?,
            None => None,
        };
        let upper = Some((Arc::clone(parent), Some(name.to_vec())));
        self.waiting.push(Level { upper, lower, path, moved: moved || is_moved });
        Ok(())
    }

    /// Writes something that is no directory; `within` is what of the layers shows in the directory it is in.
    fn node(
        &mut self,
        (spot, within): (&Spot, Option<&Lower>),
        attributes: &Attributes,
        key: Written,
        path: &[Vec<u8>],
    ) -> Result<(), ArchiveError> {
        if !self.may_be_named(path) {
            return Ok(());
        }
        let mut file = None;
        if attributes.kind == Kind::File {
            if let Some(bare) = present(format::bare_copy(spot))?.flatten() {
                return self.bare(&bare, (spot, within), (attributes, key), path);
            }
            file = match spot.open_file(false, false) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.left_out.push(LeftOut { path: path.to_vec(), reason: UNREADABLE, is_loss: true });
                    return Ok(());
                }
                opened => present(opened)?,
            };
            if file.is_none() {
                return Ok(());
            }
        }
        let name = joined(path);
        if self.is_written(key, attributes, &name)? {
            return Ok(());
        }
        let mut entry =
            Entry { attributes: shown_attributes(self.view.aside(), spot)?, ..Entry::of(attributes, name) };
        if let Some(file) = file {
            return Ok(self.tar.file(&entry, &file)?);
        }
        match attributes.kind {
            Kind::Symlink => match present(spot.read_link())? {
                Some(target) => entry.link = target,
                None => return Ok(()),
            },
            Kind::Socket => {
                self.leave_out(path, NO_SOCKETS);
                return Ok(());
            }
            Kind::File | Kind::Directory | Kind::Fifo | Kind::CharacterDevice | Kind::BlockDevice => {}
        }
        Ok(self.tar.entry(&entry)?)
    }

    /// Writes a file whose content is in the layers.
    fn bare(
        &mut self,
        bare: &BareCopy,
        (spot, within): (&Spot, Option<&Lower>),
        (attributes, key): (&Attributes, Written),
        path: &[Vec<u8>],
    ) -> Result<(), ArchiveError> {
        let name = joined(path);
        let Some(stack) = self.stack else {
            return Err(ArchiveError::Bare { path: String::from_utf8_lossy(&name).into_owned() });
        };
        let own = path.last().map_or(&b""[..], Vec::as_slice);
        let content = bare.content(stack, (within, own), attributes.size)?;
        let Some((layer, node)) = content.and_then(|content| content.content()) else {
            self.left_out.push(LeftOut { path: path.to_vec(), reason: CONTENT_LOST, is_loss: true });
            return Ok(());
        };
        if self.is_written(key, attributes, &name)? {
            return Ok(());
        }
        let entry =
            Entry { attributes: shown_attributes(self.view.aside(), spot)?, ..Entry::of(attributes, name) };
        self.layer_file(&entry, &*stack.layer(layer).layer, node)
    }

    /// Writes a link where the same content was written before; tells whether it did.
    fn is_written(
        &mut self,
        key: Written,
        attributes: &Attributes,
        name: &[u8],
    ) -> Result<bool, ArchiveError> {
        if attributes.links < 2 {
            return Ok(false);
        }
        match self.written.get(&key) {
            Some(first) => {
                let link = Entry { link: first.clone(), ..Entry::of(attributes, name.to_vec()) };
                self.tar.hard_link(&link)?;
                Ok(true)
            }
            None => {
                self.written.insert(key, name.to_vec());
                Ok(false)
            }
        }
    }

    /// Writes what shows from the layers below a directory that was moved.
    fn lower(&mut self, lower: Lower, path: Vec<Vec<u8>>) -> Result<(), ArchiveError> {
        let Some(stack) = self.stack else { return Ok(()) };
        if let Some(copy) = self.view.copy_of(lower.inode(), &self.fingerprint)?
            && let Some(stat) = present(copy.stat())?.flatten()
        {
            let attributes = self.view.shown(&copy, &stat)?;
            return self.node((&copy, None), &attributes, Written::Upper(stat.inode), &path);
        }
        let attributes = stack.attributes(&lower)?;
        let name = joined(&path);
        if self.may_be_named(&path) {
            let mut entry = Entry::of(&attributes, name.clone());
            if let Some((at, node)) = lower.top() {
                let layer = &stack.layer(at).layer;
                entry.attributes = layer.extended_attributes(node)?;
                match attributes.kind {
                    Kind::Directory => self.tar.entry(&entry)?,
                    _ if self.is_written(Written::Lower(lower.inode()), &attributes, &name)? => {}
                    Kind::File => {
                        let (layer, node) = lower.content().unwrap_or((at, node));
                        self.layer_file(&entry, &*stack.layer(layer).layer, node)?;
                    }
                    Kind::Symlink => {
                        entry.link = layer.read_link(node)?;
                        self.tar.entry(&entry)?;
                    }
                    Kind::Socket => self.leave_out(&path, NO_SOCKETS),
                    Kind::Fifo | Kind::CharacterDevice | Kind::BlockDevice => self.tar.entry(&entry)?,
                }
            } else {
                self.tar.entry(&entry)?;
            }
        }
        if attributes.kind == Kind::Directory {
            self.waiting.push(Level { upper: None, lower: Some(lower), path, moved: true });
        }
        Ok(())
    }

    /// Writes names that show a file which was changed through another name.
    fn shared_names(&mut self) -> Result<(), ArchiveError> {
        let Some(stack) = self.stack else { return Ok(()) };
        for SharedName { number, path } in shared_names(self.view, stack)? {
            if let Some(copy) = self.view.copy_of(number, &self.fingerprint)?
                && let Some(stat) = present(copy.stat())?.flatten()
            {
                let attributes = self.view.shown(&copy, &stat)?;
                self.node((&copy, None), &attributes, Written::Upper(stat.inode), &path)?;
            }
        }
        Ok(())
    }

    fn layer_file(
        &mut self,
        entry: &Entry,
        layer: &dyn crate::layer::Layer,
        node: crate::layer::LayerNode,
    ) -> Result<(), ArchiveError> {
        let mut broken = None;
        let outcome = self.tar.content(entry, &mut |offset, buffer| {
            layer.read(node, offset, buffer).map_err(|error| {
                broken = Some(error);
                io::Error::other("the layer could not be read")
            })
        });
        match broken {
            Some(error) => Err(error.into()),
            None => Ok(outcome?),
        }
    }

    fn leave_out(&mut self, path: &[Vec<u8>], reason: &'static str) {
        self.left_out.push(LeftOut { path: path.to_vec(), reason, is_loss: false });
    }

    /// Tells whether `path` is asked for and its name means itself in such an archive.
    fn may_be_named(&mut self, path: &[Vec<u8>]) -> bool {
        if !self.scope.holds(path) {
            return false;
        }
        let is_mark = path.last().is_some_and(|name| name.starts_with(WHITEOUT));
        if is_mark {
            self.leave_out(path, "its name would say that something was removed");
        }
        !is_mark
    }
}

fn joined(path: &[Vec<u8>]) -> Vec<u8> {
    path.join(&b'/')
}

/// Returns the extended attributes as users of the volume see them.
fn shown_attributes(aside: &Aside, spot: &Spot) -> Result<ExtendedAttributes, DiskError> {
    let mut shown = Vec::new();
    for name in present(aside.attribute_names(spot))?.unwrap_or_default() {
        if let Some(value) = present(aside.attribute(spot, &name))?.flatten() {
            shown.push((name, value));
        }
    }
    Ok(shown)
}

impl Entry {
    fn of(attributes: &Attributes, path: Vec<u8>) -> Self {
        Self { path, link: Vec::new(), node: *attributes, attributes: Vec::new() }
    }

    fn mark(path: Vec<u8>) -> Self {
        let node = Attributes::bare(Kind::File, 0);
        Self { path, link: Vec::new(), node, attributes: Vec::new() }
    }
}

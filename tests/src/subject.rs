//! Something real that operations are carried out on, and how it is compared with the oracle.
#![expect(clippy::wildcard_enum_match_arm, reason = "what is not named cannot happen or does not matter")]

use std::collections::BTreeMap;

use slotfs_fs::node::Kind;

use crate::model::{Body, Model, ModelEntry, ModelError, ModelNode};
use crate::operations::{Operation, OperationPath, PLACES, xattr_name};

/// A node as seen under one path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of `struct stat` and what hangs on it")]
pub struct Observed {
    pub kind: Kind,
    pub mode: u32,
    pub user: u32,
    pub group: u32,
    pub links: u32,
    pub device: u64,
    pub modified: i64,
    pub inode: u64,
    /// Content of a file, target of a symbolic link.
    pub bytes: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A file system under test.
pub trait Subject {
    /// Carries out one operation.
    ///
    /// # Errors
    /// The errno's name; anything that is not an answer of a file system is a panic.
    fn apply(&mut self, operation: &Operation) -> Result<(), ModelError>;

    /// Returns everything there is, by path.
    fn observe(&mut self) -> BTreeMap<OperationPath, Observed>;

    /// Returns what is held open in `place`.
    fn observe_held(&mut self, place: usize) -> Option<Observed>;
}

/// The oracle with the files that are held open.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// The tree.
    pub model: Model,
    held: [Option<(ModelNode, bool)>; PLACES],
}

impl Oracle {
    /// An oracle that starts with this tree.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self { model, held: [None; PLACES] }
    }

    /// Carries out one operation.
    ///
    /// # Errors
    /// What the real thing must report, too.
    pub fn apply(&mut self, operation: &Operation) -> Result<(), ModelError> {
        use Operation as O;
        let model = &mut self.model;
        match operation {
            O::Create { path, mode } => add(model, path, ModelEntry::new(Body::File(Vec::new()), *mode)),
            O::MakeDirectory { path, mode } => {
                add(model, path, ModelEntry::new(Body::Directory(BTreeMap::new()), *mode))
            }
            O::MakeSymlink { path, target } => {
                add(model, path, ModelEntry::new(Body::Symlink(target.clone()), 0o777))
            }
            O::MakeNode { path, kind, device } => {
                add(model, path, ModelEntry::new(Body::Special(*kind, *device), 0o640))
            }
            O::Link { from, to } => {
                let node = model.walk(from)?;
                let (parent, name) = parent(model, to)?;
                model.link(node, parent, name)
            }
            O::Unlink { path } => {
                let (parent, name) = parent(model, path)?;
                model.unlink(parent, name)
            }
            O::RemoveDirectory { path } => {
                let (parent, name) = parent(model, path)?;
                model.remove_directory(parent, name)
            }
            O::Rename { from, to, mode } => {
                let (old, new) = (parent(model, from)?, parent(model, to)?);
                model.rename(old, new, *mode)
            }
            O::SetMode { path, mode } => model.walk(path).and_then(|node| model.set_mode(node, *mode)),
            O::SetOwner { path, user, group } => {
                model.walk(path).map(|node| model.set_owner(node, *user, *group))
            }
            O::SetModified { path, seconds } => {
                model.walk(path).map(|node| model.set_modified(node, *seconds))
            }
            O::SetXattr { path, name, value } => {
                let node = model.walk(path)?;
                model.set_xattr(node, &xattr_name(*name), &[*value])
            }
            O::RemoveXattr { path, name } => {
                let node = model.walk(path)?;
                model.remove_xattr(node, &xattr_name(*name))
            }
            O::Write { .. }
            | O::Append { .. }
            | O::OpenTruncate { .. }
            | O::Truncate { .. }
            | O::Punch { .. } => change_content(model, operation),
            O::Sync { path, .. } => {
                let node = model.walk(path)?;
                match model.entry(node).kind() {
                    Kind::File | Kind::Directory => Ok(()),
                    _ => Err(ModelError::Invalid),
                }
            }
            O::SyncHeld { .. } | O::SyncAll => Ok(()),
            O::Hold { .. } | O::WriteHeld { .. } | O::SetModeHeld { .. } | O::Release { .. } | O::Remount => {
                self.change_held(operation)
            }
        }
    }

    fn change_held(&mut self, operation: &Operation) -> Result<(), ModelError> {
        use Operation as O;
        match operation {
            O::Hold { path, place, write } => {
                self.held[*place] = None;
                let node = self.model.walk(path)?;
                self.model.open(node)?;
                self.held[*place] = Some((node, *write));
            }
            O::WriteHeld { place, offset, length, byte } => {
                if let Some((node, true)) = self.held[*place] {
                    self.model.write(node, *offset, &vec![*byte; *length])?;
                }
            }
            O::SetModeHeld { place, mode } => {
                if let Some((node, _)) = self.held[*place] {
                    self.model.set_mode(node, *mode)?;
                }
            }
            O::Release { place } => self.held[*place] = None,
            _ => self.held = [None; PLACES],
        }
        Ok(())
    }

    /// Returns what is held open in `place`.
    #[must_use]
    pub fn held(&self, place: usize) -> Option<ModelNode> {
        self.held[place].map(|(node, _)| node)
    }

    /// As [`Self::compare`], where a count of links may be too high by one, and a directory may show the time of the
    /// kill: between a removal and the count of what is left, and between a copy that appears in a directory and
    /// that directory's time, a kill costs that, and nothing else.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn compare_after_kill(
        &self,
        subject: &mut impl Subject,
        inodes: &mut BTreeMap<ModelNode, u64>,
    ) -> Result<(), String> {
        self.compare_with(subject, inodes, 1)
    }

    /// Compares everything.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn compare(
        &self,
        subject: &mut impl Subject,
        inodes: &mut BTreeMap<ModelNode, u64>,
    ) -> Result<(), String> {
        self.compare_with(subject, inodes, 0)
    }

    fn compare_with(
        &self,
        subject: &mut impl Subject,
        inodes: &mut BTreeMap<ModelNode, u64>,
        extra_links: u32,
    ) -> Result<(), String> {
        let observed = subject.observe();
        let mut expected = BTreeMap::new();
        collect(&self.model, Model::ROOT, &mut Vec::new(), &mut expected);
        let paths = |map: Vec<&OperationPath>| map.into_iter().map(|path| show(path)).collect::<Vec<_>>();
        if !observed.keys().eq(expected.keys()) {
            let (found, wanted) = (paths(observed.keys().collect()), paths(expected.keys().collect()));
            return Err(format!("there is {found:?}, expected {wanted:?}"));
        }
        for (path, node) in &expected {
            self.compare_node(*node, &observed[path], inodes, extra_links)
                .map_err(|why| format!("{}: {why}", show(path)))?;
        }
        let reachable = self.model.reachable();
        inodes.retain(|node, _| reachable.contains(node));
        let mut seen = BTreeMap::new();
        for (node, inode) in &*inodes {
            if let Some(other) = seen.insert(inode, node) {
                return Err(format!("{node:?} and {other:?} share inode {inode:#x}"));
            }
        }
        for place in 0..PLACES {
            let held = subject.observe_held(place);
            match (self.held[place], held) {
                (Some((node, _)), Some(observed)) => self
                    .compare_node(node, &observed, &mut inodes.clone(), extra_links)
                    .map_err(|why| format!("held in place {place}: {why}"))?,
                (None, None) => {}
                (expected, found) => return Err(format!("held: {found:?}, expected {expected:?}")),
            }
        }
        Ok(())
    }

    fn compare_node(
        &self,
        node: ModelNode,
        found: &Observed,
        inodes: &mut BTreeMap<ModelNode, u64>,
        extra_links: u32,
    ) -> Result<(), String> {
        let entry = self.model.entry(node);
        let device = if let Body::Special(_, device) = entry.body { device } else { 0 };
        let expected = Observed {
            kind: entry.kind(),
            mode: entry.mode,
            user: entry.user,
            group: entry.group,
            links: match self.model.links(node) {
                _ if entry.kind() == Kind::Directory => found.links,
                links if found.links >= links && found.links - links <= extra_links => found.links,
                links => links,
            },
            device,
            modified: match entry.modified {
                Some(modified) if !(extra_links > 0 && entry.kind() == Kind::Directory) => modified,
                _ => found.modified,
            },
            inode: *inodes.entry(node).or_insert(found.inode),
            bytes: match &entry.body {
                Body::File(bytes) | Body::Symlink(bytes) => bytes.clone(),
                Body::Directory(_) | Body::Special(..) => Vec::new(),
            },
            xattrs: entry.xattrs.clone(),
        };
        if *found == expected {
            return Ok(());
        }
        if found.bytes != expected.bytes {
            let differs = found.bytes.iter().zip(&expected.bytes).position(|(one, other)| one != other);
            let lengths = (found.bytes.len(), expected.bytes.len());
            return Err(format!("content differs at {differs:?}, lengths {lengths:?}"));
        }
        let short = |observed: &Observed| format!("{:?}", Observed { bytes: Vec::new(), ..observed.clone() });
        Err(format!("found {}, expected {}", short(found), short(&expected)))
    }
}

/// Writes a path as people do.
#[must_use]
pub fn show(path: &[Vec<u8>]) -> String {
    let names: Vec<_> = path.iter().map(|name| String::from_utf8_lossy(name)).collect();
    format!("/{}", names.join("/"))
}

/// Finds what every path leads to.
pub fn collect(
    model: &Model,
    node: ModelNode,
    path: &mut OperationPath,
    into: &mut BTreeMap<OperationPath, ModelNode>,
) {
    into.insert(path.clone(), node);
    if let Body::Directory(names) = &model.entry(node).body {
        for (name, child) in names {
            path.push(name.clone());
            collect(model, *child, path, into);
            path.pop();
        }
    }
}

fn parent<'a>(model: &Model, path: &'a [Vec<u8>]) -> Result<(ModelNode, &'a [u8]), ModelError> {
    let (name, above) = path.split_last().ok_or(ModelError::Invalid)?;
    let parent = model.walk(above)?;
    if model.entry(parent).kind() != Kind::Directory {
        return Err(ModelError::NotDirectory);
    }
    Ok((parent, name))
}

fn add(model: &mut Model, path: &[Vec<u8>], entry: ModelEntry) -> Result<(), ModelError> {
    let (parent, name) = parent(model, path)?;
    model.make(parent, name, entry).map(|_| ())
}

fn change_content(model: &mut Model, operation: &Operation) -> Result<(), ModelError> {
    use Operation as O;
    match operation {
        O::Write { path, offset, length, byte } => {
            let node = model.walk(path)?;
            model.write(node, *offset, &vec![*byte; *length])
        }
        O::Append { path, length, byte } => {
            let node = model.walk(path)?;
            model.append(node, &vec![*byte; *length])
        }
        O::OpenTruncate { path } => model.walk(path).and_then(|node| model.truncate(node, 0)),
        O::Truncate { path, size } => model.walk(path).and_then(|node| model.truncate(node, *size)),
        O::Punch { path, offset, length } => {
            model.walk(path).and_then(|node| model.punch(node, *offset, *length))
        }
        _ => Ok(()),
    }
}

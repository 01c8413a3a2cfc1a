//! The oracle: a POSIX tree in memory, written for plainness and not for speed.
//!
//! It knows nothing of layers or an upper directory: what it says is what a user of any file system expects.
#![expect(clippy::wildcard_enum_match_arm, reason = "what is not named cannot happen or does not matter")]

use std::collections::{BTreeMap, BTreeSet};

use slotfs_fs::node::Kind;
use slotfs_fs::volume::RenameMode;

/// A node of the model; its number is never given to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelNode(pub usize);

/// What goes wrong, by the name of its errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelError {
    /// ENOENT.
    NotFound,
    /// EEXIST.
    Exists,
    /// ENOTDIR.
    NotDirectory,
    /// EISDIR.
    IsDirectory,
    /// ENOTEMPTY.
    NotEmpty,
    /// EPERM.
    NotPermitted,
    /// EINVAL.
    Invalid,
    /// ENODATA.
    NoAttribute,
    /// EOPNOTSUPP.
    NotSupported,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A regular file.
    File(Vec<u8>),
    /// A directory.
    Directory(BTreeMap<Vec<u8>, ModelNode>),
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// Anything else: kind and device number.
    Special(Kind, u64),
}

/// A node with its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// Content.
    pub body: Body,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Last modification in seconds, once somebody has set it and nothing has changed it since.
    pub modified: Option<i64>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A tree.
#[derive(Clone, Debug)]
pub struct Model {
    nodes: BTreeMap<ModelNode, ModelEntry>,
    next: usize,
}

type Done<T = ()> = Result<T, ModelError>;

impl ModelEntry {
    /// Returns an entry of root's.
    #[must_use]
    pub fn new(body: Body, mode: u32) -> Self {
        Self { body, mode, user: 0, group: 0, modified: None, xattrs: BTreeMap::new() }
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.body {
            Body::File(_) => Kind::File,
            Body::Directory(_) => Kind::Directory,
            Body::Symlink(_) => Kind::Symlink,
            Body::Special(kind, _) => kind,
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        let root = ModelEntry::new(Body::Directory(BTreeMap::new()), 0o755);
        Self { nodes: BTreeMap::from([(Self::ROOT, root)]), next: 1 }
    }
}

impl Model {
    /// The root directory.
    pub const ROOT: ModelNode = ModelNode(0);

    /// Returns the node.
    ///
    /// # Panics
    /// When the model has never had it.
    #[must_use]
    pub fn entry(&self, node: ModelNode) -> &ModelEntry {
        &self.nodes[&node]
    }

    /// Returns the node, if the model has ever had it.
    #[must_use]
    pub fn known(&self, node: ModelNode) -> Option<&ModelEntry> {
        self.nodes.get(&node)
    }

    fn entry_mut(&mut self, node: ModelNode) -> &mut ModelEntry {
        self.nodes.get_mut(&node).unwrap_or_else(|| panic!("the model has no node {node:?}"))
    }

    /// Returns how many names lead to a node that is no directory.
    #[must_use]
    pub fn links(&self, node: ModelNode) -> u32 {
        let names = self.nodes.values().filter_map(|entry| match &entry.body {
            Body::Directory(names) => Some(names.values().filter(|child| **child == node).count()),
            _ => None,
        });
        u32::try_from(names.sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// Returns every node that a path leads to.
    #[must_use]
    pub fn reachable(&self) -> BTreeSet<ModelNode> {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![Self::ROOT];
        while let Some(node) = waiting.pop() {
            if seen.insert(node)
                && let Body::Directory(names) = &self.entry(node).body
            {
                waiting.extend(names.values());
            }
        }
        seen
    }

    fn names(&self, node: ModelNode) -> Done<&BTreeMap<Vec<u8>, ModelNode>> {
        match &self.entry(node).body {
            Body::Directory(names) => Ok(names),
            _ => Err(ModelError::NotDirectory),
        }
    }

    fn names_mut(&mut self, node: ModelNode) -> &mut BTreeMap<Vec<u8>, ModelNode> {
        self.entry_mut(node).modified = None;
        match &mut self.entry_mut(node).body {
            Body::Directory(names) => names,
            _ => panic!("{node:?} is not a directory"),
        }
    }

    /// Finds `name` in `parent`.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`.
    pub fn lookup(&self, parent: ModelNode, name: &[u8]) -> Done<ModelNode> {
        self.names(parent)?.get(name).copied().ok_or(ModelError::NotFound)
    }

    /// Finds what `path` leads to.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`.
    pub fn walk(&self, path: &[Vec<u8>]) -> Done<ModelNode> {
        path.iter().try_fold(Self::ROOT, |node, name| self.lookup(node, name))
    }

    /// Adds a node; a set-group-id directory gives it its group.
    ///
    /// # Errors
    /// `Exists`, `NotDirectory`.
    pub fn make(&mut self, parent: ModelNode, name: &[u8], mut entry: ModelEntry) -> Done<ModelNode> {
        if self.names(parent)?.contains_key(name) {
            return Err(ModelError::Exists);
        }
        let directory = self.entry(parent);
        if directory.mode & 0o2000 != 0 {
            entry.group = directory.group;
            entry.mode |= if entry.kind() == Kind::Directory { 0o2000 } else { 0 };
        }
        let node = ModelNode(self.next);
        self.next += 1;
        self.nodes.insert(node, entry);
        self.names_mut(parent).insert(name.to_vec(), node);
        Ok(node)
    }

    /// `link(2)`.
    ///
    /// # Errors
    /// `NotPermitted`, `Exists`, `NotDirectory`.
    pub fn link(&mut self, node: ModelNode, parent: ModelNode, name: &[u8]) -> Done {
        if self.entry(node).kind() == Kind::Directory {
            return Err(ModelError::NotPermitted);
        }
        if self.names(parent)?.contains_key(name) {
            return Err(ModelError::Exists);
        }
        self.names_mut(parent).insert(name.to_vec(), node);
        Ok(())
    }

    /// `unlink(2)`.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`, `IsDirectory`.
    pub fn unlink(&mut self, parent: ModelNode, name: &[u8]) -> Done {
        let node = self.lookup(parent, name)?;
        if self.entry(node).kind() == Kind::Directory {
            return Err(ModelError::IsDirectory);
        }
        self.names_mut(parent).remove(name);
        Ok(())
    }

    /// `rmdir(2)`.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`, `NotEmpty`.
    pub fn remove_directory(&mut self, parent: ModelNode, name: &[u8]) -> Done {
        let node = self.lookup(parent, name)?;
        if !self.names(node)?.is_empty() {
            return Err(ModelError::NotEmpty);
        }
        self.names_mut(parent).remove(name);
        Ok(())
    }

    fn is_within(&self, node: ModelNode, ancestor: ModelNode) -> bool {
        if node == ancestor {
            return true;
        }
        match &self.entry(ancestor).body {
            Body::Directory(names) => names.values().any(|child| self.is_within(node, *child)),
            _ => false,
        }
    }

    /// `renameat2(2)`, less `RENAME_WHITEOUT`.
    ///
    /// # Errors
    /// As `rename(2)` says.
    pub fn rename(
        &mut self,
        (parent, name): (ModelNode, &[u8]),
        (new_parent, new_name): (ModelNode, &[u8]),
        mode: RenameMode,
    ) -> Done {
        let moved = self.lookup(parent, name)?;
        let target = self.names(new_parent)?.get(new_name).copied();
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(ModelError::Exists),
            (RenameMode::Exchange, None) => return Err(ModelError::NotFound),
            (_, Some(target)) if target == moved => return Ok(()),
            (RenameMode::Replace, Some(target)) => {
                let is_directory = |node| self.entry(node).kind() == Kind::Directory;
                match (is_directory(moved), is_directory(target)) {
                    (true, false) => return Err(ModelError::NotDirectory),
                    (false, true) => return Err(ModelError::IsDirectory),
                    _ => {}
                }
            }
            _ => {}
        }
        if self.is_within(new_parent, moved) {
            return Err(ModelError::Invalid);
        }
        if let (RenameMode::Exchange, Some(target)) = (mode, target) {
            if self.is_within(parent, target) {
                return Err(ModelError::Invalid);
            }
            self.names_mut(parent).insert(name.to_vec(), target);
            self.names_mut(new_parent).insert(new_name.to_vec(), moved);
            return Ok(());
        }
        if let Some(target) = target
            && let Body::Directory(names) = &self.entry(target).body
            && !names.is_empty()
        {
            return Err(ModelError::NotEmpty);
        }
        self.names_mut(parent).remove(name);
        self.names_mut(new_parent).insert(new_name.to_vec(), moved);
        Ok(())
    }

    fn content(&mut self, node: ModelNode) -> Done<&mut Vec<u8>> {
        match &mut self.entry_mut(node).body {
            Body::File(content) => Ok(content),
            Body::Directory(_) => Err(ModelError::IsDirectory),
            Body::Symlink(_) | Body::Special(..) => Err(ModelError::Invalid),
        }
    }

    /// Tells whether `open(2)` for content is possible.
    ///
    /// # Errors
    /// `IsDirectory`, `Invalid`.
    pub fn open(&mut self, node: ModelNode) -> Done {
        self.content(node).map(|_| ())
    }

    /// `pwrite(2)`.
    ///
    /// # Errors
    /// `IsDirectory`, `Invalid`.
    pub fn write(&mut self, node: ModelNode, offset: usize, bytes: &[u8]) -> Done {
        let content = self.content(node)?;
        if bytes.is_empty() {
            return Ok(());
        }
        if content.len() < offset + bytes.len() {
            content.resize(offset + bytes.len(), 0);
        }
        content[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.entry_mut(node).modified = None;
        Ok(())
    }

    /// `write(2)` with `O_APPEND`.
    ///
    /// # Errors
    /// `IsDirectory`, `Invalid`.
    pub fn append(&mut self, node: ModelNode, bytes: &[u8]) -> Done {
        let end = self.content(node)?.len();
        self.write(node, end, bytes)
    }

    /// `truncate(2)`.
    ///
    /// # Errors
    /// `IsDirectory`, `Invalid`.
    pub fn truncate(&mut self, node: ModelNode, size: usize) -> Done {
        self.content(node)?.resize(size, 0);
        self.entry_mut(node).modified = None;
        Ok(())
    }

    /// `fallocate(2)` with `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE`.
    ///
    /// # Errors
    /// `IsDirectory`, `Invalid`.
    pub fn punch(&mut self, node: ModelNode, offset: usize, length: usize) -> Done {
        let content = self.content(node)?;
        let end = content.len().min(offset + length);
        if offset < end {
            content[offset..end].fill(0);
        }
        self.entry_mut(node).modified = None;
        Ok(())
    }

    /// `chmod(2)`.
    ///
    /// # Errors
    /// `NotSupported` for symbolic links.
    pub fn set_mode(&mut self, node: ModelNode, mode: u32) -> Done {
        if self.entry(node).kind() == Kind::Symlink {
            return Err(ModelError::NotSupported);
        }
        self.entry_mut(node).mode = mode;
        Ok(())
    }

    /// `chown(2)`, which takes set-id bits from what is no directory, as Linux does.
    pub fn set_owner(&mut self, node: ModelNode, user: u32, group: u32) {
        let entry = self.entry_mut(node);
        (entry.user, entry.group) = (user, group);
        if !matches!(entry.body, Body::Directory(_) | Body::Symlink(_)) {
            entry.mode &= if entry.mode & 0o010 != 0 { !0o6000 } else { !0o4000 };
        }
    }

    /// `utimensat(2)`.
    pub fn set_modified(&mut self, node: ModelNode, seconds: i64) {
        self.entry_mut(node).modified = Some(seconds);
    }

    /// `setxattr(2)` of a `user.` attribute.
    ///
    /// # Errors
    /// `NotPermitted` on what is no file or directory.
    pub fn set_xattr(&mut self, node: ModelNode, name: &[u8], value: &[u8]) -> Done {
        if !matches!(self.entry(node).kind(), Kind::File | Kind::Directory) {
            return Err(ModelError::NotPermitted);
        }
        self.entry_mut(node).xattrs.insert(name.to_vec(), value.to_vec());
        Ok(())
    }

    /// `removexattr(2)` of a `user.` attribute.
    ///
    /// # Errors
    /// `NotPermitted` on what is no file or directory, `NoAttribute`.
    pub fn remove_xattr(&mut self, node: ModelNode, name: &[u8]) -> Done {
        if !matches!(self.entry(node).kind(), Kind::File | Kind::Directory) {
            return Err(ModelError::NotPermitted);
        }
        self.entry_mut(node).xattrs.remove(name).map(|_| ()).ok_or(ModelError::NoAttribute)
    }
}

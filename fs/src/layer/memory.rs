//! A read-only tree held in memory: synthetic content, and the layer that tests put under a volume.
//!
//! **Invariant:** a tree never changes after [`MemoryLayerBuilder::build`]; node numbers follow the order in
//! which nodes were added, so the same calls give the same numbers.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use super::{ExtendedAttributes, Layer, LayerError, LayerNode, Visit};
use crate::node::{Attributes, Kind, Timestamp};

/// A call that does not fit the tree built so far.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryLayerError {
    /// A part of the path is not a directory.
    #[error("cannot add `{path}`: a parent is not a directory")]
    NotDirectory {
        /// The path as given.
        path: String,
    },
    /// The name is taken by another node.
    #[error("cannot add `{path}`: it exists already")]
    Exists {
        /// The path as given.
        path: String,
    },
    /// A link or a change names nothing.
    #[error("cannot change `{path}`: there is no such node")]
    NotFound {
        /// The path as given.
        path: String,
    },
}

#[derive(Clone, Debug)]
enum Content {
    Directory(BTreeMap<Vec<u8>, LayerNode>),
    File(Arc<[u8]>),
    Symlink(Vec<u8>),
    Special,
}

#[derive(Clone, Debug)]
struct MemoryNode {
    attributes: Attributes,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    content: Content,
    /// What it was called first.
    name: Vec<u8>,
}

impl MemoryNode {
    fn new(name: &[u8], attributes: Attributes, content: Content) -> Self {
        Self { attributes, xattrs: BTreeMap::new(), content, name: name.into() }
    }
}

/// Adds nodes one by one; missing parents are made with mode 0755. The first call that does not fit is
/// reported by [`Self::build`].
#[derive(Debug)]
pub struct MemoryLayerBuilder {
    nodes: Vec<MemoryNode>,
    failed: Option<MemoryLayerError>,
}

/// A read-only tree in memory.
#[derive(Debug)]
pub struct MemoryLayer {
    nodes: Vec<MemoryNode>,
}

fn attributes(kind: Kind, mode: u32, size: u64) -> Attributes {
    Attributes {
        kind,
        mode: mode & 0o7777,
        user: 0,
        group: 0,
        size,
        blocks: size.div_ceil(512),
        links: if kind == Kind::Directory { 2 } else { 1 },
        device: 0,
        accessed: Timestamp::default(),
        modified: Timestamp::default(),
        changed: Timestamp::default(),
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl MemoryLayer {
    /// Starts an empty tree: a root directory of mode 0755.
    #[must_use]
    pub fn builder() -> MemoryLayerBuilder {
        let content = Content::Directory(BTreeMap::new());
        let root = MemoryNode::new(b"", attributes(Kind::Directory, 0o755, 0), content);
        MemoryLayerBuilder { nodes: vec![root], failed: None }
    }

    /// Returns a layer whose root is one regular file, as a file slot has it.
    #[must_use]
    pub fn single_file(mode: u32, content: impl Into<Arc<[u8]>>) -> Self {
        let content = content.into();
        let attributes = attributes(Kind::File, mode, content.len() as u64);
        Self { nodes: vec![MemoryNode::new(b"", attributes, Content::File(content))] }
    }

    fn node(&self, node: LayerNode) -> Result<&MemoryNode, LayerError> {
        self.nodes.get(node.0 as usize).ok_or_else(|| LayerError::Corrupt {
            slot: "memory".into(),
            path: format!("#{}", node.0),
            reason: "there is no such node".into(),
        })
    }
}

impl MemoryLayerBuilder {
    /// Adds a directory, or gives an existing one this mode.
    #[must_use]
    pub fn directory(self, path: impl AsRef<[u8]>, mode: u32) -> Self {
        let path = path.as_ref();
        self.step(|builder| {
            let node = builder.make_directories(&components(path).collect::<Vec<_>>(), path)?;
            builder.nodes[node].attributes.mode = mode & 0o7777;
            Ok(())
        })
    }

    /// Adds a regular file.
    #[must_use]
    pub fn file(self, path: impl AsRef<[u8]>, mode: u32, content: impl Into<Arc<[u8]>>) -> Self {
        let content = content.into();
        let attributes = attributes(Kind::File, mode, content.len() as u64);
        self.add(path.as_ref(), attributes, Content::File(content))
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl Into<Vec<u8>>) -> Self {
        let target = target.into();
        let attributes = attributes(Kind::Symlink, 0o777, target.len() as u64);
        self.add(path.as_ref(), attributes, Content::Symlink(target))
    }

    /// Adds a fifo, socket or device node (`device` in the host's encoding).
    #[must_use]
    pub fn special(self, path: impl AsRef<[u8]>, kind: Kind, mode: u32, device: u64) -> Self {
        let attributes = Attributes { device, ..attributes(kind, mode, 0) };
        self.add(path.as_ref(), attributes, Content::Special)
    }

    /// Adds a second name of the node at `existing`, which is no directory.
    #[must_use]
    pub fn hard_link(self, path: impl AsRef<[u8]>, existing: impl AsRef<[u8]>) -> Self {
        let (path, existing) = (path.as_ref(), existing.as_ref());
        self.step(|builder| {
            let node = builder.find(existing)?;
            if matches!(builder.nodes[node].content, Content::Directory(_)) {
                return Err(MemoryLayerError::NotFound { path: shown(existing) });
            }
            builder.enter(path, node)?;
            builder.nodes[node].attributes.links += 1;
            Ok(())
        })
    }

    /// Changes the attributes of the node at `path`; kind, size and links stay as they are.
    #[must_use]
    pub fn change(self, path: impl AsRef<[u8]>, change: impl FnOnce(&mut Attributes)) -> Self {
        let path = path.as_ref();
        self.step(|builder| {
            let node = builder.find(path)?;
            let kept = builder.nodes[node].attributes;
            let changed = &mut builder.nodes[node].attributes;
            change(changed);
            (changed.kind, changed.size, changed.links) = (kept.kind, kept.size, kept.links);
            Ok(())
        })
    }

    /// Sets an extended attribute of the node at `path`.
    #[must_use]
    pub fn xattr(self, path: impl AsRef<[u8]>, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        let path = path.as_ref();
        self.step(|builder| {
            let node = builder.find(path)?;
            builder.nodes[node].xattrs.insert(name.into(), value.into());
            Ok(())
        })
    }

    /// Returns the finished tree.
    ///
    /// # Errors
    /// The first call that did not fit.
    pub fn build(self) -> Result<MemoryLayer, MemoryLayerError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(MemoryLayer { nodes: self.nodes }),
        }
    }

    fn step(mut self, action: impl FnOnce(&mut Self) -> Result<(), MemoryLayerError>) -> Self {
        if self.failed.is_none() {
            self.failed = action(&mut self).err();
        }
        self
    }

    fn add(self, path: &[u8], attributes: Attributes, content: Content) -> Self {
        self.step(|builder| {
            let node = builder.nodes.len();
            builder.enter(path, node)?;
            let name = components(path).last().unwrap_or_default();
            builder.nodes.push(MemoryNode::new(name, attributes, content));
            Ok(())
        })
    }

    fn enter(&mut self, path: &[u8], node: usize) -> Result<(), MemoryLayerError> {
        let parts: Vec<_> = components(path).collect();
        let Some((name, parents)) = parts.split_last() else {
            return Err(MemoryLayerError::Exists { path: shown(path) });
        };
        let before = self.nodes.len();
        let parent = self.make_directories(parents, path)?;
        // Parents made on the way took the number that was meant for the new node.
        let node = if node == before { self.nodes.len() } else { node };
        match &mut self.nodes[parent].content {
            Content::Directory(names) if !names.contains_key(*name) => {
                names.insert(name.to_vec(), number(node));
                Ok(())
            }
            Content::Directory(_) => Err(MemoryLayerError::Exists { path: shown(path) }),
            Content::File(_) | Content::Symlink(_) | Content::Special => {
                Err(MemoryLayerError::NotDirectory { path: shown(path) })
            }
        }
    }

    fn make_directories(&mut self, names: &[&[u8]], path: &[u8]) -> Result<usize, MemoryLayerError> {
        let mut current = 0;
        for name in names {
            let next = self.nodes.len();
            let Content::Directory(entries) = &mut self.nodes[current].content else {
                return Err(MemoryLayerError::NotDirectory { path: shown(path) });
            };
            if let Some(known) = entries.get(*name) {
                current = known.0 as usize;
                continue;
            }
            entries.insert(name.to_vec(), number(next));
            self.nodes[current].attributes.links += 1;
            let content = Content::Directory(BTreeMap::new());
            self.nodes.push(MemoryNode::new(name, attributes(Kind::Directory, 0o755, 0), content));
            current = next;
        }
        match self.nodes[current].content {
            Content::Directory(_) => Ok(current),
            Content::File(_) | Content::Symlink(_) | Content::Special => {
                Err(MemoryLayerError::NotDirectory { path: shown(path) })
            }
        }
    }

    fn find(&self, path: &[u8]) -> Result<usize, MemoryLayerError> {
        components(path).try_fold(0, |current: usize, name| {
            match &self.nodes[current].content {
                Content::Directory(names) => names.get(name).map(|node| node.0 as usize),
                Content::File(_) | Content::Symlink(_) | Content::Special => None,
            }
            .ok_or_else(|| MemoryLayerError::NotFound { path: shown(path) })
        })
    }
}

/// A tree of more than 2^32 nodes does not fit in memory, so the clamp is never met.
fn number(index: usize) -> LayerNode {
    LayerNode(u32::try_from(index).unwrap_or(u32::MAX))
}

impl Layer for MemoryLayer {
    fn root(&self) -> LayerNode {
        LayerNode(0)
    }

    fn lookup(&self, directory: LayerNode, name: &[u8]) -> Result<Option<LayerNode>, LayerError> {
        Ok(match &self.node(directory)?.content {
            Content::Directory(names) => names.get(name).copied(),
            Content::File(_) | Content::Symlink(_) | Content::Special => None,
        })
    }

    fn attributes(&self, node: LayerNode) -> Result<Attributes, LayerError> {
        Ok(self.node(node)?.attributes)
    }

    fn read_directory(
        &self,
        directory: LayerNode,
        after: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), LayerError> {
        let Content::Directory(names) = &self.node(directory)?.content else { return Ok(()) };
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (name, child) in names.range::<[u8], _>((start, Bound::Unbounded)) {
            if let ControlFlow::Break(()) = visit(name, *child, self.node(*child)?.attributes.kind) {
                break;
            }
        }
        Ok(())
    }

    fn read_link(&self, node: LayerNode) -> Result<Vec<u8>, LayerError> {
        Ok(match &self.node(node)?.content {
            Content::Symlink(target) => target.clone(),
            Content::Directory(_) | Content::File(_) | Content::Special => Vec::new(),
        })
    }

    fn extended_attributes(&self, node: LayerNode) -> Result<ExtendedAttributes, LayerError> {
        Ok(self.node(node)?.xattrs.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn read(&self, node: LayerNode, offset: u64, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let Content::File(content) = &self.node(node)?.content else { return Ok(0) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let part = &content[start..content.len().min(start.saturating_add(buffer.len()))];
        buffer[..part.len()].copy_from_slice(part);
        Ok(part.len())
    }

    fn host_file(&self, _node: LayerNode) -> Result<Option<Arc<File>>, LayerError> {
        Ok(None)
    }

    fn only_name(&self, node: LayerNode) -> Result<Option<Vec<u8>>, LayerError> {
        let MemoryNode { attributes, name, .. } = self.node(node)?;
        // A directory has two links at least, and the root no name.
        Ok((attributes.links == 1 && !name.is_empty()).then(|| name.clone()))
    }

    fn is_settled(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_added_and_counts_links() {
        let layer = MemoryLayer::builder()
            .file("a/b/one", 0o644, *b"hello")
            .hard_link("a/two", "a/b/one")
            .symlink("a/link", "b/one")
            .directory("a/b", 0o700)
            .xattr("a/two", "user.x", "1")
            .build()
            .unwrap();
        let a = layer.lookup(layer.root(), b"a").unwrap().unwrap();
        let two = layer.lookup(a, b"two").unwrap().unwrap();
        let b = layer.lookup(a, b"b").unwrap().unwrap();
        assert_eq!(layer.lookup(b, b"one").unwrap(), Some(two));
        assert_eq!(layer.attributes(two).unwrap().links, 2);
        assert_eq!((layer.attributes(a).unwrap().links, layer.attributes(b).unwrap().mode), (3, 0o700));
        assert_eq!(layer.extended_attributes(two).unwrap(), [(b"user.x".to_vec(), b"1".to_vec())]);
        let mut buffer = [0; 3];
        assert_eq!((layer.read(two, 3, &mut buffer).unwrap(), &buffer[..2]), (2, &b"lo"[..]));
        let mut names = Vec::new();
        let mut visit = |name: &[u8], _: LayerNode, _: Kind| {
            names.push(name.to_vec());
            ControlFlow::Continue(())
        };
        layer.read_directory(a, Some(b"b"), &mut visit).unwrap();
        assert_eq!(names, [b"link".to_vec(), b"two".to_vec()]);
    }

    #[test]
    fn reports_the_first_call_that_does_not_fit() {
        let table = [
            (
                MemoryLayer::builder().file("f", 0o644, []).file("f/x", 0o644, []),
                "a parent is not a directory",
            ),
            (MemoryLayer::builder().file("f", 0o644, []).symlink("f", "x"), "exists already"),
            (MemoryLayer::builder().hard_link("f", "nowhere"), "no such node"),
        ];
        for (builder, message) in table {
            let error = builder.build().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}

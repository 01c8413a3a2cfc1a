//! A layer less some of its names.
//!
//! **Invariant:** what is left is exactly as in the layer, but for the number of names that a file has.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{ExtendedAttributes, Layer, LayerError, LayerNode, Visit};
use crate::node::{Attributes, Kind};

/// A layer without some names and what is below them.
#[derive(Debug)]
pub struct Without {
    layer: Arc<dyn Layer>,
    /// Directory and name.
    gone: HashSet<(LayerNode, Vec<u8>)>,
    /// How many of its names a file has lost.
    lost: HashMap<LayerNode, u32>,
}

impl Without {
    /// Takes the names at `paths` away, as far as the layer has them. A path comes before those below it.
    ///
    /// # Errors
    /// The layer is damaged, or the host refused.
    pub fn new<'a>(
        layer: Arc<dyn Layer>,
        paths: impl IntoIterator<Item = &'a [Vec<u8>]>,
    ) -> Result<Self, LayerError> {
        let mut less = Self { layer, gone: HashSet::new(), lost: HashMap::new() };
        for path in paths {
            // What is below something that is gone is not found.
            if let Some((directory, name, node)) = place(&less, path)? {
                less.count(node)?;
                less.gone.insert((directory, name));
            }
        }
        Ok(less)
    }

    /// Counts the names that go with the one of `node`.
    fn count(&mut self, node: LayerNode) -> Result<(), LayerError> {
        let mut waiting = vec![node];
        while let Some(node) = waiting.pop() {
            if self.layer.attributes(node)?.kind != Kind::Directory {
                *self.lost.entry(node).or_default() += 1;
                continue;
            }
            self.read_directory(node, None, &mut |_, below, _| {
                waiting.push(below);
                ControlFlow::Continue(())
            })?;
        }
        Ok(())
    }

    /// Tells whether it is the whole layer, because that has none of the names.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.gone.is_empty()
    }
}

/// Finds the directory, the name and the node that `path` leads to, if that is there.
fn place(layer: &dyn Layer, path: &[Vec<u8>]) -> Result<Option<(LayerNode, Vec<u8>, LayerNode)>, LayerError> {
    let mut found = None;
    let mut at = layer.root();
    for name in path {
        if layer.attributes(at)?.kind != Kind::Directory {
            return Ok(None);
        }
        let Some(next) = layer.lookup(at, name)? else { return Ok(None) };
        found = Some((at, name.clone(), next));
        at = next;
    }
    Ok(found)
}

impl Layer for Without {
    fn root(&self) -> LayerNode {
        self.layer.root()
    }

    fn lookup(&self, directory: LayerNode, name: &[u8]) -> Result<Option<LayerNode>, LayerError> {
        if self.gone.contains(&(directory, name.to_vec())) {
            return Ok(None);
        }
        self.layer.lookup(directory, name)
    }

    fn attributes(&self, node: LayerNode) -> Result<Attributes, LayerError> {
        let mut attributes = self.layer.attributes(node)?;
        if let Some(lost) = self.lost.get(&node) {
            attributes.links = attributes.links.saturating_sub(*lost);
        }
        Ok(attributes)
    }

    fn read_directory(
        &self,
        directory: LayerNode,
        after: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), LayerError> {
        self.layer.read_directory(directory, after, &mut |name, node, kind| {
            if self.gone.contains(&(directory, name.to_vec())) {
                return ControlFlow::Continue(());
            }
            visit(name, node, kind)
        })
    }

    fn read_link(&self, node: LayerNode) -> Result<Vec<u8>, LayerError> {
        self.layer.read_link(node)
    }

    fn extended_attributes(&self, node: LayerNode) -> Result<ExtendedAttributes, LayerError> {
        self.layer.extended_attributes(node)
    }

    fn read(&self, node: LayerNode, offset: u64, buffer: &mut [u8]) -> Result<usize, LayerError> {
        self.layer.read(node, offset, buffer)
    }

    fn host_file(&self, node: LayerNode) -> Result<Option<Arc<File>>, LayerError> {
        self.layer.host_file(node)
    }

    fn finish(&self) {
        self.layer.finish();
    }

    fn is_settled(&self) -> bool {
        self.layer.is_settled()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use crate::layer::memory::MemoryLayer;

    #[test]
    fn a_name_is_gone_with_all_below_it_and_nothing_else_is() {
        let layer = MemoryLayer::builder()
            .file("a/b/c", 0o644, [])
            .file("a/d", 0o644, [])
            .hard_link("b", "a/d")
            .build()
            .unwrap();
        let path = |text: &str| text.split('/').map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        let paths = [path("a/b"), path("a/b/c"), path("b"), path("none"), path("a/d/x")];
        let layer: Arc<dyn Layer> = Arc::new(layer);
        let less = Without::new(Arc::clone(&layer), paths.iter().map(Vec::as_slice)).unwrap();
        let a = less.lookup(less.root(), b"a").unwrap().unwrap();
        assert!(less.lookup(less.root(), b"b").unwrap().is_none() && less.lookup(a, b"b").unwrap().is_none());
        let d = less.lookup(a, b"d").unwrap().unwrap();
        assert_eq!(less.attributes(d).unwrap().links, 1);
        let mut names = Vec::new();
        less.read_directory(a, None, &mut |name, _, _| {
            names.push(name.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(names, [b"d".to_vec()]);
        assert!(!less.is_whole() && Without::new(layer, [path("x").as_slice()]).unwrap().is_whole());
    }
}

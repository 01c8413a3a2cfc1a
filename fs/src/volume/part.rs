//! A part of a volume as a layer: chosen paths, as the volume shows them.
//!
//! **Invariant:** nobody else works in the volume, so that what was looked up stays what it is.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use super::{FsError, Lookup, NodeId, Volume};
use crate::disk::DiskError;
use crate::layer::{ExtendedAttributes, Layer, LayerError, LayerNode, Visit};
use crate::node::{Attributes, Kind};

/// Chosen paths of a volume, with all directories on the way.
#[derive(Debug)]
pub struct VolumePart {
    volume: Volume,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    node: NodeId,
    attributes: Attributes,
    children: BTreeMap<Vec<u8>, LayerNode>,
}

impl VolumePart {
    /// Takes what `volume` shows at `paths`. A path that leads to nothing is left out. A file has as many names as it has
    /// here.
    ///
    /// # Errors
    /// What a layer or the upper's disk reports.
    pub fn new<'a>(volume: Volume, paths: impl IntoIterator<Item = &'a [Vec<u8>]>) -> Result<Self, FsError> {
        let root = volume.attributes(NodeId::ROOT)?.attributes;
        let mut nodes = vec![Node { node: NodeId::ROOT, attributes: root, children: BTreeMap::new() }];
        // Files with several names, by inode number.
        let mut files: HashMap<u64, LayerNode> = HashMap::new();
        for path in paths {
            let mut at = 0;
            for name in path {
                if let Some(known) = nodes[at].children.get(name) {
                    at = known.0 as usize;
                    continue;
                }
                if nodes[at].attributes.kind != Kind::Directory {
                    break;
                }
                let Lookup::Found(entry) = volume.lookup(nodes[at].node, name)? else { break };
                let status = entry.status;
                let new = number(nodes.len());
                let is_directory = status.attributes.kind == Kind::Directory;
                let node = if is_directory { new } else { *files.entry(status.inode).or_insert(new) };
                nodes[at].children.insert(name.clone(), node);
                if node == new {
                    let attributes = Attributes { links: 1, ..status.attributes };
                    nodes.push(Node { node: entry.node, attributes, children: BTreeMap::new() });
                } else {
                    nodes[node.0 as usize].attributes.links += 1;
                }
                at = node.0 as usize;
            }
        }
        Ok(Self { volume, nodes })
    }

    /// Tells whether there is something of this kind.
    #[must_use]
    pub fn holds(&self, kind: Kind) -> bool {
        self.nodes.iter().any(|node| node.attributes.kind == kind)
    }

    fn node(&self, node: LayerNode) -> Result<&Node, LayerError> {
        self.nodes.get(node.0 as usize).ok_or_else(|| failed(FsError::Unknown(node.0.into())))
    }
}

/// As many nodes as a volume has in memory have numbers.
fn number(index: usize) -> LayerNode {
    LayerNode(u32::try_from(index).unwrap_or(u32::MAX))
}

fn failed(error: FsError) -> LayerError {
    if let FsError::Layer(error) = error {
        return error;
    }
    if let FsError::Disk(error) = error {
        return LayerError::Disk(error);
    }
    LayerError::Disk(DiskError::new("read", "what was written", io::Error::other(error)))
}

impl Layer for VolumePart {
    fn root(&self) -> LayerNode {
        LayerNode(0)
    }

    fn lookup(&self, directory: LayerNode, name: &[u8]) -> Result<Option<LayerNode>, LayerError> {
        Ok(self.node(directory)?.children.get(name).copied())
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
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (name, child) in self.node(directory)?.children.range::<[u8], _>((start, Bound::Unbounded)) {
            if let ControlFlow::Break(()) = visit(name, *child, self.node(*child)?.attributes.kind) {
                break;
            }
        }
        Ok(())
    }

    fn read_link(&self, node: LayerNode) -> Result<Vec<u8>, LayerError> {
        self.volume.read_link(self.node(node)?.node).map_err(failed)
    }

    fn extended_attributes(&self, node: LayerNode) -> Result<ExtendedAttributes, LayerError> {
        let node = self.node(node)?.node;
        let names = self.volume.extended_attribute_names(node).map_err(failed)?;
        let value = |name: Vec<u8>| {
            let value = self.volume.extended_attribute(node, &name).map_err(failed)?;
            Ok((name, value))
        };
        names.into_iter().map(value).collect()
    }

    fn read(&self, node: LayerNode, offset: u64, buffer: &mut [u8]) -> Result<usize, LayerError> {
        self.volume.read(self.node(node)?.node, None, offset, buffer).map_err(failed)
    }

    fn host_file(&self, _node: LayerNode) -> Result<Option<Arc<File>>, LayerError> {
        Ok(None)
    }

    fn is_settled(&self) -> bool {
        true
    }
}

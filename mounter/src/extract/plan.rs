//! What there is to write: one walk over the tree, before anything is written.
//!
//! **Invariant:** every path here is made of names that `host::plain::file_name` accepted, below directories that
//! extraction itself makes, so that nothing can be written outside.

use std::collections::HashMap;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use slotfs_fs::layer::LayerNode;
use slotfs_fs::layer::stack::{Lower, Stack};
use slotfs_fs::node::{Attributes, Kind};

use super::ExtractError;
use super::report::Report;
use crate::host::plain;

/// What a small file takes on most disks.
const BLOCK: u64 = 4096;

/// A directory to make.
#[derive(Debug)]
pub(super) struct Directory {
    /// Path below the root.
    pub(super) path: PathBuf,
    /// Mode and times.
    pub(super) attributes: Attributes,
    /// Where its extended attributes are; `None` for a parent that no slot provides.
    pub(super) source: Option<(u32, LayerNode)>,
}

/// Something in a directory.
#[derive(Debug)]
pub(super) struct Leaf {
    /// Position in [`Plan::directories`].
    directory: u32,
    name: OsString,
    /// Position of its layer.
    pub(super) layer: u32,
    /// Its node there.
    pub(super) node: LayerNode,
    /// Bytes to write.
    pub(super) bytes: u64,
}

/// Everything to write, in the order of the walk.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Parents before children; the root first.
    pub(super) directories: Vec<Directory>,
    /// Regular files, each node once, in the order in which their layers hold them.
    pub(super) files: Vec<Leaf>,
    /// Further names of files: the name, and the position of the file before sorting.
    pub(super) links: Vec<(Leaf, LinkTo)>,
    /// Symbolic links.
    pub(super) symlinks: Vec<Leaf>,
    /// Named pipes.
    pub(super) fifos: Vec<Leaf>,
    /// Bytes of files in each layer.
    pub(super) layer_bytes: Vec<u64>,
    /// Bytes that the tree takes on disk, about.
    pub(super) disk_bytes: u64,
}

/// The first name of a file that has several.
#[derive(Clone, Debug)]
pub(super) struct LinkTo(pub(super) PathBuf);

impl Plan {
    /// Walks the tree, which is to be written at `root`. What this system cannot hold is noted in `report` and left out.
    ///
    /// # Errors
    /// A layer could not answer.
    pub(super) fn of(stack: &Stack, root: &Path, report: &mut Report) -> Result<Self, ExtractError> {
        let mut plan = Self { layer_bytes: vec![0; stack.layers().len()], ..Self::default() };
        let mut walk = Walk { stack, root, plan: &mut plan, report, names: HashMap::new() };
        let root = stack.root().map_err(|source| failed(Path::new("."), source))?;
        let mut open = vec![(walk.directory(PathBuf::new(), &root)?, root)];
        while let Some((position, directory)) = open.pop() {
            walk.entries(position, &directory, &mut open)?;
        }
        // A slot is decoded from front to back; nodes are numbered in the order in which it holds them.
        plan.files.sort_by_key(|file| (file.layer, file.node));
        Ok(plan)
    }

    /// Returns the path of `leaf` below the root.
    pub(super) fn path(&self, leaf: &Leaf) -> PathBuf {
        self.directories[leaf.directory as usize].path.join(&leaf.name)
    }
}

#[cfg(test)]
impl Leaf {
    pub(super) fn for_test(layer: u32, bytes: u64) -> Self {
        Self { directory: 0, name: OsString::new(), layer, node: LayerNode(0), bytes }
    }
}

struct Walk<'a> {
    stack: &'a Stack,
    /// Where the tree will be written.
    root: &'a Path,
    plan: &'a mut Plan,
    report: &'a mut Report,
    /// The first name of every file with several.
    names: HashMap<(u32, LayerNode), PathBuf>,
}

impl Walk<'_> {
    fn directory(&mut self, path: PathBuf, lower: &Lower) -> Result<u32, ExtractError> {
        let attributes = self.stack.attributes(lower).map_err(|source| failed(&path, source))?;
        let position = u32::try_from(self.plan.directories.len()).unwrap_or(u32::MAX);
        self.plan.disk_bytes += BLOCK;
        self.plan.directories.push(Directory { path, attributes, source: lower.top() });
        Ok(position)
    }

    fn entries(
        &mut self,
        position: u32,
        directory: &Lower,
        open: &mut Vec<(u32, Lower)>,
    ) -> Result<(), ExtractError> {
        let path = self.plan.directories[position as usize].path.clone();
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut each = |name: &[u8], _: u64, _: Kind| {
            names.push(name.to_vec());
            ControlFlow::Continue(())
        };
        self.stack.list(directory, &mut each).map_err(|source| failed(&path, source))?;
        for bytes in names {
            let name = match plain::file_name(&bytes) {
                Ok(name) => name,
                Err(reason) => {
                    let shown = path.join(String::from_utf8_lossy(&bytes).into_owned());
                    self.report.skip(&shown, reason);
                    continue;
                }
            };
            let child = path.join(&name);
            if self.root.as_os_str().len() + 1 + child.as_os_str().len() > plain::LONGEST_PATH {
                self.report.skip(&child, "its path is longer than this system can write");
                continue;
            }
            let found = self.stack.lookup(directory, &bytes).map_err(|source| failed(&child, source))?;
            match (found.as_ref().and_then(Lower::top), found) {
                (_, Some(lower)) if lower.kind == Kind::Directory => {
                    let position = self.directory(child, &lower)?;
                    open.push((position, lower));
                }
                (Some((layer, node)), Some(_)) => self.leaf(&child, position, name, layer, node)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn leaf(
        &mut self,
        path: &Path,
        directory: u32,
        name: OsString,
        layer: u32,
        node: LayerNode,
    ) -> Result<(), ExtractError> {
        let attributes =
            self.stack.layer(layer).layer.attributes(node).map_err(|source| failed(path, source))?;
        let mut leaf = Leaf { directory, name, layer, node, bytes: 0 };
        match attributes.kind {
            Kind::File => {
                if attributes.links > 1 {
                    if let Some(first) = self.names.get(&(layer, node)) {
                        self.plan.links.push((leaf, LinkTo(first.clone())));
                        return Ok(());
                    }
                    self.names.insert((layer, node), path.to_owned());
                }
                leaf.bytes = attributes.size;
                self.plan.layer_bytes[layer as usize] += attributes.size;
                let stored = attributes.size.min(attributes.blocks.saturating_mul(512));
                self.plan.disk_bytes = self.plan.disk_bytes.saturating_add(stored.next_multiple_of(BLOCK));
                self.plan.files.push(leaf);
            }
            Kind::Symlink => self.plan.symlinks.push(leaf),
            Kind::Fifo => self.plan.fifos.push(leaf),
            Kind::Socket => self.report.skip(path, "sockets belong to the process that makes them"),
            Kind::CharacterDevice | Kind::BlockDevice => {
                self.report.skip(path, "device nodes are not extracted");
            }
            // The stack merges directories; a lone one cannot come here.
            Kind::Directory => {}
        }
        Ok(())
    }
}

pub(super) fn failed(path: &Path, source: slotfs_fs::layer::LayerError) -> ExtractError {
    ExtractError::Content { path: path.display().to_string(), source: Box::new(source) }
}

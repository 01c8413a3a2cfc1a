//! Several layers, each at its place, seen as one read-only tree.
//!
//! Later layers lie over earlier ones; a directory in several is merged, and anything else hides what lies
//! below it. Parents that a layer's place needs and no layer provides are made up.
//!
//! **Invariant:** pure function of the layers: nothing is remembered here but where the layers lie.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Layer, LayerError, LayerNode};
use crate::disk::digest::Digest;
use crate::node::{Attributes, Kind};

/// A layer and where it lies in the volume.
#[derive(Clone, Debug)]
pub struct PlacedLayer {
    /// The slot's id: names the layer in logs, and the owner of what is written over it.
    pub name: String,
    /// The tree.
    pub layer: Arc<dyn Layer>,
    /// Where its root appears; empty is the volume's root. Missing parents are made, mode 0755.
    pub target: Vec<Vec<u8>>,
    /// Whether the overlay may change what lies in this layer.
    pub writable: bool,
}

/// One place where (a part of) a node comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A node of a layer.
    Layer {
        /// Position of the layer.
        layer: u32,
        /// The node.
        node: LayerNode,
    },
    /// A directory on the way to where some layers lie.
    Place {
        /// Which one.
        place: u32,
        /// Layers below this position are hidden.
        from: u32,
    },
}

/// What the layers hold under one name: for a directory all that is merged, topmost first, else one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lower {
    /// Its kind.
    pub kind: Kind,
    sources: Sources,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Sources {
    One(Source),
    Many(Arc<[Source]>),
}

/// A directory on the way to the targets.
#[derive(Debug, Default)]
struct Place {
    children: BTreeMap<Vec<u8>, u32>,
    /// Layers whose root is here.
    roots: Vec<u32>,
    /// Layers whose root is deeper.
    through: Vec<u32>,
}

/// The layers of a volume as one tree.
#[derive(Debug)]
pub struct Stack {
    layers: Vec<PlacedLayer>,
    places: Vec<Place>,
}

/// Called for one entry of a merged directory: name, inode number, kind.
pub type VisitMerged<'a> = dyn FnMut(&[u8], u64, Kind) -> ControlFlow<()> + 'a;

enum Candidate {
    Node(LayerNode),
    Child(LayerNode),
    Made(u32),
}

impl Lower {
    /// Returns what is merged, topmost first.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        match &self.sources {
            Sources::One(source) => std::slice::from_ref(source),
            Sources::Many(sources) => sources,
        }
    }

    /// Returns the topmost layer that provides this node itself; `None` for a made-up parent.
    #[must_use]
    pub fn provider(&self) -> Option<u32> {
        self.top().map(|(layer, _)| layer)
    }

    /// Returns the topmost layer's node; `None` for a made-up parent.
    #[must_use]
    pub fn top(&self) -> Option<(u32, LayerNode)> {
        self.sources().iter().find_map(|source| match source {
            Source::Layer { layer, node } => Some((*layer, *node)),
            Source::Place { .. } => None,
        })
    }

    /// Returns the node that has a file's content: it may lie below the one that has the attributes.
    #[must_use]
    pub fn content(&self) -> Option<(u32, LayerNode)> {
        match (self.kind, self.sources().last()) {
            (Kind::File, Some(Source::Layer { layer, node })) => Some((*layer, *node)),
            _ => self.top(),
        }
    }

    /// Returns the inode number that stays the same at every mount of the same layers.
    #[must_use]
    pub fn inode(&self) -> u64 {
        match (self.top(), self.sources().first()) {
            (_, Some(Source::Place { place: 0, .. })) => Self::ROOT_INODE,
            (Some((layer, node)), _) => (u64::from(layer) + 1) << 32 | u64::from(node.0),
            (None, Some(Source::Place { place, .. })) => Self::ROOT_INODE + u64::from(*place),
            (None, _) => Self::ROOT_INODE,
        }
    }

    /// The root's inode number.
    pub const ROOT_INODE: u64 = 1;
}

impl Stack {
    /// Puts `layers` over each other, the last one topmost.
    #[must_use]
    pub fn new(layers: Vec<PlacedLayer>) -> Self {
        let mut places = vec![Place::default()];
        for (position, placed) in (0..).zip(&layers) {
            let mut at = 0;
            for name in &placed.target {
                places[at].through.push(position);
                let next = u32::try_from(places.len()).unwrap_or(u32::MAX);
                let child = *places[at].children.entry(name.clone()).or_insert(next);
                if child == next {
                    places.push(Place::default());
                }
                at = child as usize;
            }
            places[at].roots.push(position);
        }
        Self { layers, places }
    }

    /// Returns the layers, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[PlacedLayer] {
        &self.layers
    }

    /// Returns a short text that is the same for the same layers at the same places, and different for others.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut text = Vec::new();
        for placed in &self.layers {
            let target = placed.target.join(&b'/');
            let identity = placed.layer.identity().unwrap_or_default();
            for part in [placed.name.as_bytes(), &target, identity.as_bytes()] {
                text.extend_from_slice(&(part.len() as u64).to_le_bytes());
                text.extend_from_slice(part);
            }
        }
        let mut digest = Digest::of(&text).to_string();
        digest.truncate(16);
        digest
    }

    /// Tells whether no layer is read-only.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.layers.iter().all(|placed| placed.writable)
    }

    /// Tells whether all layers' names and attributes are final.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.layers.iter().all(|placed| placed.layer.is_settled())
    }

    /// Tells whether every layer that `lower` comes from is settled.
    #[must_use]
    pub fn is_node_settled(&self, lower: &Lower) -> bool {
        lower.sources().iter().all(|source| match source {
            Source::Layer { layer, .. } => self.layer(*layer).layer.is_settled(),
            Source::Place { place, from } => {
                let place = &self.places[*place as usize];
                let mut layers = place.roots.iter().chain(&place.through).filter(|layer| *layer >= from);
                layers.all(|layer| self.layer(*layer).layer.is_settled())
            }
        })
    }

    /// Returns the layer at `position`, which comes from this stack.
    #[must_use]
    pub fn layer(&self, position: u32) -> &PlacedLayer {
        &self.layers[position as usize]
    }

    /// Returns the root: a directory.
    ///
    /// # Errors
    /// A layer could not answer.
    pub fn root(&self) -> Result<Lower, LayerError> {
        let mut sources = vec![Source::Place { place: 0, from: 0 }];
        for position in self.places[0].roots.iter().rev() {
            let layer = &self.layer(*position).layer;
            if layer.attributes(layer.root())?.kind == Kind::Directory {
                sources.push(Source::Layer { layer: *position, node: layer.root() });
            }
        }
        Ok(Lower { kind: Kind::Directory, sources: Sources::of(sources) })
    }

    /// Finds `name` in the directory `within`; waits for layers that are still being indexed.
    ///
    /// # Errors
    /// A layer could not answer.
    pub fn lookup(&self, within: &Lower, name: &[u8]) -> Result<Option<Lower>, LayerError> {
        let mut found = Vec::new();
        let mut made = None;
        let mut from = 0;
        for (position, candidate) in self.candidates(within, name) {
            let node = match candidate {
                Candidate::Made(place) => {
                    if made.is_none() {
                        made = Some(found.len());
                        found.push(Source::Place { place, from: 0 });
                    }
                    continue;
                }
                Candidate::Node(node) => Some(node),
                Candidate::Child(directory) => self.layer(position).layer.lookup(directory, name)?,
            };
            let Some(node) = node else { continue };
            let layer = &self.layer(position).layer;
            let attributes = layer.attributes(node)?;
            let marks = layer.marks(node, &attributes)?;
            if marks.whiteout {
                from = position + 1;
                break;
            }
            let kind = attributes.kind;
            let source = Source::Layer { layer: position, node };
            if kind == Kind::Directory {
                found.push(source);
                if let Some(redirect) = &marks.redirect {
                    found.extend(self.redirected(within, position, redirect)?);
                }
                if marks.opaque || marks.redirect.is_some() {
                    from = position;
                    break;
                }
            } else if found.is_empty() {
                let mut sources = vec![source];
                if let Some(length) = marks.bare {
                    let path = marks.redirect.as_deref().unwrap_or(name);
                    sources.push(self.content_below(within, position, path, length, name)?);
                }
                return Ok(Some(Lower { kind, sources: Sources::of(sources) }));
            } else {
                from = position + 1;
                break;
            }
        }
        if let (Some(index), Some(inherited)) = (made, within.floor())
            && let Source::Place { place, .. } = found[index]
        {
            found[index] = Source::Place { place, from: from.max(inherited) };
        }
        if found.is_empty() {
            return Ok(None);
        }
        Ok(Some(Lower { kind: Kind::Directory, sources: Sources::of(found) }))
    }

    /// Returns where a renamed directory of the layer `position` goes on in the layers below it. Where these have been
    /// put at a place of their own, what is between that place and the root is left out.
    fn redirected(&self, within: &Lower, position: u32, redirect: &[u8]) -> Result<Vec<Source>, LayerError> {
        let found = self.walk_below(within, position, redirect)?;
        let directory = found.filter(|found| found.kind == Kind::Directory);
        Ok(directory.map_or_else(Vec::new, |found| found.sources().to_vec()))
    }

    /// Follows `path`, from the root or from `within`, in the layers below `position`.
    fn walk_below(&self, within: &Lower, position: u32, path: &[u8]) -> Result<Option<Lower>, LayerError> {
        let is_below = |source: &Source| matches!(source, Source::Layer { layer, .. } if *layer < position);
        let below = |lower: &Lower| {
            let kept = lower.sources().iter().copied().filter(is_below).collect();
            Lower { kind: lower.kind, sources: Sources::of(kept) }
        };
        let mut current = if path.first() == Some(&b'/') { below(&self.root()?) } else { below(within) };
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            if current.kind != Kind::Directory {
                return Ok(None);
            }
            match self.lookup(&current, name)? {
                Some(next) => current = below(&next),
                None => return Ok(None),
            }
        }
        Ok(Some(current))
    }

    /// Finds the content of the file `name` of the layer `position`, which has attributes only.
    fn content_below(
        &self,
        within: &Lower,
        position: u32,
        path: &[u8],
        length: Option<u64>,
        name: &[u8],
    ) -> Result<Source, LayerError> {
        let found = self.walk_below(within, position, path)?;
        if let Some(found) = found.filter(|found| found.kind == Kind::File)
            && let Some((layer, node)) = found.content()
        {
            let size = self.layer(layer).layer.attributes(node)?.size;
            if length.is_none_or(|length| length == size) {
                return Ok(Source::Layer { layer, node });
            }
        }
        Err(LayerError::Corrupt {
            slot: self.layer(position).name.clone(),
            path: String::from_utf8_lossy(name).into_owned(),
            reason: "its content is in none of the layers below".into(),
        })
    }

    /// Returns where to look for `name`, topmost layer first.
    fn candidates(&self, within: &Lower, name: &[u8]) -> Vec<(u32, Candidate)> {
        let mut candidates = Vec::with_capacity(within.sources().len());
        for source in within.sources() {
            match source {
                Source::Layer { layer, node } => candidates.push((*layer, Candidate::Child(*node))),
                Source::Place { place, from } => {
                    let Some(child) = self.places[*place as usize].children.get(name) else { continue };
                    let at = &self.places[*child as usize];
                    for layer in at.roots.iter().filter(|layer| *layer >= from) {
                        candidates.push((*layer, Candidate::Node(self.layer(*layer).layer.root())));
                    }
                    for layer in at.through.iter().filter(|layer| *layer >= from) {
                        candidates.push((*layer, Candidate::Made(*child)));
                    }
                }
            }
        }
        candidates.sort_by_key(|(layer, _)| std::cmp::Reverse(*layer));
        candidates
    }

    /// Follows `path` from the root.
    ///
    /// # Errors
    /// A layer could not answer.
    pub fn walk<'a>(&self, path: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Lower>, LayerError> {
        let mut current = self.root()?;
        for name in path {
            if current.kind != Kind::Directory {
                return Ok(None);
            }
            match self.lookup(&current, name)? {
                Some(next) => current = next,
                None => return Ok(None),
            }
        }
        Ok(Some(current))
    }

    /// Waits until what reading has made is where it stays; see [`Layer::finish`].
    pub fn finish(&self) {
        self.layers.iter().for_each(|placed| placed.layer.finish());
    }

    /// Returns the name of `lower` where it is one settled node of one layer that has no other name there; see
    /// [`Layer::only_name`].
    ///
    /// # Errors
    /// A layer could not answer.
    pub fn only_name(&self, lower: &Lower) -> Result<Option<Vec<u8>>, LayerError> {
        match lower.sources() {
            [Source::Layer { layer, node }] if self.is_node_settled(lower) => {
                self.layer(*layer).layer.only_name(*node)
            }
            _ => Ok(None),
        }
    }

    /// Returns the node that has the name [`Self::only_name`] and this inode number, and that name; `None` when there is
    /// none.
    ///
    /// # Errors
    /// A layer could not answer.
    pub fn named_node(&self, inode: u64) -> Result<Option<(Lower, Vec<u8>)>, LayerError> {
        let place = (inode >> 32).checked_sub(1).and_then(|layer| u32::try_from(layer).ok());
        let Some((position, placed)) = place.and_then(|at| Some((at, self.layers.get(at as usize)?))) else {
            return Ok(None);
        };
        let node = LayerNode((inode & u64::from(u32::MAX)) as u32);
        let Some(name) = placed.layer.only_name(node)? else { return Ok(None) };
        let kind = placed.layer.attributes(node)?.kind;
        let sources = Sources::One(Source::Layer { layer: position, node });
        Ok(Some((Lower { kind, sources }, name)))
    }

    /// Returns the attributes: the topmost layer's; a made-up parent has mode 0755 and takes the rest from the
    /// topmost layer that lies in it.
    ///
    /// # Errors
    /// A layer could not answer.
    pub fn attributes(&self, lower: &Lower) -> Result<Attributes, LayerError> {
        let merged = lower.sources().len() > 1;
        let mut attributes = match (lower.top(), lower.sources().first()) {
            (Some((layer, node)), _) => self.layer(layer).layer.attributes(node)?,
            (None, Some(Source::Place { place, from })) => self.made_attributes(*place, *from)?,
            (None, _) => made(None),
        };
        if merged && lower.kind == Kind::File {
            let content = lower.content().map(|(layer, node)| self.layer(layer).layer.attributes(node));
            attributes.blocks = content.transpose()?.map_or(0, |content| content.blocks);
        } else if merged {
            // Counting subdirectories would mean listing every layer; 1 tells `find` not to rely on it.
            attributes.links = 1;
        }
        Ok(attributes)
    }

    fn made_attributes(&self, place: u32, from: u32) -> Result<Attributes, LayerError> {
        let through = self.places[place as usize].through.iter().filter(|layer| **layer >= from).max();
        let model = through.map(|layer| {
            let layer = &self.layer(*layer).layer;
            layer.attributes(layer.root())
        });
        Ok(made(model.transpose()?))
    }

    /// Visits the entries of the merged directory in byte order of their names.
    ///
    /// # Errors
    /// A layer could not answer.
    pub fn list(&self, directory: &Lower, visit: &mut VisitMerged<'_>) -> Result<(), LayerError> {
        if let [Source::Layer { layer, node }] = directory.sources()
            && !self.layer(*layer).layer.has_marks()
        {
            let layer_inode = |node: LayerNode| (u64::from(*layer) + 1) << 32 | u64::from(node.0);
            let mut each = |name: &[u8], node, kind| visit(name, layer_inode(node), kind);
            return self.layer(*layer).layer.read_directory(*node, None, &mut each);
        }
        // `None`: a whiteout, which hides the name in every layer below.
        let mut names: BTreeMap<Vec<u8>, Option<(u64, Kind)>> = BTreeMap::new();
        for source in directory.sources() {
            let Source::Layer { layer, node } = source else { continue };
            self.list_one(*layer, *node, &mut |name, node, kind| {
                let inode = (u64::from(*layer) + 1) << 32 | u64::from(node.0);
                names.entry(name).or_insert_with(|| kind.map(|kind| (inode, kind)));
            })?;
        }
        // A name that a place contributes is settled by `lookup`, whichever source was visited first.
        for source in directory.sources() {
            let Source::Place { place, .. } = source else { continue };
            for name in self.places[*place as usize].children.keys() {
                if let Some(lower) = self.lookup(directory, name)? {
                    names.insert(name.clone(), Some((lower.inode(), lower.kind)));
                }
            }
        }
        for (name, entry) in &names {
            if let Some((inode, kind)) = entry
                && visit(name, *inode, *kind).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    /// Visits the entries of one layer's directory, with the kind that is shown; `None` for a whiteout.
    fn list_one(
        &self,
        layer: u32,
        directory: LayerNode,
        visit: &mut dyn FnMut(Vec<u8>, LayerNode, Option<Kind>),
    ) -> Result<(), LayerError> {
        let layer = &self.layer(layer).layer;
        let mut listed = Vec::new();
        layer.read_directory(directory, None, &mut |name, node, kind| {
            listed.push((name.to_vec(), node, kind));
            ControlFlow::Continue(())
        })?;
        let closer = layer.has_marks() && {
            let attributes = layer.attributes(directory)?;
            layer.marks(directory, &attributes)?.closer_look
        };
        for (name, node, kind) in listed {
            let doubtful = match kind {
                Kind::CharacterDevice => layer.has_marks(),
                Kind::File => closer,
                Kind::Directory | Kind::Symlink | Kind::Fifo | Kind::Socket | Kind::BlockDevice => false,
            };
            if !doubtful {
                visit(name, node, Some(kind));
                continue;
            }
            let attributes = layer.attributes(node)?;
            let whiteout = layer.marks(node, &attributes)?.whiteout;
            visit(name, node, (!whiteout).then_some(attributes.kind));
        }
        Ok(())
    }
}

impl Lower {
    fn floor(&self) -> Option<u32> {
        self.sources().iter().find_map(|source| match source {
            Source::Place { from, .. } => Some(*from),
            Source::Layer { .. } => None,
        })
    }
}

impl Sources {
    fn of(sources: Vec<Source>) -> Self {
        match sources[..] {
            [source] => Self::One(source),
            _ => Self::Many(sources.into()),
        }
    }
}

fn made(model: Option<Attributes>) -> Attributes {
    let bare = Attributes::bare(Kind::Directory, 0o755);
    let Some(Attributes { user, group, accessed, modified, changed, .. }) = model else { return bare };
    Attributes { user, group, accessed, modified, changed, ..bare }
}

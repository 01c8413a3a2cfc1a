//! What was written in a work environment, as a slot of a new package.
//!
//! The changes come into a slot of their own over the others. What an archive cannot say, that something is gone, is done to
//! the slots that have it: these are written again without it.
//!
//! **Invariant:** the tree of the new package is that of the environment at one moment, but for what is told; no slot is
//! written again that has nothing to lose.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use slotfs_fs::disk::DiskError;
use slotfs_fs::disk::unix::own_ids;
use slotfs_fs::layer::archive::{Detail, TreeOptions};
use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_fs::layer::stack::{PlacedLayer, Stack};
use slotfs_fs::layer::without::Without;
use slotfs_fs::layer::{Layer, LayerError, LayerNode};
use slotfs_fs::node::Kind;
use slotfs_fs::overlay::{Above, Rest, View};
use slotfs_fs::package::keys::KeyPair;
use slotfs_fs::package::operations::Chain;
use slotfs_fs::package::verify::Verification;
use slotfs_fs::package::write::{SlotDescription, can_write};
use slotfs_fs::package::{Container, Package, Slot};
use slotfs_fs::volume::{FsError, Volume, VolumeOptions, VolumePart};
use slotfs_policy::lifecycle::Lifecycle;

use super::frozen::Frozen;
use crate::extract::progress::Progress;
use crate::pack::rebuild::{self, Matter, Part, Rebuild, Rebuilt, Tree};
use crate::pack::{self, Archives, Launcher, PackError, Profile};

/// The slot that changes come into, where nothing else is said.
const USUAL_NAME: &str = "changes";

/// A path in a work environment, name by name.
type Names = Vec<Vec<u8>>;

/// Why there is no new package.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing differs from the package.
    #[error("nothing was written in `{workenv}`")]
    Nothing {
        /// The environment.
        workenv: String,
    },
    /// The changes cannot come into that slot.
    #[error("the changes cannot come into the slot `{slot}`: {reason}")]
    Slot {
        /// The slot.
        slot: String,
        /// Why not.
        reason: &'static str,
    },
    /// A layer or the host could not answer.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// What was written cannot be read.
    #[error("cannot read what was written: {0}")]
    Volume(#[source] FsError),
    /// The package cannot be made.
    #[error(transparent)]
    Pack(#[from] PackError),
}

impl From<DiskError> for CommitError {
    fn from(error: DiskError) -> Self {
        Self::Layer(error.into())
    }
}

impl From<FsError> for CommitError {
    fn from(error: FsError) -> Self {
        if let FsError::Layer(error) = error {
            return Self::Layer(error);
        }
        if let FsError::Disk(error) = error {
            return error.into();
        }
        Self::Volume(error)
    }
}

/// A package, and what of it a work environment shows.
#[derive(Debug)]
pub struct Base {
    /// The package.
    pub package: Package,
    /// What hashing its slots found.
    pub verification: Verification,
    /// The slots that the environment shows, as layers.
    pub stack: Stack,
    /// Their positions in the package, in the order of the layers.
    pub positions: Vec<u32>,
}

/// What the new package will hold.
#[derive(Debug)]
pub struct Plan {
    /// The slot that the changes come into.
    pub slot: String,
    /// Its position in the package, where it is there already.
    onto: Option<u32>,
    above: Above,
    /// By layer, what is left of it.
    rests: Vec<Rest>,
}

/// How the new package is made.
#[derive(Debug)]
pub struct Options<'a> {
    /// For whom.
    pub profile: Profile,
    /// The executable in front; that of the old package where `None`.
    pub launcher: Option<Launcher>,
    /// The program and its arguments; those of the old package where `None`.
    pub command: Option<&'a str>,
    /// What signs it.
    pub key: &'a KeyPair,
    /// How hard to compress.
    pub level: u32,
    /// What is shared with other packages, and limits.
    pub archives: &'a Archives,
}

/// What was made.
#[derive(Debug)]
pub struct Committed {
    /// The package.
    pub rebuilt: Rebuilt,
    /// Whether the changes hold something that FlavorPack's launchers refuse: links or pipes.
    pub needs_slotfs: bool,
}

impl Plan {
    /// Plans what becomes of the changes in `view`, for a slot called `slot` if that is said.
    ///
    /// # Errors
    /// They cannot come into that slot, or a layer or the host could not answer.
    pub fn of(base: &Base, view: &View, slot: Option<&str>, profile: Profile) -> Result<Self, CommitError> {
        let (slot, onto) = base.chosen(slot)?;
        let above = Above::of(view, &base.stack, profile == Profile::Compatible)?;
        let rests = base.stack.layers().iter().map(|placed| above.rest(placed));
        let rests = rests.collect::<Result<_, _>>()?;
        Ok(Self { slot, onto, above, rests })
    }

    /// Tells whether nothing was changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.above.is_empty()
    }

    /// Tells whether the changes come into a slot that is there already.
    #[must_use]
    pub fn is_merged(&self) -> bool {
        self.onto.is_some()
    }

    /// Returns the paths that the changes hold.
    #[must_use]
    pub fn held(&self) -> &BTreeSet<Names> {
        &self.above.held
    }

    /// Returns the slots that lose something, and what.
    pub fn without<'a>(&'a self, base: &'a Base) -> impl Iterator<Item = (&'a str, Vec<Names>)> + 'a {
        let layers = base.stack.layers().iter().zip(&self.rests);
        layers.filter_map(|(placed, rest)| match rest {
            Rest::All => None,
            Rest::Less(_, paths) => Some((placed.name.as_str(), paths.clone())),
            Rest::Nothing => Some((placed.name.as_str(), vec![placed.target.clone()])),
        })
    }

    /// Makes the package at `out`.
    ///
    /// # Errors
    /// There is no new package then, and an old one is still there.
    pub fn carry_out(
        &self,
        base: &Base,
        frozen: &Frozen,
        options: &Options<'_>,
        out: &Path,
        watch: (&AtomicBool, &dyn Progress),
    ) -> Result<Committed, CommitError> {
        let volume =
            Volume::new(base.stack.layers().to_vec(), Some(frozen.open()?), VolumeOptions::default())?;
        let changes = VolumePart::new(volume, self.above.held.iter().map(Vec::as_slice))?;
        let needs_slotfs = changes.holds(Kind::Symlink) || changes.holds(Kind::Fifo);
        let entries = options.archives.limits.entries;
        let is_fast = options.profile == Profile::Fast;
        let whole =
            |chain: &Chain, hard_links| rebuild::whole_tree(chain, hard_links, Some(own_ids()), entries);
        let untouched = |slot: &Slot| base.untouched(slot, options.profile, |chain| whole(chain, is_fast));
        let mut slots: Vec<Part> = base.package.slots().iter().map(untouched).collect();
        for (rest, position) in self.rests.iter().zip(&base.positions) {
            if let Some((slot, part)) = base.package.slot(*position).zip(slots.get_mut(*position as usize))
                && let chain = chain_of(slot, options.profile)
                && let Some(tree) = left_over(rest, &whole(&chain, true))?
            {
                *part = base.part(slot, Matter { chain, tree: Some(tree) });
            }
        }
        let new_chain = Chain::new(true, Some(options.profile.compression()));
        match self.onto.and_then(|position| slots.get_mut(position as usize).zip(base.package.slot(position)))
        {
            Some((part, slot)) => {
                let below = match std::mem::replace(part, Part::Kept) {
                    Part::Rewritten(Matter { tree: Some((layer, _)), .. })
                    | Part::Added(_, Matter { tree: Some((layer, _)), .. }) => Some(layer),
                    Part::Rewritten(_) | Part::Kept | Part::Added(..) => base.layer(slot.position),
                };
                let merged = merge(below, changes)?;
                let chain = chain_of(slot, options.profile);
                let tree: Tree = (Arc::new(merged), whole(&chain, is_fast));
                *part = base.part(slot, Matter { chain, tree: Some(tree) });
            }
            None => {
                let tree: Tree = (Arc::new(changes), whole(&new_chain, is_fast));
                let matter = Matter { chain: new_chain.clone(), tree: Some(tree) };
                slots.push(Part::Added(Box::new(description(&self.slot, new_chain)), matter));
            }
        }
        let wanted = Rebuild {
            old: &base.package,
            verification: &base.verification,
            launcher: options.launcher.clone(),
            command: options.command,
            key: options.key,
            level: options.level,
            slots,
        };
        let rebuilt = rebuild::rebuild(&wanted, out, options.archives, watch.0, watch.1)?;
        Ok(Committed { rebuilt, needs_slotfs })
    }
}

impl Base {
    /// Returns the name of the slot for the changes, and its position if it is there already.
    fn chosen(&self, wanted: Option<&str>) -> Result<(String, Option<u32>), CommitError> {
        let slots = self.package.slots();
        let known: HashSet<&str> = slots.iter().map(|slot| slot.id.as_str()).collect();
        let Some(wanted) = wanted else {
            let mut names = std::iter::once(USUAL_NAME.to_owned())
                .chain((2_u64..).map(|number| format!("{USUAL_NAME}-{number}")));
            let free = names.find(|name| !known.contains(name.as_str()));
            return Ok((free.unwrap_or_else(|| USUAL_NAME.to_owned()), None));
        };
        if !known.contains(wanted) {
            pack::check_name(wanted)?;
            return Ok((wanted.to_owned(), None));
        }
        let attestation = Lifecycle::Attestation.code();
        let last = slots.iter().rfind(|slot| Some(slot.lifecycle_code) != attestation);
        let refused = |reason| CommitError::Slot { slot: wanted.to_owned(), reason };
        match last.filter(|last| last.id == wanted) {
            None => Err(refused("another slot lies over it")),
            Some(slot) if slot.source.container == Container::File => Err(refused("it is one file")),
            Some(slot) if !self.positions.contains(&slot.position) => {
                Err(refused("it is not there when the package runs"))
            }
            Some(slot) => Ok((wanted.to_owned(), Some(slot.position))),
        }
    }

    /// Returns what becomes of a slot that loses nothing: it stays the same bytes in a package, and that of an archive or a
    /// directory becomes the slot of one.
    fn untouched(&self, slot: &Slot, profile: Profile, whole: impl Fn(&Chain) -> TreeOptions) -> Part {
        if self.package.index().is_some() {
            return Part::Kept;
        }
        let chain = match slot.source.container {
            Container::File => Chain::new(false, Some(profile.compression())),
            Container::Tar | Container::Zip | Container::Directory(_) => chain_of(slot, profile),
        };
        let is_tree = slot.source.container != Container::File;
        let layer = self.layer(slot.position).filter(|_| is_tree);
        let tree = layer.map(|layer| (layer, whole(&chain)));
        self.part(slot, Matter { chain, tree })
    }

    /// Returns the slot with other content.
    fn part(&self, slot: &Slot, matter: Matter) -> Part {
        if self.package.index().is_some() {
            return Part::Rewritten(matter);
        }
        let is_file = matter.tree.is_none();
        let mut description = description(&slot.id, matter.chain.clone());
        if is_file {
            description.target = String::from_utf8_lossy(&slot.target.join(&b'/')).into_owned();
            description.permissions = u16::try_from(slot.permissions & 0o777).ok();
        }
        Part::Added(Box::new(description), matter)
    }

    /// Returns the layer of the slot at `position`.
    fn layer(&self, position: u32) -> Option<Arc<dyn Layer>> {
        let at = self.positions.iter().position(|known| *known == position)?;
        self.stack.layers().get(at).map(|placed| Arc::clone(&placed.layer))
    }
}

/// Returns what is left of a layer that loses something, and how it becomes an archive; `None` for one that loses nothing.
fn left_over(rest: &Rest, whole: &TreeOptions) -> Result<Option<Tree>, CommitError> {
    match rest {
        Rest::All => Ok(None),
        Rest::Less(layer, _) => Ok(Some((Arc::<Without>::clone(layer), whole.clone()))),
        // Commands name slots by number, so an archive of nothing but the root, without which a launcher takes it for none,
        // stands in for a slot that is one file.
        Rest::Nothing => {
            let empty = MemoryLayer::builder().build();
            let empty = empty.map_err(|error| PackError::request(error.to_string()))?;
            let detail = Detail::Whole { hard_links: true, owner: None };
            Ok(Some((Arc::new(empty), TreeOptions { detail, ..whole.clone() })))
        }
    }
}

/// Returns how a tree is stored that is written again: as it was, if that can be done.
fn chain_of(slot: &Slot, profile: Profile) -> Chain {
    if !matches!(slot.source.container, Container::Tar) {
        return Chain::new(true, Some(profile.compression()));
    }
    let old = Chain::new(true, slot.source.compressions.first().copied());
    let is_same = slot.source.compressions.len() < 2 && can_write(&old) && profile.allows(&old);
    if is_same { old } else { Chain::new(true, Some(profile.compression())) }
}

/// Lays the changes over the slot that they come into.
fn merge(below: Option<Arc<dyn Layer>>, changes: VolumePart) -> Result<VolumePart, CommitError> {
    let changes: Arc<dyn Layer> = Arc::new(changes);
    let layers: Vec<Arc<dyn Layer>> = below.into_iter().chain([changes]).collect();
    let mut paths = BTreeSet::new();
    for layer in &layers {
        collect(&**layer, &mut paths)?;
    }
    let placed = layers.into_iter().map(|layer| PlacedLayer {
        name: String::new(),
        layer,
        target: Vec::new(),
        writable: false,
    });
    let volume = Volume::new(placed.collect(), None, VolumeOptions::default())?;
    Ok(VolumePart::new(volume, paths.iter().map(Vec::as_slice))?)
}

/// Gathers every path of a layer.
fn collect(layer: &dyn Layer, paths: &mut BTreeSet<Names>) -> Result<(), LayerError> {
    let mut waiting: Vec<(Names, LayerNode)> = vec![(Names::new(), layer.root())];
    while let Some((path, directory)) = waiting.pop() {
        layer.read_directory(directory, None, &mut |name, node, kind| {
            let path = [path.as_slice(), &[name.to_vec()]].concat();
            if kind == Kind::Directory {
                waiting.push((path.clone(), node));
            }
            paths.insert(path);
            ControlFlow::Continue(())
        })?;
    }
    Ok(())
}

fn description(id: &str, chain: Chain) -> SlotDescription {
    let lifecycle = Lifecycle::Runtime;
    SlotDescription {
        id: id.to_owned(),
        source: id.to_owned(),
        target: "{workenv}".to_owned(),
        chain,
        purpose: "data".to_owned(),
        lifecycle: lifecycle.name().to_owned(),
        lifecycle_code: lifecycle.code().unwrap_or_default(),
        permissions: None,
        platform: None,
        original: None,
    }
}

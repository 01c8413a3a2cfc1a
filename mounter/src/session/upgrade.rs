//! What an upgrade of a package does with the files of its `config` slots: those that the user has changed are kept,
//! the others are the new build's.
//!
//! The earlier build's file is gone by then. What its slots held is told by their indexes, which stay as long as the
//! environment refers to them; where one is missing, nothing of that slot is carried over.
//!
//! **Invariant:** nothing that was written is lost: what is not carried over stays set aside.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use slotfs_fs::disk::digest::Digest;
use slotfs_fs::disk::range::FileRange;
use slotfs_fs::disk::unix::{Directory, Spot, own_ids};
use slotfs_fs::disk::{Context, DiskError};
use slotfs_fs::layer::index::IndexLayer;
use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_fs::layer::stack::{Lower, PlacedLayer, Stack};
use slotfs_fs::layer::{Layer, LayerError};
use slotfs_fs::node::Kind;
use slotfs_fs::overlay::carry::carry;
use slotfs_fs::overlay::{Difference, Scope, View, changes};
use slotfs_fs::package::metadata::{Metadata, SlotSection};
use slotfs_fs::package::{Limits, target};
use slotfs_fs::slot::index;
use slotfs_policy::lifecycle::Lifecycle;

use super::request::ServedSlot;
use super::served::Served;
use crate::host::files;
use crate::workenv::Workenv;

/// A path in the work environment.
type Names = Vec<Vec<u8>>;

/// Called for a path and what is there.
type Visit<'a> = dyn FnMut(&[Vec<u8>], &Lower) -> Result<(), LayerError> + 'a;

/// What became of the files of `config` slots. Paths are in the work environment, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upgraded {
    /// What the user has changed, and is kept.
    pub kept: Vec<Kept>,
    /// What the user has not changed, and is another one in the new build, or not in it any more.
    pub replaced: Vec<PathBuf>,
    /// Slots of the earlier build of which nobody can tell any more what they held.
    pub unknown: Vec<String>,
}

impl Upgraded {
    /// Tells whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.replaced.is_empty() && self.unknown.is_empty()
    }
}

/// Something that the user has changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// Where.
    pub path: PathBuf,
    /// How.
    pub how: How,
    /// Whether the new build has something else there than the earlier one had.
    pub is_new_in_build: bool,
}

/// How a user has changed a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// It was not there.
    Added,
    /// Its content is another one, or it is another kind of file.
    Changed,
    /// It was removed.
    Removed,
}

/// The slots of the earlier build, as they were mounted.
#[derive(Debug)]
pub(super) struct Earlier {
    stack: Stack,
    slots: Vec<EarlierSlot>,
    unknown: Vec<String>,
}

#[derive(Debug)]
struct EarlierSlot {
    is_config: bool,
    index: Option<Arc<IndexLayer>>,
    /// Of the whole slot, where it is one file without an index.
    digest: Option<Digest>,
}

impl Earlier {
    /// Opens what is left of the earlier build; `None` where it had no `config` slot, or nobody knows.
    pub(super) fn open(workenv: &Workenv) -> Result<Option<Self>, LayerError> {
        let Some(request) = Served::read(workenv).and_then(|served| served.request) else { return Ok(None) };
        let metadata = std::fs::read(workenv.package_json()).ok();
        let Some(metadata) = metadata.and_then(|json| Metadata::parse(&json, &Limits::default()).ok()) else {
            return Ok(None);
        };
        let described = |slot: &ServedSlot| metadata.slots.iter().find(|section| section.id == slot.id);
        let is_config = |section: &SlotSection| {
            Lifecycle::from_name(&section.lifecycle).lifecycle.rules().keep_modified_on_upgrade
        };
        if !request.slots.iter().filter_map(described).any(is_config) {
            return Ok(None);
        }
        let indexes = index::list(&workenv.cache().shared())?;
        let (mut placed, mut slots, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for slot in &request.slots {
            let digest = slot.digest.as_deref().and_then(Digest::parse);
            let Some((section, digest)) = described(slot).zip(digest) else { continue };
            let Ok(target) = target::components(&section.target) else { continue };
            let stored = indexes.iter().find(|stored| stored.slot == digest);
            let opened = match stored {
                Some(stored) => IndexLayer::open(&stored.path, own_ids())?.map(Arc::new),
                None => None,
            };
            let is_archive = section.operations.contains("tar");
            let layer: Arc<dyn Layer> = match &opened {
                Some(layer) => Arc::<IndexLayer>::clone(layer),
                // One file has no index, and needs none: its digest is the slot's.
                None if !is_archive && !target.is_empty() => Arc::new(MemoryLayer::single_file(0o600, [])),
                None => {
                    if is_config(section) {
                        unknown.push(slot.id.clone());
                    }
                    continue;
                }
            };
            placed.push(PlacedLayer { name: slot.id.clone(), layer, target, writable: true });
            let whole = opened.is_none().then_some(digest);
            slots.push(EarlierSlot { is_config: is_config(section), index: opened, digest: whole });
        }
        Ok(Some(Self { stack: Stack::new(placed), slots, unknown }))
    }

    /// Moves what the user has changed in `config` slots from `aside` to `upper`. `newer` are those slots of the new
    /// build, where they could be opened.
    pub(super) fn carry_over(
        &self,
        aside: &Path,
        upper: &Path,
        newer: Option<&Stack>,
    ) -> Result<Upgraded, LayerError> {
        let mut told = Upgraded { unknown: self.unknown.clone(), ..Upgraded::default() };
        let Some(view) = View::open(aside)? else { return Ok(told) };
        let upper = Arc::new(Directory::open(upper)?);
        let mut moved: BTreeSet<Names> = BTreeSet::new();
        for (path, how) in self.changed(&view)? {
            let is_inside = (1..path.len()).any(|length| moved.contains(&path[..length]));
            if is_inside || !carry(view.root(), &upper, &path)? {
                continue;
            }
            let is_new_in_build = match (newer, self.walk(&path)?) {
                (Some(newer), Some(original)) => self.differs(&original, newer, &path)?,
                (Some(newer), None) => walk(newer, &path)?.is_some(),
                (None, _) => false,
            };
            told.kept.push(Kept { path: shown(&path), how, is_new_in_build });
            moved.insert(path);
        }
        remove_emptied(aside, &moved);
        if let Some(newer) = newer {
            self.every_file(&mut |path, original| {
                let is_kept = (1..=path.len()).any(|length| moved.contains(&path[..length]));
                if !is_kept && !is_there(&upper, path)? && self.differs(original, newer, path)? {
                    told.replaced.push(shown(path));
                }
                Ok(())
            })?;
        }
        told.kept.sort();
        told.replaced.sort();
        Ok(told)
    }

    /// Finds what the user has changed in `config` slots. A directory comes before what is in it.
    fn changed(&self, view: &View) -> Result<Vec<(Names, How)>, LayerError> {
        let mut found = Vec::new();
        changes(view, Some(&self.stack), &Scope::default(), &mut |change| {
            let is_config =
                change.owner.is_some_and(|owner| self.slot(owner).is_some_and(|slot| slot.is_config));
            let how = match &change.difference {
                Difference::Added { .. } => Some(How::Added),
                Difference::Removed => Some(How::Removed),
                Difference::Changed(parts) if parts.content => Some(How::Changed),
                // Who changes no more than a mode wants the new content.
                Difference::Changed(_) => None,
            };
            if let Some(how) = how.filter(|_| is_config) {
                found.push((change.path.clone(), how));
            }
            ControlFlow::Continue(())
        })?;
        let mut changed = Vec::new();
        for (path, how) in found {
            if how != How::Changed || !self.has_same_content(view.root(), &path)? {
                changed.push((path, how));
            }
        }
        Ok(changed)
    }

    fn slot(&self, position: u32) -> Option<&EarlierSlot> {
        self.slots.get(usize::try_from(position).ok()?)
    }

    fn walk(&self, path: &[Vec<u8>]) -> Result<Option<Lower>, LayerError> {
        walk(&self.stack, path)
    }

    /// Returns SHA-256 of what the earlier build had, where that is known.
    fn digest(&self, original: &Lower) -> Result<Option<Digest>, LayerError> {
        let Some((layer, node)) = original.top().filter(|_| original.kind == Kind::File) else {
            return Ok(None);
        };
        match self.slot(layer) {
            Some(EarlierSlot { index: Some(index), .. }) => index.digest(node),
            Some(slot) => Ok(slot.digest),
            None => Ok(None),
        }
    }

    /// Tells whether the file at `path` was written, but with the content that it had.
    fn has_same_content(&self, upper: &Arc<Directory>, path: &[Vec<u8>]) -> Result<bool, LayerError> {
        let Some(original) = self.walk(path)? else { return Ok(false) };
        let Some(digest) = self.digest(&original)? else { return Ok(false) };
        let Some(spot) = spot(upper, path)? else { return Ok(false) };
        let Some(stat) = spot.stat()?.filter(|stat| stat.attributes.kind == Kind::File) else {
            return Ok(false);
        };
        let file = Arc::new(spot.open_file(false, false)?);
        let Some(range) = FileRange::new(file, 0, stat.attributes.size) else { return Ok(false) };
        Ok(Digest::of_range(&range).context("read", shown(path))? == digest)
    }

    /// Tells whether `newer` has something else at `path` than the earlier build had.
    fn differs(&self, original: &Lower, newer: &Stack, path: &[Vec<u8>]) -> Result<bool, LayerError> {
        let Some(new) = walk(newer, path)? else { return Ok(true) };
        let (before, after) = (self.stack.attributes(original)?, newer.attributes(&new)?);
        let (Some((layer, at)), Some((new_layer, new_at))) = (original.top(), new.top()) else {
            return Ok(original.kind != new.kind);
        };
        let new_layer = &newer.layer(new_layer).layer;
        Ok(match (original.kind, self.digest(original)?) {
            _ if original.kind != new.kind => true,
            (Kind::File, Some(digest)) => {
                Digest::of_pieces(|offset, buffer| new_layer.read(new_at, offset, buffer))? != digest
            }
            (Kind::File, None) => (before.size, before.modified) != (after.size, after.modified),
            (Kind::Symlink, _) => {
                self.stack.layer(layer).layer.read_link(at)? != new_layer.read_link(new_at)?
            }
            _ => before.device != after.device,
        })
    }

    /// Visits everything in `config` slots that is no directory.
    fn every_file(&self, visit: &mut Visit<'_>) -> Result<(), LayerError> {
        let mut waiting = vec![(Names::new(), self.stack.root()?)];
        while let Some((path, at)) = waiting.pop() {
            if at.kind == Kind::Directory {
                let mut names = Vec::new();
                self.stack.list(&at, &mut |name, _, _| {
                    names.push(name.to_vec());
                    ControlFlow::Continue(())
                })?;
                for name in names {
                    if let Some(below) = self.stack.lookup(&at, &name)? {
                        waiting.push(([path.as_slice(), &[name]].concat(), below));
                    }
                }
            } else if at.provider().and_then(|owner| self.slot(owner)).is_some_and(|slot| slot.is_config) {
                visit(&path, &at)?;
            }
        }
        Ok(())
    }
}

fn walk(stack: &Stack, path: &[Vec<u8>]) -> Result<Option<Lower>, LayerError> {
    stack.walk(path.iter().map(Vec::as_slice))
}

/// Returns where `path` is below `upper`; `None` where a directory above it is missing.
fn spot(upper: &Arc<Directory>, path: &[Vec<u8>]) -> Result<Option<Spot>, DiskError> {
    let Some((name, above)) = path.split_last() else { return Ok(None) };
    let mut directory = Arc::clone(upper);
    for name in above {
        match directory.child(name) {
            Ok(below) => directory = Arc::new(below),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(Spot::named(&directory, name)))
}

fn is_there(upper: &Arc<Directory>, path: &[Vec<u8>]) -> Result<bool, DiskError> {
    Ok(spot(upper, path)?.map(|spot| spot.stat()).transpose()?.flatten().is_some())
}

/// Removes the directories of which everything was carried over.
fn remove_emptied(aside: &Path, moved: &BTreeSet<Names>) {
    let mut above: BTreeSet<&[Vec<u8>]> = BTreeSet::new();
    for path in moved {
        above.extend((1..path.len()).map(|length| &path[..length]));
    }
    for path in above.into_iter().rev() {
        // Whatever else is in it stays.
        let _ = std::fs::remove_dir(aside.join(shown(path)));
    }
}

fn shown(path: &[Vec<u8>]) -> PathBuf {
    files::path_from_bytes(path.join(&b'/'))
}

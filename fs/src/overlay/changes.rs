//! What was changed, read from the upper directory alone: its size is that of the changes, not of the tree.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::format::{Found, UpperEntry};
use super::owner::OwnerWalk;
use super::{Upper, format};
use crate::disk::DiskError;
use crate::disk::unix::{Directory, Spot};
use crate::layer::LayerError;
use crate::layer::stack::{Lower, Stack};
use crate::node::Kind;

/// How a path differs from the layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The layers have nothing there; a renamed directory names where in the layers its content is.
    Added {
        /// Path in the layers, from their root.
        from: Option<Vec<u8>>,
    },
    /// Content or attributes differ, or it is another node.
    Changed,
    /// The layers have something there that does not show.
    Removed,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where in the volume.
    pub path: Vec<Vec<u8>>,
    /// How it differs.
    pub difference: Difference,
    /// What is there, or was.
    pub kind: Kind,
    /// Position of the layer that the path belongs to.
    pub owner: Option<u32>,
}

/// A directory that is still to be visited.
struct Waiting {
    parent: Arc<Directory>,
    path: Vec<Vec<u8>>,
    walk: OwnerWalk,
    /// What of the layers shows in it.
    lower: Option<Lower>,
}

/// Visits every difference between the volume and its layers, a directory before what is in it.
///
/// Names of hard-linked files of the layers that were changed through another name are told only where they
/// have been written down.
///
/// # Errors
/// A layer or the host could not answer.
pub fn changes(
    upper: &Upper,
    stack: &Stack,
    visit: &mut dyn FnMut(&Change) -> ControlFlow<()>,
) -> Result<(), LayerError> {
    upper.bind(&stack.fingerprint())?;
    let root = OwnerWalk::root(stack)?;
    let lower = root.lower.clone();
    let mut waiting = vec![Waiting { parent: Arc::clone(upper.root()), path: Vec::new(), walk: root, lower }];
    while let Some(at) = waiting.pop() {
        let directory = match at.path.last() {
            Some(name) => Arc::new(at.parent.child(name)?),
            None => Arc::clone(&at.parent),
        };
        let mut names = directory.list()?;
        names.sort_unstable_by(|one, other| other.name.cmp(&one.name));
        let mut below = Vec::new();
        for listed in names.into_iter().rev() {
            let walk = at.walk.child(stack, &listed.name)?;
            let original = match &at.lower {
                Some(lower) => stack.lookup(lower, &listed.name)?,
                None => None,
            };
            let path = [at.path.clone(), vec![listed.name.clone()]].concat();
            let found = upper.examine(&directory, &listed.name, true)?;
            let spot = Spot::named(&directory, &listed.name);
            let Some(change) = compare(stack, &found, original.as_ref(), &spot)? else {
                // Only a directory can be there without a difference of its own.
                if matches!(found, Found::Entry(_)) {
                    below.push(Waiting { parent: Arc::clone(&directory), path, walk, lower: original });
                }
                continue;
            };
            let (difference, kind) = change;
            let told = Change { path: path.clone(), difference, kind, owner: walk.owner };
            if visit(&told).is_break() {
                return Ok(());
            }
            let Found::Entry(entry) = found else { continue };
            if entry.attributes.kind != Kind::Directory {
                continue;
            }
            let hidden = original.as_ref().filter(|_| entry.opaque);
            if let Some(hidden) = hidden
                && tell_hidden(stack, hidden, &spot, &path, &walk, visit)?.is_break()
            {
                return Ok(());
            }
            let lower = shown_below(stack, &entry, original)?;
            below.push(Waiting { parent: Arc::clone(&directory), path, walk, lower });
        }
        below.reverse();
        waiting.append(&mut below);
    }
    Ok(())
}

/// Compares what is under a name with what the layers have there.
fn compare(
    stack: &Stack,
    found: &Found,
    original: Option<&Lower>,
    spot: &Spot,
) -> Result<Option<(Difference, Kind)>, LayerError> {
    let entry = match (found, original) {
        (Found::Nothing, _) | (Found::Whiteout, None) => return Ok(None),
        (Found::Whiteout, Some(original)) => return Ok(Some((Difference::Removed, original.kind))),
        (Found::Entry(entry), _) => entry,
    };
    let kind = entry.attributes.kind;
    if let Some(from) = &entry.redirect {
        return Ok(Some((Difference::Added { from: Some(from.clone()) }, kind)));
    }
    let Some(original) = original else { return Ok(Some((Difference::Added { from: None }, kind))) };
    let merged = kind == Kind::Directory && original.kind == Kind::Directory && !entry.opaque;
    if merged && same_attributes(stack, entry, original, spot)? {
        return Ok(None);
    }
    Ok(Some((Difference::Changed, kind)))
}

/// Tells whether a directory was copied up only to hold something.
fn same_attributes(
    stack: &Stack,
    entry: &UpperEntry,
    original: &Lower,
    spot: &Spot,
) -> Result<bool, LayerError> {
    let (now, before) = (entry.attributes, stack.attributes(original)?);
    if (now.mode, now.user, now.group) != (before.mode, before.user, before.group) {
        return Ok(false);
    }
    let mut names: Vec<_> = spot.xattr_names()?.iter().filter_map(|name| format::shown_name(name)).collect();
    names.sort_unstable();
    let before = match original.top() {
        Some((layer, node)) => stack.layer(layer).layer.extended_attributes(node)?,
        None => Vec::new(),
    };
    if !names.iter().eq(before.iter().map(|(name, _)| name)) {
        return Ok(false);
    }
    for (name, value) in before {
        if spot.xattr(&format::stored_name(&name))? != Some(value) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tells what a directory that took another's place hides.
fn tell_hidden(
    stack: &Stack,
    hidden: &Lower,
    spot: &Spot,
    path: &[Vec<u8>],
    walk: &OwnerWalk,
    visit: &mut dyn FnMut(&Change) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, LayerError> {
    if hidden.kind != Kind::Directory {
        return Ok(ControlFlow::Continue(()));
    }
    let Spot::Named { directory, name } = spot else { return Ok(ControlFlow::Continue(())) };
    let present: HashSet<_> = directory.child(name)?.list()?.into_iter().map(|entry| entry.name).collect();
    let mut gone = Vec::new();
    stack.list(hidden, &mut |name, _, kind| {
        if !present.contains(name) {
            gone.push((name.to_vec(), kind));
        }
        ControlFlow::Continue(())
    })?;
    for (name, kind) in gone {
        let owner = walk.child(stack, &name)?.owner;
        let path = [path, &[name]].concat();
        if visit(&Change { path, difference: Difference::Removed, kind, owner }).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Returns what of the layers shows in a directory of the upper.
fn shown_below(
    stack: &Stack,
    entry: &UpperEntry,
    original: Option<Lower>,
) -> Result<Option<Lower>, LayerError> {
    let lower = match &entry.redirect {
        _ if entry.opaque => None,
        Some(path) => stack.walk(path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()))?,
        None => original,
    };
    Ok(lower.filter(|lower| lower.kind == Kind::Directory))
}

impl Upper {
    /// Tells whether nothing was ever written.
    ///
    /// # Errors
    /// What the host reports.
    pub fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.root().list()?.is_empty())
    }
}

//! What was changed, read from the upper directory alone: its size is that of the changes, not of the tree.
//!
//! It may be read while a volume works over it: what vanishes meanwhile is not told. Without the layers what was
//! written is still told, only less exactly: what replaced a file of theirs counts as added, what was moved as changed.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::Upper;
use super::aside::Aside;
use super::format::{self, BareCopy, Found, UpperEntry};
use super::owner::{OwnerWalk, owner};
use super::shared::{SharedName, shared_names};
use super::view::{Scope, Seen, View, present};
use crate::disk::DiskError;
use crate::disk::unix::{Directory, Spot};
use crate::layer::LayerError;
use crate::layer::stack::{Lower, Stack};
use crate::node::{Attributes, Kind};

/// How a path differs from the layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The layers have nothing there; a renamed directory, and a file of which only attributes and names were changed,
    /// names where in the layers its content is.
    Added {
        /// Path in the layers, from their root.
        from: Option<Vec<u8>>,
    },
    /// Content or attributes differ, or it is another node.
    Changed(Parts),
    /// The layers have something there that does not show.
    Removed,
}

/// What of a node differs. None of them: it was copied up, and looks the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The content may differ: size or modification time do, or it is another node. A copied-up file with the
    /// original's size and modification time has its content, as everybody assumes who compares without reading. Of a
    /// copy that has attributes only it is known.
    pub content: bool,
    /// Permission bits.
    pub mode: bool,
    /// User or group.
    pub owner: bool,
    /// Extended attributes.
    pub attributes: bool,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where in the volume.
    pub path: Vec<Vec<u8>>,
    /// How it differs.
    pub difference: Difference,
    /// What is there, or was; `None` where something was removed and the layers are not there to tell.
    pub kind: Option<Kind>,
    /// What is there now.
    pub now: Option<Attributes>,
    /// Position of the layer that the path belongs to.
    pub owner: Option<u32>,
}

/// A directory that is still to be visited.
struct Waiting {
    parent: Arc<Directory>,
    path: Vec<Vec<u8>>,
    walk: Option<OwnerWalk>,
    /// What of the layers shows in it.
    lower: Option<Lower>,
}

/// Calls `visit` for every difference in `scope` between the volume and its layers, a directory before what is in
/// it. Without `stack` nobody says what the layers hold.
///
/// Names of hard-linked files of the layers that were changed through another name are told last.
///
/// # Errors
/// A layer or the host could not answer.
pub fn changes(
    view: &View,
    stack: Option<&Stack>,
    scope: &Scope,
    visit: &mut dyn FnMut(&Change) -> ControlFlow<()>,
) -> Result<(), LayerError> {
    let walk = stack.map(OwnerWalk::root).transpose()?;
    let lower = walk.as_ref().and_then(|walk| walk.lower.clone());
    let mut waiting = vec![Waiting { parent: Arc::clone(view.root()), path: Vec::new(), walk, lower }];
    while let Some(at) = waiting.pop() {
        let Some((directory, names)) = listed(&at.parent, at.path.last().map(Vec::as_slice))? else {
            continue;
        };
        let mut below = Vec::new();
        for name in names {
            let path = [at.path.clone(), vec![name.clone()]].concat();
            if !scope.reaches_below(&path) {
                continue;
            }
            let (walk, original) = match (stack, &at.walk) {
                (Some(stack), Some(walk)) => {
                    let lower = at.lower.as_ref().map(|lower| stack.lookup(lower, &name)).transpose()?;
                    (Some(walk.child(stack, &name)?), lower.flatten())
                }
                _ => (None, None),
            };
            let Some(seen) = view.examine(&directory, &name)? else { continue };
            let spot = Spot::named(&directory, &name);
            let owner = walk.as_ref().and_then(|walk| walk.owner);
            if scope.holds(&path)
                && let Some((difference, kind)) =
                    compare((view, stack), &seen, (original.as_ref(), at.lower.as_ref()), (&spot, &path))?
            {
                let now = seen.entry().map(|entry| entry.attributes);
                let told = Change { path: path.clone(), difference, kind, now, owner };
                if visit(&told).is_break() {
                    return Ok(());
                }
            }
            let Some(entry) = seen.entry().filter(|entry| entry.attributes.kind == Kind::Directory) else {
                continue;
            };
            if let (Some(stack), Some(walk)) = (stack, &walk)
                && let Some(hidden) = original.as_ref().filter(|_| entry.opaque)
                && tell_hidden(stack, hidden, &spot, (&path, walk, scope), visit)?.is_break()
            {
                return Ok(());
            }
            let lower = match stack {
                Some(stack) => shown_below(stack, entry, original)?,
                None => None,
            };
            below.push(Waiting { parent: Arc::clone(&directory), path, walk, lower });
        }
        below.reverse();
        waiting.append(&mut below);
    }
    match stack {
        Some(stack) => tell_shared(view, stack, scope, visit),
        None => Ok(()),
    }
}

/// Tells of names that show a file which was changed through another name.
fn tell_shared(
    view: &View,
    stack: &Stack,
    scope: &Scope,
    visit: &mut dyn FnMut(&Change) -> ControlFlow<()>,
) -> Result<(), LayerError> {
    let fingerprint = stack.fingerprint();
    for SharedName { number, path } in shared_names(view, stack)? {
        let Some(copy) = view.copy_of(number, &fingerprint)?.filter(|_| scope.holds(&path)) else { continue };
        let Some(stat) = present(copy.stat())?.flatten() else { continue };
        let owner = owner(stack, path.iter().map(Vec::as_slice))?;
        let now = view.shown(&copy, &stat)?;
        let parts = match (format::bare_copy(&copy)?, stack.walk(path.iter().map(Vec::as_slice))?) {
            (Some(bare), Some(original)) => {
                let content = bare.content(stack, (None, b""), now.size)?;
                let content = !is_whole(stack, content.as_ref(), &original, now.size)?;
                parts(stack, &now, (&original, content), (view.aside(), &copy))?
            }
            _ => Parts { content: true, ..Parts::default() },
        };
        let difference = Difference::Changed(parts);
        let told = Change { path, difference, kind: Some(now.kind), now: Some(now), owner };
        if visit(&told).is_break() {
            break;
        }
    }
    Ok(())
}

/// An open directory and the names in it, in byte order.
pub(super) type Listing = (Arc<Directory>, Vec<Vec<u8>>);

/// Opens the directory `name` of `parent` (without a name, `parent` itself) and lists it in byte order; `None` when
/// it is gone.
pub(super) fn listed(parent: &Arc<Directory>, name: Option<&[u8]>) -> Result<Option<Listing>, DiskError> {
    let directory = match name {
        Some(name) => match present(parent.child(name))? {
            Some(directory) => Arc::new(directory),
            None => return Ok(None),
        },
        None => Arc::clone(parent),
    };
    let Some(names) = present(directory.list())? else { return Ok(None) };
    let mut names: Vec<Vec<u8>> = names.into_iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    Ok(Some((directory, names)))
}

impl Seen {
    /// Returns what is there, if it is no whiteout.
    #[must_use]
    pub fn entry(&self) -> Option<&UpperEntry> {
        match &self.found {
            Found::Entry(entry) => Some(entry),
            Found::Nothing | Found::Whiteout => None,
        }
    }
}

/// Compares what is under a name with what the layers have there.
fn compare(
    (view, stack): (&View, Option<&Stack>),
    seen: &Seen,
    (original, within): (Option<&Lower>, Option<&Lower>),
    (spot, path): (&Spot, &[Vec<u8>]),
) -> Result<Option<(Difference, Option<Kind>)>, LayerError> {
    let Some(entry) = seen.entry() else {
        let kind = original.map(|original| original.kind);
        // A whiteout over nothing hides nothing.
        return Ok((stack.is_none() || kind.is_some()).then_some((Difference::Removed, kind)));
    };
    let kind = entry.attributes.kind;
    let told = |difference| Ok(Some((difference, Some(kind))));
    if let Some(from) = &entry.redirect {
        return told(Difference::Added { from: Some(from.clone()) });
    }
    if let Some(bare) = &entry.bare {
        return told(compare_bare((view, stack), (entry, bare), (original, within), (spot, path))?);
    }
    let other = Parts { content: true, ..Parts::default() };
    let (Some(stack), Some(original)) = (stack, original) else {
        return match (stack.is_none() && seen.copied, kind) {
            // It was copied up to hold something, as far as can be told.
            (true, Kind::Directory) if !entry.opaque => Ok(None),
            (false, _) if !entry.opaque || stack.is_some() => told(Difference::Added { from: None }),
            _ => told(Difference::Changed(other)),
        };
    };
    if kind != original.kind || kind == Kind::Directory && entry.opaque {
        return told(Difference::Changed(other));
    }
    let before = stack.attributes(original)?;
    let content = content_differs(stack, seen, (original, &before), spot)?;
    let parts = parts(stack, &entry.attributes, (original, content), (view.aside(), spot))?;
    // Only a directory can be there without a difference of its own.
    if kind == Kind::Directory && parts == Parts::default() {
        return Ok(None);
    }
    told(Difference::Changed(parts))
}

/// Compares a copy that has attributes only with what the layers have under its name.
fn compare_bare(
    (view, stack): (&View, Option<&Stack>),
    (entry, bare): (&UpperEntry, &BareCopy),
    (original, within): (Option<&Lower>, Option<&Lower>),
    (spot, path): (&Spot, &[Vec<u8>]),
) -> Result<Difference, LayerError> {
    let size = entry.attributes.size;
    let name = path.last().map_or(&b""[..], Vec::as_slice);
    let Some(stack) = stack else {
        let own = [b"/", &path.join(&b'/')[..]].concat();
        let from = bare.path.clone().filter(|from| *from != own && from.as_slice() != name);
        return Ok(match from {
            None => Difference::Changed(Parts::default()),
            from => Difference::Added { from },
        });
    };
    let content = bare.content(stack, (within, name), size)?;
    let Some(original) = original else {
        return Ok(Difference::Added { from: bare.path.clone().filter(|_| content.is_some()) });
    };
    if original.kind != Kind::File {
        return Ok(Difference::Changed(Parts { content: true, ..Parts::default() }));
    }
    let differs = !is_whole(stack, content.as_ref(), original, size)?;
    Ok(Difference::Changed(parts(stack, &entry.attributes, (original, differs), (view.aside(), spot))?))
}

/// Tells whether `content` is all of `original`.
fn is_whole(stack: &Stack, content: Option<&Lower>, original: &Lower, size: u64) -> Result<bool, LayerError> {
    let Some(content) = content.filter(|content| content.inode() == original.inode()) else {
        return Ok(false);
    };
    Ok(stack.attributes(content)?.size == size)
}

fn parts(
    stack: &Stack,
    now: &Attributes,
    (original, content): (&Lower, bool),
    (aside, spot): (&Aside, &Spot),
) -> Result<Parts, LayerError> {
    let before = stack.attributes(original)?;
    Ok(Parts {
        content,
        mode: now.kind != Kind::Symlink && now.mode != before.mode,
        owner: (now.user, now.group) != (before.user, before.group),
        attributes: attributes_differ(stack, original, (aside, spot))?,
    })
}

/// Tells whether a node of the same kind may have another content, without reading it.
fn content_differs(
    stack: &Stack,
    seen: &Seen,
    (original, before): (&Lower, &Attributes),
    spot: &Spot,
) -> Result<bool, LayerError> {
    let now = seen.entry().map_or(&seen.stat.attributes, |entry| &entry.attributes);
    Ok(match (now.kind, original.top()) {
        (Kind::Directory, _) => false,
        (Kind::File, _) => !seen.copied || (now.size, now.modified) != (before.size, before.modified),
        (Kind::Symlink, Some((layer, node))) => {
            let target = stack.layer(layer).layer.read_link(node)?;
            present(spot.read_link())?.is_some_and(|now| now != target)
        }
        _ => now.device != before.device,
    })
}

fn attributes_differ(
    stack: &Stack,
    original: &Lower,
    (aside, spot): (&Aside, &Spot),
) -> Result<bool, LayerError> {
    let names = match aside.attribute_names(spot) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(false),
        other => present(other)?,
    };
    let Some(names) = names else { return Ok(false) };
    let before = match original.top() {
        Some((layer, node)) => stack.layer(layer).layer.extended_attributes(node)?,
        None => Vec::new(),
    };
    if !names.iter().eq(before.iter().map(|(name, _)| name)) {
        return Ok(true);
    }
    for (name, value) in before {
        if present(aside.attribute(spot, &name))?.is_some_and(|now| now != Some(value)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tells what a directory that took another's place hides.
fn tell_hidden(
    stack: &Stack,
    hidden: &Lower,
    spot: &Spot,
    (path, walk, scope): (&[Vec<u8>], &OwnerWalk, &Scope),
    visit: &mut dyn FnMut(&Change) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, LayerError> {
    if hidden.kind != Kind::Directory {
        return Ok(ControlFlow::Continue(()));
    }
    let Spot::Named { directory, name } = spot else { return Ok(ControlFlow::Continue(())) };
    let Some((_, present)) = listed(directory, Some(name))? else { return Ok(ControlFlow::Continue(())) };
    let present: HashSet<_> = present.into_iter().collect();
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
        if !scope.holds(&path) {
            continue;
        }
        let told = Change { path, difference: Difference::Removed, kind: Some(kind), now: None, owner };
        if visit(&told).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Returns what of the layers shows in a directory of the upper.
pub(super) fn shown_below(
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

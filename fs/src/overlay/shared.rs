//! Names of the layers that show a changed file without standing in the upper directory: other names of a hard-linked
//! file that was changed through one of them.
//!
//! The index knows that there are such names and not which. They are looked for in the layers, which costs a walk over
//! their names, and only when there are any.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::format::Found;
use super::view::{Scope, View, present};
use crate::disk::DiskError;
use crate::layer::LayerError;
use crate::layer::stack::{Lower, Stack};
use crate::node::Kind;

/// A name that shows a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedName {
    /// Number of the layers' node.
    pub(crate) number: u64,
    pub(crate) path: Vec<Vec<u8>>,
}

/// Returns every name of the layers that shows a changed file and is not in the upper directory, sorted by path. Names
/// in directories that were moved are not among them.
pub(crate) fn shared_names(view: &View, stack: &Stack) -> Result<Vec<SharedName>, LayerError> {
    names_of(view, stack, &view.numbers_with_names_left(&stack.fingerprint())?)
}

/// Returns every name of the layers' nodes `numbers` that shows and is not in the upper directory, sorted by path.
pub(crate) fn names_of(
    view: &View,
    stack: &Stack,
    numbers: &BTreeSet<u64>,
) -> Result<Vec<SharedName>, LayerError> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    every_name(stack, Vec::new(), stack.root()?, &mut |number, path| {
        if numbers.contains(&number) {
            found.push(SharedName { number, path: path() });
        }
    })?;
    let mut shown = Vec::new();
    for name in found {
        if shines_through(view, &name.path)? {
            shown.push(name);
        }
    }
    shown.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(shown)
}

/// Returns which of the layers' nodes `numbers` have a name in `scope`, whatever shows there.
pub(crate) fn named_within(
    stack: &Stack,
    scope: &Scope,
    numbers: &BTreeSet<u64>,
) -> Result<BTreeSet<u64>, LayerError> {
    let mut found = BTreeSet::new();
    if numbers.is_empty() {
        return Ok(found);
    }
    for path in scope.paths() {
        let Some(lower) = stack.walk(path.iter().map(Vec::as_slice))? else { continue };
        if lower.kind != Kind::Directory {
            found.extend(numbers.get(&lower.inode()));
            continue;
        }
        every_name(stack, path.clone(), lower, &mut |number, _| found.extend(numbers.get(&number)))?;
    }
    Ok(found)
}

/// Makes the path of a name that is visited.
type MakePath<'a> = dyn Fn() -> Vec<Vec<u8>> + 'a;

/// Visits every name in the layers' directory `directory` and below that is no directory's; a path is made where it is asked
/// for.
fn every_name(
    stack: &Stack,
    path: Vec<Vec<u8>>,
    directory: Lower,
    visit: &mut dyn FnMut(u64, &MakePath<'_>),
) -> Result<(), LayerError> {
    let mut waiting = vec![(path, directory)];
    while let Some((path, directory)) = waiting.pop() {
        let mut below = BTreeSet::new();
        stack.list(&directory, &mut |name, number, kind| {
            if kind == Kind::Directory {
                below.insert(name.to_vec());
            } else {
                visit(number, &|| [path.as_slice(), &[name.to_vec()]].concat());
            }
            ControlFlow::Continue(())
        })?;
        for name in below {
            if let Some(lower) = stack.lookup(&directory, &name)? {
                waiting.push(([path.as_slice(), &[name]].concat(), lower));
            }
        }
    }
    Ok(())
}

/// Tells whether what the layers have at `path` shows there.
fn shines_through(view: &View, path: &[Vec<u8>]) -> Result<bool, DiskError> {
    let mut directory = Arc::clone(view.root());
    for name in path {
        let Some(seen) = view.examine(&directory, name)? else { return Ok(true) };
        match seen.found {
            Found::Entry(entry)
                if entry.attributes.kind == Kind::Directory && !entry.opaque && entry.redirect.is_none() =>
            {
                match present(directory.child(name))? {
                    Some(child) => directory = Arc::new(child),
                    None => return Ok(false),
                }
            }
            Found::Nothing => return Ok(true),
            Found::Entry(_) | Found::Whiteout => return Ok(false),
        }
    }
    Ok(false)
}

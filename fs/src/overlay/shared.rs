//! Names of the layers that show a changed file without standing in the upper directory: other names of a hard-linked
//! file that was changed through one of them.
//!
//! The index knows that there are such names and not which. They are looked for in the layers, which costs a walk over
//! their names, and only when there are any.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::format::Found;
use super::view::{View, present};
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
    let mut waiting: Vec<(Vec<Vec<u8>>, Lower)> = vec![(Vec::new(), stack.root()?)];
    while let Some((path, directory)) = waiting.pop() {
        let mut below = BTreeSet::new();
        stack.list(&directory, &mut |name, number, kind| {
            let path = || [path.as_slice(), &[name.to_vec()]].concat();
            if kind == Kind::Directory {
                below.insert(name.to_vec());
            } else if numbers.contains(&number) {
                found.push(SharedName { number, path: path() });
            }
            ControlFlow::Continue(())
        })?;
        for name in below {
            if let Some(lower) = stack.lookup(&directory, &name)? {
                waiting.push(([path.as_slice(), &[name]].concat(), lower));
            }
        }
    }
    let mut shown = Vec::new();
    for name in found {
        if shines_through(view, &name.path)? {
            shown.push(name);
        }
    }
    shown.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(shown)
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

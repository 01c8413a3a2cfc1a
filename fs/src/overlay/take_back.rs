//! Taking back what was written at or below some paths: there the volume is as its layers again.
//!
//! A name comes back or goes in one step; a directory with all that is in it is moved to `work/` first. A file of the
//! layers with several names is one file: taken back under one of them, it is taken back under all.
//!
//! **Invariant:** every step leaves a whole upper directory, and an interrupted run is finished by the next one. No
//! volume lies over the upper meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::aside::is_record;
use super::changes::{listed, shown_below};
use super::format::{self, Found};
use super::shared::{SharedName, named_within, names_of, shared_names};
use super::view::{Scope, Seen, View};
use super::{Upper, index};
use crate::disk::DiskError;
use crate::disk::unix::{Directory, Spot};
use crate::layer::LayerError;
use crate::layer::stack::{Lower, Stack};
use crate::node::Kind;

/// Why a path cannot be taken back alone.
#[derive(Debug, thiserror::Error)]
pub enum TakeBackError {
    /// A layer or the host could not answer.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A directory above is not the layers' own.
    #[error("`{path}` lies below `{above}`, which was {how}")]
    Below {
        /// What was asked for.
        path: String,
        /// The directory above.
        above: String,
        /// `removed`, `replaced` or `moved`.
        how: &'static str,
    },
    /// What is in a directory shows somewhere else.
    #[error("`{path}` was moved to `{to}`, where it would show, too")]
    Moved {
        /// Where the layers have it.
        path: String,
        /// Where it shows.
        to: String,
    },
}

impl From<DiskError> for TakeBackError {
    fn from(error: DiskError) -> Self {
        Self::Layer(error.into())
    }
}

/// What taking back some paths comes to.
#[derive(Debug, Default)]
pub struct Plan {
    /// Nodes of the layers that come back under one of their names, so that their copy in the index goes.
    numbers: BTreeSet<u64>,
    /// Names outside of the paths that go, too.
    others: Vec<Vec<Vec<u8>>>,
    /// What stays, and has the number of a node that may show again.
    strangers: Vec<Spot>,
}

impl Plan {
    /// Returns the names outside of the paths that are taken back as well: they are other names of the same files.
    #[must_use]
    pub fn other_names(&self) -> &[Vec<Vec<u8>>] {
        &self.others
    }
}

/// Finds out what taking back `scope` comes to, and whether that is possible. Nothing is changed.
///
/// # Errors
/// It is not possible, or a layer or the host could not answer.
pub fn plan(view: &View, stack: &Stack, scope: &Scope) -> Result<Plan, TakeBackError> {
    let mut plan = Plan::default();
    if scope.is_everything() {
        return Ok(plan);
    }
    for path in scope.paths() {
        check_above(view, stack, path)?;
    }
    // Where one of their names comes back, the original does.
    let fingerprint = stack.fingerprint();
    plan.numbers = named_within(stack, scope, &view.indexed_numbers(&fingerprint))?;
    let (mut names, mut moved) = (Vec::new(), Vec::new());
    for SharedName { number, path } in shared_names(view, stack)? {
        if !scope.holds(&path) {
            names.push((number, path));
        }
    }
    every_entry(view, stack, &mut |met| {
        let own = met.lower.map(Lower::inode);
        let number = view.number_of(met.seen.stat.inode);
        let is_name_of_copy = number.is_some() && number == own;
        if scope.holds(met.path) {
            plan.numbers.extend(number.filter(|_| is_name_of_copy));
            return Ok(());
        }
        if let Some(number) = number.filter(|_| is_name_of_copy) {
            names.push((number, met.path.to_vec()));
        }
        let Some(entry) = met.seen.entry() else { return Ok(()) };
        if let Some(from) = &entry.redirect {
            let from: Vec<Vec<u8>> = from
                .split(|byte| *byte == b'/')
                .filter(|name| !name.is_empty())
                .map(<[u8]>::to_vec)
                .collect();
            if scope.holds(&from) {
                return Err(TakeBackError::Moved { path: shown(&from), to: shown(met.path) });
            }
        }
        if is_name_of_copy || !met.seen.copied {
            return Ok(());
        }
        let spot = Spot::named(met.directory, met.path.last().map_or(&b""[..], Vec::as_slice));
        // Links, fifos and sockets carry no number.
        let carries = matches!(met.seen.stat.attributes.kind, Kind::File | Kind::Directory);
        let noted = if carries { spot.xattr(format::INODE)? } else { None };
        match number {
            Some(number) if noted.is_some() => moved.push((number, spot)),
            None if noted.is_some_and(|noted| !is_number(&noted, own)) => plan.strangers.push(spot),
            _ => {}
        }
        Ok(())
    })?;
    let moved = moved.into_iter().filter(|(number, _)| plan.numbers.contains(number));
    plan.strangers.extend(moved.map(|(_, spot)| spot));
    let others = names.into_iter().filter(|(number, _)| plan.numbers.contains(number));
    plan.others.extend(others.map(|(_, path)| path));
    Ok(plan)
}

/// Takes back `scope`, which may not be everything ([`Upper::clear`] does that), and makes it durable.
///
/// # Errors
/// As [`plan`]; or the host refused, and what was taken back until then stays so.
pub fn take_back(upper: &Upper, stack: &Stack, scope: &Scope) -> Result<(), TakeBackError> {
    upper.bind(&stack.fingerprint())?;
    let plan = plan(&View::of(upper)?, stack, scope)?;
    let before = NamesLeft::of(upper, stack, &plan.numbers)?;
    for spot in &plan.strangers {
        spot.remove_xattr(format::INODE)?;
    }
    // Interrupted, what is left of a file with several names is still found: first by the index, then by its name.
    discard_all(upper, plan.others.iter())?;
    for number in &plan.numbers {
        upper.forget_indexed(*number)?;
    }
    upper.index_directory().sync()?;
    discard_all(upper, scope.paths().iter().filter(|path| !is_below_another(path, scope)))?;
    before.settle(upper, stack)
}

/// How many names of the layers' nodes showed, for those where that was counted.
struct NamesLeft {
    /// By number: what was counted, and how many of these names lie in directories that were not moved.
    counted: BTreeMap<u64, (u32, u32)>,
}

impl NamesLeft {
    fn of(upper: &Upper, stack: &Stack, numbers: &BTreeSet<u64>) -> Result<Self, TakeBackError> {
        let counted = numbers.iter().filter_map(|number| Some((*number, upper.names_left(*number)?)));
        let mut counted: BTreeMap<u64, (u32, u32)> =
            counted.map(|(number, left)| (number, (left, 0))).collect();
        let shown = names_of(&View::of(upper)?, stack, &counted.keys().copied().collect())?;
        for name in shown {
            counted.entry(name.number).and_modify(|(_, shown)| *shown += 1);
        }
        Ok(Self { counted })
    }

    /// Counts what shows again, where some names still do not. Without a count, all names of the layers do.
    fn settle(self, upper: &Upper, stack: &Stack) -> Result<(), TakeBackError> {
        let mut counted = self.counted;
        let mut links = BTreeMap::new();
        for name in names_of(&View::of(upper)?, stack, &counted.keys().copied().collect())? {
            counted.entry(name.number).and_modify(|(left, _)| *left += 1);
            if let Some(lower) = stack.walk(name.path.iter().map(Vec::as_slice))? {
                links.insert(name.number, stack.attributes(&lower)?.links);
            }
        }
        for (number, (left, before)) in counted {
            let left = left.saturating_sub(before);
            if links.get(&number) != Some(&left) {
                upper.set_names_left(number, left)?;
            }
        }
        Ok(())
    }
}

fn discard_all<'a>(
    upper: &Upper,
    paths: impl Iterator<Item = &'a Vec<Vec<u8>>>,
) -> Result<(), TakeBackError> {
    let mut changed = Vec::new();
    for path in paths {
        let Some((name, above)) = path.split_last() else { continue };
        let Some(directory) = open(upper.root(), above)? else { continue };
        if directory.stat(name)?.is_some() {
            upper.discard(&directory, name)?;
            changed.push(directory);
        }
    }
    for directory in changed {
        directory.sync()?;
    }
    Ok(())
}

impl Upper {
    /// Takes `name` away in one step, whatever is in it.
    pub(super) fn discard(&self, directory: &Arc<Directory>, name: &[u8]) -> Result<(), DiskError> {
        let going = self.temporary();
        self.forget_number();
        directory.make_movable(name)?;
        directory.rename(name, &self.work, going.name())
    }

    /// Removes everything that was ever written, the root's attributes included; each top-level name goes in one step.
    ///
    /// # Errors
    /// What the host reports; what was removed until then stays removed.
    pub fn clear(&self) -> Result<(), DiskError> {
        // First: a copy that only the index has would show where nothing tells of it.
        for entry in self.index_directory().list()?.iter().filter(|entry| !is_record(&entry.name)) {
            self.index_directory().remove_tree(&entry.name)?;
        }
        *self.index() = index::Index::default();
        self.bare_noted.store(false, std::sync::atomic::Ordering::Relaxed);
        for entry in self.root().list()? {
            self.discard(self.root(), &entry.name)?;
        }
        let root = Spot::named(self.root(), b".");
        for name in root.xattr_names()? {
            if name.starts_with(b"user.") {
                root.remove_xattr(&name)?;
            }
        }
        // What was kept aside goes after what it was about.
        for entry in self.index_directory().list()? {
            self.index_directory().remove_tree(&entry.name)?;
        }
        self.aside().load_again(self.root(), None)?;
        self.index_directory().sync()?;
        self.root().sync()
    }
}

/// Tells whether `noted`, as it is on disk, is the number `own`.
fn is_number(noted: &[u8], own: Option<u64>) -> bool {
    let number = noted.split(|byte| *byte == b':').next().unwrap_or_default();
    own.is_some_and(|own| own.to_string().as_bytes() == number)
}

fn is_below_another(path: &[Vec<u8>], scope: &Scope) -> bool {
    scope.paths().iter().any(|other| other.len() < path.len() && path.starts_with(other))
}

/// Refuses a path below something that is not the directory of the layers.
fn check_above(view: &View, stack: &Stack, path: &[Vec<u8>]) -> Result<(), TakeBackError> {
    let mut directory = Arc::clone(view.root());
    let mut lower = Some(stack.root()?);
    for depth in 1..path.len() {
        let above = &path[..depth];
        let Some(name) = above.last() else { break };
        let Some(seen) = view.examine(&directory, name)? else { break };
        let original = lower.map(|lower| stack.lookup(&lower, name)).transpose()?.flatten();
        let refused = |how| TakeBackError::Below { path: shown(path), above: shown(above), how };
        match &seen.found {
            Found::Whiteout if original.is_some() => return Err(refused("removed")),
            Found::Nothing | Found::Whiteout => break,
            Found::Entry(entry) if entry.redirect.is_some() => return Err(refused("moved")),
            Found::Entry(entry) if entry.attributes.kind != Kind::Directory || entry.opaque => {
                if original.is_some() {
                    return Err(refused("replaced"));
                }
            }
            Found::Entry(_) => {}
        }
        if seen.stat.attributes.kind != Kind::Directory {
            break;
        }
        directory = Arc::new(directory.child(name)?);
        lower = original.filter(|lower| lower.kind == Kind::Directory);
    }
    Ok(())
}

/// Opens the directory at `path`; `None` where there is none.
fn open(root: &Arc<Directory>, path: &[Vec<u8>]) -> Result<Option<Arc<Directory>>, DiskError> {
    let mut at = Arc::clone(root);
    for name in path {
        match super::view::present(at.child(name))? {
            Some(child) => at = Arc::new(child),
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// Something in the upper directory.
struct Met<'a> {
    path: &'a [Vec<u8>],
    directory: &'a Arc<Directory>,
    seen: &'a Seen,
    /// What the layers have under the name.
    lower: Option<&'a Lower>,
}

/// A directory that is still to be visited: the one above, its path, what of the layers shows in it.
type Waiting = (Arc<Directory>, Vec<Vec<u8>>, Option<Lower>);

/// Visits everything in the upper directory.
fn every_entry(
    view: &View,
    stack: &Stack,
    visit: &mut dyn FnMut(&Met<'_>) -> Result<(), TakeBackError>,
) -> Result<(), TakeBackError> {
    let mut waiting: Vec<Waiting> = vec![(Arc::clone(view.root()), Vec::new(), Some(stack.root()?))];
    while let Some((parent, path, lower)) = waiting.pop() {
        let Some((directory, names)) = listed(&parent, path.last().map(Vec::as_slice))? else { continue };
        for name in names {
            let Some(seen) = view.examine(&directory, &name)? else { continue };
            let original = lower.as_ref().map(|lower| stack.lookup(lower, &name)).transpose()?.flatten();
            let path = [path.as_slice(), &[name]].concat();
            let met = Met { path: &path, directory: &directory, seen: &seen, lower: original.as_ref() };
            visit(&met)?;
            if let Some(entry) = seen.entry().filter(|entry| entry.attributes.kind == Kind::Directory) {
                let below = shown_below(stack, entry, original)?;
                waiting.push((Arc::clone(&directory), path, below));
            }
        }
    }
    Ok(())
}

fn shown(path: &[Vec<u8>]) -> String {
    String::from_utf8_lossy(&path.join(&b'/')).into_owned()
}

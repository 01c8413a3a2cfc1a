//! What a workload did while its disk was recorded, and what may be found after the power has failed.
//!
//! An ext4 keeps changes of names and attributes in their order, and content when it is synced. So after a failure
//! there is the tree as it was after some operation, not before the last thing that was synced in it; and in each
//! file every byte is one that it has had since it was last synced, or nothing where it had grown.
//!
//! **Invariant:** the oracle alone says what was promised; nothing is taken from the disk.
#![expect(clippy::wildcard_enum_match_arm, reason = "what is not named cannot happen or does not matter")]

use std::collections::{BTreeMap, BTreeSet};

use slotfs_fs::node::Kind;

use crate::model::{Body, Model, ModelEntry, ModelNode};
use crate::operations::{Operation, OperationPath, PLACES};
use crate::recorded_disk::RecordedDisk;
use crate::subject::{Observed, Oracle, Subject, collect, show};

/// What the tree holds, by path.
type Tree = BTreeMap<OperationPath, Observed>;

/// An operation that was carried out; the positions are those of the disk's record.
#[derive(Clone, Debug)]
struct Step {
    operation: Operation,
    started: usize,
    ended: usize,
    /// What it synced, if it did.
    synced: Option<Synced>,
}

#[derive(Clone, Copy, Debug)]
enum Synced {
    Node(ModelNode),
    Everything,
}

/// A workload with the states it went through.
#[derive(Debug)]
pub struct History {
    steps: Vec<Step>,
    /// The tree before each step, and after the last.
    states: Vec<Model>,
    /// Whether a file's content may be left in the layers for later: a failure while it is brought costs the file's
    /// modification time, and nothing else.
    bare_copies: bool,
}

impl History {
    /// Carries `operations` out on both, and notes where the disk was.
    ///
    /// # Panics
    /// The subject does not answer as the oracle does.
    #[must_use]
    pub fn record(
        operations: Vec<Operation>,
        model: Model,
        (subject, bare_copies): (&mut impl Subject, bool),
        disk: &RecordedDisk,
    ) -> Self {
        let mut oracle = Oracle::new(model);
        let mut history = Self { steps: Vec::new(), states: vec![oracle.model.clone()], bare_copies };
        for operation in operations {
            let started = disk.position();
            let (found, expected) = (subject.apply(&operation), oracle.apply(&operation));
            // Of several reasons to refuse, the kernel may see another one first.
            assert_eq!(found.is_ok(), expected.is_ok(), "{operation:?}: {found:?}, not {expected:?}");
            let synced = if found.is_ok() { synced(&operation, &oracle) } else { None };
            history.steps.push(Step { operation, started, ended: disk.position(), synced });
            history.states.push(oracle.model.clone());
        }
        history
    }

    /// Returns the positions at which something had just been synced.
    pub fn synced(&self) -> impl Iterator<Item = usize> {
        self.steps.iter().filter(|step| step.synced.is_some()).map(|step| step.ended)
    }

    /// Returns the position after the last step.
    #[must_use]
    pub fn end(&self) -> usize {
        self.steps.last().map_or(0, |step| step.ended)
    }

    /// Checks what was found after a failure at `position`.
    ///
    /// # Errors
    /// What was promised and is not there, in words.
    pub fn check(&self, position: usize, found: &Tree) -> Result<(), String> {
        // A step that wrote nothing may have ended where the next one starts.
        let begun =
            self.steps.iter().filter(|step| step.started < position || step.ended <= position).count();
        let mut closest = (usize::MAX, begun, String::new());
        for state in (0..=begun).rev() {
            let differences = differences(&self.states[state], found, self.bare_copies);
            if differences.is_empty() {
                let kept = self.check_promises(position, state).and_then(|()| {
                    let files = self.states[state].reachable();
                    files
                        .iter()
                        .try_for_each(|node| self.check_content(position, (state, begun), *node, found))
                });
                match kept {
                    Ok(()) => return Ok(()),
                    Err(why) if closest.0 > 0 => closest = (0, state, why),
                    Err(_) => {}
                }
            } else if differences.len() < closest.0 {
                closest = (differences.len(), state, differences.join("; "));
            }
        }
        let (_, state, why) = closest;
        let last = state.checked_sub(1).map(|last| &self.steps[last].operation);
        let next = self.steps.get(state).map(|step| &step.operation);
        Err(format!(
            "of {begun} operations begun, the tree is closest to that after {state} ({last:?}, then {next:?}): {why}"
        ))
    }

    /// Checks that a tree which shows the first `state` operations has what later ones had synced by `position`.
    fn check_promises(&self, position: usize, state: usize) -> Result<(), String> {
        for (number, step) in self.steps.iter().enumerate().skip(state) {
            let Some(synced) = step.synced.filter(|_| step.ended <= position) else { continue };
            let (before, after) = (&self.states[state], &self.states[number + 1]);
            let lost = match synced {
                Synced::Everything => !same_metadata(before, after),
                Synced::Node(node) => {
                    let data_only = matches!(step.operation, Operation::Sync { data_only: true, .. });
                    // A name that was taken away is its directory's affair.
                    !names(after, node).is_subset(&names(before, node))
                        || before.known(node).map(|entry| attributes(entry, data_only))
                            != after.known(node).map(|entry| attributes(entry, data_only))
                }
            };
            if lost {
                return Err(format!(
                    "operation {number}, {:?}, made more last than is there",
                    step.operation
                ));
            }
        }
        Ok(())
    }

    /// Checks a file's content: every byte is one it has had since it was last synced.
    fn check_content(
        &self,
        position: usize,
        (state, begun): (usize, usize),
        node: ModelNode,
        found: &Tree,
    ) -> Result<(), String> {
        let tree = &self.states[state];
        let Body::File(_) = &tree.entry(node).body else { return Ok(()) };
        let covers = |step: &Step| match step.synced {
            Some(Synced::Node(synced)) => synced == node,
            Some(Synced::Everything) => true,
            None => false,
        };
        let last = self.steps.iter().rposition(|step| step.ended <= position && covers(step));
        let since = last.map_or(0, |step| step + 1);
        let mut versions: Vec<&[u8]> = Vec::new();
        for version in self.states[since..=begun].iter().filter_map(|model| content(model, node)) {
            if versions.last() != Some(&version) {
                versions.push(version);
            }
        }
        let mut paths = BTreeMap::new();
        collect(tree, Model::ROOT, &mut Vec::new(), &mut paths);
        let Some(path) = paths.iter().find(|(_, at)| **at == node).map(|(path, _)| path) else {
            return Ok(());
        };
        let bytes = &found[path].bytes;
        let smallest = versions.iter().map(|version| version.len()).min().unwrap_or(0);
        let largest = versions.iter().map(|version| version.len()).max().unwrap_or(0);
        let shown = || format!("{} ({node:?}), last synced by operation {last:?}", show(path));
        if bytes.len() < smallest || bytes.len() > largest {
            return Err(format!("{} bytes of {smallest} to {largest} in {}", bytes.len(), shown()));
        }
        let possible = |at: usize, byte: u8| {
            versions.iter().any(|version| version.get(at) == Some(&byte)) || (byte == 0 && at >= smallest)
        };
        match bytes.iter().enumerate().find(|&(at, &byte)| !possible(at, byte)) {
            Some((at, byte)) => Err(format!("byte {at} is {byte} in {}", shown())),
            None => Ok(()),
        }
    }
}

fn synced(operation: &Operation, oracle: &Oracle) -> Option<Synced> {
    match operation {
        Operation::Sync { path, .. } => oracle.model.walk(path).ok().map(Synced::Node),
        Operation::SyncHeld { place } if *place < PLACES => oracle.held(*place).map(Synced::Node),
        Operation::SyncAll => Some(Synced::Everything),
        _ => None,
    }
}

fn content(model: &Model, node: ModelNode) -> Option<&[u8]> {
    match &model.known(node)?.body {
        Body::File(bytes) => Some(bytes),
        _ => None,
    }
}

/// The part of a node that a sync makes last besides content; a directory's are its names, too.
fn attributes(entry: &ModelEntry, data_only: bool) -> ModelEntry {
    let body = match &entry.body {
        Body::File(_) => Body::File(Vec::new()),
        other => other.clone(),
    };
    if data_only { ModelEntry::new(body, 0) } else { ModelEntry { body, modified: None, ..entry.clone() } }
}

fn names(model: &Model, node: ModelNode) -> BTreeSet<OperationPath> {
    let mut paths = BTreeMap::new();
    collect(model, Model::ROOT, &mut Vec::new(), &mut paths);
    paths.into_iter().filter(|(_, at)| *at == node).map(|(path, _)| path).collect()
}

fn same_metadata(one: &Model, other: &Model) -> bool {
    let nodes = one.reachable();
    nodes == other.reachable()
        && nodes
            .iter()
            .all(|&node| attributes(one.entry(node), false) == attributes(other.entry(node), false))
}

/// Compares everything but content; returns what differs, in words.
fn differences(model: &Model, found: &Tree, any_time: bool) -> Vec<String> {
    let mut expected = BTreeMap::new();
    collect(model, Model::ROOT, &mut Vec::new(), &mut expected);
    let too_many = found.keys().filter(|path| !expected.contains_key(*path));
    let mut differences: Vec<String> = too_many.map(|path| format!("{} should not be", show(path))).collect();
    let (mut numbers, mut nodes) = (BTreeMap::new(), BTreeMap::new());
    for (path, node) in &expected {
        let Some(seen) = found.get(path) else {
            differences.push(format!("{} is missing", show(path)));
            continue;
        };
        let same_number = *numbers.entry(*node).or_insert(seen.inode) == seen.inode;
        if !same_number || *nodes.entry(seen.inode).or_insert(*node) != *node {
            differences.push(format!("{}: another inode number, {:#x}", show(path), seen.inode));
        }
        differences.extend(differs(model, *node, seen, any_time).map(|why| format!("{}: {why}", show(path))));
    }
    differences
}

/// A count of links may be too high by one, as after a kill, and a directory may show the time of the failure.
fn differs(model: &Model, node: ModelNode, found: &Observed, any_time: bool) -> Option<String> {
    let entry = model.entry(node);
    let links = model.links(node);
    let is_directory = entry.kind() == Kind::Directory;
    let (device, target) = match &entry.body {
        Body::Special(_, device) => (*device, None),
        Body::Symlink(target) => (0, Some(target)),
        Body::File(_) | Body::Directory(_) => (0, None),
    };
    let same = found.kind == entry.kind()
        && found.mode == entry.mode
        && (found.user, found.group) == (entry.user, entry.group)
        && found.device == device
        && target.is_none_or(|target| *target == found.bytes)
        && found.xattrs == entry.xattrs
        && (is_directory || found.links == links || found.links == links + 1)
        && (is_directory
            || any_time && entry.kind() == Kind::File
            || entry.modified.is_none_or(|modified| modified == found.modified));
    if same {
        return None;
    }
    let shown = |entry: &ModelEntry| format!("{:?}", attributes(entry, false));
    let found = Observed { bytes: Vec::new(), ..found.clone() };
    Some(format!(
        "found {found:?}, expected {} with {links} links, modified {:?}",
        shown(entry),
        entry.modified
    ))
}

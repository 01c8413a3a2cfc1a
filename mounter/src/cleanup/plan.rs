//! A clean: what it removes, and doing that.
//!
//! **Invariant:** what is carried out is the plan, less what turned out to be in use.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use slotfs_fs::disk::unix::Erasure;
use slotfs_policy::cleanup::{self, EnvironmentFacts, Reason, Wish};
use slotfs_policy::retention::Strategy;

use super::aside::{self, Aside};
use super::contents::{self, Group, Groups};
use super::environment::{Environment, InUse};
use super::held::hold;
use super::{CleanupError, list};
use crate::host::mount_table;
use crate::session::place::Place;
use crate::session::served;
use crate::workenv::Cache;

/// An environment that is to go.
#[derive(Clone, Debug)]
pub struct PlannedRemoval {
    /// Which.
    pub environment: Environment,
    /// Why.
    pub reason: Reason,
    /// How long nobody used it.
    pub idle: Duration,
}

/// Content of the store that is to go.
#[derive(Clone, Debug, Default)]
pub struct PlannedContents {
    groups: Vec<Group>,
}

impl PlannedContents {
    /// Returns how many files it is.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.groups.iter().map(|group| group.items.len() as u64).sum()
    }

    /// Returns its bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.groups.iter().map(|group| group.bytes).fold(0, u64::saturating_add)
    }
}

/// Something that would go, if it were not in use.
#[derive(Clone, Debug)]
pub struct Skipped {
    /// Which environment.
    pub name: String,
    /// What keeps it.
    pub reason: String,
}

/// What a clean does.
#[derive(Clone, Debug)]
pub struct Plan {
    cache: Cache,
    /// Environments that go with all that belongs to them.
    pub removals: Vec<PlannedRemoval>,
    /// Environments that stay, and lose what was written over slots that can be made again. How much of
    /// [`Environment::droppable`] that is shows when it is done.
    pub drops: Vec<Environment>,
    /// Content that nothing refers to, or that is old.
    pub contents: PlannedContents,
    /// What is in use.
    pub skipped: Vec<Skipped>,
    /// Bytes that interrupted removals left.
    pub leftovers: u64,
}

/// What was dropped.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// From which environment.
    pub name: String,
    /// Names that were written and went.
    pub names: u64,
    /// Bytes that became free.
    pub bytes: u64,
}

/// What could not be removed.
#[derive(Debug)]
pub struct Failed {
    /// Of which environment; `None` for the store.
    pub name: Option<String>,
    /// Why.
    pub error: CleanupError,
}

/// What a clean did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Names of the environments that are gone.
    pub removed: Vec<String>,
    /// Whose writes were dropped.
    pub dropped: Vec<Dropped>,
    /// Files of the store that are gone.
    pub contents: u64,
    /// Bytes of them.
    pub contents_bytes: u64,
    /// All bytes that became free.
    pub freed: u64,
    /// What was kept because somebody uses it.
    pub skipped: Vec<Skipped>,
    /// What the disk did not let go. Everything else was done.
    pub failed: Vec<Failed>,
}

impl Plan {
    /// Plans a clean of `cache`. Nothing is changed.
    ///
    /// # Errors
    /// The cache or the mount table cannot be read.
    pub fn make(
        cache: &Cache,
        strategy: Strategy,
        wish: Wish,
        now: SystemTime,
    ) -> Result<Self, CleanupError> {
        let environments = list(cache)?;
        let groups = contents::gather(cache, &environments, now)?;
        // Positions stand for names, which need not be text.
        let facts: Vec<EnvironmentFacts> = environments
            .iter()
            .enumerate()
            .map(|(position, environment)| facts(position, environment, strategy, now))
            .collect();
        let contents: Vec<_> =
            groups.iter().enumerate().map(|(at, (key, group))| key.facts(at.to_string(), group)).collect();
        let decided = cleanup::plan(&facts, &contents, wish);
        let environment = |name: &str| name.parse().ok().and_then(|at: usize| environments.get(at));
        let removals = decided.environments.iter().filter_map(|removal| {
            let environment = environment(&removal.name)?.clone();
            let idle = environment.idle(now);
            Some(PlannedRemoval { environment, reason: removal.reason, idle })
        });
        // No content is ever in use, so all that is skipped are environments.
        let skipped = decided.skipped.iter().filter_map(|name| {
            let environment = environment(name)?;
            Some(skipped(environment, environment.in_use.as_ref()?))
        });
        Ok(Self {
            cache: cache.clone(),
            removals: removals.collect(),
            drops: decided.drop_writes.iter().filter_map(|name| environment(name).cloned()).collect(),
            contents: chosen(groups, &decided.contents),
            skipped: skipped.collect(),
            leftovers: aside::leftovers(cache)?,
        })
    }

    /// Tells whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removals.is_empty() && self.drops.is_empty() && self.contents.files() == 0 && self.leftovers == 0
    }

    /// Returns the bytes that become free for certain; dropped writes come on top.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let environments = self.removals.iter().map(|removal| removal.environment.bytes);
        environments.chain([self.contents.bytes(), self.leftovers]).fold(0, u64::saturating_add)
    }

    /// Does it. What cannot be done is told at the end and keeps nothing else from being done. `freed` hears, as it
    /// goes, how many bytes more are free. `erasure` is about what programs wrote.
    ///
    /// # Errors
    /// The cache cannot be read, or nothing can be moved in it.
    pub fn carry_out(self, erasure: Erasure, freed: &mut dyn FnMut(u64)) -> Result<Outcome, CleanupError> {
        let mut outcome = Outcome { skipped: self.skipped, ..Outcome::default() };
        let mut count = |outcome: &mut Outcome, bytes: u64| {
            outcome.freed = outcome.freed.saturating_add(bytes);
            freed(bytes);
        };
        match aside::delete_leftovers(&self.cache) {
            Ok(()) => count(&mut outcome, self.leftovers),
            Err(error) => outcome.failed.push(Failed { name: None, error }),
        }
        // What nothing refers to even now goes first: on a full disk moving an environment may take room.
        let groups = self.contents.groups;
        let later = remove_contents(&self.cache, groups, &mut outcome, &mut count)?;
        if !self.removals.is_empty() {
            let mut aside = Aside::open(&self.cache)?;
            for removal in self.removals {
                let name = removal.environment.listed.workenv.name().to_string();
                match remove(&mut aside, &removal, erasure) {
                    Ok(None) => {
                        count(&mut outcome, removal.environment.bytes);
                        outcome.removed.push(name);
                    }
                    Ok(Some(reason)) => outcome.skipped.push(skipped(&removal.environment, &reason)),
                    Err(error) => outcome.failed.push(Failed { name: Some(name), error }),
                }
            }
            aside.close();
        }
        for environment in self.drops {
            match drop_writes(&environment, erasure) {
                Ok(Ok(dropped)) => {
                    count(&mut outcome, dropped.bytes);
                    outcome.dropped.push(dropped);
                }
                Ok(Err(skipped)) => outcome.skipped.push(skipped),
                Err(error) => {
                    let name = environment.listed.workenv.name().to_string();
                    outcome.failed.push(Failed { name: Some(name), error });
                }
            }
        }
        remove_contents(&self.cache, later, &mut outcome, &mut count)?;
        if let Err(error) = contents::sweep(&self.cache) {
            outcome.failed.push(Failed { name: None, error: error.into() });
        }
        Ok(outcome)
    }
}

fn facts(
    position: usize,
    environment: &Environment,
    strategy: Strategy,
    now: SystemTime,
) -> EnvironmentFacts {
    EnvironmentFacts {
        name: position.to_string(),
        bytes: environment.bytes,
        idle: environment.idle(now),
        in_use: environment.in_use.is_some(),
        strategy,
        unfinished: environment.unfinished,
        has_droppable_writes: environment.droppable.is_some(),
        has_snapshots: environment.snapshots > 0,
    }
}

/// Removes content, and returns what an environment refers to.
fn remove_contents(
    cache: &Cache,
    groups: Vec<Group>,
    outcome: &mut Outcome,
    count: &mut dyn FnMut(&mut Outcome, u64),
) -> Result<Vec<Group>, CleanupError> {
    let referred_to = contents::referred_to(cache)?;
    let mut needed = Vec::new();
    for group in groups {
        if group.slots.iter().any(|slot| referred_to.contains(slot)) {
            needed.push(group);
            continue;
        }
        match contents::remove(cache, &group) {
            Ok(()) => {
                outcome.contents += group.items.len() as u64;
                outcome.contents_bytes = outcome.contents_bytes.saturating_add(group.bytes);
                count(outcome, group.bytes);
            }
            Err(error) => outcome.failed.push(Failed { name: None, error: error.into() }),
        }
    }
    Ok(needed)
}

/// Returns the groups that were chosen, objects first.
fn chosen(groups: Groups, removals: &[cleanup::Removal]) -> PlannedContents {
    let mut groups: BTreeMap<String, Group> =
        groups.into_values().enumerate().map(|(at, group)| (at.to_string(), group)).collect();
    let groups = removals.iter().filter_map(|removal| groups.remove(&removal.name)).collect();
    PlannedContents { groups }
}

fn skipped(environment: &Environment, reason: &InUse) -> Skipped {
    Skipped { name: environment.listed.workenv.name().to_string(), reason: reason.to_string() }
}

/// Removes one environment, unless somebody uses it or did since the plan was made.
fn remove(
    aside: &mut Aside,
    removal: &PlannedRemoval,
    erasure: Erasure,
) -> Result<Option<InUse>, CleanupError> {
    let listed = &removal.environment.listed;
    if removal.reason != Reason::Asked {
        let fresh = Environment::look(listed.clone(), &mount_table::read()?);
        if fresh.used != removal.environment.used {
            return Ok(Some(fresh.in_use.unwrap_or(InUse::Meanwhile)));
        }
    }
    match hold(&listed.workenv)? {
        Ok(held) => {
            let entry = aside.take(&listed.workenv, held, erasure)?;
            aside.delete(entry)?;
            Ok(None)
        }
        Err(reason) => Ok(Some(reason)),
    }
}

/// Drops what goes by a clean; what cannot be dropped now is told why.
fn drop_writes(
    environment: &Environment,
    erasure: Erasure,
) -> Result<Result<Dropped, Skipped>, CleanupError> {
    let workenv = &environment.listed.workenv;
    let name = workenv.name().to_string();
    let held = match hold(workenv)? {
        Ok(held) => held,
        Err(reason) => return Ok(Err(skipped(environment, &reason))),
    };
    Ok(match served::drop_writes_at_clean(&held.start, &Place::of(workenv.clone()), erasure) {
        Ok(dropped) => Ok(Dropped { name, names: dropped.names, bytes: dropped.bytes }),
        Err(error) => Err(Skipped { name, reason: format!("its writes cannot be told apart: {error}") }),
    })
}

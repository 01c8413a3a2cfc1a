//! What a clean removes: facts in, a plan out. The plan is shown as `--dry-run` and carried out as it is.
//!
//! **Invariant:** a plan never names anything that is in use.

use std::time::Duration;

use crate::retention::Strategy;

/// A work environment as found on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentFacts {
    /// Its name.
    pub name: String,
    /// Bytes it takes on disk (what was written in it; what was extracted).
    pub bytes: u64,
    /// How long nobody has used it.
    pub idle: Duration,
    /// Whether it is mounted, or a program runs in it, or somebody is making it.
    pub in_use: bool,
    /// How much of it is to be kept.
    pub strategy: Strategy,
    /// Whether its making was begun and never finished.
    pub unfinished: bool,
    /// Whether it has slots whose writes go by a clean (`cached` and all that go earlier).
    pub has_droppable_writes: bool,
    /// Whether snapshots of what was written are kept with it: whoever asked for them did so to have them later, so
    /// nothing but another wish takes them.
    pub has_snapshots: bool,
}

/// Something in the shared store: decoded content or a slot index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentFacts {
    /// Its name in the store.
    pub name: String,
    /// Bytes it takes on disk.
    pub bytes: u64,
    /// How long nobody has used it.
    pub idle: Duration,
    /// Whether a session reads it.
    pub in_use: bool,
    /// Which environments were made from it.
    pub referrers: Referrers,
}

/// Which environments were made from something in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Referrers {
    /// These, by name, and no others; none when the last one is gone.
    Known(Vec<String>),
    /// Nothing on disk tells.
    Unknown,
}

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Everything that nobody uses.
    Everything,
    /// What nobody has used for this long.
    OlderThan(Duration),
    /// What each environment's strategy lets go.
    ByStrategy,
    /// As `ByStrategy`, then the longest unused first until no more than this many bytes are left.
    Budget(u64),
}

/// Why something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The user wants everything gone.
    Asked,
    /// It was not used for longer than was asked.
    OlderThanAsked,
    /// Its strategy keeps it no longer.
    Expired,
    /// Its making was never finished.
    Unfinished,
    /// The whole takes more than the budget, and this was used longest ago.
    OverBudget,
    /// Nothing is left that was made from it.
    Unreferenced,
}

/// Something to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Its name.
    pub name: String,
    /// Bytes that become free.
    pub bytes: u64,
    /// Why it goes.
    pub reason: Reason,
}

/// What a clean does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanupPlan {
    /// Environments to remove with all that belongs to them.
    pub environments: Vec<Removal>,
    /// Environments that stay, and lose their slots' droppable writes.
    pub drop_writes: Vec<String>,
    /// Content to remove from the store, after the environments.
    pub contents: Vec<Removal>,
    /// Names of what would go if it were not in use.
    pub skipped: Vec<String>,
}

impl CleanupPlan {
    /// Returns the bytes that become free.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.environments.iter().chain(&self.contents).map(|removal| removal.bytes).sum()
    }

    /// Tells whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.environments.is_empty() && self.contents.is_empty() && self.drop_writes.is_empty()
    }
}

/// Plans a clean.
#[must_use]
pub fn plan(environments: &[EnvironmentFacts], contents: &[ContentFacts], wish: Wish) -> CleanupPlan {
    let mut plan = CleanupPlan::default();
    for environment in environments {
        let reason = reason_for(environment, wish);
        match (reason, environment.in_use) {
            (Some(_), true) => plan.skipped.push(environment.name.clone()),
            (Some(reason), false) => plan.environments.push(Removal {
                name: environment.name.clone(),
                bytes: environment.bytes,
                reason,
            }),
            (None, false) if environment.has_droppable_writes => {
                plan.drop_writes.push(environment.name.clone());
            }
            (None, _) => {}
        }
    }
    if let Wish::Budget(limit) = wish {
        shrink(&mut plan, environments, contents, limit);
    }
    remove_unreferenced(&mut plan, environments, contents, wish);
    plan
}

fn reason_for(environment: &EnvironmentFacts, wish: Wish) -> Option<Reason> {
    if environment.unfinished && !environment.in_use && !environment.has_snapshots {
        return Some(Reason::Unfinished);
    }
    match wish {
        Wish::Everything => Some(Reason::Asked),
        Wish::OlderThan(limit) => (environment.idle >= limit).then_some(Reason::OlderThanAsked),
        Wish::ByStrategy | Wish::Budget(_) if environment.has_snapshots => None,
        Wish::ByStrategy | Wish::Budget(_) => {
            environment.strategy.is_expired(environment.idle).then_some(Reason::Expired)
        }
    }
}

/// Adds environments, longest unused first, until what is left fits. Content counts as gone with the last
/// environment made from it.
fn shrink(plan: &mut CleanupPlan, environments: &[EnvironmentFacts], contents: &[ContentFacts], limit: u64) {
    let mut candidates: Vec<&EnvironmentFacts> = environments
        .iter()
        .filter(|environment| !environment.in_use && !environment.has_snapshots)
        .filter(|environment| !is_removed(plan, &environment.name))
        .collect();
    candidates.sort_by(|left, right| right.idle.cmp(&left.idle).then_with(|| left.name.cmp(&right.name)));
    for environment in candidates {
        if bytes_left(plan, environments, contents, limit) <= limit {
            return;
        }
        plan.drop_writes.retain(|name| *name != environment.name);
        plan.environments.push(Removal {
            name: environment.name.clone(),
            bytes: environment.bytes,
            reason: Reason::OverBudget,
        });
    }
}

fn bytes_left(
    plan: &CleanupPlan,
    environments: &[EnvironmentFacts],
    contents: &[ContentFacts],
    limit: u64,
) -> u64 {
    let environments_left =
        environments.iter().filter(|environment| !is_removed(plan, &environment.name)).map(|left| left.bytes);
    let contents_left = contents
        .iter()
        .filter(|content| content.in_use || is_wanted(plan, environments, content, Wish::Budget(limit)))
        .map(|left| left.bytes);
    environments_left.chain(contents_left).fold(0, u64::saturating_add)
}

fn remove_unreferenced(
    plan: &mut CleanupPlan,
    environments: &[EnvironmentFacts],
    contents: &[ContentFacts],
    wish: Wish,
) {
    for content in contents {
        if is_wanted(plan, environments, content, wish) {
            continue;
        }
        if content.in_use {
            plan.skipped.push(content.name.clone());
        } else {
            plan.contents.push(Removal {
                name: content.name.clone(),
                bytes: content.bytes,
                reason: Reason::Unreferenced,
            });
        }
    }
}

/// Decides whether content stays: an environment made from it stays, or, where that cannot be told, it is not old.
/// What nothing refers to any more goes with every clean, unless the user asked for old things only.
fn is_wanted(
    plan: &CleanupPlan,
    environments: &[EnvironmentFacts],
    content: &ContentFacts,
    wish: Wish,
) -> bool {
    let by_age = || match wish {
        Wish::Everything => false,
        Wish::OlderThan(limit) => content.idle < limit,
        Wish::ByStrategy | Wish::Budget(_) => !Strategy::Balanced.is_expired(content.idle),
    };
    match &content.referrers {
        Referrers::Unknown => by_age(),
        Referrers::Known(names) => {
            let found = environments.iter().filter(|environment| names.contains(&environment.name));
            let mut found = found.peekable();
            if found.peek().is_none() {
                return matches!(wish, Wish::OlderThan(limit) if content.idle < limit);
            }
            found.any(|environment| !is_removed(plan, &environment.name))
        }
    }
}

fn is_removed(plan: &CleanupPlan, name: &str) -> bool {
    plan.environments.iter().any(|removal| removal.name == name)
}

#[cfg(test)]
mod tests;

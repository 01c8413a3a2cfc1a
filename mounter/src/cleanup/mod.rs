//! Making room: what work environments and the shared store take, and removing what nobody needs any more.
//!
//! [`list`] and [`size`] only look. [`Plan::make`] decides what a clean removes, by `slotfs-policy` from facts that are
//! gathered here, and [`Plan::carry_out`] does exactly that. [`remove`] takes away environments that the user names.
//!
//! Whatever goes is moved into `{cache}/.slotfs/removed-v1` first, on the same disk, and deleted there; what an
//! interrupted removal left is deleted by the next clean.
//!
//! **Invariant:** nothing that is in use is touched, nothing that neither slotfs nor a launcher made, and nothing
//! outside the cache. What was planned is looked at again under the environment's locks before it goes.

mod aside;
pub mod check;
mod contents;
mod environment;
mod held;
mod plan;

pub use contents::StoreSize;
pub use environment::{Environment, InUse};
pub use plan::{Dropped, Failed, Outcome, Plan, PlannedContents, PlannedRemoval, Skipped};

use std::path::{Path, PathBuf};

use slotfs_fs::disk::DiskError;
use slotfs_fs::disk::unix::Erasure;
use slotfs_fs::layer::LayerError;

use crate::extract::layers::LayersError;
use crate::host::mount_table;
use crate::workenv::{Cache, Workenv, WorkenvError};

/// Why nothing was removed or checked, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// An environment cannot be found or listed.
    #[error(transparent)]
    Workenv(#[from] WorkenvError),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A slot cannot be made anew.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// A slot cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// It is in use.
    #[error("the work environment `{name}` is in use: {reason}")]
    InUse {
        /// The environment.
        name: String,
        /// By whom.
        reason: InUse,
        /// Where its files are.
        content: PathBuf,
    },
    /// It is not as slotfs or a launcher makes it, so it may be somebody's own.
    #[error("the work environment `{name}` is not removed: neither slotfs nor a launcher made `{}` as it is", path.display())]
    Foreign {
        /// The environment.
        name: String,
        /// What is another kind of file than it should be.
        path: PathBuf,
    },
}

impl CleanupError {
    /// Says why `workenv` is not removed.
    #[must_use]
    pub fn kept(workenv: &Workenv, reason: InUse) -> Self {
        let name = workenv.name().to_string();
        if let InUse::Foreign { path } = reason {
            return Self::Foreign { name, path };
        }
        Self::InUse { name, reason, content: workenv.content() }
    }
}

/// What a cache takes on disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// All work environments, with what was written in them.
    pub environments: u64,
    /// What they share.
    pub store: StoreSize,
    /// What interrupted removals left.
    pub leftovers: u64,
}

/// Lists the work environments of `cache`, slotfs's and those that launchers made, with what they take and who uses
/// them. Sorted by name; nothing is changed.
///
/// # Errors
/// The cache or the mount table cannot be read.
pub fn list(cache: &Cache) -> Result<Vec<Environment>, CleanupError> {
    let table = mount_table::read()?;
    Ok(cache.all()?.into_iter().map(|listed| Environment::look(listed, &table)).collect())
}

/// Adds up what `cache` takes; nothing is changed.
///
/// # Errors
/// The cache or the mount table cannot be read.
pub fn size(cache: &Cache) -> Result<Sizes, CleanupError> {
    Ok(Sizes {
        environments: list(cache)?.iter().map(|environment| environment.bytes).sum(),
        store: contents::size(cache)?,
        leftovers: aside::leftovers(cache)?,
    })
}

/// Finds the environments that the user means, each by name, identity, content directory, package file, or the unique
/// beginning of a name or identity. One that is meant twice is returned once.
///
/// # Errors
/// There is none, or there are several; or the mount table cannot be read.
pub fn find(cache: &Cache, queries: &[impl AsRef<Path>]) -> Result<Vec<Environment>, CleanupError> {
    let table = mount_table::read()?;
    let mut found: Vec<Environment> = Vec::new();
    for query in queries {
        let listed = cache.find(query.as_ref())?;
        if !found.iter().any(|known| known.listed.workenv == listed.workenv) {
            found.push(Environment::look(listed, &table));
        }
    }
    Ok(found)
}

/// Removes environments with all that was written in them; returns the bytes that became free. When somebody uses one of
/// them, none is removed. `removed` hears of each.
///
/// # Errors
/// One is in use, or the disk refused; in the second case some may be gone, and the next clean deletes what is left.
pub fn remove(
    cache: &Cache,
    environments: &[Environment],
    erasure: Erasure,
    removed: &mut dyn FnMut(&Environment),
) -> Result<u64, CleanupError> {
    // All are locked before the first is touched.
    let mut held = Vec::with_capacity(environments.len());
    for environment in environments {
        match held::hold(&environment.listed.workenv)? {
            Ok(locks) => held.push(locks),
            Err(reason) => return Err(CleanupError::kept(&environment.listed.workenv, reason)),
        }
    }
    let mut aside = aside::Aside::open(cache)?;
    let mut moved = Vec::with_capacity(environments.len());
    for (environment, locks) in environments.iter().zip(held) {
        moved.push((environment, aside.take(&environment.listed.workenv, locks, erasure)?));
    }
    let mut freed = 0_u64;
    for (environment, entry) in moved {
        aside.delete(entry)?;
        freed = freed.saturating_add(environment.bytes);
        removed(environment);
    }
    aside.close();
    Ok(freed)
}

//! What was written in a work environment, as it was at one moment, for as long as somebody reads it.
//!
//! Where it is mounted it is copied, as for a snapshot, and programs go on; else nobody can begin to use it meanwhile.
//!
//! **Invariant:** what is written is never changed by reading it; a copy goes with this, or with the next start after a
//! kill.

use std::path::PathBuf;

use slotfs_fs::disk::{Context as _, DiskError, atomic};
use slotfs_fs::overlay::{Upper, View};

use crate::host::files;
use crate::workenv::Workenv;

use super::place::Lease;
use super::snapshot::{self, SnapshotError};
use super::still::{Quiet, Still};

/// What was written, held still.
#[derive(Debug)]
pub struct Frozen {
    upper: PathBuf,
    work: PathBuf,
    /// A copy.
    copy: Option<PathBuf>,
    _held: Held,
}

/// What keeps it as it is.
#[derive(Debug)]
enum Held {
    /// Nobody uses the environment.
    Still { _still: Box<Still> },
    /// The server stays, so that nobody takes the copy for what a killed one left.
    Live { _lease: Lease },
}

impl Frozen {
    /// Takes what is written in `workenv`. `told` hears the length of each file that is copied.
    ///
    /// # Errors
    /// Changes cannot be held up, or the disk refuses.
    pub fn take(quiet: Quiet, workenv: &Workenv, told: &mut dyn FnMut(u64)) -> Result<Self, SnapshotError> {
        let mut live = match quiet {
            Quiet::Still(still) => {
                let (upper, work) = (workenv.upper(), workenv.work());
                return Ok(Self { upper, work, copy: None, _held: Held::Still { _still: Box::new(still) } });
            }
            Quiet::Live(live) => live,
        };
        let folder = workenv.snapshots();
        files::create_private_directories(&folder).context("create the directory", &folder)?;
        let copy = atomic::temporary_beside(&folder.join("commit"));
        if let Err(error) = snapshot::copy_live(&mut live, workenv, &copy, told) {
            // The first error is the one to report; the next start sweeps what is left.
            let _ = snapshot::remove_tree(&copy);
            return Err(error);
        }
        let (upper, work) = (copy.join("upper"), copy.join("work"));
        Ok(Self { upper, work, copy: Some(copy), _held: Held::Live { _lease: live.into_lease() } })
    }

    /// Looks at it; `None` where nothing was ever written.
    ///
    /// # Errors
    /// What the host reports.
    pub fn view(&self) -> Result<Option<View>, DiskError> {
        View::open(&self.upper)
    }

    /// Opens it for a volume.
    ///
    /// # Errors
    /// What the host reports.
    pub fn open(&self) -> Result<Upper, DiskError> {
        Upper::open(&self.upper, &self.work)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(copy) = &self.copy
            && let Err(error) = snapshot::remove_tree(copy)
        {
            tracing::warn!("{error}");
        }
    }
}

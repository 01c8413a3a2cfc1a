//! Handing an environment over from one build of a package to the next: what was written is set aside, not
//! removed, and what the user owns is carried over.
//!
//! **Invariant:** at every moment each written file is in exactly one of `upper` and `earlier`, and a handover
//! that was interrupted is finished by the next one.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use slotfs_fs::disk::lock::{FileLock, Mode};
use slotfs_fs::disk::{Context, DiskError, atomic};

use super::error::remove_if_there;
use super::facts::PackageFacts;
use super::record::{Record, read_small};
use super::{Workenv, WorkenvError};
use crate::host::files;

/// What a handover did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// What was written under the earlier build, less what was carried over; `None` when that was nothing.
    pub set_aside: Option<PathBuf>,
    /// Top-level entries that were carried over, sorted.
    pub carried: Vec<OsString>,
}

impl Workenv {
    /// Hands the environment over to another build. The caller holds [`Self::start_lock`] and has made sure
    /// that nothing is mounted. `carries` is asked for each top-level entry of what was written whether it is
    /// the user's and stays; `carry_more` may then move further things from the first directory to the second. Both
    /// are asked again about what is left when a handover was interrupted.
    ///
    /// # Errors
    /// The disk's, with the path; calling it again goes on where it stopped.
    pub fn replace(
        &self,
        facts: &PackageFacts,
        previous: &Record,
        now: SystemTime,
        carries: impl Fn(&OsStr) -> bool,
        carry_more: impl FnOnce(&Path, &Path) -> Result<(), WorkenvError>,
    ) -> Result<Replaced, WorkenvError> {
        self.create()?;
        self.forget_preparation()?;
        let note = self.own_directory().join("replacing");
        let aside = match interrupted(&note)? {
            Some(name) => self.earlier().join(name),
            None => self.begin(&note, previous)?,
        };
        let index = self.set_index_aside(&aside)?;
        let carried = self.carry_over(&aside, carries)?;
        carry_more(&aside, &self.upper())?;
        let names = self.cache().shared().join("names.lock");
        let lock = FileLock::acquire(&names, Mode::Exclusive, Duration::from_secs(10))?;
        let created = if previous.created == 0 {
            Record::of(facts, super::claim::seconds(now))
        } else {
            Record::of(facts, previous.created)
        };
        created.write(self)?;
        drop(lock);
        remove_if_there(&note)?;
        // An empty one tells nobody anything.
        let emptied = std::fs::remove_dir(&aside).is_ok();
        if emptied {
            let _ = std::fs::remove_dir_all(index);
            let _ = std::fs::remove_dir(aside.parent().unwrap_or(&aside));
        }
        Ok(Replaced { set_aside: (!emptied).then_some(aside), carried })
    }

    /// Chooses where the writes go, notes it, and moves them there.
    fn begin(&self, note: &Path, previous: &Record) -> Result<PathBuf, WorkenvError> {
        let name = (0u32..)
            .map(|number| format!("{}-{number}", previous.id))
            .find(|name| !self.earlier().join(name).exists())
            .unwrap_or_default();
        let aside = self.earlier().join(&name).join("upper");
        let parent = self.earlier().join(&name);
        files::create_private_directories(&parent).context("create the directory", &parent)?;
        atomic::write(note, format!("{name}/upper").as_bytes())?;
        std::fs::rename(self.upper(), &aside).context("set aside", self.upper())?;
        Ok(aside)
    }

    /// The overlay's index goes with the writes it is about; left behind, it would show old copies of hard-linked
    /// files to the next build.
    fn set_index_aside(&self, aside: &Path) -> Result<PathBuf, WorkenvError> {
        let (index, kept) = (self.own_directory().join("upper-index"), aside.with_file_name("upper-index"));
        match std::fs::rename(&index, &kept) {
            Ok(()) => Ok(kept),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(kept),
            Err(error) => Err(DiskError::new("set aside", index, error).into()),
        }
    }

    fn carry_over(
        &self,
        aside: &Path,
        carries: impl Fn(&OsStr) -> bool,
    ) -> Result<Vec<OsString>, WorkenvError> {
        let upper = self.upper();
        files::create_private_directories(&upper).context("create the directory", &upper)?;
        let mut carried = Vec::new();
        let entries = match std::fs::read_dir(aside) {
            Ok(entries) => entries,
            // Interrupted before the rename: there is nothing aside yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::rename(&upper, aside).context("set aside", &upper)?;
                files::create_private_directories(&upper).context("create the directory", &upper)?;
                std::fs::read_dir(aside).context("list", aside)?
            }
            Err(error) => return Err(DiskError::new("list", aside, error).into()),
        };
        for entry in entries {
            let name = entry.context("list", aside)?.file_name();
            let kept = upper.join(&name);
            if carries(&name) {
                std::fs::rename(aside.join(&name), &kept).context("carry over", &kept)?;
                carried.push(name);
            }
        }
        carried.sort();
        Ok(carried)
    }
}

/// Returns where an interrupted handover was moving things to.
fn interrupted(note: &Path) -> Result<Option<PathBuf>, WorkenvError> {
    let Some(bytes) = read_small(note, 256)? else { return Ok(None) };
    let name = String::from_utf8_lossy(&bytes).into_owned();
    let plain = name.strip_suffix("/upper").is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    Ok(plain.then(|| PathBuf::from(name)))
}

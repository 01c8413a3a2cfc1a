//! Setup that was begun and not finished: what it wrote is known, and goes.
//!
//! A note beside the upper directory names the top-level entries that were there before setup began. While it
//! exists, everything else in the upper directory is half done.
//!
//! Setup without commands leaves nothing half done, and no note.
//!
//! **Invariant:** the note is on disk before the first setup command runs, and goes only after the environment was
//! noted as prepared, or what was half done is gone.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use slotfs_fs::disk::{Context, DiskError, atomic};

use super::wire::path;
use crate::host::files;
use crate::workenv::Workenv;

/// Setup in progress.
#[derive(Debug)]
pub(super) struct Halfway {
    note: PathBuf,
    upper: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Note {
    before: Vec<Name>,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Name(#[serde(with = "path")] PathBuf);

impl Halfway {
    fn of(workenv: &Workenv) -> Self {
        Self { note: workenv.own_directory().join("preparing"), upper: workenv.upper() }
    }

    /// Setup in unpacked files: what is half done is in the content directory itself.
    pub(super) fn unpacking(workenv: &Workenv) -> Self {
        Self { note: workenv.own_directory().join("unpacking"), upper: workenv.content() }
    }

    /// Notes that setup begins.
    pub(super) fn begin(workenv: &Workenv) -> Result<Self, DiskError> {
        let halfway = Self::of(workenv);
        halfway.note()?;
        Ok(halfway)
    }

    /// Tells whether setup was begun, and neither completed nor undone.
    pub(super) fn is_begun(workenv: &Workenv) -> bool {
        Self::of(workenv).note.exists()
    }

    /// Notes what is there now: the rest will be half done until [`Self::complete`].
    pub(super) fn note(&self) -> Result<(), DiskError> {
        let before = entries(&self.upper)?.into_iter().map(|name| Name(name.into())).collect();
        let text = serde_json::to_vec(&Note { before }).map_err(io::Error::from);
        atomic::write(&self.note, &text.context("describe", &self.note)?)
    }

    /// Removes what an interrupted attempt wrote, if there was one.
    pub(super) fn resume(&self) -> Result<(), DiskError> {
        self.remove_new()
    }

    /// Notes that setup is complete.
    ///
    /// Not waited for on disk: a note that comes back after a power failure is settled by what it stands beside.
    pub(super) fn complete(self) -> Result<(), DiskError> {
        remove_if_there(&self.note)
    }

    /// Removes what setup wrote.
    pub(super) fn abandon(self) -> Result<(), DiskError> {
        self.remove_new()
    }

    fn remove_new(&self) -> Result<(), DiskError> {
        let before: BTreeSet<OsString> = match std::fs::read(&self.note) {
            Ok(text) => match serde_json::from_slice::<Note>(&text) {
                Ok(note) => note.before.into_iter().map(|Name(name)| name.into_os_string()).collect(),
                // It is written whole, so this is no half-written note but a damaged disk: nothing is removed that
                // might be the user's.
                Err(error) => {
                    tracing::warn!("`{}` cannot be understood: {error}", self.note.display());
                    entries(&self.upper)?
                }
            },
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(DiskError::new("read", &self.note, error)),
        };
        for name in entries(&self.upper)?.difference(&before) {
            remove_tree(&self.upper.join(name))?;
        }
        remove_if_there(&self.note)
    }

    /// Settles what an interrupted setup left, if there was one: what it wrote goes, unless the environment was noted
    /// as prepared before the interruption.
    pub(super) fn settle(workenv: &Workenv, prepared: bool) -> Result<(), DiskError> {
        let halfway = Self::of(workenv);
        if prepared { halfway.complete() } else { halfway.abandon() }
    }
}

/// Tells whether everything in `workenv` is half done: nothing was there before setup or unpacking began, which never
/// ended. The files in its place are looked at only with `content`: slotfs's own are noted before they are unpacked,
/// those of a launcher are not.
#[must_use]
pub fn is_only_begun(workenv: &Workenv, content: bool) -> bool {
    let is_new = |halfway: &Halfway| match std::fs::read(&halfway.note) {
        Ok(text) => serde_json::from_slice::<Note>(&text).is_ok_and(|note| note.before.is_empty()),
        Err(_) => entries(&halfway.upper).is_ok_and(|entries| entries.is_empty()),
    };
    entries(&workenv.earlier()).is_ok_and(|entries| entries.is_empty())
        && is_new(&Halfway::of(workenv))
        && (!content || is_new(&Halfway::unpacking(workenv)))
}

fn entries(folder: &Path) -> Result<BTreeSet<OsString>, DiskError> {
    let listing = match std::fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(DiskError::new("list", folder, error)),
    };
    listing.map(|entry| entry.map(|entry| entry.file_name()).context("list", folder)).collect()
}

fn remove_if_there(path: &Path) -> Result<(), DiskError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(DiskError::new("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a file or a tree, also one whose directories nobody may list (their owner may change that).
fn remove_tree(path: &Path) -> Result<(), DiskError> {
    let kind = std::fs::symlink_metadata(path).context("examine", path)?.file_type();
    if !kind.is_dir() {
        return std::fs::remove_file(path).context("remove", path);
    }
    if let Err(error) = std::fs::read_dir(path)
        && error.kind() == ErrorKind::PermissionDenied
    {
        files::set_mode(path, 0o700).context("open up", path)?;
    }
    for name in entries(path)? {
        let entry = path.join(name);
        match remove_tree(&entry) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                files::set_mode(path, 0o700).context("open up", path)?;
                remove_tree(&entry)?;
            }
            result => result?,
        }
    }
    std::fs::remove_dir(path).context("remove", path)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::super::place::tests::place;
    use super::*;

    #[test]
    fn what_setup_wrote_goes_and_what_was_there_stays() {
        let (_folder, place) = place();
        let workenv = place.workenv();
        let upper = workenv.upper();
        std::fs::create_dir_all(upper.join("home/me")).unwrap();
        let halfway = Halfway::begin(workenv).unwrap();
        std::fs::create_dir_all(upper.join("lib/deep")).unwrap();
        std::fs::write(upper.join("lib/deep/file"), b"half").unwrap();
        std::fs::write(upper.join("home/new"), b"").unwrap();
        files::set_mode(&upper.join("lib/deep"), 0o000).unwrap();
        // Killed here: the next start finds the note.
        drop(halfway);
        Halfway::settle(workenv, false).unwrap();
        assert_eq!(entries(&upper).unwrap(), BTreeSet::from([OsString::from("home")]));
        assert!(upper.join("home/me").exists());

        std::fs::write(upper.join("kept"), b"").unwrap();
        Halfway::settle(workenv, false).unwrap();
        assert!(upper.join("kept").exists(), "nothing was half done any more");
    }

    #[test]
    fn complete_setup_stays() {
        let (_folder, place) = place();
        let upper = place.workenv().upper();
        let halfway = Halfway::begin(place.workenv()).unwrap();
        std::fs::write(upper.join("installed"), b"").unwrap();
        // Killed between the note that it is prepared and the end of the other note.
        drop(halfway);
        Halfway::settle(place.workenv(), true).unwrap();
        Halfway::settle(place.workenv(), false).unwrap();
        assert!(upper.join("installed").exists());
    }
}

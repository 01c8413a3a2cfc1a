//! What a work environment was last made from, kept when its session is over: which slots, so that content in the
//! store goes with the last environment that refers to it; and the request to the server, so that a clean can take
//! back what was written over some of them.
//!
//! **Invariant:** the note is there before anything is made in the store for its environment. It goes with the
//! environment alone.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use slotfs_fs::disk::unix::Erasure;
use slotfs_fs::disk::{Context, DiskError, atomic};
use slotfs_fs::overlay::Dropped;

use super::assemble::{AssembleError, Layers};
use super::place::{Place, StartLock};
use super::request::{self, ServeRequest, Spill};
use crate::workenv::{PackageId, Workenv};

/// The version of the note; another one is as if it were not there.
const VERSION: u32 = 1;

/// What an environment was last made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    version: u32,
    /// SHA-256 of the stored bytes of its slots, in hexadecimal digits.
    pub slots: Vec<String>,
    /// What the server of its program was last asked; `None` where it was only ever unpacked.
    pub request: Option<ServeRequest>,
    /// Whether a clean has dropped what it drops since the last start.
    pub is_clean: bool,
}

fn path(workenv: &Workenv) -> PathBuf {
    workenv.own_directory().join("served.json")
}

impl Served {
    /// Reads the note of `workenv`; `None` when there is none that can be understood.
    #[must_use]
    pub fn read(workenv: &Workenv) -> Option<Self> {
        let path = path(workenv);
        // Not followed, and asked before it is opened: to open a pipe would wait for its writer.
        std::fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        let text = std::fs::read(&path).ok()?;
        let note: Self = serde_json::from_slice(&text)
            .inspect_err(|error| tracing::debug!("`{}` cannot be understood: {error}", path.display()))
            .ok()?;
        let known = note.request.as_ref().is_none_or(|request| request.version == request::VERSION);
        (note.version == VERSION && known).then_some(note)
    }

    /// Notes what a server is about to be asked.
    pub(super) fn note(
        workenv: &Workenv,
        slots: Vec<String>,
        request: ServeRequest,
    ) -> Result<(), DiskError> {
        Self { version: VERSION, slots, request: Some(request), is_clean: false }.publish(workenv)
    }

    /// Notes what is about to be unpacked. What was written under a mount of the same build is still known.
    pub(super) fn note_unpacked(
        workenv: &Workenv,
        slots: Vec<String>,
        id: &PackageId,
    ) -> Result<(), DiskError> {
        let known = Self::read(workenv).and_then(|note| note.request);
        let request = known.filter(|request| request.content == id.as_str());
        Self { version: VERSION, slots, request, is_clean: false }.publish(workenv)
    }

    /// Replaces the note, if it changes, without waiting for the disk: after a power failure content may go that has to
    /// be decoded again.
    fn publish(&self, workenv: &Workenv) -> Result<(), DiskError> {
        let path = path(workenv);
        let text = serde_json::to_vec(self).map_err(std::io::Error::from).context("describe", &path)?;
        if std::fs::read(&path).is_ok_and(|known| known == text) {
            return Ok(());
        }
        atomic::write_unsynced(&path, &text)
    }

    /// Tells whether there are slots whose writes go by a clean, and the environment was started since the last one.
    #[must_use]
    pub fn has_droppable_writes(&self, workenv: &Workenv) -> bool {
        let request = self.request.iter().filter(|request| !self.is_clean && is_own(request, workenv));
        request.flat_map(|request| &request.slots).any(|slot| slot.drop_at_clean)
    }
}

/// Takes back what was written over the slots of `place` whose writes go by a clean. Nothing is mounted, and nobody can
/// start anything: the caller has made sure of that with the locks.
///
/// # Errors
/// The package is not there any more, or not as it was; or the disk refused. What was dropped until then stays
/// dropped.
pub fn drop_writes_at_clean(
    _start: &StartLock,
    place: &Place,
    erasure: Erasure,
) -> Result<Dropped, AssembleError> {
    let workenv = place.workenv();
    let Some(mut note) = Served::read(workenv) else { return Ok(Dropped::default()) };
    let Some(request) = note.request.as_ref().filter(|request| is_own(request, workenv)) else {
        return Ok(Dropped::default());
    };
    let dropped = Layers::open(request, None, workenv)?.drop_writes_at_clean(request, erasure)?;
    note.is_clean = true;
    note.publish(workenv)?;
    Ok(dropped)
}

/// Tells whether a note is about this very environment, and not about one that was copied or moved here.
fn is_own(request: &ServeRequest, workenv: &Workenv) -> bool {
    let same = |one: &Path, other: &Path| {
        one == other
            || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
    };
    let own = |spill: &Spill| same(&spill.upper, &workenv.upper()) && same(&spill.work, &workenv.work());
    request.spill.as_ref().is_some_and(own)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::super::place::tests::place;
    use super::super::request::tests::sample;
    use super::*;

    #[test]
    fn a_note_outlives_its_session_and_damage_is_as_good_as_none() {
        let (_folder, place) = place();
        let workenv = place.workenv();
        assert_eq!(Served::read(workenv), None);
        let slots = vec!["ab".repeat(32)];
        Served::note(workenv, slots.clone(), sample()).unwrap();
        let note = Served::read(workenv).unwrap();
        assert_eq!(note.slots, slots);
        assert!(!note.has_droppable_writes(workenv), "it is about another place");
        assert_eq!(note.request, Some(sample()));

        let id = PackageId::of("app", "1", "0");
        Served::note_unpacked(workenv, slots, &id).unwrap();
        assert_eq!(Served::read(workenv).unwrap().request, None, "it was of another build");

        let mut later = note;
        later.version += 1;
        later.publish(workenv).unwrap();
        assert_eq!(Served::read(workenv), None);
        std::fs::write(path(workenv), "{").unwrap();
        assert_eq!(Served::read(workenv), None);
    }
}

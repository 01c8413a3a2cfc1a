//! Snapshots of what was written: kept beside it, complete or absent, and put back in its place.
//!
//! *Layout*
//!
//! | where | what |
//! |---|---|
//! | `snapshots/{name}/` | a snapshot: `upper/`, `upper-index/`, and `snapshot.json` |
//! | `snapshots/.{name}.{pid}-{n}.tmp/` | one that is being made or removed |
//! | `restoring/` | a copy of a snapshot that is complete and takes the place of what was written; then what was there, `earlier-…` |
//! | `restoring/emptied-…` | all that was there is in `earlier-…` |
//!
//! **Invariant:** from the moment when `restoring/` has its name, putting back is finished by whoever comes next and is
//! never undone; what was there is removed only after that.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use slotfs_fs::disk::unix::{Directory, Spot, sync_file_system};
use slotfs_fs::disk::{Context, DiskError, atomic};
use slotfs_fs::node::Kind;
use slotfs_fs::overlay::{Draft, Duplicated, duplicate, index, take_attributes};

use crate::host::files;
use crate::workenv::{PackageId, Workenv, WorkenvError};

use super::control::ControlError;
use super::seconds_now;
use super::still::{Live, Quiet};

const VERSION: u32 = 1;
const LONGEST_NAME: usize = 100;
const NOTE: &str = "snapshot.json";
const UPPER: &str = "upper";
const EARLIER: &str = "earlier-";
const EMPTIED: &str = "emptied-";
const DRAFT: &str = "draft";

/// Why there is no such snapshot, or it cannot be put back.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be a directory's name that is easy to type.
    #[error("`{name}` cannot be the name of a snapshot")]
    Name {
        /// What was asked for.
        name: String,
    },
    /// There is one already.
    #[error("`{workenv}` has a snapshot `{name}` already")]
    Exists {
        /// The environment.
        workenv: String,
        /// The snapshot.
        name: String,
    },
    /// There is none.
    #[error("`{workenv}` has no snapshot `{name}`")]
    Missing {
        /// The environment.
        workenv: String,
        /// The snapshot.
        name: String,
    },
    /// What it says about itself cannot be understood.
    #[error("`{}` cannot be understood: {reason}", path.display())]
    Garbled {
        /// The note.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// It was made of another build of the package.
    #[error("snapshot `{name}` is of another build of the package, {was}; now it is {now}")]
    OtherBuild {
        /// The snapshot.
        name: String,
        /// Identity then.
        was: String,
        /// Identity now.
        now: String,
    },
    /// Programs changed more than can be copied while they are held up.
    #[error("`{workenv}` is changed faster than it can be copied")]
    Late {
        /// The environment.
        workenv: String,
    },
    /// Its server does not hold changes up.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The environment's own files refuse.
    #[error(transparent)]
    Workenv(#[from] WorkenvError),
}

impl From<DiskError> for SnapshotError {
    fn from(error: DiskError) -> Self {
        Self::Workenv(error.into())
    }
}

/// What a snapshot says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    version: u32,
    /// Its name.
    pub name: String,
    /// When it was made, seconds since 1970.
    pub created: u64,
    /// The package's identity then.
    pub package: String,
    /// Whether setup had been done.
    pub prepared: bool,
    /// Names in it.
    pub names: u64,
    /// Length of its files in bytes.
    pub bytes: u64,
}

impl Snapshot {
    /// Reads the snapshot `name` of `workenv`.
    ///
    /// # Errors
    /// There is none, or it cannot be understood.
    pub fn find(workenv: &Workenv, name: &str) -> Result<Self, SnapshotError> {
        let missing = || SnapshotError::Missing { workenv: workenv.name().to_string(), name: name.into() };
        if !is_name(name) {
            return Err(missing());
        }
        let path = workenv.snapshots().join(name).join(NOTE);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            other => other.context("read", &path)?,
        };
        let garbled = |reason: String| SnapshotError::Garbled { path: path.clone(), reason };
        let found: Self = serde_json::from_slice(&text).map_err(|error| garbled(error.to_string()))?;
        if found.version != VERSION || found.name != name {
            return Err(garbled(format!("it is of version {} and called `{}`", found.version, found.name)));
        }
        Ok(found)
    }

    /// Reads every snapshot of `workenv`, oldest first, and with it the names of those that cannot be read.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn all(workenv: &Workenv) -> Result<(Vec<Self>, Vec<String>), SnapshotError> {
        let (mut all, mut damaged) = (Vec::new(), Vec::new());
        for name in names_in(&workenv.snapshots())?.into_iter().filter(|name| is_name(name)) {
            match Self::find(workenv, &name) {
                Ok(found) => all.push(found),
                Err(_) => damaged.push(name),
            }
        }
        all.sort_by(|one, other| (one.created, &one.name).cmp(&(other.created, &other.name)));
        Ok((all, damaged))
    }

    /// Keeps what is written in `workenv` of the package `id` as it is now, under `name`. Where it is mounted, most is
    /// copied first, and then changes are held up for what was changed since. `told` hears the length of each file that is
    /// done.
    ///
    /// # Errors
    /// The name is no good or taken, changes cannot be held up, or the disk refuses; then nothing is left.
    pub fn make(
        quiet: &mut Quiet,
        workenv: &Workenv,
        (name, id): (&str, &PackageId),
        told: &mut dyn FnMut(u64),
    ) -> Result<Self, SnapshotError> {
        if !is_name(name) {
            return Err(SnapshotError::Name { name: name.into() });
        }
        let folder = workenv.snapshots();
        files::create_private_directories(&folder).context("create the directory", &folder)?;
        let place = folder.join(name);
        if place.exists() {
            return Err(SnapshotError::Exists { workenv: workenv.name().to_string(), name: name.into() });
        }
        let temporary = atomic::temporary_beside(&place);
        let made = (|| {
            let done = match quiet {
                Quiet::Still(_) => copy(&workenv.upper(), &temporary.join(UPPER), None, told)?,
                Quiet::Live(live) => copy_live(live, workenv, &temporary, told)?,
            };
            sync(&temporary)?;
            let snapshot = Self {
                version: VERSION,
                name: name.into(),
                created: seconds_now(),
                package: id.to_string(),
                prepared: workenv.prepared_for().as_ref() == Some(id),
                names: done.names,
                bytes: done.bytes,
            };
            let note = temporary.join(NOTE);
            let text =
                serde_json::to_vec_pretty(&snapshot).map_err(io::Error::from).context("encode", &note)?;
            atomic::write(&note, &text)?;
            std::fs::rename(&temporary, &place).context("rename into place", &place)?;
            atomic::sync_directory(&folder)?;
            Ok(snapshot)
        })();
        if made.is_err() {
            // The first error is the one to report; the next command sweeps what is left.
            let _ = remove_tree(&temporary);
        }
        made
    }

    /// Removes the snapshot `name`, also a damaged one; it goes in one step.
    ///
    /// # Errors
    /// There is none, or the disk refuses.
    pub fn remove(_quiet: &Quiet, workenv: &Workenv, name: &str) -> Result<(), SnapshotError> {
        let place = workenv.snapshots().join(name);
        if !is_name(name) || !place.exists() {
            return Err(SnapshotError::Missing { workenv: workenv.name().to_string(), name: name.into() });
        }
        let going = atomic::temporary_beside(&place);
        std::fs::rename(&place, &going).context("remove", &place)?;
        atomic::sync_directory(&workenv.snapshots())?;
        Ok(remove_tree(&going)?)
    }

    /// Puts the snapshot in the place of what is written now in `workenv`, which is of the package `id`. Where it is mounted,
    /// its server does that: what is open is like what was removed.
    ///
    /// # Errors
    /// It is of another build, changes cannot be held up, or the disk refuses; then everything is as it was.
    pub fn restore(
        &self,
        quiet: &mut Quiet,
        workenv: &Workenv,
        id: &PackageId,
        told: &mut dyn FnMut(u64),
    ) -> Result<(), SnapshotError> {
        if self.package != id.as_str() {
            let (name, was) = (self.name.clone(), self.package.clone());
            return Err(SnapshotError::OtherBuild { name, was, now: id.to_string() });
        }
        let place = workenv.restoring();
        let temporary = atomic::temporary_beside(&place);
        let copied = (|| {
            copy(&workenv.snapshots().join(&self.name).join(UPPER), &temporary.join(UPPER), None, told)?;
            sync(&temporary)?;
            let note = temporary.join(NOTE);
            let text = serde_json::to_vec(self).map_err(io::Error::from).context("encode", &note)?;
            atomic::write(&note, &text)
        })();
        if let Err(error) = copied {
            // The first error is the one to report; the next command sweeps what is left.
            let _ = remove_tree(&temporary);
            return Err(error.into());
        }
        let Some(name) = temporary.file_name().and_then(OsStr::to_str) else { return Ok(()) };
        let done = match quiet {
            Quiet::Still(_) => put_back_still(workenv, name).map_err(SnapshotError::from),
            Quiet::Live(live) => {
                live.line.hold().and_then(|()| live.line.put_back(name)).map_err(SnapshotError::from)
            }
        };
        if done.is_err() && temporary.exists() {
            let _ = remove_tree(&temporary);
        }
        done
    }
}

/// Puts what lies ready under the name `prepared` in the place of what is written, and finishes that.
fn put_back_still(workenv: &Workenv, prepared: &str) -> Result<(), DiskError> {
    begin_restoring(workenv, prepared)?;
    settle(workenv)
}

/// As [`Snapshot::restore`], in the server that has the upper directory open. Returns where what was there waits to be removed.
///
/// # Errors
/// Nothing lies ready under this name; or the disk refuses, and whoever clears up after the server goes on.
pub(super) fn put_back(workenv: &Workenv, prepared: &str) -> Result<PathBuf, DiskError> {
    let is_good =
        prepared.starts_with(".restoring.") && prepared.ends_with(".tmp") && !prepared.contains('/');
    if !is_good {
        let reason = io::Error::new(io::ErrorKind::InvalidInput, "it is no snapshot that lies ready");
        return Err(DiskError::new("restore", workenv.own_directory().join(prepared), reason));
    }
    begin_restoring(workenv, prepared)?;
    finish_restoring(workenv)
}

/// Removes what was in the place of a snapshot that was put back; a failure is made good by whoever clears up.
pub(super) fn remove_replaced(going: &Path) {
    if let Err(error) = remove_tree(going) {
        tracing::warn!("{error}");
    }
}

/// From now on it is put back whatever happens.
fn begin_restoring(workenv: &Workenv, prepared: &str) -> Result<(), DiskError> {
    let place = workenv.restoring();
    std::fs::rename(workenv.own_directory().join(prepared), &place).context("rename into place", &place)?;
    atomic::sync_directory(&workenv.own_directory())
}

/// Finishes what was interrupted: a snapshot that is being put back is, and what was half made or half removed goes. To
/// be called with the start lock and the serving lock in hand.
///
/// # Errors
/// The disk refuses; the next call goes on.
pub(super) fn settle(workenv: &Workenv) -> Result<(), DiskError> {
    for (folder, prefix) in [(workenv.snapshots(), "."), (workenv.own_directory(), ".restoring.")] {
        for name in names_in(&folder)? {
            if name.starts_with(prefix) && name.ends_with(".tmp") {
                remove_tree(&folder.join(name))?;
            }
        }
    }
    if workenv.restoring().exists() { remove_tree(&finish_restoring(workenv)?) } else { Ok(()) }
}

/// Returns where what was there waits to be removed.
fn finish_restoring(workenv: &Workenv) -> Result<PathBuf, DiskError> {
    let restoring = workenv.restoring();
    let failed = |error: WorkenvError| DiskError::new("restore", &restoring, io::Error::other(error));
    // First, so that what another setup wrote never counts as this one's.
    workenv.forget_preparation().map_err(failed)?;
    let upper = workenv.upper();
    for place in [upper.clone(), index::beside(&upper)] {
        put_in_place(&restoring, &place)?;
    }
    atomic::sync_directory(&workenv.own_directory())?;
    let note = restoring.join(NOTE);
    let text = std::fs::read(&note).context("read", &note)?;
    let snapshot: Snapshot = serde_json::from_slice(&text).context("understand", &note)?;
    if let Some(id) = PackageId::parse(&snapshot.package).filter(|_| snapshot.prepared) {
        workenv.mark_prepared_for(&id).map_err(failed)?;
    }
    // Taken out of the way in one step: without its note it could not be finished again.
    let going = atomic::temporary_beside(&restoring);
    std::fs::rename(&restoring, &going).context("remove", &restoring)?;
    atomic::sync_directory(&workenv.own_directory())?;
    Ok(going)
}

/// Moves what is in `place` into `restoring`, and what `restoring` has for it there; each may have been done before. The
/// directory itself stays, as a server may have it open.
fn put_in_place(restoring: &Path, place: &Path) -> Result<(), DiskError> {
    let Some(name) = place.file_name() else { return Ok(()) };
    let new = restoring.join(name);
    if !new.exists() {
        return Ok(());
    }
    let with = |prefix: &str| {
        let mut named = std::ffi::OsString::from(prefix);
        named.push(name);
        restoring.join(named)
    };
    let (earlier, emptied) = (with(EARLIER), with(EMPTIED));
    files::create_private_directories(place).context("create the directory", place)?;
    let (place, from) = (Arc::new(Directory::open(place)?), Arc::new(Directory::open(&new)?));
    if !emptied.exists() {
        files::create_private_directories(&earlier).context("create the directory", &earlier)?;
        let aside = Arc::new(Directory::open(&earlier)?);
        move_all(&place, &aside)?;
        atomic::write(&emptied, b"")?;
    }
    move_all(&from, &place)?;
    take_attributes(&from, &place)?;
    place.sync()?;
    std::fs::remove_dir(&new).context("remove", &new)?;
    atomic::sync_directory(restoring)
}

/// Moves everything in one directory into another one.
fn move_all(from: &Arc<Directory>, to: &Arc<Directory>) -> Result<(), DiskError> {
    for listed in from.list()? {
        let before = from.stat(&listed.name)?;
        from.make_movable(&listed.name)?;
        from.rename(&listed.name, to, &listed.name)?;
        if let Some(stat) = before.filter(|stat| stat.attributes.kind == Kind::Directory) {
            Spot::named(to, &listed.name).set_mode(stat.attributes.mode)?;
        }
    }
    to.sync()?;
    from.sync()
}

/// Copies what is written into `target` while it is mounted.
pub(super) fn copy_live(
    live: &mut Live,
    workenv: &Workenv,
    target: &Path,
    told: &mut dyn FnMut(u64),
) -> Result<Duplicated, SnapshotError> {
    let ahead = target.join(DRAFT);
    files::create_private_directories(&ahead).context("create the directory", &ahead)?;
    let upper = workenv.upper();
    let mut sources = Vec::new();
    for source in [upper.clone(), index::beside(&upper)] {
        if source.exists() {
            sources.push(Arc::new(Directory::open(&source)?));
        }
    }
    let mut draft = Draft::take(&sources, Arc::new(Directory::open(&ahead)?), told)?;
    live.line.hold()?;
    let done = copy(&upper, &target.join(UPPER), Some(&mut draft), told);
    let intact = live.line.release()?;
    let done = done?;
    if !intact {
        return Err(SnapshotError::Late { workenv: workenv.name().to_string() });
    }
    remove_tree(&ahead)?;
    Ok(done)
}

/// Makes what was copied into `folder` durable.
fn sync(folder: &Path) -> Result<(), DiskError> {
    Directory::open(folder)?.readable().and_then(sync_file_system)
}

/// Copies an upper directory and its index; both copies are made.
fn copy(
    from: &Path,
    to: &Path,
    draft: Option<&mut Draft>,
    told: &mut dyn FnMut(u64),
) -> Result<Duplicated, DiskError> {
    let mut pairs = Vec::new();
    for (source, target) in [(from.to_owned(), to.to_owned()), (index::beside(from), index::beside(to))] {
        files::create_private_directories(&target).context("create the directory", &target)?;
        if source.exists() {
            pairs.push((Arc::new(Directory::open(&source)?), Arc::new(Directory::open(&target)?)));
        }
    }
    duplicate(&pairs, draft, told)
}

/// Tells whether `name` is easy to type and means only itself in a directory.
fn is_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    starts_well && name.len() <= LONGEST_NAME && name.bytes().all(is_good)
}

/// Counts the snapshots of `workenv`, also those that cannot be read; where they cannot be listed, there is one.
pub(crate) fn count(workenv: &Workenv) -> u64 {
    names_in(&workenv.snapshots()).map_or(1, |names| names.iter().filter(|name| is_name(name)).count() as u64)
}

fn names_in(folder: &Path) -> Result<Vec<String>, DiskError> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.context("list", folder)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        // No name of ours is anything but text.
        names.extend(entry.context("list", folder)?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

pub(super) fn remove_tree(path: &Path) -> Result<(), DiskError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    Directory::open(parent)?.remove_tree(std::os::unix::ffi::OsStrExt::as_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_snapshots_are_easy_to_type() {
        for good in ["a", "before-2", "v1.2_x", "0"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".x", "-x", "a/b", "a b", "ü", "a\n", &"x".repeat(101)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}

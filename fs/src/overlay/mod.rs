//! The upper directory of one work environment, kept as kernel overlayfs keeps it (mount option `userxattr`).
//!
//! *Layout:* `upper/` mirrors the volume: a path there is the path in the volume. A removed name is a whiteout,
//! a directory that hides what lies below is opaque, a renamed directory of the layers carries a redirect;
//! see [`mod@format`]. What overlayfs has no place for is in `user.slotfs.*` attributes and in `upper-index/`
//! beside it; see [`index`]. `work/` is on the same disk and holds only what is being prepared.
//!
//! **Invariant:** `upper/` changes by single renames, links and removals of complete things, so that it is
//! whole after a kill at any moment; nothing in `work/` is ever worth keeping.

pub mod above;
pub(crate) mod access_list;
pub mod allowance;
mod archive;
pub(crate) mod aside;
pub mod carry;
mod changes;
mod drop_owned;
mod duplicate;
pub mod format;
pub mod index;
pub mod owner;
mod rights;
pub(crate) mod shared;
pub mod take_back;
pub mod view;
mod whiteout;
mod work;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::FlockOperation;

use crate::disk::unix::{Directory, NewSpecial, Spot, XattrFlag};
use crate::disk::{Context, DiskError};
use crate::node::Kind;

pub use above::{Above, Rest};
pub use archive::{ArchiveError, LeftOut, write_archive};
pub use changes::{Change, Difference, Parts, changes};
pub use drop_owned::{Dropped, drop_owned};
pub use duplicate::{Draft, Duplicated, duplicate, take_attributes};
pub use rights::{OwnerChange, Rights};
pub use view::{Scope, View};
pub use whiteout::WhiteoutForm;
pub use work::Temporary;

/// The writable side of a volume: `upper/` holds what was written, `work/` what is being prepared.
#[derive(Debug)]
pub struct Upper {
    path: PathBuf,
    root: Arc<Directory>,
    work: Arc<Directory>,
    index_directory: Arc<Directory>,
    index: Mutex<index::Index>,
    /// What is shown and is not on the disk.
    aside: Arc<aside::Aside>,
    /// What may be tried on the disk.
    rights: Rights,
    /// Whether files may be given to other users.
    may_give_away: bool,
    /// Which layers the inode numbers in attributes and index are about.
    layers: OnceLock<String>,
    /// Whether a 0/0 character device can be made here, which overlayfs prefers as whiteout.
    device_whiteouts: bool,
    /// Whether it was noted that there may be files that have attributes only.
    bare_noted: AtomicBool,
    sequence: AtomicU64,
    /// How much the files take, if the last one to have it open left that behind.
    kept_number: Mutex<Option<u64>>,
    /// Held as long as this upper is open; the kernel releases them when the process dies. One is of the upper, so
    /// that it has one user; the other one of what goes with it.
    _locks: [OwnedFd; 2],
}

/// In which form an upper directory is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpperForm {
    /// How removed names are marked.
    pub whiteouts: WhiteoutForm,
    /// What is put on the disk, and what is kept aside.
    pub rights: Rights,
}

impl UpperForm {
    /// As an ordinary user's server writes it, whoever serves.
    pub const ORDINARY: Self = Self { whiteouts: WhiteoutForm::Best, rights: Rights::Ordinary };
}

impl From<WhiteoutForm> for UpperForm {
    fn from(whiteouts: WhiteoutForm) -> Self {
        Self { whiteouts, rights: Rights::Own }
    }
}

/// Where an upper directory is, and what goes with it. All three are on one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpperPlaces {
    /// What was written.
    pub upper: PathBuf,
    /// What is being prepared.
    pub work: PathBuf,
    /// What overlayfs has no place for.
    pub index: PathBuf,
}

impl UpperPlaces {
    /// The index lies beside the upper directory.
    #[must_use]
    pub fn beside(upper: &Path, work: &Path) -> Self {
        Self { upper: upper.into(), work: work.into(), index: index::beside(upper) }
    }

    /// Everything but the upper directory itself lies in `work`, under names that the kernel's overlayfs leaves alone.
    #[must_use]
    pub fn within(upper: &Path, work: &Path) -> Self {
        let own = work.join("slotfs");
        Self { upper: upper.into(), work: own.join("work"), index: own.join("index") }
    }
}

impl Upper {
    /// Opens (or makes) `upper` and `work`, which lie on one file system, and clears half-done work.
    ///
    /// # Errors
    /// Names what could not be made or opened; another process has it open; the disk keeps no extended
    /// attributes.
    pub fn open(upper: &Path, work: &Path) -> Result<Self, DiskError> {
        Self::open_with(upper, work, UpperForm::default())
    }

    /// As [`Self::open`], with the form chosen.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(upper: &Path, work: &Path, form: impl Into<UpperForm>) -> Result<Self, DiskError> {
        Self::open_at(&UpperPlaces::beside(upper, work), form)
    }

    /// As [`Self::open`], with everything where `places` says.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(places: &UpperPlaces, form: impl Into<UpperForm>) -> Result<Self, DiskError> {
        let UpperForm { whiteouts, rights } = form.into();
        let UpperPlaces { upper, work, index } = places;
        for directory in [upper, work, index] {
            std::fs::create_dir_all(directory).context("create the directory", directory)?;
        }
        let root = Arc::new(Directory::open(upper)?);
        let work_directory = Arc::new(Directory::open(work)?);
        let index_directory = Arc::new(Directory::open(index)?);
        let disk = |directory: &Directory| directory.stat(b".").map(|stat| stat.map(|stat| stat.disk));
        if disk(&root)? != disk(&work_directory)? || disk(&root)? != disk(&index_directory)? {
            let reason = std::io::Error::new(std::io::ErrorKind::CrossesDevices, "not on the upper's disk");
            return Err(DiskError::new("use the work directory", work, reason));
        }
        let locks = [locked(&root, upper)?, locked(&index_directory, index)?];
        for leftover in work_directory.list()? {
            work_directory.remove_tree(&leftover.name)?;
        }
        let Probed { devices, may_give_away } = probe(&work_directory, work, rights)?;
        let kept_number = allowance::take_number(&index_directory)?;
        let aside = aside::Aside::load(&root, Some(&index_directory))?;
        let index = index::Index::load(&index_directory, &aside)?;
        aside.clean(&index_directory)?;
        Ok(Self {
            path: upper.clone(),
            root,
            work: work_directory,
            index_directory,
            index: Mutex::new(index),
            aside: Arc::new(aside),
            rights,
            may_give_away,
            layers: OnceLock::new(),
            device_whiteouts: devices && whiteouts == WhiteoutForm::Best,
            bare_noted: AtomicBool::new(false),
            sequence: AtomicU64::new(0),
            kept_number: Mutex::new(kept_number),
            _locks: locks,
        })
    }

    /// Looks again at what is kept in memory, after somebody has replaced all that is in the directories.
    ///
    /// # Errors
    /// What the host reports.
    pub fn look_again(&self) -> Result<(), DiskError> {
        self.aside.load_again(&self.root, Some(&self.index_directory))?;
        *self.index() = index::Index::load(&self.index_directory, &self.aside)?;
        self.aside.clean(&self.index_directory)?;
        self.bare_noted.store(false, Ordering::Relaxed);
        self.forget_number();
        Ok(())
    }

    /// Returns where the upper directory is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the open upper directory.
    #[must_use]
    pub fn root(&self) -> &Arc<Directory> {
        &self.root
    }

    /// Returns the open work directory.
    #[must_use]
    pub fn work(&self) -> &Arc<Directory> {
        &self.work
    }

    /// Returns what is kept aside.
    pub(crate) fn aside(&self) -> &Arc<aside::Aside> {
        &self.aside
    }

    /// Returns which layers it lies over, once that is known.
    #[must_use]
    pub fn layers(&self) -> Option<&str> {
        self.layers.get().map(String::as_str)
    }

    fn index(&self) -> MutexGuard<'_, index::Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_name(&self) -> Vec<u8> {
        format!("{}", self.sequence.fetch_add(1, Ordering::Relaxed)).into_bytes()
    }
}

/// Keeps everybody else from opening what belongs to this directory.
fn locked(directory: &Directory, shown: &Path) -> Result<OwnedFd, DiskError> {
    let held = directory.readable()?;
    rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).context("lock", shown)?;
    Ok(held)
}

/// What the disk can keep.
struct Probed {
    /// 0/0 devices.
    devices: bool,
    /// Files of other users.
    may_give_away: bool,
}

/// Finds out what the disk can keep: extended attributes, which are needed, and what is not.
fn probe(work: &Arc<Directory>, shown: &Path, rights: Rights) -> Result<Probed, DiskError> {
    let name = b"probe";
    work.create_file(name, 0o600)?;
    let attribute = Spot::named(work, name).set_xattr(format::INODE, b"0", XattrFlag::Set);
    let may_give_away = rights::may_give_away(work, name, rights);
    work.unlink(name)?;
    attribute
        .map_err(|error| DiskError::new("keep extended attributes on the disk of", shown, error.source))?;
    let whiteout = NewSpecial { kind: Kind::CharacterDevice, mode: 0, device: 0 };
    let devices = work.make_special(name, whiteout).is_ok();
    if devices {
        work.unlink(name)?;
    }
    Ok(Probed { devices, may_give_away })
}

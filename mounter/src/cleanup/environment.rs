//! One environment as a clean sees it: what it takes, when it was last used, and by whom it is used now.
//!
//! **Invariant:** looking changes nothing: no lock file is made, no link is followed, and a mount is asked nothing.

use std::ffi::OsStr;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use slotfs_fs::disk::DiskError;
use slotfs_fs::disk::lock::{FileLock, Mode};
use slotfs_fs::disk::unix::{Directory, TreeSize};

use crate::host::files;
use crate::host::mount_table::Mount;
use crate::host::users::{self, MountUsers};
use crate::session;
use crate::session::place::Place;
use crate::session::recover;
use crate::session::served::Served;
use crate::workenv::{Listed, MadeBy, Workenv};

/// What keeps an environment from being removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InUse {
    /// Something is mounted at its place or below it.
    Mounted {
        /// Where.
        mountpoint: PathBuf,
    },
    /// A process starts, sets up or clears it.
    Starting {
        /// Who.
        holder: String,
    },
    /// A process serves it.
    Served,
    /// A program that slotfs started runs in it.
    Leased,
    /// A launcher unpacks it.
    Unpacking {
        /// Which process.
        process: u32,
    },
    /// Programs use its files.
    Programs(MountUsers),
    /// It was used after the plan was made.
    Meanwhile,
    /// It is not as slotfs or a launcher makes it: this is no directory, or no file.
    Foreign {
        /// What it is about.
        path: PathBuf,
    },
}

impl fmt::Display for InUse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { mountpoint } => write!(formatter, "it is mounted at `{}`", mountpoint.display()),
            Self::Starting { holder } => write!(formatter, "{holder} prepares it"),
            Self::Served => formatter.write_str("a process serves it"),
            Self::Leased => formatter.write_str("a program runs in it"),
            Self::Unpacking { process } => write!(formatter, "process {process} unpacks it"),
            Self::Programs(users) => match users.users.as_slice() {
                [user] => write!(formatter, "process {} uses its files", user.pid),
                several => write!(formatter, "{} processes use its files", several.len()),
            },
            Self::Meanwhile => formatter.write_str("it was used meanwhile"),
            Self::Foreign { path } => {
                write!(formatter, "neither slotfs nor a launcher made `{}` as it is", path.display())
            }
        }
    }
}

/// One environment, and what removing it means.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Which.
    pub listed: Listed,
    /// Bytes on disk: files that were unpacked or written, and metadata.
    pub bytes: u64,
    /// What was written: under a mount, now or under an earlier build. Where files are unpacked, those, too: which of them
    /// a program wrote cannot be told.
    pub written: TreeSize,
    /// Whether files are unpacked.
    pub unpacked: bool,
    /// How many snapshots are kept of what was written.
    pub snapshots: u64,
    /// When it was last used.
    pub used: Option<SystemTime>,
    /// Who uses it.
    pub in_use: Option<InUse>,
    /// Whether its making was begun and never finished, and nothing else is in it.
    pub unfinished: bool,
    /// Bytes that were written, some of which go by a clean; `None` when there is nothing to drop.
    pub droppable: Option<u64>,
}

impl Environment {
    /// Looks at an environment, given the mount table.
    #[must_use]
    pub(super) fn look(listed: Listed, table: &[Mount]) -> Self {
        let workenv = &listed.workenv;
        let foreign = foreign(workenv);
        // Through a link in its place everything would be about something else.
        let in_use = foreign.map(|path| InUse::Foreign { path }).or_else(|| in_use(workenv, table));
        let is_mounted = matches!(in_use, Some(InUse::Mounted { .. }));
        let is_foreign = matches!(in_use, Some(InUse::Foreign { .. }));
        let content =
            if is_mounted { TreeSize::default() } else { measure(&workenv.content(), Kind::Directory) };
        let mut written = TreeSize::default();
        if !is_foreign {
            written.add(measure(&workenv.upper(), Kind::Directory));
            written.add(measure(&workenv.earlier(), Kind::Directory));
        }
        let droppable = (!is_foreign && written.files > 0)
            .then(|| Served::read(workenv))
            .flatten()
            .filter(|served| served.has_droppable_writes(workenv))
            .map(|_| measure(&workenv.upper(), Kind::Directory).bytes);
        written.add(content);
        Self {
            bytes: content.bytes.saturating_add(measure(&workenv.metadata(), Kind::Directory).bytes),
            used: last_used(&listed, content),
            unfinished: !is_foreign && in_use.is_none() && is_unfinished(&listed),
            unpacked: content.files > 0,
            snapshots: if is_foreign { 0 } else { session::snapshot::count(workenv) },
            written,
            in_use,
            droppable,
            listed,
        }
    }

    /// Returns how long nobody has used it.
    #[must_use]
    pub fn idle(&self, now: SystemTime) -> Duration {
        self.used.and_then(|used| now.duration_since(used).ok()).unwrap_or_default()
    }
}

/// What something has to be to count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
}

/// Tells whether something of another kind is at `path`; a symbolic link is of none.
fn is_other(path: &Path, kind: Kind) -> bool {
    match std::fs::symlink_metadata(path) {
        Ok(found) => match kind {
            Kind::Directory => !found.is_dir(),
            Kind::File => !found.is_file(),
        },
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

fn measure(path: &Path, kind: Kind) -> TreeSize {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return TreeSize::default() };
    if is_other(path, kind) {
        return TreeSize::default();
    }
    let name = files::path_bytes(Path::new(name));
    Directory::open(parent).map(|parent| parent.measure(&name)).unwrap_or_default()
}

/// Returns what is not as slotfs and the launchers make it: a link or a file in the place of a directory of the metadata,
/// something else in the place of a lock, or metadata without any part that either of them makes.
pub(super) fn foreign(workenv: &Workenv) -> Option<PathBuf> {
    let metadata = workenv.metadata();
    let directories = ["instance", "package", "slotfs"].map(|name| metadata.join(name));
    let none = |path: &PathBuf| std::fs::symlink_metadata(path).is_err();
    if is_other(&metadata, Kind::Directory) || directories.iter().all(none) {
        return Some(metadata);
    }
    let own = workenv.own_directory();
    let parts = ["upper", "work", "upper-index", "earlier"].map(|name| own.join(name));
    let unpacking = metadata.join("instance/extract");
    let mut all = directories.into_iter().chain([unpacking]).chain(parts);
    if let Some(other) = all.find(|path| is_other(path, Kind::Directory)) {
        return Some(other);
    }
    let locks = [workenv.start_lock(), workenv.serving_lock(), workenv.leases_lock(), workenv.extract_lock()];
    locks.into_iter().find(|path| is_other(path, Kind::File))
}

/// Returns who uses the environment, as far as it shows without taking part.
pub(super) fn in_use(workenv: &Workenv, table: &[Mount]) -> Option<InUse> {
    if let Some(mountpoint) = mounted_inside(workenv, table) {
        return Some(InUse::Mounted { mountpoint });
    }
    let locks = [
        (workenv.start_lock(), Mode::Exclusive),
        (workenv.serving_lock(), Mode::Shared),
        (workenv.leases_lock(), Mode::Exclusive),
    ];
    for (number, (path, mode)) in locks.into_iter().enumerate() {
        if is_held(&path, mode).unwrap_or(true) {
            return Some(match number {
                0 => InUse::Starting { holder: Place::of(workenv.clone()).start_holder() },
                1 => InUse::Served,
                _ => InUse::Leased,
            });
        }
    }
    if let Some(process) = workenv.unpacking_process() {
        return Some(InUse::Unpacking { process });
    }
    let users = users::of(&recover::resolved(&workenv.content()));
    (!users.users.is_empty()).then_some(InUse::Programs(users))
}

/// Returns what is mounted at the environment's place or below it.
pub(super) fn mounted_inside(workenv: &Workenv, table: &[Mount]) -> Option<PathBuf> {
    let places = [workenv.content(), workenv.metadata()].map(|path| recover::resolved(&path));
    let inside = |mount: &&Mount| places.iter().any(|place| mount.mountpoint.starts_with(place));
    table.iter().find(inside).map(|mount| mount.mountpoint.clone())
}

/// A lock file that is not there is held by nobody, and is not made.
fn is_held(path: &Path, mode: Mode) -> Result<bool, DiskError> {
    if std::fs::symlink_metadata(path).is_err() {
        return Ok(false);
    }
    Ok(FileLock::try_acquire(path, mode)?.is_none())
}

/// When slotfs started it, when the last use ended, or, for files that a launcher may start from without telling
/// anybody, when one of them was last read.
fn last_used(listed: &Listed, content: TreeSize) -> Option<SystemTime> {
    let read = content.used.and_then(|used| {
        let since = Duration::new(u64::try_from(used.seconds).ok()?, used.nanoseconds);
        UNIX_EPOCH.checked_add(since)
    });
    listed.last_used().max(read)
}

fn is_unfinished(listed: &Listed) -> bool {
    !listed.state.complete
        && listed.state.prepared_for.is_none()
        && session::is_only_begun(&listed.workenv, listed.made_by == MadeBy::Slotfs)
}

/// Returns the name as bytes of the host.
pub(super) fn name_bytes(name: &OsStr) -> Vec<u8> {
    files::path_bytes(Path::new(name))
}

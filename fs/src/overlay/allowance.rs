//! How much room the files of an upper directory take, and the bound that is put on it.
//!
//! Counted are the disk blocks of regular files, as `du` counts them; names, directories and marks are not. While an
//! upper is in use the number lives in memory; when it is closed in order, `upper-index/used` keeps it, a symbolic link
//! whose target is the number in decimal, a colon, and which run of the machine that was. Opening takes it away, so a crash
//! leaves none; nothing is synced for that, so after a power failure an old one may be there again, of another run. Where
//! none counts, all files are looked at again.
//!
//! A disk that gives a file blocks for its own tables later than the file was written is seen to have done so when the
//! file is next changed or closed; until then the number may be low by a block for a file in many pieces.
//!
//! **Invariant:** a file's blocks are counted once, whichever threads work on it: each change is followed by a look at
//! the file under one lock, and what is added is the difference from the look before.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Upper;
use super::changes::listed;
use crate::disk::unix::{Directory, Spot, Stat, boot_identity};
use crate::disk::{Context, DiskError};
use crate::node::Kind;

pub(super) const USED: &[u8] = b"used";
/// What a change may take besides its own bytes: a block at each end, and one for the file system's own tables.
const SLACK: u64 = 3 * 4096;

/// Room that one file takes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    inode: u64,
    bytes: u64,
    names: u64,
}

impl Room {
    /// The same of a file that is about to lose its last name.
    #[must_use]
    pub fn without_names(self) -> Self {
        Self { names: 0, ..self }
    }

    /// The same of a file before anything was put into it.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self { bytes: 0, ..*self }
    }

    /// Tells whether the file takes none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Looks at an open file.
    ///
    /// # Errors
    /// What the host reports.
    pub fn of_file(file: &File) -> Result<Self, DiskError> {
        let found = file.metadata().context("look at", "a written file")?;
        Ok(Self { inode: found.ino(), bytes: found.blocks() * 512, names: found.nlink() })
    }

    /// Takes what `stat(2)` told of a regular file; `None` for what is not counted.
    #[must_use]
    pub fn of_stat(stat: &Stat) -> Option<Self> {
        let attributes = &stat.attributes;
        let room = Self { inode: stat.inode, bytes: attributes.blocks * 512, names: attributes.links.into() };
        (attributes.kind == Kind::File).then_some(room)
    }
}

/// The bound on an upper directory, and how much of it is used.
#[derive(Debug)]
pub struct Allowance {
    limit: u64,
    state: Mutex<State>,
    reserved: AtomicU64,
    /// Held to read while a file is changed, to write by whoever writes where there is hardly any room left.
    changing: RwLock<()>,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    known: HashMap<u64, Known>,
}

/// A file that was changed since the upper was opened.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// What of it is in `used`.
    bytes: u64,
    /// It has no name any more and takes room until it is closed.
    nameless: bool,
}

/// Room that is kept for a change until it is counted.
#[derive(Debug)]
pub struct Reservation<'a> {
    allowance: &'a Allowance,
    bytes: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.allowance.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Allowance {
    /// Bounds an upper directory of which `used` bytes are taken to `limit` bytes.
    #[must_use]
    pub fn new(limit: u64, used: u64) -> Self {
        let state = Mutex::new(State { used, known: HashMap::new() });
        Self { limit, state, reserved: AtomicU64::new(0), changing: RwLock::new(()) }
    }

    /// Returns the bound in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns how many bytes are taken.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// Tells whether more is taken than there should be.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.used() > self.limit
    }

    /// Returns how many bytes are left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used())
    }

    /// Keeps room for a change of `bytes` bytes; `None` when it might not fit.
    #[must_use]
    pub fn reserve(&self, bytes: u64) -> Option<Reservation<'_>> {
        let bytes = bytes.saturating_add(SLACK);
        let state = self.state();
        let taken = state.used.saturating_add(self.reserved.load(Ordering::Relaxed));
        if taken.saturating_add(bytes) > self.limit {
            return None;
        }
        self.reserved.fetch_add(bytes, Ordering::Relaxed);
        Some(Reservation { allowance: self, bytes })
    }

    /// Waits while somebody takes back what did not fit. Never taken twice by one thread.
    pub fn among_others(&self) -> RwLockReadGuard<'_, ()> {
        self.changing.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else changes a file, so that what did not fit can be taken back.
    pub fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.changing.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before a file is changed.
    pub fn begin(&self, room: Room) {
        // One without a name was let go of when it lost it, or has never been counted.
        let nameless = room.names == 0;
        let bytes = if nameless { 0 } else { room.bytes };
        self.state().known.entry(room.inode).or_insert(Known { bytes, nameless });
    }

    /// Counts a file that was changed, which `look` looks at; returns by how many bytes it grew or shrank.
    ///
    /// # Errors
    /// What `look` reports.
    pub fn settle(&self, look: impl FnOnce() -> Result<Room, DiskError>) -> Result<i64, DiskError> {
        let mut state = self.state();
        let now = look()?;
        let Some(known) = state.known.get_mut(&now.inode) else { return Ok(0) };
        let grown = now.bytes.cast_signed().saturating_sub(known.bytes.cast_signed());
        known.bytes = now.bytes;
        state.used = state.used.saturating_add_signed(grown);
        Ok(grown)
    }

    /// Notes that a file has lost its last name. While it `is_open` it takes room; see [`Self::closed`].
    pub fn lost(&self, room: Room, is_open: bool) {
        if room.names > 0 {
            return;
        }
        let mut state = self.state();
        let bytes = state.known.get(&room.inode).map_or(room.bytes, |known| known.bytes);
        if is_open {
            state.known.insert(room.inode, Known { bytes, nameless: true });
        } else {
            state.known.remove(&room.inode);
            state.used = state.used.saturating_sub(bytes);
        }
    }

    /// Notes that nobody has the file any more that was at `inode`; one that has names is kept.
    pub fn closed(&self, inode: u64) {
        let mut state = self.state();
        if let Some(known) = state.known.get(&inode).copied().filter(|known| known.nameless) {
            state.known.remove(&inode);
            state.used = state.used.saturating_sub(known.bytes);
        }
    }

    /// Takes a new count, after files were replaced while nobody changed any: `used` by those with names, and those that
    /// are `nameless` since and still open.
    pub fn recount(&self, used: u64, nameless: &[Room]) {
        let mut state = self.state();
        for room in nameless {
            state.known.insert(room.inode, Known { bytes: room.bytes, nameless: true });
        }
        state.known.retain(|_, known| known.nameless);
        state.used = used + state.known.values().map(|known| known.bytes).sum::<u64>();
    }

    /// Forgets a file that was never given a name.
    pub fn abandoned(&self, room: Room) {
        let mut state = self.state();
        if let Some(known) = state.known.remove(&room.inode) {
            state.used = state.used.saturating_sub(known.bytes);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upper {
    /// Returns how much the files take: the number that was kept when it was closed in order, or counted now.
    ///
    /// # Errors
    /// What the host reports.
    pub fn used(&self) -> Result<u64, DiskError> {
        let kept = *self.kept_number.lock().unwrap_or_else(PoisonError::into_inner);
        match kept {
            Some(used) => Ok(used),
            None => self.count(),
        }
    }

    /// To be called by who changes files in the upper without counting.
    pub(super) fn forget_number(&self) {
        *self.kept_number.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Counts how much the files take.
    ///
    /// # Errors
    /// What the host reports.
    pub fn count(&self) -> Result<u64, DiskError> {
        let mut used = 0;
        let mut several = HashSet::new();
        // Opened when their turn comes: there may be more of them than files may be open.
        let mut waiting: Vec<(Arc<Directory>, Option<Vec<u8>>)> =
            vec![(Arc::clone(self.root()), None), (Arc::clone(self.index_directory()), None)];
        while let Some((parent, name)) = waiting.pop() {
            let Some((directory, names)) = listed(&parent, name.as_deref())? else { continue };
            for name in names {
                let Some(stat) = directory.stat(&name)? else { continue };
                if stat.attributes.kind == Kind::Directory {
                    waiting.push((Arc::clone(&directory), Some(name)));
                } else if let Some(room) = Room::of_stat(&stat)
                    && (room.names < 2 || several.insert(room.inode))
                {
                    used += room.bytes;
                }
            }
        }
        Ok(used)
    }

    /// Keeps the number for the next opening. Nothing may be changed in the upper after this.
    ///
    /// # Errors
    /// What the host reports.
    pub fn keep_number(&self, used: u64) -> Result<(), DiskError> {
        let Some(run) = boot_identity() else { return Ok(()) };
        let temporary = self.temporary();
        self.work().make_symlink(temporary.name(), format!("{used}:{run}").as_bytes())?;
        temporary.publish(self.index_directory(), USED)
    }
}

/// Takes the kept number away: whoever has the upper open may change it.
pub(super) fn take_number(index: &Arc<Directory>) -> Result<Option<u64>, DiskError> {
    let spot = Spot::named(index, USED);
    let number = match spot.stat()?.map(|stat| stat.attributes.kind) {
        Some(Kind::Symlink) => spot.read_link()?,
        Some(_) => Vec::new(),
        None => return Ok(None),
    };
    index.remove_tree(USED)?;
    Ok(parse(&number, boot_identity().as_deref()))
}

/// Reads a number that was kept in this `run` of the machine.
fn parse(kept: &[u8], run: Option<&str>) -> Option<u64> {
    let (number, kept_in) = std::str::from_utf8(kept).ok()?.split_once(':')?;
    if run == Some(kept_in) { number.parse().ok() } else { None }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn room(inode: u64, bytes: u64, names: u64) -> Room {
        Room { inode, bytes, names }
    }

    #[test]
    fn a_file_is_counted_once_and_given_back_once() {
        let allowance = Allowance::new(1 << 20, 0);
        allowance.begin(room(7, 0, 1));
        allowance.begin(room(7, 4096, 1));
        assert_eq!(allowance.settle(|| Ok(room(7, 8192, 1))).unwrap(), 8192);
        assert_eq!(allowance.settle(|| Ok(room(7, 8192, 1))).unwrap(), 0);
        assert_eq!(allowance.settle(|| Ok(room(7, 4096, 1))).unwrap(), -4096);
        allowance.lost(room(7, 4096, 1), false);
        assert_eq!(allowance.used(), 4096, "it has a name left");
        allowance.lost(room(7, 4096, 0), true);
        assert_eq!(allowance.used(), 4096, "it is still open");
        allowance.settle(|| Ok(room(7, 12_288, 0))).unwrap();
        allowance.closed(7);
        allowance.closed(7);
        assert_eq!(allowance.used(), 0);
    }

    #[test]
    fn what_is_reserved_is_nobody_elses() {
        let allowance = Allowance::new(10 * 4096, 0);
        let first = allowance.reserve(4096).unwrap();
        let second = allowance.reserve(4096).unwrap();
        assert!(allowance.reserve(4096).is_none());
        drop((first, second));
        assert!(allowance.reserve(6 * 4096).is_some());
        assert!(allowance.reserve(u64::MAX).is_none());
    }

    #[test]
    fn a_number_of_another_run_of_the_machine_does_not_count() {
        assert_eq!(parse(b"42:a", Some("a")), Some(42));
        for (kept, run) in
            [(&b"42:a"[..], Some("b")), (b"42:a", None), (b"42", Some("a")), (b"\xff:a", Some("a"))]
        {
            assert_eq!(parse(kept, run), None);
        }
    }

    #[test]
    fn a_number_counts_until_the_upper_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Upper::open(&folder.path().join("upper"), &folder.path().join("work")).unwrap();
        let upper = open();
        std::fs::create_dir(folder.path().join("upper/d")).unwrap();
        std::fs::write(folder.path().join("upper/d/file"), [1; 5000]).unwrap();
        std::fs::hard_link(folder.path().join("upper/d/file"), folder.path().join("upper/too")).unwrap();
        let counted = upper.used().unwrap();
        assert_eq!(counted, 8192);
        upper.keep_number(12_345).unwrap();
        drop(upper);
        let upper = open();
        assert_eq!(upper.used().unwrap(), 12_345);
        drop(upper);
        assert_eq!(open().used().unwrap(), counted, "a number outlived a crash");
    }
}

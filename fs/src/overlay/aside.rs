//! What an upper directory shows that its disk does not hold, because who serves may not set it there: owners, modes,
//! attributes of root's. How it is written is in [`super::rights`].
//!
//! *Layout:* a file or directory has [`OVERRIDE`]. The upper directory itself has [`HAS_ASIDE`] where there is anything of the
//! kind (or [`OVERRIDE`], if others have made it), and without that nobody looks. Symbolic links, fifos and sockets, which carry no such attributes, stay what they are, and
//! have a further name in the index that says it: `{number}.aside.{value}`, number in hexadecimal, value as in the
//! attribute. As long as that name is there, the host gives their inode number to nothing else.
//!
//! **Invariant:** where nothing is kept aside, nothing is asked of the disk. A value counts for the very file that carries it
//! or bears its name, never for another one that came to its place.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::access_list::{ACCESS, with_mode};
use super::format::{device_of, unless_unreadable};
use crate::disk::DiskError;
use crate::disk::unix::{Directory, Spot, Stat};
use crate::layer::marks::{HAS_ASIDE, OVERRIDE, OverrideStat, aside_name, is_aside, shown_name, stored_name};
use crate::node::{Attributes, Kind};

const INFIX: &str = ".aside.";

/// What is kept aside in one upper directory.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    /// Whether there may be anything.
    marked: AtomicBool,
    /// Inode of the upper directory itself.
    root: AtomicU64,
    records: Mutex<Records>,
    /// Held while a value that depends on the one before is written.
    changing: Mutex<()>,
}

/// Of symbolic links, fifos and sockets: as large as the number of names in the index.
#[derive(Debug, Default)]
struct Records {
    by_inode: HashMap<u64, Record>,
    last: u64,
    /// Whether names may not be on disk yet.
    unsynced: bool,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// Of its name; without one only those see it who still hold the removed node.
    number: Option<u64>,
    stat: OverrideStat,
}

/// Tells whether nodes of this kind can carry `user.` attributes.
pub(super) fn carries(kind: Kind) -> bool {
    matches!(kind, Kind::File | Kind::Directory)
}

fn record_name(number: u64, stat: &OverrideStat, kind: Kind) -> Vec<u8> {
    format!("{number:x}{INFIX}{}", stat.value(kind)).into_bytes()
}

fn parse(name: &[u8]) -> Option<(u64, OverrideStat)> {
    let (number, value) = std::str::from_utf8(name).ok()?.split_once(INFIX)?;
    Some((u64::from_str_radix(number, 16).ok()?, OverrideStat::parse(value.as_bytes())?))
}

/// Tells whether this name of the index is one of these.
pub(super) fn is_record(name: &[u8]) -> bool {
    parse(name).is_some()
}

impl Aside {
    /// Finds out what is kept aside in the upper directory `root`.
    ///
    /// # Errors
    /// What the host reports.
    pub(super) fn load(root: &Arc<Directory>, index: Option<&Arc<Directory>>) -> Result<Self, DiskError> {
        let aside = Self::default();
        aside.load_again(root, index)?;
        Ok(aside)
    }

    /// Looks again, after somebody has replaced all that is in the directories.
    pub(super) fn load_again(
        &self,
        root: &Arc<Directory>,
        index: Option<&Arc<Directory>>,
    ) -> Result<(), DiskError> {
        let spot = Spot::named(root, b".");
        let marked = spot.xattr(HAS_ASIDE)?.is_some() || spot.xattr(OVERRIDE)?.is_some();
        self.root.store(spot.stat()?.map_or(0, |stat| stat.inode), Ordering::Release);
        let mut found = Records::default();
        for entry in index.filter(|_| marked).map_or(Ok(Vec::new()), |index| index.list())? {
            let Some((number, stat)) = parse(&entry.name) else { continue };
            found.last = found.last.max(number);
            found.by_inode.insert(entry.inode, Record { number: Some(number), stat });
        }
        *self.records() = found;
        self.marked.store(marked, Ordering::Release);
        Ok(())
    }

    /// Tells whether anything may be kept aside.
    pub(crate) fn is_marked(&self) -> bool {
        self.marked.load(Ordering::Acquire)
    }

    pub(super) fn set_marked(&self, marked: bool) {
        self.marked.store(marked, Ordering::Release);
    }

    /// Tells whether this is the upper directory itself.
    pub(super) fn is_root(&self, stat: &Stat) -> bool {
        stat.inode == self.root.load(Ordering::Acquire)
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is kept aside of `spot`, of which the host says `stat`.
    pub(super) fn stat(&self, spot: &Spot, stat: &Stat) -> Result<Option<OverrideStat>, DiskError> {
        if !self.is_marked() {
            return Ok(None);
        }
        if carries(stat.attributes.kind) {
            let own = if self.is_root(stat) { spot.xattr(HAS_ASIDE)? } else { None };
            let value = if own.is_some() { own } else { unless_unreadable(spot.xattr(OVERRIDE))? };
            return Ok(value.as_deref().and_then(OverrideStat::parse));
        }
        Ok(self.records().by_inode.get(&stat.inode).map(|record| record.stat))
    }

    /// Returns `stat` as the volume shows it: with owner and mode that are kept aside, and a device kept aside is a device.
    ///
    /// # Errors
    /// What the host reports.
    pub(crate) fn shown(&self, spot: &Spot, stat: &Stat) -> Result<Attributes, DiskError> {
        let mut attributes = stat.attributes;
        if let Some(kept) = self.stat(spot, stat)? {
            kept.apply(&mut attributes);
        }
        if let Some(device) = device_of(spot, stat)? {
            (attributes.kind, attributes.device) = device;
        }
        Ok(attributes)
    }

    /// Returns the value of the attribute that users call `name`.
    ///
    /// # Errors
    /// What the host reports.
    pub(crate) fn attribute(&self, spot: &Spot, name: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        if self.is_marked() {
            if let Some(kept) = aside_name(name)
                && let Some(value) = spot.xattr(&kept)?
            {
                return Ok(Some(value));
            }
            if name == ACCESS
                && let Some(list) = spot.xattr(ACCESS)?
            {
                let kept = spot.stat()?.map(|stat| self.stat(spot, &stat)).transpose()?.flatten();
                return Ok(Some(match kept {
                    Some(kept) => with_mode(list, kept.mode),
                    None => list,
                }));
            }
        }
        spot.xattr(&stored_name(name))
    }

    /// Returns the names of the attributes as users see them, in order.
    ///
    /// # Errors
    /// What the host reports.
    pub(crate) fn attribute_names(&self, spot: &Spot) -> Result<Vec<Vec<u8>>, DiskError> {
        let marked = self.is_marked();
        let stored = spot.xattr_names()?;
        let shown =
            stored.iter().filter(|name| marked || !is_aside(name)).filter_map(|name| shown_name(name));
        let mut names: Vec<_> = shown.collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Returns how many names of the file `inode` are records.
    pub(crate) fn extra_links(&self, inode: u64) -> u32 {
        if !self.is_marked() {
            return 0;
        }
        self.records().by_inode.get(&inode).is_some_and(|record| record.number.is_some()).into()
    }

    /// Writes down what is shown of something that cannot carry it, in one step.
    pub(super) fn record(
        &self,
        index: &Arc<Directory>,
        (spot, stat): (&Spot, &Stat),
        new: OverrideStat,
    ) -> Result<(), DiskError> {
        let kind = stat.attributes.kind;
        let (known, next) = {
            let mut records = self.records();
            // Nobody else gets this number, whether it is used or not.
            records.last += 1;
            (records.by_inode.get(&stat.inode).copied(), records.last)
        };
        let number = match (known.and_then(|known| known.number), spot) {
            (Some(number), _) => {
                if let Some(known) = known.filter(|known| known.stat != new) {
                    let name = record_name(number, &known.stat, kind);
                    index.rename(&name, index, &record_name(number, &new, kind))?;
                }
                Some(number)
            }
            (None, Spot::Named { .. }) => {
                index.link(spot, &record_name(next, &new, kind))?;
                Some(next)
            }
            // It has no name any more, and needs none here.
            (None, Spot::Open(_)) => None,
        };
        let mut records = self.records();
        records.unsynced = true;
        records.by_inode.insert(stat.inode, Record { number, stat: new });
        Ok(())
    }

    /// Forgets what was written down of something, as the disk holds it now.
    pub(super) fn forget(&self, index: &Arc<Directory>, stat: &Stat) -> Result<(), DiskError> {
        let known = self.records().by_inode.get(&stat.inode).copied();
        if let Some(Record { number: Some(number), stat: kept }) = known {
            index.unlink(&record_name(number, &kept, stat.attributes.kind))?;
        }
        self.records().by_inode.remove(&stat.inode);
        Ok(())
    }

    /// Takes away the record of something of `kind` that has lost its last other name. While it `is_held`, it is
    /// remembered until [`Self::freed`].
    pub(super) fn lost_name(
        &self,
        index: &Arc<Directory>,
        (inode, kind): (u64, Kind),
        is_held: bool,
    ) -> Result<(), DiskError> {
        let known = self.records().by_inode.get(&inode).copied();
        let Some(Record { number: Some(number), stat: kept }) = known else { return Ok(()) };
        let name = record_name(number, &kept, kind);
        if index.stat(&name)?.is_some_and(|stat| stat.attributes.links > 1) {
            return Ok(());
        }
        index.unlink(&name)?;
        let mut records = self.records();
        if is_held {
            records.by_inode.insert(inode, Record { number: None, stat: kept });
        } else {
            records.by_inode.remove(&inode);
        }
        Ok(())
    }

    /// Notes that nobody has the file any more that was at `inode`; one that has a name is kept.
    pub(crate) fn freed(&self, inode: u64) {
        let mut records = self.records();
        if records.by_inode.get(&inode).is_some_and(|record| record.number.is_none()) {
            records.by_inode.remove(&inode);
        }
    }

    /// Removes records that nothing else has a name of, from an upper directory that nobody uses yet.
    pub(super) fn clean(&self, index: &Arc<Directory>) -> Result<(), DiskError> {
        if !self.is_marked() {
            return Ok(());
        }
        for entry in index.list()? {
            if is_record(&entry.name)
                && index.stat(&entry.name)?.is_some_and(|stat| stat.attributes.links < 2)
            {
                index.unlink(&entry.name)?;
                self.records().by_inode.remove(&entry.inode);
            }
        }
        Ok(())
    }

    /// Makes what was written down since the last call durable.
    pub(super) fn sync(&self, index: &Arc<Directory>) -> Result<(), DiskError> {
        if !self.is_marked() || !std::mem::take(&mut self.records().unsynced) {
            return Ok(());
        }
        index.sync().inspect_err(|_| self.records().unsynced = true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back() {
        let stat = OverrideStat { user: 1, group: 2, mode: 0o777, device: None };
        let name = record_name(0x1f, &stat, Kind::Symlink);
        assert_eq!(name, b"1f.aside.1:2:0777:symlink");
        assert_eq!(parse(&name), Some((0x1f, stat)));
        for other in [&b"layers"[..], b"0000000000000001", b"0000000000000001.left", b".aside.", b"1.aside.x"]
        {
            assert_eq!(parse(other), None);
        }
    }
}

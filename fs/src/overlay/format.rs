//! How facts are written down in the upper directory, and read back.
//!
//! | what | how |
//! |---|---|
//! | whiteout | character device 0/0, or an empty file with `user.overlay.whiteout` in a directory with `user.overlay.opaque` = `x` |
//! | opaque directory | `user.overlay.opaque` = `y` |
//! | renamed directory | `user.overlay.redirect` = its path in the layers, from their root |
//! | directory with copied-up entries | `user.overlay.impure` = `y` |
//! | inode number of a copied-up file or directory | `user.slotfs.inode` = decimal number, `:`, which layers it is about |
//! | file with attributes only | `user.overlay.metacopy` (empty), `user.overlay.redirect` = path of its content in the layers, `user.slotfs.length` = its length, `:`, which layers have it; a sparse file |
//! | device that cannot be made, and every 0/0 device of a user | empty file with `user.slotfs.node` = `c` or `b`, device number |
//! | owner and mode that the disk does not hold | `user.containers.override_stat`, see `aside.rs` |
//!
//! An attribute that a user of the volume gives such a name is stored under `user.overlay.overlay.…` or
//! `user.slotfs.slotfs.…`, as the kernel does it, so that overlays nest.
//!
//! Names and values are in [`crate::layer::marks`]: a former upper directory may lie below as a layer.
//!
//! **Invariant:** parsing what is on disk never fails: what makes no sense is as if it were not there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Upper;
use super::aside::Aside;
use crate::disk::DiskError;
use crate::disk::unix::{Directory, Spot, Stat, XattrFlag, is_access_denied, is_root};
use crate::layer::LayerError;
use crate::layer::marks::trusted;
pub use crate::layer::marks::{
    HAS_BARE, IMPURE, INODE, LENGTH, METACOPY, NODE, OPAQUE, REDIRECT, WHITEOUT, device_value, parse_device,
    parse_length, stored_name,
};
use crate::layer::stack::{Lower, Stack};
use crate::node::{Attributes, Kind};

/// What is under one name of the upper directory.
#[derive(Clone, Debug)]
pub enum Found {
    /// Nothing: the layers decide.
    Nothing,
    /// A whiteout: nothing is there, whatever the layers hold.
    Whiteout,
    /// A file or directory.
    Entry(UpperEntry),
}

/// A file or directory of the upper directory.
#[derive(Clone, Debug)]
pub struct UpperEntry {
    /// As the volume shows it, less links and inode number.
    pub attributes: Attributes,
    /// Inode number on the upper's disk.
    pub inode: u64,
    /// The stable number, where one is written down.
    pub number: Option<u64>,
    /// A directory that hides what the layers hold.
    pub opaque: bool,
    /// A directory with entries that have numbers of their own.
    pub impure: bool,
    /// Where in the layers a directory's content is.
    pub redirect: Option<Vec<u8>>,
    /// A file that has attributes only.
    pub bare: Option<Box<BareCopy>>,
}

/// A copied-up file that has attributes only; its content is in the layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BareCopy {
    /// Path in the layers from their root, with a slash first; a name in the same directory; `None`: its own name.
    pub path: Option<Vec<u8>>,
    /// How long the content is, where that was noted.
    pub length: Option<u64>,
    /// Which layers have it, where that was noted.
    pub layers: Option<String>,
}

impl BareCopy {
    /// Tells whether what the layers with this fingerprint have at its path is its content, of which `size` bytes show.
    #[must_use]
    pub fn fits(&self, layers: &str, content: &Attributes, size: u64) -> bool {
        content.kind == Kind::File
            && self.layers.as_ref().is_none_or(|known| known == layers)
            && self.length.unwrap_or(size) == content.size
            && size <= content.size
    }

    /// Finds the content in the layers. `within` is what of them shows in the directory that the copy, called `name` and
    /// `size` bytes long, is in.
    ///
    /// # Errors
    /// A layer could not answer; that the content is not there is none.
    pub fn content(
        &self,
        stack: &Stack,
        (within, name): (Option<&Lower>, &[u8]),
        size: u64,
    ) -> Result<Option<Lower>, LayerError> {
        let found = match (&self.path, within) {
            (Some(path), _) if path.first() == Some(&b'/') => {
                stack.walk(path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()))?
            }
            (path, Some(within)) => stack.lookup(within, path.as_deref().unwrap_or(name))?,
            (_, None) => None,
        };
        let Some(found) = found.filter(|found| found.kind == Kind::File) else { return Ok(None) };
        let fits = self.fits(&stack.fingerprint(), &stack.attributes(&found)?, size);
        Ok(fits.then_some(found))
    }
}

/// Returns kind and number of a device that is kept aside as a file. Only empty files are looked at.
pub(super) fn device_of(spot: &Spot, stat: &Stat) -> Result<Option<(Kind, u64)>, DiskError> {
    if stat.attributes.kind != Kind::File || stat.attributes.size != 0 {
        return Ok(None);
    }
    Ok(unless_unreadable(spot.xattr(NODE))?.as_deref().and_then(parse_device))
}

/// Takes a file that this process may not read for one without attributes: its owner may have forbidden himself to.
pub(super) fn unless_unreadable(
    value: Result<Option<Vec<u8>>, DiskError>,
) -> Result<Option<Vec<u8>>, DiskError> {
    match value {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(None),
        other => other,
    }
}

/// Reads a mark, also as the kernel writes it without `userxattr`, which only root can see.
fn mark(spot: &Spot, name: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
    match spot.xattr(name)? {
        None if is_root() => spot.xattr(&trusted(name)),
        found => Ok(found),
    }
}

/// Tells whether the file `spot` has attributes only, and where its content is.
///
/// # Errors
/// What the host reports.
pub fn bare_copy(spot: &Spot) -> Result<Option<BareCopy>, DiskError> {
    // What cannot be told is no such copy: none is made that way.
    if unless_unreadable(mark(spot, METACOPY))?.is_none() {
        return Ok(None);
    }
    let (length, layers) = spot.xattr(LENGTH)?.as_deref().and_then(parse_length).unzip();
    Ok(Some(BareCopy { path: mark(spot, REDIRECT)?, length, layers }))
}

/// Tells whether the upper directory `root` may hold files that have attributes only and that slotfs has made.
///
/// # Errors
/// What the host reports.
pub fn may_have_bare_copies(root: &Arc<Directory>) -> Result<bool, DiskError> {
    Ok(Spot::named(root, b".").xattr(HAS_BARE)?.is_some())
}

/// Looks at `name` in `directory`, whoever has the upper open; inode numbers are not looked for. The first of what is
/// returned is what the host says; `None` when there is nothing.
pub(super) fn look(
    directory: &Arc<Directory>,
    name: &[u8],
    aside: &Aside,
) -> Result<Option<(Stat, Found)>, DiskError> {
    let Some(stat) = directory.stat(name)? else { return Ok(None) };
    let spot = Spot::named(directory, name);
    let kind = stat.attributes.kind;
    if kind == Kind::CharacterDevice && stat.attributes.device == 0 {
        return Ok(Some((stat, Found::Whiteout)));
    }
    if kind == Kind::File && stat.attributes.size == 0 && unless_unreadable(spot.xattr(WHITEOUT))?.is_some() {
        return Ok(Some((stat, Found::Whiteout)));
    }
    let mut entry = UpperEntry {
        attributes: aside.shown(&spot, &stat)?,
        inode: stat.inode,
        number: None,
        opaque: false,
        impure: false,
        redirect: None,
        bare: None,
    };
    if kind == Kind::File {
        entry.bare = bare_copy(&spot)?.map(Box::new);
    }
    if kind == Kind::Directory {
        let opaque = mark(&spot, OPAQUE)?;
        entry.opaque = opaque.as_deref() == Some(b"y");
        entry.redirect = mark(&spot, REDIRECT)?;
        // Whiteouts of the second form look like files, so such a directory needs a closer look, too.
        entry.impure = opaque.as_deref() == Some(b"x") || spot.xattr(IMPURE)?.is_some();
    }
    Ok(Some((stat, Found::Entry(entry))))
}

impl Upper {
    /// Looks at `name` in `directory`. Inode numbers are looked for only when `numbered`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn examine(
        &self,
        directory: &Arc<Directory>,
        name: &[u8],
        numbered: bool,
    ) -> Result<Found, DiskError> {
        let looked = match look(directory, name, &self.aside) {
            Err(error) if is_access_denied(&error) => {
                self.open_up(directory, name)?;
                look(directory, name, &self.aside)
            }
            looked => looked,
        };
        let Some((stat, found)) = looked? else { return Ok(Found::Nothing) };
        let Found::Entry(mut entry) = found else { return Ok(found) };
        entry.number = self.indexed_number(stat.inode);
        if numbered && entry.number.is_none() && matches!(stat.attributes.kind, Kind::File | Kind::Directory)
        {
            let value = match Spot::named(directory, name).xattr(INODE) {
                value if stat.attributes.kind == Kind::File => unless_unreadable(value)?,
                value => value?,
            };
            entry.number = value.and_then(|value| self.parse_number(&value));
        }
        Ok(Found::Entry(entry))
    }

    /// Marks the file `spot` as one that has attributes only. The mark that makes it one comes last.
    ///
    /// # Errors
    /// What the host reports.
    pub fn mark_bare(&self, spot: &Spot, path: &[u8], length: u64) -> Result<(), DiskError> {
        spot.set_xattr(REDIRECT, path, XattrFlag::Set)?;
        let layers = self.layers.get().map_or("", String::as_str);
        spot.set_xattr(LENGTH, format!("{length}:{layers}").as_bytes(), XattrFlag::Set)?;
        spot.set_xattr(METACOPY, b"", XattrFlag::Set)
    }

    /// Notes, before the first one is there, that this directory may hold files that have attributes only.
    ///
    /// # Errors
    /// What the host reports.
    pub fn expect_bare_copies(&self) -> Result<(), DiskError> {
        if self.bare_noted.load(Ordering::Relaxed) {
            return Ok(());
        }
        Spot::named(self.root(), b".").set_xattr(HAS_BARE, b"y", XattrFlag::Set)?;
        self.root().sync()?;
        self.bare_noted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Tells whether this directory may hold files that have attributes only and that slotfs has made.
    ///
    /// # Errors
    /// What the host reports.
    pub fn may_have_bare_copies(&self) -> Result<bool, DiskError> {
        may_have_bare_copies(self.root())
    }

    /// Notes that this directory holds none any more.
    ///
    /// # Errors
    /// What the host reports.
    pub fn expect_no_bare_copies(&self) -> Result<(), DiskError> {
        self.bare_noted.store(false, Ordering::Relaxed);
        Spot::named(self.root(), b".").remove_xattr(HAS_BARE)
    }

    /// Marks the file `spot`, whose content has been brought, as one like any other. The mark that makes the difference
    /// goes first; what a crash leaves of the others means nothing.
    ///
    /// # Errors
    /// What the host reports.
    pub fn mark_filled(&self, spot: &Spot) -> Result<(), DiskError> {
        for name in [METACOPY, REDIRECT, LENGTH] {
            let names = [name.to_vec(), trusted(name)];
            for name in names.iter().take(if is_root() { 2 } else { 1 }) {
                if spot.xattr(name)?.is_some() {
                    spot.remove_xattr(name)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the stable inode number of `spot`, a file or directory.
    ///
    /// # Errors
    /// What the host reports.
    pub fn write_number(&self, spot: &Spot, number: u64) -> Result<(), DiskError> {
        let layers = self.layers.get().map_or("", String::as_str);
        spot.set_xattr(INODE, format!("{number}:{layers}").as_bytes(), XattrFlag::Set)
    }

    /// Reads a number that is about the layers of this volume.
    fn parse_number(&self, value: &[u8]) -> Option<u64> {
        let (number, layers) = std::str::from_utf8(value).ok()?.split_once(':')?;
        if Some(layers) != self.layers.get().map(String::as_str) {
            return None;
        }
        number.parse().ok()
    }
}

//! How facts are written down in the upper directory, and read back.
//!
//! | what | how |
//! |---|---|
//! | whiteout | character device 0/0, or an empty file with `user.overlay.whiteout` in a directory with `user.overlay.opaque` = `x` |
//! | opaque directory | `user.overlay.opaque` = `y` |
//! | renamed directory | `user.overlay.redirect` = its path in the layers, from their root |
//! | directory with copied-up entries | `user.overlay.impure` = `y` |
//! | inode number of a copied-up file or directory | `user.slotfs.inode` = decimal number, `:`, which layers it is about |
//! | device that cannot be made, and every 0/0 device of a user | empty file with `user.slotfs.node` = `c` or `b`, device number |
//!
//! An attribute that a user of the volume gives such a name is stored under `user.overlay.overlay.…` or
//! `user.slotfs.slotfs.…`, as the kernel does it, so that overlays nest.
//!
//! Names and values are in [`crate::layer::marks`]: a former upper directory may lie below as a layer.
//!
//! **Invariant:** parsing what is on disk never fails: what makes no sense is as if it were not there.

use std::sync::Arc;

use super::Upper;
use crate::disk::DiskError;
use crate::disk::unix::{Directory, Spot, Stat, XattrFlag, is_root};
use crate::layer::marks::trusted;
pub use crate::layer::marks::{
    IMPURE, INODE, NODE, OPAQUE, REDIRECT, WHITEOUT, device_value, parse_device, shown_name, stored_name,
};
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
}

/// Returns `stat` as the volume shows it: a device kept aside is a device. Only empty files are looked at.
///
/// # Errors
/// What the host reports.
pub fn shown_attributes(spot: &Spot, stat: &Stat) -> Result<Attributes, DiskError> {
    let mut attributes = stat.attributes;
    if attributes.kind == Kind::File
        && attributes.size == 0
        && let Some((kind, device)) = spot.xattr(NODE)?.as_deref().and_then(parse_device)
    {
        (attributes.kind, attributes.device) = (kind, device);
    }
    Ok(attributes)
}

/// Reads a mark, also as the kernel writes it without `userxattr`, which only root can see.
fn mark(spot: &Spot, name: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
    match spot.xattr(name)? {
        None if is_root() => spot.xattr(&trusted(name)),
        found => Ok(found),
    }
}

/// Looks at `name` in `directory`, whoever has the upper open; inode numbers are not looked for. The first of what is
/// returned is what the host says; `None` when there is nothing.
///
/// # Errors
/// What the host reports.
pub fn look(directory: &Arc<Directory>, name: &[u8]) -> Result<Option<(Stat, Found)>, DiskError> {
    let Some(stat) = directory.stat(name)? else { return Ok(None) };
    let spot = Spot::named(directory, name);
    let kind = stat.attributes.kind;
    if kind == Kind::CharacterDevice && stat.attributes.device == 0 {
        return Ok(Some((stat, Found::Whiteout)));
    }
    if kind == Kind::File && stat.attributes.size == 0 && spot.xattr(WHITEOUT)?.is_some() {
        return Ok(Some((stat, Found::Whiteout)));
    }
    let mut entry = UpperEntry {
        attributes: shown_attributes(&spot, &stat)?,
        inode: stat.inode,
        number: None,
        opaque: false,
        impure: false,
        redirect: None,
    };
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
        let Some((stat, found)) = look(directory, name)? else { return Ok(Found::Nothing) };
        let Found::Entry(mut entry) = found else { return Ok(found) };
        entry.number = self.indexed_number(stat.inode);
        if numbered && entry.number.is_none() && matches!(stat.attributes.kind, Kind::File | Kind::Directory)
        {
            let value = Spot::named(directory, name).xattr(INODE)?;
            entry.number = value.and_then(|value| self.parse_number(&value));
        }
        Ok(Found::Entry(entry))
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

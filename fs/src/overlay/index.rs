//! Copied-up nodes that more than one name leads to, or that cannot carry an attribute.
//!
//! *Layout:* in `{upper}-index/`, per node of the layers, by its inode number in 16 hexadecimal digits:
//!
//! | name | what |
//! |---|---|
//! | `{number}` | a hard link to the copied-up file, symbolic link or special file |
//! | `{number}.left` | a symbolic link whose target says how many names in the layers still show this node |
//! | `{number}.aside.{value}` | what is shown of a symbolic link, fifo or socket; see `aside.rs` |
//! | `layers` | a symbolic link whose target says which layers the numbers are about |
//!
//! So all names of a hard-linked file of a slot show the one copied-up file, whichever of them was written
//! through, and the number of links stays right after a remount.
//!
//! **Invariant:** after a crash a count may be too high by one, which wastes space, but never too low, which
//! would lose a file.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::aside::{Aside, is_record};
use super::{Temporary, Upper};
use crate::disk::DiskError;
use crate::disk::unix::{Directory, Spot};
use crate::node::Kind;

pub(super) const LAYERS: &[u8] = b"layers";

/// The index in memory: as large as the number of entries on disk.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By number of the layers' node: inode of the copied-up file.
    files: HashMap<u64, u64>,
    /// By inode of the copied-up file: number of the layers' node.
    numbers: HashMap<u64, u64>,
    /// By number of the layers' node: names in the layers that still show it.
    left: HashMap<u64, u32>,
}

/// Returns where the index of `upper` is.
#[must_use]
pub fn beside(upper: &Path) -> PathBuf {
    let mut name = OsString::from(upper.file_name().unwrap_or("upper".as_ref()));
    name.push("-index");
    upper.with_file_name(name)
}

pub(super) fn file_name(number: u64) -> Vec<u8> {
    format!("{number:016x}").into_bytes()
}

pub(super) fn left_name(number: u64) -> Vec<u8> {
    format!("{number:016x}.left").into_bytes()
}

pub(super) fn parse(name: &[u8]) -> Option<(u64, bool)> {
    let name = std::str::from_utf8(name).ok()?;
    let (digits, left) = name.strip_suffix(".left").map_or((name, false), |digits| (digits, true));
    if digits.len() != 16 {
        return None;
    }
    Some((u64::from_str_radix(digits, 16).ok()?, left))
}

impl Index {
    /// Reads the index, removing entries that no name leads to any more.
    pub(super) fn load(directory: &Arc<Directory>, aside: &Aside) -> Result<Self, DiskError> {
        let mut index = Self::default();
        let listed = directory.list()?;
        for entry in &listed {
            let Some((number, true)) = parse(&entry.name) else { continue };
            let target = Spot::named(directory, &entry.name).read_link()?;
            if let Some(left) = std::str::from_utf8(&target).ok().and_then(|text| text.parse().ok()) {
                index.left.insert(number, left);
            }
        }
        for entry in &listed {
            let Some((number, false)) = parse(&entry.name) else { continue };
            let Some(stat) = directory.stat(&entry.name)? else { continue };
            let own = 1 + aside.extra_links(stat.inode);
            if stat.attributes.links > own || index.left.get(&number).is_some_and(|left| *left > 0) {
                index.files.insert(number, stat.inode);
                index.numbers.insert(stat.inode, number);
            } else {
                directory.unlink(&entry.name)?;
            }
        }
        Ok(index)
    }
}

impl Upper {
    /// Says which layers the numbers are about. Numbers that are about others are forgotten: their files stay
    /// where they have names.
    ///
    /// # Errors
    /// What the host reports.
    pub fn bind(&self, layers: &str) -> Result<(), DiskError> {
        let mark = Spot::named(&self.index_directory, LAYERS);
        let known = match mark.stat()?.map(|stat| stat.attributes.kind) {
            Some(Kind::Symlink) => Some(mark.read_link()?),
            _ => None,
        };
        if known.as_deref() != Some(layers.as_bytes()) {
            // What is kept aside is about files here, whatever lies below them.
            for entry in self.index_directory.list()?.iter().filter(|entry| !is_record(&entry.name)) {
                self.index_directory.remove_tree(&entry.name)?;
            }
            *self.index() = Index::default();
            let temporary = self.temporary();
            self.work.make_symlink(temporary.name(), layers.as_bytes())?;
            temporary.publish(&self.index_directory, LAYERS)?;
        }
        self.layers.get_or_init(|| layers.to_owned());
        Ok(())
    }

    /// Returns the inode of the copied-up file of the layers' node `number`.
    #[must_use]
    pub fn indexed_file(&self, number: u64) -> Option<u64> {
        self.index().files.get(&number).copied()
    }

    /// Returns which node of the layers the upper's file `inode` is a copy of, if the index has it.
    #[must_use]
    pub fn indexed_number(&self, inode: u64) -> Option<u64> {
        self.index().numbers.get(&inode).copied()
    }

    /// Returns how many names in the layers still show the node `number`, if that was ever counted.
    #[must_use]
    pub fn names_left(&self, number: u64) -> Option<u32> {
        self.index().left.get(&number).copied()
    }

    /// Returns the copied-up file of the layers' node `number` by its name in the index.
    #[must_use]
    pub fn indexed_spot(&self, number: u64) -> Spot {
        Spot::named(&self.index_directory, &file_name(number))
    }

    /// Returns the directory of the index.
    #[must_use]
    pub fn index_directory(&self) -> &Arc<Directory> {
        &self.index_directory
    }

    /// Notes how many names in the layers still show the node `number`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn set_names_left(&self, number: u64, left: u32) -> Result<(), DiskError> {
        let temporary = self.temporary();
        self.work.make_symlink(temporary.name(), left.to_string().as_bytes())?;
        temporary.publish(&self.index_directory, &left_name(number))?;
        self.index().left.insert(number, left);
        Ok(())
    }

    /// Puts the prepared copy of the layers' node `number` into the index.
    ///
    /// # Errors
    /// What the host reports.
    pub fn publish_indexed(&self, prepared: Temporary<'_>, number: u64, inode: u64) -> Result<(), DiskError> {
        prepared.publish(&self.index_directory, &file_name(number))?;
        let mut index = self.index();
        index.files.insert(number, inode);
        index.numbers.insert(inode, number);
        Ok(())
    }

    /// Returns every node of the layers that the index knows something about.
    #[must_use]
    pub fn indexed_numbers(&self) -> Vec<u64> {
        let index = self.index();
        let numbers: BTreeSet<u64> = index.files.keys().chain(index.left.keys()).copied().collect();
        numbers.into_iter().collect()
    }

    /// Forgets all about the layers' node `number`: it shows again under all its names.
    ///
    /// # Errors
    /// What the host reports.
    pub fn forget_indexed(&self, number: u64) -> Result<(), DiskError> {
        if self.indexed_file(number).is_some() {
            self.drop_indexed(number)?;
        }
        if self.index().left.remove(&number).is_some() {
            self.index_directory.unlink(&left_name(number))?;
        }
        Ok(())
    }

    /// Forgets the copied-up file of the layers' node `number`, whose last name is gone.
    ///
    /// # Errors
    /// What the host reports.
    pub fn drop_indexed(&self, number: u64) -> Result<(), DiskError> {
        {
            let mut index = self.index();
            if let Some(inode) = index.files.remove(&number) {
                index.numbers.remove(&inode);
            }
        }
        self.index_directory.unlink(&file_name(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        assert_eq!(parse(&file_name(0x1_0000_0007)), Some((0x1_0000_0007, false)));
        assert_eq!(parse(&left_name(7)), Some((7, true)));
        assert_eq!(parse(LAYERS), None);
        assert_eq!(parse(b"7"), None);
    }
}

//! Removed names: the marks that hide what the layers hold.
//!
//! A whiteout is a 0/0 character device, or, where such a device cannot be made, an empty file with an
//! attribute in a directory that is marked to hold such files (Linux 6.7 and later know both).

use std::sync::Arc;

use super::{Upper, format};
use crate::disk::DiskError;
use crate::disk::unix::{Directory, NewSpecial, Spot, XattrFlag};
use crate::node::Kind;

/// How removed names are marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhiteoutForm {
    /// As devices where they can be made, else as attributes.
    #[default]
    Best,
    /// As attributes, for disks that move to where devices cannot be kept.
    Attribute,
}

const DEVICE: NewSpecial = NewSpecial { kind: Kind::CharacterDevice, mode: 0, device: 0 };

impl Upper {
    /// Puts a whiteout at `name` in `directory`, in one step, over whatever is there but a directory.
    ///
    /// # Errors
    /// What the host reports; then nothing has changed.
    pub fn cover(&self, directory: &Arc<Directory>, name: &[u8]) -> Result<(), DiskError> {
        let prepared = self.prepare_whiteout(directory)?;
        prepared.publish(directory, name)
    }

    /// Puts a whiteout in the place of the directory `name` in `directory`, in one step, and removes the
    /// directory with the marks in it.
    ///
    /// # Errors
    /// What the host reports; then nothing has changed.
    pub fn cover_directory(&self, directory: &Arc<Directory>, name: &[u8]) -> Result<(), DiskError> {
        let prepared = self.prepare_whiteout(directory)?;
        prepared.exchange(directory, name)
    }

    /// Moves `name` to `new_name` in `to`, leaving a whiteout, in one step. What is at the new name is replaced
    /// as `rename(2)` does.
    ///
    /// # Errors
    /// What the host reports; then nothing has changed.
    pub fn rename_covering(
        &self,
        directory: &Arc<Directory>,
        name: &[u8],
        to: &Arc<Directory>,
        new_name: &[u8],
    ) -> Result<(), DiskError> {
        if self.device_whiteouts {
            let renamed = directory.rename_leaving_whiteout(name, to, new_name);
            match renamed {
                Err(error) if crate::disk::unix::is_unsupported(&error) => {}
                other => return other,
            }
        }
        // With a whiteout at the new name already, one exchange does both. A crash before it loses what was at
        // the new name, which was to be replaced.
        match to.stat(new_name)?.map(|stat| stat.attributes.kind) {
            Some(Kind::Directory) => self.cover_directory(to, new_name)?,
            _ => self.cover(to, new_name)?,
        }
        self.expect_whiteouts(directory)?;
        directory.exchange(name, to, new_name)
    }

    /// Tells whether whiteouts are files with an attribute, which a listing does not tell from others.
    #[must_use]
    pub fn hides_whiteouts(&self) -> bool {
        !self.device_whiteouts
    }

    /// Makes `directory` ready to get a whiteout from elsewhere.
    ///
    /// # Errors
    /// What the host reports.
    pub fn expect_whiteouts(&self, directory: &Arc<Directory>) -> Result<(), DiskError> {
        if self.device_whiteouts { Ok(()) } else { mark(directory) }
    }

    fn prepare_whiteout(&self, directory: &Arc<Directory>) -> Result<super::Temporary<'_>, DiskError> {
        let prepared = self.temporary();
        if self.device_whiteouts {
            self.work.make_special(prepared.name(), DEVICE)?;
            return Ok(prepared);
        }
        self.expect_whiteouts(directory)?;
        self.work.create_file(prepared.name(), 0o600)?;
        prepared.spot().set_xattr(format::WHITEOUT, b"y", XattrFlag::Set)?;
        Ok(prepared)
    }
}

/// Marks `directory` as one that holds whiteouts of the second form; an opaque one needs none.
fn mark(directory: &Arc<Directory>) -> Result<(), DiskError> {
    let spot = Spot::named(directory, b".");
    match spot.xattr(format::OPAQUE)? {
        Some(_) => Ok(()),
        None => spot.set_xattr(format::OPAQUE, b"x", XattrFlag::Set),
    }
}

//! Listings: the volume's entries into the kernel's buffer, until it is full.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use super::attributes::{file_attributes, file_type, lifetime, listed};
use super::replies::GENERATION;
use super::server::FuseDriver;
use crate::volume::{FsError, HandleId};

impl FuseDriver {
    /// Names, kinds and inode numbers.
    pub(super) fn list(
        &self,
        number: INodeNo,
        handle: Option<HandleId>,
        offset: u64,
        reply: &mut ReplyDirectory,
    ) -> Result<(), FsError> {
        self.volume.read_directory(self.node(number)?, handle, offset, false, &mut |entry| {
            let name = OsStr::from_bytes(entry.name);
            !reply.add(INodeNo(entry.inode), entry.next_offset, file_type(entry.kind), name)
        })
    }

    /// The same with attributes: each entry that is sent is also looked up.
    pub(super) fn list_with_attributes(
        &self,
        number: INodeNo,
        handle: Option<HandleId>,
        offset: u64,
        reply: &mut ReplyDirectoryPlus,
    ) -> Result<(), FsError> {
        self.volume.read_directory(self.node(number)?, handle, offset, true, &mut |shown| {
            let name = OsStr::from_bytes(shown.name);
            let next = shown.next_offset;
            let Some(entry) = &shown.entry else {
                // `.` and `..`, of which the kernel takes name, number and kind. And what cannot be looked up,
                // damaged for example: it is listed under a number that is nobody's and kept for no time, so
                // that whoever opens it makes the kernel ask, and hears why.
                let is_dots = matches!(shown.name, b"." | b"..");
                let number = if is_dots { shown.inode } else { self.numbers.nobody() };
                let attributes = listed(number, shown.kind);
                return !reply.add(attributes.ino, next, name, &lifetime(false), &attributes, GENERATION);
            };
            let named = self.numbers.learn(entry);
            let kept = lifetime(entry.status.lasting && named.exact);
            let attributes = file_attributes(named.number, &entry.status);
            let full = reply.add(attributes.ino, next, name, &kept, &attributes, GENERATION);
            if full {
                // Not sent, so not learnt; the volume does not count it either.
                self.numbers.forget(named.number, 1);
            }
            !full
        })
    }
}

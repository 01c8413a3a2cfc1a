//! Opening and closing: who reads a file, and what the kernel may keep.

use std::ffi::OsStr;
use std::fs::File;
use std::io;

use fuser::{BackingId, Errno, FileHandle, FopenFlags, INodeNo, OpenFlags, ReplyCreate, ReplyOpen, Request};

use super::attributes::{file_attributes, lifetime};
use super::opens::{Way, Wish};
use super::privileges::without_privileges;
use super::replies::{GENERATION, access, bytes, caller, handle_number, needed};
use super::server::FuseDriver;
use crate::disk::DiskError;
use crate::volume::{Access, Entry, FsError, HandleId, Lookup, NodeId, Opened};

/// A file that was opened, and how it is served.
pub(super) struct OpenFile {
    opened: Opened,
    way: Way<BackingId>,
}

/// No close is worth a request: there is nothing that could fail then (no writeback cache, no remote locks).
const OPEN_FLAGS: FopenFlags = FopenFlags::FOPEN_NOFLUSH;

fn cached_flags(keep: bool) -> FopenFlags {
    if keep { OPEN_FLAGS | FopenFlags::FOPEN_KEEP_CACHE } else { OPEN_FLAGS }
}

fn truncates(flags: OpenFlags) -> bool {
    flags.0 & libc::O_TRUNC != 0
}

/// Tells whether a file that is opened like this may be changed, by the opening or after it.
pub(super) fn may_change(flags: OpenFlags) -> bool {
    truncates(flags) || access(flags).write
}

impl FuseDriver {
    /// Opens an existing file. `register` hands a file to the kernel.
    pub(super) fn open_file(
        &self,
        request: &Request,
        number: INodeNo,
        flags: OpenFlags,
        register: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> Result<OpenFile, FsError> {
        let node = self.node(number)?;
        self.check_truncation(node, flags)?;
        let opened = self.volume.open(node, access(flags), truncates(flags))?;
        if truncates(flags) && request.uid() != 0 {
            self.drop_privileges(request, number, node)?;
        }
        let way = self.way(node, access(flags), &opened, register);
        Ok(OpenFile { opened, way })
    }

    /// Refuses to truncate a file that is opened for reading alone, which POSIX leaves undefined, if it may be
    /// running. The kernel finds out whether it is only after we have answered, so a running program would lose
    /// its text; who opens for writing is turned away before we hear of it.
    fn check_truncation(&self, node: NodeId, flags: OpenFlags) -> Result<(), FsError> {
        const EXECUTE: u32 = 0o111;
        if truncates(flags)
            && !access(flags).write
            && self.volume.attributes(node)?.attributes.mode & EXECUTE != 0
        {
            let busy = io::Error::from_raw_os_error(libc::ETXTBSY);
            return Err(DiskError::new("truncate", "a program opened for reading", busy).into());
        }
        Ok(())
    }

    /// Makes a file and opens it; opens what exists by now where the caller does not mind.
    pub(super) fn create_file(
        &self,
        request: &Request,
        parent: NodeId,
        name: &OsStr,
        mode: u32,
        flags: OpenFlags,
        register: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> Result<(Entry, OpenFile), FsError> {
        let made = self.volume.create(caller(request), parent, bytes(name), mode, access(flags));
        let (entry, opened) = match made {
            Err(FsError::Exists) if flags.0 & libc::O_EXCL == 0 => self.open_existing(parent, name, flags)?,
            made => made?,
        };
        let way = self.way(entry.node, access(flags), &opened, register);
        Ok((entry, OpenFile { opened, way }))
    }

    fn open_existing(
        &self,
        parent: NodeId,
        name: &OsStr,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened), FsError> {
        let Lookup::Found(entry) = self.volume.lookup(parent, bytes(name))? else {
            return Err(FsError::NotFound);
        };
        let opened = self
            .check_truncation(entry.node, flags)
            .and_then(|()| self.volume.open(entry.node, access(flags), truncates(flags)));
        match opened {
            Ok(opened) => Ok((entry, opened)),
            Err(error) => {
                self.volume.forget(entry.node, 1);
                Err(error)
            }
        }
    }

    /// Decides how an open file is served, and counts it.
    fn way(
        &self,
        node: NodeId,
        access: Access,
        opened: &Opened,
        register: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> Way<BackingId> {
        let mut backing = opened.backing.as_deref();
        // The kernel writes with our privileges there, so it would leave set-id bits in place.
        if access.write && backing.is_some() && self.opens.passthrough() {
            let privileged = self.volume.attributes(node).map(|status| without_privileges(&status).is_some());
            backing = backing.filter(|_| !privileged.unwrap_or(true));
        }
        let wish = Wish { node, write: access.write, keep_cache: opened.keep_cache, backing };
        self.opens.begin(&wish, register)
    }

    /// Closes a file; answers whether the kernel's attributes may be stale.
    pub(super) fn close_file(
        &self,
        number: INodeNo,
        file: FileHandle,
        flags: OpenFlags,
    ) -> Result<bool, FsError> {
        let handle = needed(file)?;
        let stale = self.node(number).is_ok_and(|node| self.opens.end(node, access(flags).write));
        self.volume.release(handle);
        Ok(stale)
    }

    /// Opens a directory. A listing that the kernel keeps must be one that only changes through the kernel.
    pub(super) fn open_directory(&self, number: INodeNo) -> Result<(HandleId, FopenFlags), FsError> {
        let node = self.node(number)?;
        let handle = self.volume.open_directory(node)?;
        let lasting = self.volume.attributes(node).is_ok_and(|status| status.lasting);
        let kept = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        Ok((handle, if lasting { kept } else { FopenFlags::empty() }))
    }

    /// Finds data or a hole. Files that the kernel opened by itself come without a handle.
    pub(super) fn seek(
        &self,
        number: INodeNo,
        handle: Option<HandleId>,
        offset: i64,
        whence: i32,
    ) -> Result<i64, FsError> {
        let data = match whence {
            libc::SEEK_DATA => true,
            libc::SEEK_HOLE => false,
            _ => return Err(FsError::Invalid("whence")),
        };
        let offset = u64::try_from(offset).map_err(|_| FsError::NoMoreData)?;
        let node = self.node(number)?;
        let found = match handle {
            Some(handle) => self.volume.seek(node, handle, offset, data)?,
            None => {
                let read = Access { read: true, write: false, append: false };
                let handle = self.volume.open(node, read, false)?.handle;
                let found = self.volume.seek(node, handle, offset, data);
                self.volume.release(handle);
                found?
            }
        };
        i64::try_from(found).map_err(|_| FsError::NoMoreData)
    }

    /// Answers `create`: the kernel knows the new node from now on.
    pub(super) fn answer_create(&self, result: Result<(Entry, OpenFile), Errno>, reply: ReplyCreate) {
        let (entry, file) = match result {
            Ok(made) => made,
            Err(error) => return reply.error(error),
        };
        let named = self.numbers.learn(&entry);
        let kept = lifetime(entry.status.lasting && named.exact);
        let attributes = file_attributes(named.number, &entry.status);
        let number = handle_number(file.opened.handle);
        match file.way {
            Way::Cached { keep } => reply.created(&kept, &attributes, GENERATION, number, cached_flags(keep)),
            Way::Passthrough(backing) => {
                reply.created_passthrough(&kept, &attributes, GENERATION, number, OPEN_FLAGS, &backing);
            }
        }
    }
}

/// Answers `open`.
pub(super) fn answer_open(result: Result<OpenFile, Errno>, reply: ReplyOpen) {
    match result {
        Ok(OpenFile { opened, way: Way::Cached { keep } }) => {
            reply.opened(handle_number(opened.handle), cached_flags(keep));
        }
        Ok(OpenFile { opened, way: Way::Passthrough(backing) }) => {
            reply.opened_passthrough(handle_number(opened.handle), OPEN_FLAGS, &backing);
        }
        Err(error) => reply.error(error),
    }
}

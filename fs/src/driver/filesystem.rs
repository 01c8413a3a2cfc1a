//! Every request of the kernel: decoded, one call of the volume, one reply.
//!
//! Nothing here knows what a slot, a layer or an upper directory is.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use fuser::{
    AccessFlags, BackingId, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags,
    INodeNo, IoctlFlags, KernelConfig, LockOwner, Notifier, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::attributes::{device_from_kernel, file_attributes, file_type, kind_of_mode, lifetime, set_time};
use super::capabilities::{Agreed, negotiate};
use super::numbers::Numbers;
use super::opens::{Opens, Way, Wish};
use super::options::OpenMode;
use super::privileges::{taken_by, without_privileges};
use super::replies::{
    self, GENERATION, access, bytes, caller, guarded, handle, handle_number, name_list, needed, rename_mode,
};
use super::statistics::{Operation, Statistics};
use crate::volume::{
    Access, Entry, FsError, Lookup, NodeId, Opened, SetAttributes, Status, Volume, XattrMode,
};

thread_local! {
    /// Reads are answered from here; it grows to the largest request its thread has seen (at most 1 MiB).
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Serves a volume to the kernel.
#[derive(Debug)]
pub(super) struct FuseDriver {
    volume: Arc<Volume>,
    numbers: Numbers,
    opens: Opens<BackingId>,
    statistics: Arc<Statistics>,
    /// Set once the connection stands.
    notifier: Arc<OnceLock<Notifier>>,
    agreed: Arc<OnceLock<Agreed>>,
    mode: OpenMode,
    /// Once `open` was answered with ENOSYS, files come without handles for good.
    unasked: AtomicBool,
}

impl FuseDriver {
    pub(super) fn new(
        volume: Arc<Volume>,
        mode: OpenMode,
        statistics: Arc<Statistics>,
        notifier: Arc<OnceLock<Notifier>>,
        agreed: Arc<OnceLock<Agreed>>,
    ) -> Self {
        Self {
            volume,
            numbers: Numbers::new(),
            opens: Opens::new(),
            statistics,
            notifier,
            agreed,
            mode,
            unasked: AtomicBool::new(false),
        }
    }

    fn guarded<T>(
        &self,
        operation: Operation,
        number: INodeNo,
        call: impl FnOnce() -> Result<T, FsError>,
    ) -> Result<T, Errno> {
        guarded(&self.statistics, operation, number, call)
    }

    fn node(&self, number: INodeNo) -> Result<NodeId, FsError> {
        self.numbers.node(number.0)
    }

    /// Tells whether the kernel may open everything by itself from now on. A volume that is still being
    /// indexed at the first open gets there later.
    fn opens_unasked(&self, allowed: bool) -> bool {
        if !allowed || self.mode != OpenMode::Automatic {
            return false;
        }
        if self.unasked.load(Ordering::Relaxed) {
            return true;
        }
        let immutable = self.volume.is_immutable();
        self.unasked.store(immutable, Ordering::Relaxed);
        immutable
    }

    /// Decides how an open file is served, and counts it.
    fn way(
        &self,
        node: NodeId,
        access: Access,
        opened: &Opened,
        register: impl FnOnce(&std::fs::File) -> io::Result<BackingId>,
    ) -> Way<BackingId> {
        let mut backing = opened.backing.as_deref();
        // The kernel writes with our privileges there, so it would leave set-id bits in place.
        if access.write && backing.is_some() && self.opens.passthrough() {
            let privileged = self.volume.attributes(node).map(|status| without_privileges(&status).is_some());
            backing = backing.filter(|_| !privileged.unwrap_or(true));
        }
        self.opens
            .begin(&Wish { node, write: access.write, keep_cache: opened.keep_cache, backing }, register)
    }

    /// Takes set-id bits from a file that was changed by somebody without the right to keep them.
    fn drop_privileges(&self, request: &Request, number: INodeNo, node: NodeId) -> Result<(), FsError> {
        if let Some(mode) = without_privileges(&self.volume.attributes(node)?) {
            let changes = SetAttributes { mode: Some(mode), ..Default::default() };
            self.volume.set_attributes(caller(request), node, None, &changes)?;
            self.invalidate_attributes(number);
        }
        Ok(())
    }

    /// Makes the kernel ask for a node's attributes again; its pages stay.
    fn invalidate_attributes(&self, number: INodeNo) {
        if let Some(notifier) = self.notifier.get()
            && let Err(error) = notifier.inval_inode(number, -1, 0)
        {
            tracing::debug!(node = number.0, "cannot invalidate attributes: {error}");
        }
    }

    fn attributes_reply(&self, number: INodeNo, result: Result<Status, Errno>, reply: ReplyAttr) {
        match result {
            // Here the number shown is free: an alias need not appear.
            Ok(status) => reply.attr(&lifetime(status.lasting), &file_attributes(status.inode, &status)),
            Err(error) => {
                tracing::trace!(node = number.0, "no attributes");
                reply.error(error);
            }
        }
    }

    /// Opens what `create` was to make, where it exists by now and the caller does not mind.
    fn open_existing(
        &self,
        parent: NodeId,
        name: &OsStr,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened), FsError> {
        match self.volume.lookup(parent, bytes(name))? {
            Lookup::Found(entry) => {
                let truncate = flags.0 & libc::O_TRUNC != 0;
                match self.volume.open(entry.node, access(flags), truncate) {
                    Ok(opened) => Ok((entry, opened)),
                    Err(error) => {
                        self.volume.forget(entry.node, 1);
                        Err(error)
                    }
                }
            }
            Lookup::Absent { .. } => Err(FsError::NotFound),
        }
    }
}

/// No close is worth a request: there is nothing that could fail then (no writeback cache, no remote locks).
const OPEN_FLAGS: FopenFlags = FopenFlags::FOPEN_NOFLUSH;

fn cached_flags(keep: bool) -> FopenFlags {
    if keep { OPEN_FLAGS | FopenFlags::FOPEN_KEEP_CACHE } else { OPEN_FLAGS }
}

fn empty(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for FuseDriver {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let agreed = negotiate(config, self.mode != OpenMode::Requests);
        self.opens.allow_passthrough(agreed.passthrough);
        let _ = self.agreed.set(agreed);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let result =
            self.guarded(Operation::Lookup, parent, || self.volume.lookup(self.node(parent)?, bytes(name)));
        replies::lookup(&self.numbers, result, reply);
    }

    fn forget(&self, _request: &Request, number: INodeNo, count: u64) {
        let _ = self.guarded(Operation::Forget, number, || {
            if let Some((node, count)) = self.numbers.forget(number.0, count) {
                self.volume.forget(node, count);
            }
            Ok(())
        });
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        let result =
            self.guarded(Operation::GetAttributes, number, || self.volume.attributes(self.node(number)?));
        self.attributes_reply(number, result, reply);
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        file: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed_at: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let result = self.guarded(Operation::SetAttributes, number, || {
            let node = self.node(number)?;
            let mut changes = SetAttributes {
                mode: mode.map(|mode| mode & 0o7777),
                user,
                group,
                size,
                accessed: accessed.map(set_time),
                modified: modified.map(set_time),
            };
            if taken_by(&changes, request.uid()) {
                changes.mode = without_privileges(&self.volume.attributes(node)?);
            }
            self.volume.set_attributes(caller(request), node, file.and_then(handle), &changes)
        });
        self.attributes_reply(number, result, reply);
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        match self.guarded(Operation::ReadLink, number, || self.volume.read_link(self.node(number)?)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let result = self.guarded(Operation::MakeNode, parent, || {
            let kind = kind_of_mode(mode).ok_or(FsError::Invalid("kind of node"))?;
            let device = device_from_kernel(device);
            self.volume.make_node(
                caller(request),
                self.node(parent)?,
                bytes(name),
                kind,
                mode & 0o7777,
                device,
            )
        });
        replies::entry(&self.numbers, result, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let result = self.guarded(Operation::MakeDirectory, parent, || {
            self.volume.make_directory(caller(request), self.node(parent)?, bytes(name), mode & 0o7777)
        });
        replies::entry(&self.numbers, result, reply);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let result =
            self.guarded(Operation::Unlink, parent, || self.volume.unlink(self.node(parent)?, bytes(name)));
        empty(result, reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let result = self.guarded(Operation::RemoveDirectory, parent, || {
            self.volume.remove_directory(self.node(parent)?, bytes(name))
        });
        empty(result, reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let result = self.guarded(Operation::MakeSymlink, parent, || {
            let target = target.as_os_str().as_bytes();
            self.volume.make_symlink(caller(request), self.node(parent)?, bytes(name), target)
        });
        replies::entry(&self.numbers, result, reply);
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let result = self.guarded(Operation::Rename, parent, || {
            self.volume.rename(
                self.node(parent)?,
                bytes(name),
                self.node(new_parent)?,
                bytes(new_name),
                rename_mode(flags)?,
            )
        });
        empty(result, reply);
    }

    fn link(&self, _request: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let result = self.guarded(Operation::Link, number, || {
            self.volume.link(self.node(number)?, self.node(parent)?, bytes(name))
        });
        replies::entry(&self.numbers, result, reply);
    }

    fn open(&self, request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.opens_unasked(self.agreed.get().is_some_and(|agreed| agreed.no_open)) {
            self.statistics.count(Operation::Open);
            // The kernel keeps this in mind: no open or release from now on, and pages are kept.
            return reply.error(Errno::ENOSYS);
        }
        let result = self.guarded(Operation::Open, number, || {
            let node = self.node(number)?;
            let truncate = flags.0 & libc::O_TRUNC != 0;
            let opened = self.volume.open(node, access(flags), truncate)?;
            if truncate && request.uid() != 0 {
                self.drop_privileges(request, number, node)?;
            }
            let way = self.way(node, access(flags), &opened, |file| reply.open_backing(file));
            Ok((opened, way))
        });
        match result {
            Ok((opened, Way::Cached { keep })) => {
                reply.opened(handle_number(opened.handle), cached_flags(keep));
            }
            Ok((opened, Way::Passthrough(backing))) => {
                reply.opened_passthrough(handle_number(opened.handle), OPEN_FLAGS, &backing);
            }
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let flags = OpenFlags(flags);
        let result = self.guarded(Operation::Create, parent, || {
            let directory = self.node(parent)?;
            let made =
                self.volume.create(caller(request), directory, bytes(name), mode & 0o7777, access(flags));
            let (entry, opened) = match made {
                Err(FsError::Exists) if flags.0 & libc::O_EXCL == 0 => {
                    self.open_existing(directory, name, flags)?
                }
                made => made?,
            };
            let way = self.way(entry.node, access(flags), &opened, |file| reply.open_backing(file));
            Ok((entry, opened, way))
        });
        match result {
            Ok((entry, opened, way)) => {
                let named = self.numbers.learn(&entry);
                let kept = lifetime(entry.status.lasting && named.exact);
                let attributes = file_attributes(named.number, &entry.status);
                let file = handle_number(opened.handle);
                match way {
                    Way::Cached { keep } => {
                        reply.created(&kept, &attributes, GENERATION, file, cached_flags(keep));
                    }
                    Way::Passthrough(backing) => {
                        reply.created_passthrough(&kept, &attributes, GENERATION, file, OPEN_FLAGS, &backing)
                    }
                }
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _request: &Request,
        number: INodeNo,
        file: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let result = self.guarded(Operation::Read, number, || {
                self.volume.read(self.node(number)?, handle(file), offset, &mut buffer[..size])
            });
            match result {
                Ok(count) => {
                    let count = count.min(size);
                    self.statistics.count_read(count);
                    reply.data(&buffer[..count]);
                }
                Err(error) => reply.error(error),
            }
        });
    }

    fn write(
        &self,
        request: &Request,
        number: INodeNo,
        file: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let result = self.guarded(Operation::Write, number, || {
            let node = self.node(number)?;
            let count = self.volume.write(node, needed(file)?, offset, data)?;
            if write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
                self.drop_privileges(request, number, node)?;
            }
            Ok(count)
        });
        match result {
            Ok(count) => {
                self.statistics.count_written(count);
                // The kernel sends at most 1 MiB at once.
                reply.written(u32::try_from(count).unwrap_or(u32::MAX));
            }
            Err(error) => reply.error(error),
        }
    }

    /// ENOSYS on purpose: nothing is done at a close, so the kernel need not tell us.
    fn flush(
        &self,
        _request: &Request,
        _number: INodeNo,
        _file: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        self.statistics.count(Operation::Flush);
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _request: &Request,
        number: INodeNo,
        file: FileHandle,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let result = self.guarded(Operation::Release, number, || {
            let handle = needed(file)?;
            let stale = match self.node(number) {
                Ok(node) => self.opens.end(node, access(flags).write),
                Err(_) => false,
            };
            self.volume.release(handle);
            Ok(stale)
        });
        match result {
            Ok(stale) => {
                reply.ok();
                if stale {
                    self.invalidate_attributes(number);
                }
            }
            Err(error) => reply.error(error),
        }
    }

    fn fsync(
        &self,
        _request: &Request,
        number: INodeNo,
        file: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        let result = self.guarded(Operation::Sync, number, || {
            self.volume.sync(self.node(number)?, handle(file), data_only)
        });
        empty(result, reply);
    }

    fn opendir(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.opens_unasked(self.agreed.get().is_some_and(|agreed| agreed.no_open_directory)) {
            self.statistics.count(Operation::OpenDirectory);
            return reply.error(Errno::ENOSYS);
        }
        let result = self.guarded(Operation::OpenDirectory, number, || {
            let node = self.node(number)?;
            let handle = self.volume.open_directory(node)?;
            // A listing that the kernel keeps must be one that only changes through the kernel.
            let lasting = self.volume.attributes(node).is_ok_and(|status| status.lasting);
            Ok((handle, lasting))
        });
        match result {
            Ok((handle, lasting)) => {
                let kept = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
                let flags = if lasting { kept } else { FopenFlags::empty() };
                reply.opened(handle_number(handle), flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        number: INodeNo,
        file: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let result = self.guarded(Operation::ReadDirectory, number, || {
            let node = self.node(number)?;
            self.volume.read_directory(node, handle(file), offset, false, &mut |entry| {
                let name = OsStr::from_bytes(entry.name);
                !reply.add(INodeNo(entry.inode), entry.next_offset, file_type(entry.kind), name)
            })
        });
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        number: INodeNo,
        file: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let result = self.guarded(Operation::ReadDirectoryPlus, number, || {
            let node = self.node(number)?;
            self.volume.read_directory(node, handle(file), offset, true, &mut |listed| {
                let name = OsStr::from_bytes(listed.name);
                let next = listed.next_offset;
                let Some(entry) = &listed.entry else {
                    // `.` and `..`: the kernel takes the name, number and kind, and looks at nothing else.
                    let status = super::attributes::listed(listed.inode, listed.kind);
                    return !reply.add(status.ino, next, name, &lifetime(false), &status, GENERATION);
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
        });
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn releasedir(
        &self,
        _request: &Request,
        number: INodeNo,
        file: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let result = self.guarded(Operation::ReleaseDirectory, number, || {
            self.volume.release_directory(needed(file)?);
            Ok(())
        });
        empty(result, reply);
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        number: INodeNo,
        _file: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let result =
            self.guarded(Operation::SyncDirectory, number, || self.volume.sync_directory(self.node(number)?));
        empty(result, reply);
    }

    fn statfs(&self, _request: &Request, number: INodeNo, reply: ReplyStatfs) {
        match self.guarded(Operation::Space, number, || self.volume.space()) {
            Ok(space) => {
                let small = |value: u64, fallback: u32| match u32::try_from(value) {
                    Ok(0) | Err(_) => fallback,
                    Ok(value) => value,
                };
                let block = small(space.block_size, 4096);
                reply.statfs(
                    space.blocks,
                    space.blocks_free,
                    space.blocks_available,
                    space.files,
                    space.files_free,
                    block,
                    small(space.name_max, 255),
                    block,
                );
            }
            Err(error) => reply.error(error),
        }
    }

    fn setxattr(
        &self,
        _request: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let result = self.guarded(Operation::SetXattr, number, || {
            let mode = match flags & (libc::XATTR_CREATE | libc::XATTR_REPLACE) {
                0 => XattrMode::Set,
                libc::XATTR_CREATE => XattrMode::Create,
                libc::XATTR_REPLACE => XattrMode::Replace,
                _ => return Err(FsError::Invalid("setxattr flags")),
            };
            self.volume.set_extended_attribute(self.node(number)?, bytes(name), value, mode)
        });
        empty(result, reply);
    }

    fn getxattr(&self, _request: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let result = self.guarded(Operation::GetXattr, number, || {
            self.volume.extended_attribute(self.node(number)?, bytes(name))
        });
        replies::xattr(result, size, reply);
    }

    fn listxattr(&self, _request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let result = self.guarded(Operation::ListXattr, number, || {
            Ok(name_list(&self.volume.extended_attribute_names(self.node(number)?)?))
        });
        replies::xattr(result, size, reply);
    }

    fn removexattr(&self, _request: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let result = self.guarded(Operation::RemoveXattr, number, || {
            self.volume.remove_extended_attribute(self.node(number)?, bytes(name))
        });
        empty(result, reply);
    }

    fn fallocate(
        &self,
        _request: &Request,
        number: INodeNo,
        file: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let result = self.guarded(Operation::Allocate, number, || {
            self.volume.allocate(self.node(number)?, needed(file)?, offset, length, mode)
        });
        empty(result, reply);
    }

    fn lseek(
        &self,
        _request: &Request,
        number: INodeNo,
        file: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let result = self.guarded(Operation::Seek, number, || {
            let data = match whence {
                libc::SEEK_DATA => true,
                libc::SEEK_HOLE => false,
                _ => return Err(FsError::Invalid("whence")),
            };
            let offset = u64::try_from(offset).map_err(|_| FsError::NoMoreData)?;
            let node = self.node(number)?;
            let found = match handle(file) {
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
        });
        match result {
            Ok(found) => reply.offset(found),
            Err(error) => reply.error(error),
        }
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        from: INodeNo,
        from_file: FileHandle,
        from_offset: u64,
        to: INodeNo,
        to_file: FileHandle,
        to_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        /// The reply has room for 32 bits; the caller asks again for the rest.
        const LARGEST: u64 = 1 << 30;
        let result = self.guarded(Operation::CopyRange, from, || {
            self.volume.copy_range(
                (self.node(from)?, needed(from_file)?, from_offset),
                (self.node(to)?, needed(to_file)?, to_offset),
                length.min(LARGEST),
            )
        });
        match result {
            Ok(count) => reply.written(u32::try_from(count).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    /// ENOSYS on purpose: the kernel checks permissions itself (`default_permissions`).
    fn access(&self, _request: &Request, _number: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        self.statistics.count(Operation::Other);
        reply.error(Errno::ENOSYS);
    }

    /// ENOSYS on purpose: there is no block device below.
    fn bmap(&self, _request: &Request, _number: INodeNo, _block_size: u32, _index: u64, reply: ReplyBmap) {
        self.statistics.count(Operation::Other);
        reply.error(Errno::ENOSYS);
    }

    /// ENOSYS on purpose: files are always ready.
    fn poll(
        &self,
        _request: &Request,
        _number: INodeNo,
        _file: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        self.statistics.count(Operation::Other);
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _number: INodeNo,
        _file: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _data: &[u8],
        _size: u32,
        reply: ReplyIoctl,
    ) {
        self.statistics.count(Operation::Other);
        reply.error(Errno::ENOTTY);
    }
}

//! Every request of the kernel: decoded, one call of the volume, one reply.
//!
//! Nothing here knows what a slot, a layer or an upper directory is. What takes more than a line or two is in
//! [`super::opening`], [`super::listing`] and [`super::server`].

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr,
    ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};

use super::attributes::{device_from_kernel, kind_of_mode, set_time};
use super::capabilities::negotiate;
use super::opening::{answer_open, may_change};
use super::options::OpenMode;
use super::replies::{self, bytes, caller, empty, handle, handle_number, name_list, needed, rename_mode};
use super::server::FuseDriver;
use super::statistics::Operation;
use crate::volume::{FsError, SetAttributes};

impl Filesystem for FuseDriver {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let agreed = negotiate(config, self.mode != OpenMode::Requests, self.volume.is_writable());
        self.opens.allow_passthrough(agreed.passthrough);
        let _ = self.agreed.set(agreed);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let result =
            self.guarded(Operation::Lookup, parent, || self.volume.lookup(self.node(parent)?, bytes(name)));
        if result.is_ok() {
            self.note(request, parent, |touches, volume, node| touches.name(volume, node, bytes(name)));
        }
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
        replies::attributes(result, reply);
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
            let changes = SetAttributes {
                mode: mode.map(|mode| mode & 0o7777),
                user,
                group,
                size,
                accessed: accessed.map(set_time),
                modified: modified.map(set_time),
            };
            self.set_attributes(request, number, file.and_then(handle), changes)
        });
        replies::attributes(result, reply);
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
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let result = self.guarded(Operation::MakeNode, parent, || {
            let kind = kind_of_mode(mode).ok_or(FsError::Invalid("kind of node"))?;
            let device = device_from_kernel(device);
            let parent = self.node(parent)?;
            let mode = self.mode_of_new(parent, mode, umask)?;
            self.volume.make_node(caller(request), parent, bytes(name), kind, mode, device)
        });
        replies::entry(&self.numbers, result, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let result = self.guarded(Operation::MakeDirectory, parent, || {
            let parent = self.node(parent)?;
            let mode = self.mode_of_new(parent, mode, umask)?;
            self.volume.make_directory(caller(request), parent, bytes(name), mode)
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
        if self.opens_unasked() {
            self.statistics.count(Operation::Open);
            // The kernel keeps this in mind: no open or release from now on, and pages are kept.
            return reply.error(Errno::ENOSYS);
        }
        let result = self.guarded_if(may_change(flags), Operation::Open, number, || {
            self.open_file(request, number, flags, |file| reply.open_backing(file))
        });
        if result.is_ok() {
            self.note(request, number, |touches, volume, node| touches.opening(volume, node));
        }
        answer_open(result, reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let result = self.guarded(Operation::Create, parent, || {
            let register = |file: &File| reply.open_backing(file);
            let parent = self.node(parent)?;
            let mode = self.mode_of_new(parent, mode, umask)?;
            self.create_file(request, parent, name, mode, OpenFlags(flags), register)
        });
        self.answer_create(result, reply);
    }

    fn read(
        &self,
        request: &Request,
        number: INodeNo,
        file: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buffer = self.buffers.take(size as usize);
        let result = self.guarded(Operation::Read, number, || {
            self.volume.read(self.node(number)?, handle(file), offset, &mut buffer)
        });
        match result {
            Ok(count) => {
                self.statistics.count_read(count);
                self.note(request, number, |touches, volume, node| {
                    touches.reading(volume, node, offset, count as u64);
                });
                reply.data(&buffer[..count.min(buffer.len())]);
            }
            Err(error) => reply.error(error),
        }
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
        match self.guarded(Operation::Release, number, || self.close_file(number, file, flags)) {
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
        if self.opens_directories_unasked() {
            self.statistics.count(Operation::OpenDirectory);
            return reply.error(Errno::ENOSYS);
        }
        match self.guarded(Operation::OpenDirectory, number, || self.open_directory(number)) {
            Ok((handle, flags)) => reply.opened(handle_number(handle), flags),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        request: &Request,
        number: INodeNo,
        file: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let result = self.guarded(Operation::ReadDirectory, number, || {
            if offset == 0 {
                self.note(request, number, |touches, volume, node| touches.listing(volume, node));
            }
            self.list(number, handle(file), offset, &mut reply)
        });
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn readdirplus(
        &self,
        request: &Request,
        number: INodeNo,
        file: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let result = self.guarded(Operation::ReadDirectoryPlus, number, || {
            if offset == 0 {
                self.note(request, number, |touches, volume, node| touches.listing(volume, node));
            }
            self.list_with_attributes(number, handle(file), offset, &mut reply)
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
        replies::space(self.guarded(Operation::Space, number, || self.volume.space()), reply);
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
            let mode = replies::xattr_mode(flags)?;
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

    fn removexattr(&self, request: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let Some(reply) = self.parking().keep((request.pid(), self.node(number).ok()), name, reply) else {
            return;
        };
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
        match self.guarded(Operation::Seek, number, || self.seek(number, handle(file), offset, whence)) {
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

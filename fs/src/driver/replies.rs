//! The two halves of every request that are not the volume's: running its call safely, and putting what came
//! out into the kernel's words.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fuser::{
    Errno, FileHandle, Generation, INodeNo, OpenFlags, RenameFlags, ReplyAttr, ReplyEmpty, ReplyEntry,
    ReplyStatfs, ReplyXattr, Request,
};

use super::attributes::{file_attributes, lifetime, nothing};
use super::errno;
use super::numbers::{Named, Numbers};
use super::statistics::{Operation, Statistics};
use crate::volume::{Access, Caller, Entry, FsError, HandleId, Lookup, RenameMode, Space, Status, XattrMode};

/// Node numbers are never reused while the kernel knows them, so one generation is enough.
pub(super) const GENERATION: Generation = Generation(0);

/// Runs one request's call of the volume: counted, its error turned into an errno, and a panic into EIO.
pub(super) fn guarded<T>(
    statistics: &Statistics,
    operation: Operation,
    number: INodeNo,
    call: impl FnOnce() -> Result<T, FsError>,
) -> Result<T, Errno> {
    statistics.count(operation);
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(errno::of(operation, number.0, &error)),
        Err(panic) => {
            statistics.count_panic();
            let reason = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            tracing::error!(operation = operation.name(), node = number.0, "a request panicked: {reason}");
            Err(Errno::EIO)
        }
    }
}

/// Answers with a node, which the kernel knows one lookup more of from now on.
pub(super) fn entry(numbers: &Numbers, result: Result<Entry, Errno>, reply: ReplyEntry) {
    match result {
        Ok(entry) => {
            let Named { number, exact } = numbers.learn(&entry);
            let lasting = entry.status.lasting;
            reply.entry_with_ttls(
                &lifetime(lasting && exact),
                &lifetime(lasting),
                &file_attributes(number, &entry.status),
                GENERATION,
            );
        }
        Err(error) => reply.error(error),
    }
}

/// Answers a lookup: that there is nothing is an entry too, so that the kernel can remember it.
pub(super) fn lookup(numbers: &Numbers, result: Result<Lookup, Errno>, reply: ReplyEntry) {
    match result {
        Ok(Lookup::Found(found)) => entry(numbers, Ok(found), reply),
        Ok(Lookup::Absent { lasting: true }) => reply.entry(&lifetime(true), &nothing(), GENERATION),
        Ok(Lookup::Absent { lasting: false }) => reply.error(Errno::ENOENT),
        Err(error) => reply.error(error),
    }
}

/// Answers with attributes. The inode number shown is free here: an alias need not appear.
pub(super) fn attributes(result: Result<Status, Errno>, reply: ReplyAttr) {
    match result {
        Ok(status) => reply.attr(&lifetime(status.lasting), &file_attributes(status.inode, &status)),
        Err(error) => reply.error(error),
    }
}

/// Answers with nothing but that it is done.
pub(super) fn empty(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

/// Answers with the space on the disk; what the volume leaves open is what disks usually have.
pub(super) fn space(result: Result<Space, Errno>, reply: ReplyStatfs) {
    let known =
        |value: u64, usual: u32| u32::try_from(value).ok().filter(|&value| value > 0).unwrap_or(usual);
    match result {
        Ok(space) => {
            let block = known(space.block_size, 4096);
            reply.statfs(
                space.blocks,
                space.blocks_free,
                space.blocks_available,
                space.files,
                space.files_free,
                block,
                known(space.name_max, 255),
                block,
            );
        }
        Err(error) => reply.error(error),
    }
}

/// Answers with an attribute's value or a list of names, as `getxattr(2)` says: size 0 asks for the length.
pub(super) fn xattr(result: Result<Vec<u8>, Errno>, size: u32, reply: ReplyXattr) {
    match result {
        Ok(value) => match u32::try_from(value.len()) {
            Ok(length) if size == 0 => reply.size(length),
            Ok(length) if length <= size => reply.data(&value),
            Ok(_) => reply.error(Errno::ERANGE),
            Err(_) => reply.error(Errno::E2BIG),
        },
        Err(error) => reply.error(error),
    }
}

/// Returns names as `listxattr(2)` gives them: each ended by a zero byte.
pub(super) fn name_list(names: &[Vec<u8>]) -> Vec<u8> {
    let mut list = Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum());
    for name in names {
        list.extend_from_slice(name);
        list.push(0);
    }
    list
}

/// Returns the volume's handle. 0 is what the kernel sends for files it opened without asking.
pub(super) fn handle(number: FileHandle) -> Option<HandleId> {
    number.0.checked_sub(1).map(HandleId)
}

/// Returns the kernel's number for a handle.
pub(super) fn handle_number(handle: HandleId) -> FileHandle {
    FileHandle(handle.0.wrapping_add(1))
}

/// Returns the handle of a call that cannot come without one.
pub(super) fn needed(number: FileHandle) -> Result<HandleId, FsError> {
    handle(number).ok_or(FsError::Unknown(0))
}

/// Returns who asks.
pub(super) fn caller(request: &Request) -> Caller {
    Caller { user: request.uid(), group: request.gid() }
}

/// Returns what an open file is for.
pub(super) fn access(flags: OpenFlags) -> Access {
    let mode = flags.0 & libc::O_ACCMODE;
    Access {
        read: mode != libc::O_WRONLY,
        write: mode != libc::O_RDONLY,
        append: flags.0 & libc::O_APPEND != 0,
    }
}

/// Returns what `setxattr(2)` does to what it meets.
pub(super) fn xattr_mode(flags: i32) -> Result<XattrMode, FsError> {
    match flags & (libc::XATTR_CREATE | libc::XATTR_REPLACE) {
        0 => Ok(XattrMode::Set),
        libc::XATTR_CREATE => Ok(XattrMode::Create),
        libc::XATTR_REPLACE => Ok(XattrMode::Replace),
        _ => Err(FsError::Invalid("setxattr flags")),
    }
}

/// Returns the bytes of a name.
pub(super) fn bytes(name: &OsStr) -> &[u8] {
    name.as_bytes()
}

/// Returns what a rename does to what it meets.
#[cfg(target_os = "linux")]
pub(super) fn rename_mode(flags: RenameFlags) -> Result<RenameMode, FsError> {
    let table = [
        (RenameFlags::empty(), RenameMode::Replace),
        (RenameFlags::RENAME_NOREPLACE, RenameMode::NoReplace),
        (RenameFlags::RENAME_EXCHANGE, RenameMode::Exchange),
        (RenameFlags::RENAME_WHITEOUT, RenameMode::Whiteout),
    ];
    table
        .into_iter()
        .find_map(|(bits, mode)| (bits == flags).then_some(mode))
        .ok_or(FsError::Invalid("rename flags"))
}

/// Returns what a rename does to what it meets.
#[cfg(not(target_os = "linux"))]
pub(super) fn rename_mode(flags: RenameFlags) -> Result<RenameMode, FsError> {
    if flags.is_empty() { Ok(RenameMode::Replace) } else { Err(FsError::Invalid("rename flags")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_is_counted() {
        let statistics = Statistics::default();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let result: Result<(), Errno> =
            guarded(&statistics, Operation::Read, INodeNo(1), || panic!("for the test"));
        std::panic::set_hook(hook);
        assert_eq!(result.map_err(Errno::code), Err(libc::EIO));
        assert_eq!((statistics.panics(), statistics.requests(Operation::Read)), (1, 1));
    }

    #[test]
    fn a_handle_is_never_the_kernels_no_handle() {
        for number in [0, 1, u64::MAX - 1] {
            let encoded = handle_number(HandleId(number));
            assert_ne!(encoded.0, 0);
            assert_eq!(handle(encoded), Some(HandleId(number)));
        }
        assert_eq!(handle(FileHandle(0)), None);
        assert!(needed(FileHandle(0)).is_err());
    }

    #[test]
    fn open_flags_say_what_a_file_is_for() {
        let of = |flags| access(OpenFlags(flags));
        assert_eq!(of(libc::O_RDONLY), Access { read: true, write: false, append: false });
        assert_eq!(of(libc::O_WRONLY | libc::O_APPEND), Access { read: false, write: true, append: true });
        assert_eq!(of(libc::O_RDWR), Access { read: true, write: true, append: false });
    }

    #[test]
    fn names_of_attributes_end_with_zero() {
        assert_eq!(name_list(&[b"user.a".to_vec(), b"user.b".to_vec()]), b"user.a\0user.b\0");
        assert!(name_list(&[]).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn rename_flags_do_not_combine() {
        assert_eq!(rename_mode(RenameFlags::RENAME_EXCHANGE).ok(), Some(RenameMode::Exchange));
        assert!(rename_mode(RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_NOREPLACE).is_err());
    }
}

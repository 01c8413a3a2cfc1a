//! The volume's attributes as the kernel wants them, and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use crate::node::{Kind, Timestamp};
use crate::volume::{SetTime, Status};

/// What the kernel is told for "without limit": it caps what it is given at its own longest time.
const LASTING: Duration = Duration::from_secs(u32::MAX as u64);

/// Returns for how long the kernel may keep what was answered.
pub(super) fn lifetime(lasting: bool) -> Duration {
    if lasting { LASTING } else { Duration::ZERO }
}

/// Returns the attributes with `inode` as what `stat(2)` shows.
pub(super) fn file_attributes(inode: u64, status: &Status) -> FileAttr {
    let attributes = &status.attributes;
    FileAttr {
        ino: INodeNo(inode),
        size: attributes.size,
        blocks: attributes.blocks,
        atime: system_time(attributes.accessed),
        mtime: system_time(attributes.modified),
        ctime: system_time(attributes.changed),
        crtime: UNIX_EPOCH,
        kind: file_type(attributes.kind),
        perm: (attributes.mode & 0o7777) as u16,
        nlink: attributes.links,
        uid: attributes.user,
        gid: attributes.group,
        rdev: device_for_kernel(attributes.device),
        blksize: 4096,
        flags: 0,
    }
}

/// Returns attributes that stand for "there is nothing": a node number of 0 makes the kernel remember that.
pub(super) fn nothing() -> FileAttr {
    listed(0, Kind::File)
}

/// Returns attributes of which only the number and the kind count.
pub(super) fn listed(inode: u64, kind: Kind) -> FileAttr {
    FileAttr {
        ino: INodeNo(inode),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: file_type(kind),
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// Returns the kernel's name for a kind.
pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharacterDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

/// Returns the kind that the type bits of `mode` name; `mknod(2)` takes no bits for a regular file.
#[expect(clippy::unnecessary_cast, reason = "mode_t has 16 bits on some systems")]
pub(super) fn kind_of_mode(mode: u32) -> Option<Kind> {
    let bits = mode & (libc::S_IFMT as u32);
    [
        (0, Kind::File),
        (libc::S_IFREG as u32, Kind::File),
        (libc::S_IFIFO as u32, Kind::Fifo),
        (libc::S_IFSOCK as u32, Kind::Socket),
        (libc::S_IFCHR as u32, Kind::CharacterDevice),
        (libc::S_IFBLK as u32, Kind::BlockDevice),
    ]
    .into_iter()
    .find_map(|(value, kind)| (value == bits).then_some(kind))
}

/// Returns the 32-bit form in which FUSE carries device numbers (the kernel's `new_encode_dev`).
fn device_for_kernel(device: u64) -> u32 {
    let (major, minor) = split_device(device);
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// Returns the host's `dev_t` for a device number as FUSE carries it.
pub(super) fn device_from_kernel(device: u32) -> u64 {
    let major = (device & 0x000f_ff00) >> 8;
    let minor = (device & 0xff) | ((device >> 12) & 0x000f_ff00);
    join_device(major, minor)
}

#[cfg(target_os = "linux")]
fn split_device(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

#[cfg(target_os = "linux")]
fn join_device(major: u32, minor: u32) -> u64 {
    rustix::fs::makedev(major, minor)
}

#[cfg(not(target_os = "linux"))]
fn split_device(device: u64) -> (u32, u32) {
    (((device >> 24) & 0xff) as u32, (device & 0x00ff_ffff) as u32)
}

#[cfg(not(target_os = "linux"))]
fn join_device(major: u32, minor: u32) -> u64 {
    (u64::from(major & 0xff) << 24) | u64::from(minor & 0x00ff_ffff)
}

/// Returns the time as the standard library holds it; what does not fit becomes the epoch.
fn system_time(time: Timestamp) -> SystemTime {
    let nanoseconds = Duration::from_nanos(u64::from(time.nanoseconds.min(999_999_999)));
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let base = if time.seconds >= 0 { UNIX_EPOCH.checked_add(whole) } else { UNIX_EPOCH.checked_sub(whole) };
    base.and_then(|base| base.checked_add(nanoseconds)).unwrap_or(UNIX_EPOCH)
}

/// Returns the time that `setattr` carried.
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(timestamp(time)),
    }
}

/// Undoes what fuser 0.18 does to a time before 1970: it takes seconds *and* nanoseconds away from the epoch,
/// where the kernel means seconds below it and nanoseconds above those. A mounted test holds this.
fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp {
            seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: after.subsec_nanos(),
        },
        Err(error) => {
            let before = error.duration();
            Timestamp {
                seconds: 0_i64.checked_sub_unsigned(before.as_secs()).unwrap_or(i64::MIN),
                nanoseconds: before.subsec_nanos(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_the_epoch_keep_their_nanoseconds() {
        let table = [
            (0, 0, UNIX_EPOCH),
            (1, 5, UNIX_EPOCH + Duration::new(1, 5)),
            (-1, 200_000_000, UNIX_EPOCH - Duration::from_millis(800)),
            (-2, 0, UNIX_EPOCH - Duration::from_secs(2)),
        ];
        for (seconds, nanoseconds, expected) in table {
            assert_eq!(system_time(Timestamp { seconds, nanoseconds }), expected);
        }
    }

    #[test]
    fn times_out_of_range_do_not_panic() {
        for seconds in [i64::MIN, i64::MAX] {
            let _ = system_time(Timestamp { seconds, nanoseconds: 999_999_999 });
        }
    }

    #[test]
    fn device_numbers_survive_the_way_through_the_kernel() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (259, 0x000f_f0ff & 0x00ff_ffff), (7, 256)] {
            let device = join_device(major, minor);
            assert_eq!(device_from_kernel(device_for_kernel(device)), device, "{major}:{minor}");
        }
    }

    #[test]
    fn only_kinds_that_mknod_makes_are_known() {
        assert_eq!(kind_of_mode(0o644), Some(Kind::File));
        assert_eq!(kind_of_mode(0o010_644), Some(Kind::Fifo));
        assert_eq!(kind_of_mode(0o040_755), None);
    }
}

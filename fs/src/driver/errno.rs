//! The one place where the volume's errors become the kernel's numbers.
//!
//! **Invariant:** ENOSYS never comes out of here: the kernel would stop asking for that operation on the whole
//! mount, because one file of one disk could not do it once.

use fuser::Errno;

use super::statistics::Operation;
use crate::disk::DiskError;
use crate::layer::LayerError;
use crate::volume::FsError;

/// Returns the errno for `error`, and logs what a user could not understand from the number alone.
pub(super) fn of(operation: Operation, number: u64, error: &FsError) -> Errno {
    let errno = number_of(error);
    match error {
        FsError::Layer(LayerError::Corrupt { .. }) => {
            tracing::error!(operation = operation.name(), node = number, "{error}");
        }
        FsError::Layer(LayerError::Disk(_)) | FsError::Disk(_) if errno.code() == libc::EIO => {
            tracing::error!(operation = operation.name(), node = number, "{error}");
        }
        FsError::Unknown(_) => tracing::warn!(operation = operation.name(), node = number, "{error}"),
        FsError::NotFound
        | FsError::Exists
        | FsError::NotDirectory
        | FsError::IsDirectory
        | FsError::NotEmpty
        | FsError::NotPermitted
        | FsError::AccessDenied
        | FsError::ReadOnly
        | FsError::NameTooLong
        | FsError::Invalid(_)
        | FsError::NoAttribute
        | FsError::TooManyLinks
        | FsError::NotSupported(_)
        | FsError::NoMoreData
        | FsError::Layer(LayerError::Disk(_))
        | FsError::Disk(_) => {
            tracing::debug!(operation = operation.name(), node = number, "{error}");
        }
    }
    errno
}

fn number_of(error: &FsError) -> Errno {
    match error {
        FsError::NotFound => Errno::ENOENT,
        FsError::Exists => Errno::EEXIST,
        FsError::NotDirectory => Errno::ENOTDIR,
        FsError::IsDirectory => Errno::EISDIR,
        FsError::NotEmpty => Errno::ENOTEMPTY,
        FsError::NotPermitted => Errno::EPERM,
        FsError::AccessDenied => Errno::EACCES,
        FsError::ReadOnly => Errno::EROFS,
        FsError::NameTooLong => Errno::ENAMETOOLONG,
        FsError::Invalid(_) => Errno::EINVAL,
        // ENODATA, or ENOATTR where the two differ.
        FsError::NoAttribute => Errno::NO_XATTR,
        FsError::TooManyLinks => Errno::EMLINK,
        FsError::NotSupported(_) => Errno::EOPNOTSUPP,
        FsError::NoMoreData => Errno::ENXIO,
        // For a node the kernel looks the path up again, which is right; for a handle it cannot happen.
        FsError::Unknown(_) => Errno::ESTALE,
        FsError::Layer(LayerError::Corrupt { .. }) => Errno::EIO,
        FsError::Layer(LayerError::Disk(error)) | FsError::Disk(error) => of_disk(error),
    }
}

/// The host's own number: ENOSPC, EDQUOT, EFBIG, EACCES and so on mean to the reader what they mean on the disk.
fn of_disk(error: &DiskError) -> Errno {
    match error.source.raw_os_error() {
        Some(libc::ENOSYS) => Errno::EOPNOTSUPP,
        Some(code) => Errno::from_i32(code),
        None => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn disk(code: i32) -> DiskError {
        DiskError::new("write", "/disk/file", io::Error::from_raw_os_error(code))
    }

    #[test]
    fn every_error_has_its_number() {
        let corrupt = LayerError::Corrupt { slot: "a".into(), path: "b".into(), reason: "c".into() };
        let table = [
            (FsError::NotFound, libc::ENOENT),
            (FsError::Exists, libc::EEXIST),
            (FsError::NotDirectory, libc::ENOTDIR),
            (FsError::IsDirectory, libc::EISDIR),
            (FsError::NotEmpty, libc::ENOTEMPTY),
            (FsError::NotPermitted, libc::EPERM),
            (FsError::AccessDenied, libc::EACCES),
            (FsError::ReadOnly, libc::EROFS),
            (FsError::NameTooLong, libc::ENAMETOOLONG),
            (FsError::Invalid("x"), libc::EINVAL),
            (FsError::TooManyLinks, libc::EMLINK),
            (FsError::NotSupported("x"), libc::EOPNOTSUPP),
            (FsError::NoMoreData, libc::ENXIO),
            (FsError::Unknown(7), libc::ESTALE),
            (FsError::Layer(corrupt), libc::EIO),
            (FsError::Layer(LayerError::Disk(disk(libc::EACCES))), libc::EACCES),
            (FsError::Disk(disk(libc::ENOSPC)), libc::ENOSPC),
            (FsError::Disk(disk(libc::EDQUOT)), libc::EDQUOT),
            (FsError::Disk(disk(libc::ENOSYS)), libc::EOPNOTSUPP),
            (FsError::Disk(DiskError::new("read", "/x", io::ErrorKind::UnexpectedEof)), libc::EIO),
        ];
        for (error, expected) in table {
            assert_eq!(of(Operation::Read, 1, &error).code(), expected, "{error:?}");
        }
    }
}

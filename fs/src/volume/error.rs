//! What can go wrong in a file operation; the driver alone turns it into an errno.

use crate::disk::DiskError;
use crate::layer::LayerError;

/// Why a file operation failed.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// ENOENT.
    #[error("no such file or directory")]
    NotFound,
    /// EEXIST.
    #[error("it exists already")]
    Exists,
    /// ENOTDIR.
    #[error("not a directory")]
    NotDirectory,
    /// EISDIR.
    #[error("it is a directory")]
    IsDirectory,
    /// ENOTEMPTY.
    #[error("the directory is not empty")]
    NotEmpty,
    /// EPERM.
    #[error("operation not permitted")]
    NotPermitted,
    /// EACCES.
    #[error("permission denied")]
    AccessDenied,
    /// EROFS.
    #[error("this part of the volume is read-only")]
    ReadOnly,
    /// ENAMETOOLONG.
    #[error("the name is longer than 255 bytes")]
    NameTooLong,
    /// EINVAL.
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// ENODATA.
    #[error("no such extended attribute")]
    NoAttribute,
    /// EMLINK.
    #[error("too many links")]
    TooManyLinks,
    /// EOPNOTSUPP.
    #[error("not supported: {0}")]
    NotSupported(&'static str),
    /// ENXIO: `SEEK_DATA` or `SEEK_HOLE` beyond the end.
    #[error("no data beyond this offset")]
    NoMoreData,
    /// EBADF or ESTALE: the kernel named a node or handle that this volume does not have.
    #[error("unknown node or handle {0}")]
    Unknown(u64),
    /// A layer could not answer; EIO unless the host gave an errno.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The host refused; its errno is passed on.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

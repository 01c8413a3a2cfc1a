//! How each error of the library reaches the user: kind, and what to do about it.

use std::io::ErrorKind;

use slotfs_fs::disk::DiskError;

use super::{Failure, FailureKind};

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        let hint = disk_hint(error.kind());
        let failure = Self::new(FailureKind::Disk, error.to_string());
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Returns what helps against a refusal of the disk, where that can be said.
fn disk_hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some("free some space, or name another place with `--cache-dir`")
        }
        ErrorKind::ReadOnlyFilesystem => Some("name a place that can be written with `--cache-dir`"),
        ErrorKind::PermissionDenied => Some("check who owns it and who may write there"),
        _ => None,
    }
}

//! How each error of the library reaches the user: kind, and what to do about it.

use std::io::ErrorKind;

use slotfs_fs::disk::DiskError;

use crate::settings::SettingsError;

use super::{Failure, FailureKind};

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        let failure = Self::new(FailureKind::Configuration, error.to_string());
        match error {
            SettingsError::NoWorkingDirectory { .. } => failure.hint("change to a directory that exists"),
            SettingsError::UnknownWord { .. }
            | SettingsError::BadSize { .. }
            | SettingsError::UnreadableFile { .. }
            | SettingsError::BadFile { .. }
            | SettingsError::BadVariable { .. } => failure,
        }
    }
}

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
    let full = matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    if full {
        Some("free some space, or name another place with `--cache-dir`")
    } else if kind == ErrorKind::ReadOnlyFilesystem {
        Some("name a place that can be written with `--cache-dir`")
    } else if kind == ErrorKind::PermissionDenied {
        Some("check who owns it and who may use it")
    } else {
        None
    }
}

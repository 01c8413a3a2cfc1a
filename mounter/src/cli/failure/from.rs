//! How each error of the library reaches the user: kind, and what to do about it.

use std::io::ErrorKind;

use slotfs_fs::disk::DiskError;
use slotfs_fs::layer::LayerError;
use slotfs_fs::layer::archive::TreeError;
use slotfs_fs::package::PackageError;
use slotfs_fs::package::keys::KeyError;
use slotfs_fs::package::write::RelaunchError;
use slotfs_fs::slot::SlotError;
use slotfs_policy::access::AccessError;

use super::{Failure, FailureKind};
use crate::cli::output::human_size;
use crate::extract::ExtractError;
use crate::extract::layers::LayersError;
use crate::pack::PackError;
use crate::plan::PolicyError;
use crate::settings::SettingsError;
use crate::workenv::WorkenvError;

const GET_AGAIN: &str = "get it again from where it was published";

const ANOTHER_DISK: &str = "free some space, or name a directory on another disk";

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
pub(in crate::cli) fn disk_hint(kind: ErrorKind) -> Option<&'static str> {
    let full = matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    if full {
        Some("free some space (`slotfs clean` removes what nobody needs), or name another place")
    } else if kind == ErrorKind::ReadOnlyFilesystem {
        Some("name a place that can be written (for work environments: `--cache-dir`)")
    } else if kind == ErrorKind::PermissionDenied {
        Some("check who owns it and who may use it")
    } else {
        None
    }
}

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

impl From<PackageError> for Failure {
    fn from(error: PackageError) -> Self {
        let kind = match &error {
            PackageError::Missing { .. } => FailureKind::NotFound,
            PackageError::Damaged { .. } if error.is_checksum() => FailureKind::Verification,
            PackageError::Changed { .. } => FailureKind::Verification,
            PackageError::NotAFile { .. }
            | PackageError::Empty { .. }
            | PackageError::NotAPackage { .. }
            | PackageError::Damaged { .. }
            | PackageError::Unsupported { .. } => FailureKind::Format,
            PackageError::Disk(_) => FailureKind::Disk,
        };
        let failure = Self::new(kind, error.to_string());
        match error {
            PackageError::Disk(error) => error.into(),
            PackageError::NotAPackage { named_package: true, .. } | PackageError::Damaged { .. } => {
                failure.hint(GET_AGAIN)
            }
            PackageError::NotAPackage { .. } => failure.hint(
                "a package ends in .psp; archives are .tar, .tar.gz, .tar.bz2, .tar.xz, .tar.zst, .zip and .whl",
            ),
            PackageError::Changed { .. } => failure.hint("wait until nobody writes to it, then try again"),
            PackageError::Missing { .. }
            | PackageError::NotAFile { .. }
            | PackageError::Empty { .. }
            | PackageError::Unsupported { .. } => failure,
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Disk(error) => error.into(),
            KeyError::NotAKey { .. } => Self::new(FailureKind::Verification, error.to_string())
                .hint("`slotfs keygen` makes a pair of keys"),
            KeyError::NoRandomness(_) => Self::new(FailureKind::Unavailable, error.to_string()),
        }
    }
}

impl From<PackError> for Failure {
    fn from(error: PackError) -> Self {
        let message = error.to_string();
        match error {
            PackError::Request { hint, .. } => {
                let failure = Self::new(FailureKind::Usage, message);
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            PackError::Manifest { .. } | PackError::Useless { .. } => {
                Self::new(FailureKind::Configuration, message)
            }
            PackError::Source(error) => error.into(),
            PackError::Layers(error) => error.into(),
            PackError::Tree { source: TreeError::Link { .. }, .. } => Self::new(FailureKind::Format, message)
                .hint("remove or replace the link, or say `--keep-links`, for slotfs alone"),
            PackError::Tree { source: TreeError::Layer(LayerError::Disk(_)), .. } => {
                Self::new(FailureKind::Disk, message)
            }
            PackError::Relaunch { source: RelaunchError::Io(_), .. } => Self::new(FailureKind::Disk, message),
            PackError::Tree { .. } | PackError::Index { .. } => Self::new(FailureKind::Format, message),
            PackError::Relaunch { .. } => Self::new(FailureKind::Format, message)
                .hint("`slotfs pack` makes a package with the launcher that you name"),
            PackError::Interrupted => Self::new(FailureKind::Negative, message),
            PackError::Key(error) => error.into(),
            PackError::Disk(error) => error.into(),
        }
    }
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::Disk(error) => error.into(),
            PolicyError::Pins { .. } => Self::new(FailureKind::Configuration, error.to_string()).hint(
                "put the file right, or remove it: then the next use of each package counts as its first",
            ),
            PolicyError::File { .. } => Self::new(FailureKind::Configuration, error.to_string()),
            PolicyError::Package { .. } => Self::new(FailureKind::Verification, error.to_string())
                .hint("ask its author for one that is right"),
        }
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        let failure = Self::new(FailureKind::Usage, error.to_string());
        match error {
            AccessError::Unknown { .. } => failure.hint("`slotfs inspect` shows a package's slots"),
            AccessError::Malformed { .. }
            | AccessError::Contradiction { .. }
            | AccessError::AlwaysReadOnly { .. } => failure,
        }
    }
}

impl From<WorkenvError> for Failure {
    fn from(error: WorkenvError) -> Self {
        let message = error.to_string();
        match error {
            WorkenvError::Disk(error) => error.into(),
            WorkenvError::NotFound { .. } => {
                Self::new(FailureKind::NotFound, message).hint("`slotfs list` shows all work environments")
            }
            WorkenvError::Ambiguous { .. } => {
                Self::new(FailureKind::Usage, message).hint("type more of its name")
            }
            WorkenvError::NameTaken { .. } => Self::new(FailureKind::Busy, message)
                .hint("rename the package's file: a work environment is named after it"),
            WorkenvError::Unpacking { .. } => {
                Self::new(FailureKind::Busy, message).hint("wait until it has finished, then try again")
            }
        }
    }
}

impl From<LayerError> for Failure {
    fn from(error: LayerError) -> Self {
        match error {
            LayerError::Disk(error) => error.into(),
            LayerError::Corrupt { .. } => {
                Self::new(FailureKind::Verification, error.to_string()).hint(GET_AGAIN)
            }
        }
    }
}

impl From<LayersError> for Failure {
    fn from(error: LayersError) -> Self {
        let message = error.to_string();
        match error {
            LayersError::Disk(error) => error.into(),
            LayersError::Unverified { .. } => Self::new(FailureKind::Verification, message).hint(GET_AGAIN),
            LayersError::Slot { source: SlotError::Disk(error), .. } => error.into(),
            LayersError::Slot { .. } => Self::new(FailureKind::Format, message),
        }
    }
}

impl From<ExtractError> for Failure {
    fn from(error: ExtractError) -> Self {
        let message = error.to_string();
        match error {
            ExtractError::NotEmpty { .. } => Self::new(FailureKind::Disk, message)
                .hint("name a new directory, or pass `--force` to replace everything that is in this one"),
            ExtractError::NotDirectory { .. } => {
                Self::new(FailureKind::Disk, message).hint("name a new directory, or an empty one")
            }
            ExtractError::InUse { .. } => Self::new(FailureKind::Busy, message).hint("name a new directory"),
            ExtractError::NoSpace { path, needed, available } => {
                let (path, needed, available) = (path.display(), human_size(needed), human_size(available));
                let message =
                    format!("cannot extract to `{path}`: it takes about {needed}, {available} are free");
                Self::new(FailureKind::Disk, message).hint(ANOTHER_DISK)
            }
            ExtractError::DiskFull { .. } => Self::new(FailureKind::Disk, message).hint(ANOTHER_DISK),
            // It names slot and path itself.
            ExtractError::Content { source, .. } => (*source).into(),
            ExtractError::Short { .. } => Self::new(FailureKind::Verification, message).hint(GET_AGAIN),
            ExtractError::Interrupted { .. } => Self::new(FailureKind::Mount, message),
            ExtractError::Disk(error) => error.into(),
        }
    }
}

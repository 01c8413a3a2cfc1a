//! Policy files and the policy inside a package, as the policy crate understands them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use slotfs_fs::disk::DiskError;
use slotfs_fs::package::Package;
use slotfs_policy::trust::{OperatorPolicy, PackagePolicy};

/// The only version of policy files.
const VERSION: u32 = 1;

/// A policy that cannot be followed. It is never ignored: somebody meant it to hold.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// An operator's policy file is wrong.
    #[error("the policy file `{}` is wrong: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of pinned keys is wrong.
    #[error("the pinned keys in `{}` cannot be understood: {reason}", path.display())]
    Pins {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The package's own policy is wrong.
    #[error("the policy in `{}` cannot be understood: {reason}", path.display())]
    Package {
        /// Which package.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads the operator's policy: of `files`, the later ones override the earlier. A missing file says nothing.
///
/// # Errors
/// A file is there and cannot be read or understood.
pub fn operator_policy(files: &[PathBuf]) -> Result<OperatorPolicy, PolicyError> {
    let mut policy = OperatorPolicy::open();
    for path in files {
        if let Some(found) = read(path)? {
            policy = policy.overridden_by(found);
        }
    }
    Ok(policy)
}

fn read(path: &Path) -> Result<Option<OperatorPolicy>, PolicyError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(DiskError::new("read the policy file", path, error).into()),
    };
    let wrong = |reason: String| PolicyError::File { path: path.into(), reason };
    let policy: OperatorPolicy = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if policy.version != VERSION {
        return Err(wrong(format!("its version is {}, only {VERSION} is known", policy.version)));
    }
    Ok(Some(policy))
}

/// Returns the author's policy; a package without one asks for nothing.
pub(super) fn package_policy(package: &Package) -> Result<PackagePolicy, PolicyError> {
    let Some(value) = &package.metadata().policy else { return Ok(PackagePolicy::default()) };
    if value.is_null() {
        return Ok(PackagePolicy::default());
    }
    serde_json::from_value(value.clone())
        .map_err(|error| PolicyError::Package { path: package.path().into(), reason: error.to_string() })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn later_files_override_and_wrong_ones_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let system = file("system.json", r#"{"version":1,"trust":{"require_trusted_key":true}}"#);
        let user = file("user.json", r#"{"version":1,"trust":{"require_trusted_key":false},"other":{}}"#);
        let missing = folder.path().join("none/policy.json");
        let policy = operator_policy(&[missing, system.clone()]).unwrap();
        assert_eq!(policy.trust.require_trusted_key, Some(true));
        let policy = operator_policy(&[system, user]).unwrap();
        assert_eq!(policy.trust.require_trusted_key, Some(false));
        for (text, expected) in [
            ("{}", "missing field `version`"),
            (r#"{"version":2}"#, "its version is 2"),
            ("[", "EOF"),
            (r#"{"version":1,"enforcement":{"default":"maybe"}}"#, "maybe"),
        ] {
            let path = file("wrong.json", text);
            let error = operator_policy(std::slice::from_ref(&path)).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("wrong.json"), "{error}");
        }
    }
}

//! Which key each package was signed with when it was first used: one small file of the user.
//!
//! **Invariant:** a key takes the place of another only when the user says so; a file that cannot be understood is never
//! taken for an empty one.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use slotfs_fs::disk::lock::{FileLock, Mode};
use slotfs_fs::disk::{Context, DiskError, atomic};

use super::policies::PolicyError;
use crate::host::files;

/// The only version of the file.
const VERSION: u32 = 1;

/// The keys by the packages' names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    version: u32,
    /// Name to SHA-256 of the public key, 64 hexadecimal digits.
    packages: BTreeMap<String, String>,
}

impl Default for Pins {
    fn default() -> Self {
        Self { version: VERSION, packages: BTreeMap::new() }
    }
}

impl Pins {
    /// Reads the file at `path`; a missing one holds none.
    ///
    /// # Errors
    /// It is there and cannot be read or understood.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Self::default());
            }
            Err(error) => return Err(DiskError::new("read the pinned keys in", path, error).into()),
        };
        let wrong = |reason| PolicyError::Pins { path: path.into(), reason };
        let pins: Self = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if pins.version != VERSION {
            return Err(wrong(format!("its version is {}, only {VERSION} is known", pins.version)));
        }
        Ok(pins)
    }

    /// Returns the key that the package `name` is to have.
    #[must_use]
    pub fn key_of(&self, name: &str) -> Option<&str> {
        self.packages.get(name).map(String::as_str)
    }

    /// Notes in the file at `path` that the package `name` is signed with `key`, and returns another key that somebody has
    /// noted meanwhile. With `replaces`, that one goes.
    ///
    /// # Errors
    /// The file cannot be written, or not be understood.
    pub fn pin(path: &Path, name: &str, key: &str, replaces: bool) -> Result<Option<String>, PolicyError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        files::create_private_directories(folder).context("create the directory", folder)?;
        let mut lock = path.to_path_buf().into_os_string();
        lock.push(".lock");
        // Two first uses at once must not both be the first.
        let _lock = FileLock::wait(&PathBuf::from(lock), Mode::Exclusive)?;
        let mut pins = Self::read(path)?;
        match pins.key_of(name) {
            Some(known) if known == key => return Ok(None),
            Some(known) if !replaces => return Ok(Some(known.to_owned())),
            Some(_) | None => {}
        }
        pins.packages.insert(name.to_owned(), key.to_owned());
        let text = serde_json::to_vec_pretty(&pins).context("describe the pinned keys for", path)?;
        atomic::write(path, &text)?;
        Ok(None)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_stays_until_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slotfs/pins.json");
        assert_eq!(Pins::read(&path).unwrap(), Pins::default());
        assert_eq!(Pins::pin(&path, "app", "aa", false).unwrap(), None);
        assert_eq!(Pins::pin(&path, "app", "bb", false).unwrap(), Some("aa".into()));
        assert_eq!(Pins::pin(&path, "other", "bb", false).unwrap(), None);
        assert_eq!(Pins::read(&path).unwrap().key_of("app"), Some("aa"));
        assert_eq!(Pins::pin(&path, "app", "bb", true).unwrap(), None);
        assert_eq!(Pins::read(&path).unwrap().key_of("app"), Some("bb"));
        for wrong in ["", "{", r#"{"version": 2, "packages": {}}"#, r#"{"version": 1, "pins": {}}"#] {
            std::fs::write(&path, wrong).unwrap();
            assert!(Pins::read(&path).unwrap_err().to_string().contains("pins.json"), "{wrong}");
            assert!(Pins::pin(&path, "app", "cc", true).is_err(), "{wrong}");
        }
    }

    #[test]
    fn of_many_who_come_first_one_is_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pins.json");
        let first: usize = std::thread::scope(|scope| {
            let pin = |thread: usize| {
                let path = &path;
                scope.spawn(move || Pins::pin(path, "app", &format!("{thread}"), false).unwrap().is_none())
            };
            let threads: Vec<_> = (0..8).map(pin).collect();
            threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
        });
        assert_eq!(first, 1);
    }
}

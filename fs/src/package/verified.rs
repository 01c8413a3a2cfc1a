//! Remembers which packages were found good, so that the next start hashes nothing.
//!
//! One small file a package, in the folder `verified-v1`, named after device and inode and replaced atomically.
//! It counts only while the package's identity is exactly the recorded one. A file that is damaged, stale,
//! or not a file at all is as good as none.
//!
//! **Invariant:** only a verification without failures is ever recorded.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::verify::{Outcome, Verification, VerifiedSlot};
use super::{Package, PackageKind};
use crate::disk::digest::Digest;
use crate::disk::identity::FileIdentity;
use crate::disk::{Context as _, DiskError, atomic, unnoticed};

/// The largest record that is looked at: 65,536 slots take about 7 MB.
const LARGEST_RECORD: u64 = 16 << 20;

/// A record as stored.
#[derive(Serialize, Deserialize)]
struct Record {
    identity: FileIdentity,
    id: String,
    slots: Vec<RecordedSlot>,
}

#[derive(Serialize, Deserialize)]
struct RecordedSlot {
    digest: Option<String>,
    outcome: Outcome,
}

/// A record as found on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Its file.
    pub path: PathBuf,
    /// The identity of the package that it is about; `None` when it is damaged.
    pub id: Option<String>,
    /// Its length in bytes.
    pub length: u64,
    /// When it was last read, as far as the disk keeps track of that, or written.
    pub used: Option<SystemTime>,
}

/// The folder of records.
#[derive(Clone, Debug)]
pub struct Ledger {
    folder: PathBuf,
}

impl Ledger {
    /// Returns the ledger in `folder`, which is made when something is recorded.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Returns what an earlier verification of exactly this file found, if it is remembered.
    #[must_use]
    pub fn recall(&self, package: &Package) -> Option<Verification> {
        let path = self.path_of(package)?;
        let bytes = read_small(&path)?;
        let record: Record = match serde_json::from_slice(&bytes) {
            Ok(record) => record,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "ignoring a damaged record of a verification");
                return None;
            }
        };
        let same = record.identity == package.identity()
            && record.id == package.id()
            && record.slots.len() == package.slots().len();
        if !same {
            return None;
        }
        let slots = package.slots().iter().zip(record.slots);
        let slots = slots.map(|(slot, recorded)| {
            let digest = match recorded.digest {
                Some(text) => Some(Digest::parse(&text)?),
                None => None,
            };
            let plausible = digest.is_none_or(|digest| slot.stated_checksum.agrees_with(&digest));
            let is_known = !matches!(recorded.outcome, Outcome::Wrong { .. } | Outcome::Beside);
            (plausible && is_known).then(|| VerifiedSlot {
                position: slot.position,
                id: slot.id.clone(),
                digest,
                outcome: recorded.outcome,
            })
        });
        let slots = slots.collect::<Option<Vec<_>>>()?;
        Some(Verification { slots, identity: record.identity, started: UNIX_EPOCH })
    }

    /// Remembers a verification of `package`; tells whether it did. It does not when a slot was wrong, when the
    /// package is a directory, or when the file was written to so shortly before it was read that a later write
    /// could leave the same times.
    ///
    /// # Errors
    /// Names what could not be written.
    pub fn record(&self, package: &Package, verification: &Verification) -> Result<bool, DiskError> {
        let Some(path) = self.path_of(package) else { return Ok(false) };
        let is_done = verification.slots.iter().all(|slot| slot.outcome != Outcome::Beside);
        if !verification.is_good()
            || !is_done
            || verification.identity != package.identity()
            || verification.identity.unsettled_for(verification.started) > Duration::ZERO
        {
            return Ok(false);
        }
        let slots = verification.slots.iter().map(|slot| RecordedSlot {
            digest: slot.digest.map(|digest| digest.to_string()),
            outcome: slot.outcome.clone(),
        });
        let record =
            Record { identity: verification.identity, id: package.id().to_owned(), slots: slots.collect() };
        let bytes = serde_json::to_vec(&record).context("describe the verification for", &path)?;
        fs::create_dir_all(&self.folder).context("create the directory", &self.folder)?;
        // One that a crash has damaged is not understood, and the package is verified again.
        atomic::write_unsynced(&path, &bytes)?;
        Ok(true)
    }

    /// Lists all records, in no particular order. What is no file with the name of one is left out.
    ///
    /// # Errors
    /// The folder is there and cannot be listed.
    pub fn list(&self) -> Result<Vec<Remembered>, DiskError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(DiskError::new("list the directory", &self.folder, error)),
        };
        let records = entries.flatten().filter_map(|entry| {
            let path = entry.path();
            let named = path.extension().is_some_and(|ending| ending == "json");
            let metadata = entry.metadata().ok().filter(|metadata| named && metadata.is_file())?;
            let used = metadata.accessed().ok().max(metadata.modified().ok());
            let record = read_unnoticed(&path).and_then(|text| serde_json::from_slice::<Record>(&text).ok());
            Some(Remembered { path, id: record.map(|record| record.id), length: metadata.len(), used })
        });
        Ok(records.collect())
    }

    fn path_of(&self, package: &Package) -> Option<PathBuf> {
        if package.kind() == PackageKind::Directory {
            return None;
        }
        let FileIdentity { device, inode, .. } = package.identity();
        // A host without inode numbers tells files apart by their path alone.
        let name = if inode == 0 {
            Digest::of(package.path().as_os_str().as_encoded_bytes()).to_string()
        } else {
            format!("{device:x}-{inode:x}")
        };
        Some(self.folder.join(format!("{name}.json")))
    }
}

fn read_small(path: &Path) -> Option<Vec<u8>> {
    // Not followed, and asked before opening: to open a pipe would wait for its writer.
    let metadata = fs::symlink_metadata(path).ok()?;
    let small = metadata.is_file() && metadata.len() <= LARGEST_RECORD;
    small.then(|| fs::read(path).ok()).flatten()
}

/// As [`read_small`], without making it look used.
fn read_unnoticed(path: &Path) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    unnoticed::open(path).ok()?.take(LARGEST_RECORD + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= LARGEST_RECORD).then_some(text)
}

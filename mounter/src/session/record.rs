//! The session record: what is being served, by whom, since when. Written before the mount is made, removed after
//! it is gone and its lifecycles were applied; whoever finds one without a serving process finds a crash.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use slotfs_fs::disk::{Context, DiskError, atomic};

use super::place::Place;
use super::request::{ServeRequest, VERSION};

/// What is being served, by whom, since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRecord {
    /// The serving process.
    pub pid: i32,
    /// When it began, seconds since 1970.
    pub started: u64,
    /// What it was asked to do.
    pub request: ServeRequest,
}

/// Why a session record is of no use.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It is not a record of this version.
    #[error("the session record `{}` cannot be understood: {reason}", path.display())]
    Garbled {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl SessionRecord {
    /// Publishes the record at `place`; a reader sees the old or the new one, whole.
    ///
    /// It is not synced to disk: after a power failure there is no mount that it could describe.
    ///
    /// # Errors
    /// Names what could not be written.
    pub fn publish(&self, place: &Place) -> Result<(), DiskError> {
        let path = place.record();
        let text = serde_json::to_vec(self).map_err(io::Error::from).context("encode", &path)?;
        atomic::write_unsynced(&path, &text)
    }

    /// Reads the record at `place`; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read, or is not one.
    pub fn read(place: &Place) -> Result<Option<Self>, RecordError> {
        let path = place.record();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskError::new("read", path, error).into()),
        };
        let garbled = |reason: String| RecordError::Garbled { path: path.clone(), reason };
        let record: Self = serde_json::from_slice(&text).map_err(|error| garbled(error.to_string()))?;
        if record.request.version == VERSION {
            return Ok(Some(record));
        }
        Err(garbled(format!("it has version {}, this program knows {VERSION}", record.request.version)))
    }

    /// Removes the record at `place`, if there is one.
    ///
    /// # Errors
    /// Names the record when it is there and cannot be removed.
    pub fn remove(place: &Place) -> Result<(), DiskError> {
        let path = place.record();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DiskError::new("remove", path, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::super::place::tests::place;
    use super::super::request::tests::sample;
    use super::*;

    #[test]
    fn a_record_is_read_as_written_and_damage_is_named() {
        let (_folder, place) = place();
        assert!(SessionRecord::read(&place).unwrap().is_none());
        let record = SessionRecord { pid: 7, started: 1_700_000_000, request: sample() };
        record.publish(&place).unwrap();
        assert_eq!(SessionRecord::read(&place).unwrap(), Some(record.clone()));

        let mut later = record;
        later.request.version += 1;
        later.publish(&place).unwrap();
        let error = SessionRecord::read(&place).unwrap_err().to_string();
        assert!(error.contains("session.json") && error.contains("version 2"), "{error}");

        std::fs::write(place.record(), b"{").unwrap();
        assert!(matches!(SessionRecord::read(&place), Err(RecordError::Garbled { .. })));
        SessionRecord::remove(&place).unwrap();
        SessionRecord::remove(&place).unwrap();
        assert!(SessionRecord::read(&place).unwrap().is_none());
        let left = std::fs::read_dir(place.workenv().own_directory()).unwrap();
        assert!(left.flatten().all(|entry| !entry.file_name().to_string_lossy().contains("session")));
    }
}

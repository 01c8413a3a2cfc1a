//! What launches touch, in order: recorded by the server of a mount, kept with the work environment, and asked for
//! ahead of the program at the next start.
//!
//! **Invariant:** a profile is advice. One that is missing, damaged, outdated or wrong makes a start slower and changes
//! nothing else.

pub(super) mod recording;
pub mod replay;

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use slotfs_fs::disk::{Context, DiskError, atomic};
use slotfs_fs::driver::touches::{self, Kind, Touch};

use crate::workenv::Workenv;

use super::wire::path;

/// The version of the file; another one is as if it were not there.
const VERSION: u32 = 1;

/// The longest file that is read, in bytes: names of 32,768 touches, 4,096 bytes each.
const LONGEST: u64 = 128 << 20;

/// What launches of one package in one work environment touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    version: u32,
    /// Which build of the package it is of.
    pub content: String,
    /// In the order of touching.
    pub entries: Vec<Entry>,
}

/// One thing that was touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From the root of the environment; empty for the root itself.
    #[serde(with = "path")]
    pub path: PathBuf,
    /// Microseconds since the mount, in the launch in which it was touched first.
    pub at: u64,
    /// What was asked for.
    #[serde(flatten)]
    pub what: What,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// Whether it exists, and its attributes.
    Name,
    /// What is in it.
    Listing,
    /// What a file holds.
    Content {
        /// Offsets and ends in bytes, in the order of reading; empty where the kernel read by itself, or nothing was read.
        ranges: Vec<(u64, u64)>,
    },
}

impl Profile {
    /// Returns where the profile of `workenv` is kept.
    #[must_use]
    pub fn place(workenv: &Workenv) -> PathBuf {
        workenv.own_directory().join("profile.json")
    }

    /// Reads the profile of `workenv`; `None` when there is none that can be understood.
    #[must_use]
    pub fn read(workenv: &Workenv) -> Option<Self> {
        Self::read_file(&Self::place(workenv))
    }

    fn read_file(path: &Path) -> Option<Self> {
        // Not followed, and asked before it is opened: to open a pipe would wait for its writer.
        let metadata = std::fs::symlink_metadata(path).ok()?;
        if !metadata.is_file() || metadata.len() > LONGEST {
            return None;
        }
        let text = std::fs::read(path).ok()?;
        let profile: Self = serde_json::from_slice(&text)
            .inspect_err(|error| tracing::debug!("`{}` cannot be understood: {error}", path.display()))
            .ok()?;
        (profile.version == VERSION).then_some(profile)
    }

    /// Returns the profile of a launch that was the first one.
    fn new(content: &str, touches: Vec<Touch>) -> Self {
        let mut profile = Self { version: VERSION, content: content.to_owned(), entries: Vec::new() };
        profile.learn(touches);
        profile
    }

    /// Adds what is not known yet; tells whether there was anything.
    fn learn(&mut self, touches: Vec<Touch>) -> bool {
        let before = self.entries.clone();
        let mut contents: HashMap<PathBuf, usize> = HashMap::new();
        let mut names: HashSet<PathBuf> = HashSet::new();
        let mut listings: HashSet<PathBuf> = HashSet::new();
        for (position, entry) in self.entries.iter().enumerate() {
            match entry.what {
                What::Content { .. } => drop(contents.insert(entry.path.clone(), position)),
                What::Name => drop(names.insert(entry.path.clone())),
                What::Listing => drop(listings.insert(entry.path.clone())),
            }
        }
        for touch in touches {
            let path = PathBuf::from(std::ffi::OsString::from_vec(touch.path));
            let at = u64::try_from(touch.at.as_micros()).unwrap_or(u64::MAX);
            let known = contents.get(&path).and_then(|&position| self.entries.get_mut(position));
            let what = match (touch.kind, known) {
                (Kind::Content(read), Some(Entry { what: What::Content { ranges }, .. })) => {
                    for (offset, end) in read {
                        touches::widen(ranges, offset, end);
                    }
                    continue;
                }
                // Asking for its content looks its name up.
                (Kind::Name, Some(_)) => continue,
                (Kind::Name, None) if !names.insert(path.clone()) => continue,
                (Kind::Listing, _) if !listings.insert(path.clone()) => continue,
                (Kind::Name, None) => What::Name,
                (Kind::Listing, _) => What::Listing,
                (Kind::Content(ranges), _) => {
                    contents.insert(path.clone(), self.entries.len());
                    What::Content { ranges }
                }
            };
            if self.entries.len() < touches::MOST {
                self.entries.push(Entry { path, at, what });
            }
        }
        // A name that was looked up before what is behind it was read needs no entry of its own.
        let is_implied = |path: &PathBuf| contents.contains_key(path) || listings.contains(path);
        self.entries.retain(|entry| entry.what != What::Name || !is_implied(&entry.path));
        self.entries != before
    }

    /// Writes the profile of `workenv`, whole or not at all. It is not waited for that it is on the disk.
    fn publish(&self, workenv: &Workenv) -> Result<(), DiskError> {
        let path = Self::place(workenv);
        let text = serde_json::to_vec(self).map_err(std::io::Error::from).context("describe", &path)?;
        atomic::write_unsynced(&path, &text)
    }

    /// Forgets what launches of `workenv` touched; tells whether there was anything.
    ///
    /// # Errors
    /// The disk refused.
    pub fn forget(workenv: &Workenv) -> Result<bool, DiskError> {
        let path = Self::place(workenv);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            other => other.context("remove", &path).map(|()| true),
        }
    }

    /// Returns how long the launch took that was recorded, to the last thing that it touched first.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.entries.iter().map(|entry| entry.at).max().unwrap_or(0))
    }
}

impl Entry {
    /// Returns how many bytes of content it names.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.what {
            What::Content { ranges } => ranges.iter().map(|(offset, end)| end.saturating_sub(*offset)).sum(),
            What::Name | What::Listing => 0,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    fn touch(path: &str, at: u64, kind: Kind) -> Touch {
        Touch { path: path.into(), at: Duration::from_micros(at), kind }
    }

    fn shown(profile: &Profile) -> Vec<(String, What)> {
        let entry = |entry: &Entry| (entry.path.display().to_string(), entry.what.clone());
        profile.entries.iter().map(entry).collect()
    }

    #[test]
    fn a_file_is_named_once_however_it_was_touched() {
        let read = |ranges: &[(u64, u64)]| Kind::Content(ranges.to_vec());
        let touches = vec![
            touch("a", 1, Kind::Name),
            touch("a", 2, read(&[(0, 5)])),
            touch("", 3, Kind::Listing),
            touch("b", 4, Kind::Name),
            touch("b", 5, Kind::Name),
        ];
        let mut profile = Profile::new("id", touches);
        let first = vec![
            ("a".to_owned(), What::Content { ranges: vec![(0, 5)] }),
            (String::new(), What::Listing),
            ("b".to_owned(), What::Name),
        ];
        assert_eq!(shown(&profile), first);
        assert!(!profile.learn(vec![touch("a", 9, read(&[(2, 5)])), touch("b", 9, Kind::Name)]));
        assert_eq!(shown(&profile), first);
        assert!(profile.learn(vec![touch("a", 9, read(&[(5, 9)])), touch("b", 9, read(&[]))]));
        let second = vec![
            ("a".to_owned(), What::Content { ranges: vec![(0, 9)] }),
            (String::new(), What::Listing),
            ("b".to_owned(), What::Content { ranges: Vec::new() }),
        ];
        assert_eq!(shown(&profile), second);
    }

    #[test]
    fn a_profile_has_a_bound() {
        let touches = |from: usize| {
            (from..from + touches::MOST).map(|at| touch(&at.to_string(), 0, Kind::Name)).collect()
        };
        let mut profile = Profile::new("id", touches(0));
        assert!(!profile.learn(touches(touches::MOST)));
        assert_eq!(profile.entries.len(), touches::MOST);
    }

    #[test]
    fn names_of_any_bytes_survive() {
        let touches = vec![Touch { path: b"\xff/\n".to_vec(), at: Duration::ZERO, kind: Kind::Name }];
        let profile = Profile::new("id", touches);
        let text = serde_json::to_vec(&profile).unwrap();
        assert_eq!(serde_json::from_slice::<Profile>(&text).unwrap(), profile);
    }
}

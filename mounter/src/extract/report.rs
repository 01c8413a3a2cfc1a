//! What an extraction made, and what it could not make here.

use std::path::Path;

/// How many left-out paths are remembered by name.
const NAMED: usize = 100;

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Regular files; further names of one file count once.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Symbolic links, hard links and named pipes.
    pub links: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// What this system could not hold, the first hundred by name.
    pub skipped: Vec<Skipped>,
    /// How many were left out in all.
    pub skipped_count: u64,
}

/// Something that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Path in the tree.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl Report {
    /// Notes that `path` was left out.
    pub(super) fn skip(&mut self, path: &Path, reason: impl Into<String>) {
        self.skipped_count += 1;
        if self.skipped.len() < NAMED {
            self.skipped.push(Skipped { path: path.display().to_string(), reason: reason.into() });
        }
    }
}

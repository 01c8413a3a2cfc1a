//! The one I/O error of this crate: an action, a path, a cause.

use std::io;
use std::path::PathBuf;

/// An operation on a path that the operating system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`: {source}", path.display())]
pub struct DiskError {
    /// What was tried, as an infinitive: `open`, `create the directory`.
    pub action: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    /// Returns an error about `action` on `path`.
    pub fn new(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.into(), source: source.into() }
    }

    /// Returns the kind of the underlying cause.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// Adds the action and the path to a bare I/O result.
pub trait Context<T> {
    /// Names what was tried (`action`, an infinitive) and on which `path`, which is looked at only after a failure.
    ///
    /// # Errors
    /// Returns the original failure with both names attached.
    fn context(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, DiskError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, DiskError> {
        self.map_err(|source| DiskError::new(action, path, source))
    }
}

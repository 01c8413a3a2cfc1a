//! Why there is no session, or why it did not end.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use slotfs_fs::disk::DiskError;

use super::record::RecordError;
use super::request::FailureCause;
use super::wire::WireError;

/// Why there is no session, or why it did not end.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The session record is of no use.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Another process starts, sets up or clears the same work environment, and takes too long.
    #[error("`{workenv}` is being prepared by {holder}, which has not finished after {} s", waited.as_secs())]
    Preparing {
        /// The work environment.
        workenv: String,
        /// Who does it.
        holder: String,
        /// How long this process waited.
        waited: Duration,
    },
    /// An earlier session is ending and takes too long.
    #[error("the last session of `{workenv}` has not ended after {} s: it is still in use", waited.as_secs())]
    Leaving {
        /// The work environment.
        workenv: String,
        /// Where it is mounted.
        mountpoint: PathBuf,
        /// How long this process waited.
        waited: Duration,
    },
    /// The live session serves something else.
    #[error("`{workenv}` is mounted at `{}` from {other}", mountpoint.display())]
    Different {
        /// The work environment.
        workenv: String,
        /// Where it is mounted.
        mountpoint: PathBuf,
        /// What stands against sharing it: another package, another place, other access.
        other: String,
    },
    /// The serving process could not be started.
    #[error("cannot start the serving process: {source}")]
    Spawn {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The serving process did not get ready in time and was killed.
    #[error("the serving process was not ready after {} s; its log is `{}`", waited.as_secs(), log.display())]
    NotReady {
        /// How long this process waited.
        waited: Duration,
        /// Where to read more.
        log: PathBuf,
    },
    /// The serving process ended without an answer.
    #[error("the serving process ended before it was ready ({reason}); its log is `{}`", log.display())]
    Died {
        /// Exit status and what came over the pipe.
        reason: String,
        /// Where to read more.
        log: PathBuf,
    },
    /// The serving process says why it cannot serve.
    #[error("{message}")]
    Refused {
        /// What kind of failure.
        cause: FailureCause,
        /// What failed, on which path, and why.
        message: String,
        /// What to do next.
        hints: Vec<String>,
    },
    /// The pipe to the serving process failed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Waiting for a process failed.
    #[error("cannot wait for process {pid}: {source}")]
    Wait {
        /// Which.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A dead mount could not be cleared.
    #[error("cannot clear the dead mount at `{}`: {reason}", mountpoint.display())]
    Clear {
        /// Where it is.
        mountpoint: PathBuf,
        /// Why.
        reason: String,
    },
}

//! Running a package's program from its mounted work environment.
//!
//! **Invariant:** whatever happens, the lease is given back: the mount does not outlive its last user.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::launch::{Launch, LaunchError, Program};
use crate::plan::Examined;

use super::error::SessionError;
use super::live::Ended;
use super::prepare::{PrepareError, Prepared, Step, Wanted, prepare};
use super::program::{self, Ending};

/// Why the program did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no session.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The launch cannot be planned.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The program cannot be started.
    #[error("cannot start `{}`: {source}", program.display())]
    Start {
        /// Which file was to be executed.
        program: PathBuf,
        /// Why it could not be.
        #[source]
        source: io::Error,
    },
}

/// A program that has run.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub ending: Ending,
    /// What became of the session; an error does not undo that the program ran.
    pub ended: Result<Ended, SessionError>,
    /// Where the mount was or is.
    pub mountpoint: PathBuf,
}

/// Runs the program of `examined` with the user's `arguments` added, and returns when it and, unless others use it or
/// something keeps it busy for longer than `limit`, the mount are gone.
///
/// # Errors
/// The program did not run.
pub fn run(
    examined: &Examined,
    wanted: &Wanted<'_>,
    arguments: &[OsString],
    limit: Duration,
    told: &mut dyn FnMut(Step<'_>),
) -> Result<Ran, RunError> {
    let Prepared { session, content, .. } = prepare(examined, wanted, told)?;
    let program = Program {
        metadata: examined.package.metadata(),
        package: &examined.facts.path,
        workenv: &content,
        cache: &wanted.settings.cache_directory.value,
    };
    let outcome =
        Launch::plan(&program, wanted.environment, arguments).map_err(RunError::from).and_then(|launch| {
            program::run(launch.command())
                .map_err(|source| RunError::Start { program: launch.executable.clone(), source })
        });
    let mountpoint = session.record().request.mountpoint.clone();
    let ended = session.end(limit);
    let ending = outcome.inspect_err(|_| {
        if let Err(error) = &ended {
            tracing::warn!("{error}");
        }
    })?;
    Ok(Ran { ending, ended, mountpoint })
}

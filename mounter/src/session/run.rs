//! Running a package's program from its mounted work environment.
//!
//! **Invariant:** whatever happens, the lease is given back: the mount does not outlive its last user.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::extract::progress::Progress;
use crate::host::start::Image;
use crate::launch::{Launch, LaunchError, Program};
use crate::plan::Examined;
use crate::settings::Mode;

use super::beside::Watch;
use super::error::SessionError;
use super::live::{Ended, Session};
use super::place::{Lease, Place};
use super::prepare::{PrepareError, Prepared, Step, Wanted, prepare};
use super::program::{self, Ending};
use super::request::FailureCause;
use super::unpacked::{UnpackError, Unpacked, unpack};

/// Why the program did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no session.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// It cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The launch cannot be planned.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The package was hashed while the program ran, and is not what it should be. The program was ended.
    #[error("{message}")]
    Refused {
        /// What is wrong.
        message: String,
    },
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

/// What keeps the package's files there while the program runs.
enum Held {
    /// A mount.
    Session(Box<Session>),
    /// Plain files.
    Files(Lease, Place),
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
    progress: &dyn Progress,
) -> Result<Ran, RunError> {
    let (held, content) = hold(examined, wanted, told, progress)?;
    let program = Program {
        metadata: examined.package.metadata(),
        package: &examined.facts.path,
        workenv: &content,
        cache: &wanted.settings.cache_directory.value,
    };
    let watch = match &held {
        Held::Session(session) => Some(Watch::new(session.place().clone())),
        Held::Files(..) => None,
    };
    let started = |number| watch.iter().for_each(|watch| watch.program(number));
    let outcome =
        Launch::plan(&program, wanted.environment, arguments).map_err(RunError::from).and_then(|launch| {
            let image = Image {
                executable: &launch.executable,
                name: &launch.argv0,
                arguments: &launch.arguments,
                environment: &launch.environment,
            };
            program::run(&image, started)
                .map_err(|source| RunError::Start { program: launch.executable.clone(), source })
        });
    if let Some(message) = watch.and_then(|watch| watch.refusal()) {
        if let Held::Session(session) = held
            && let Err(error) = session.end(limit)
        {
            tracing::warn!("{error}");
        }
        return Err(RunError::Refused { message });
    }
    let (mountpoint, ended) = match held {
        Held::Session(session) => (session.record().request.mountpoint.clone(), session.end(limit)),
        Held::Files(lease, place) => {
            place.note_use();
            drop(lease);
            (content, Ok(Ended::Stays))
        }
    };
    let ending = outcome.inspect_err(|_| {
        if let Err(error) = &ended {
            tracing::warn!("{error}");
        }
    })?;
    Ok(Ran { ending, ended, mountpoint })
}

/// Mounts or unpacks, as the settings want it; in doubt mounts, and unpacks where this machine cannot.
fn hold(
    examined: &Examined,
    wanted: &Wanted<'_>,
    told: &mut dyn FnMut(Step<'_>),
    progress: &dyn Progress,
) -> Result<(Held, PathBuf), RunError> {
    let mode = wanted.settings.mode.value;
    if mode != Mode::Extract {
        match prepare(examined, wanted, told) {
            Ok(Prepared { session, content, .. }) => return Ok((Held::Session(Box::new(session)), content)),
            Err(PrepareError::Session(SessionError::Refused {
                cause: FailureCause::Unavailable,
                message,
                ..
            })) if mode == Mode::Auto => told(Step::Unpacking { reason: &message }),
            Err(error) => return Err(error.into()),
        }
    }
    if wanted.settings.max_upper.value.is_some() {
        told(Step::Unbounded);
    }
    let Unpacked { lease, place, content } = unpack(examined, wanted, told, progress)?;
    Ok((Held::Files(lease, place), content))
}

//! `slotfs unmount`: ends a mount, or says who uses it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::session;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::host::users;
use crate::session::end::{self, EndError, Target};
use crate::workenv::Cache;

/// Unmount a package
///
/// What is in use stays mounted, and the processes that use it are named (exit code 110), unless --lazy detaches it:
/// then it is gone for everybody but those who use it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A mount's directory, or a work environment's name, id, or the beginning of either
    #[arg(value_name = "DIR|NAME|ID")]
    target: PathBuf,
    /// How long to wait while it is in use, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    /// Detach it at once; its users keep it until they end
    #[arg(long)]
    lazy: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no such mount, or it is in use.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let cache = Cache::new(&context.settings.cache_directory.value);
    let place = context.environment.absolute(&arguments.target);
    let cleared = session::sweep(context);
    let target = match Target::find(&cache, &arguments.target, &place) {
        Ok(target) => target,
        // It was dead, and is gone by now.
        Err(_) if cleared.iter().any(|mountpoint| is_meant(mountpoint, &arguments.target, &place)) => {
            return Ok(0);
        }
        Err(error) => return Err(error.into()),
    };
    end::end(&target, Duration::from_secs(arguments.wait), arguments.lazy)?;
    Ok(0)
}

fn is_meant(mountpoint: &Path, typed: &Path, place: &Path) -> bool {
    mountpoint == place || mountpoint.file_name() == Some(typed.as_os_str())
}

impl From<EndError> for Failure {
    fn from(error: EndError) -> Self {
        let message = error.to_string();
        match error {
            EndError::Workenv(error) => error.into(),
            EndError::Disk(error) => error.into(),
            EndError::Session(error) => error.into(),
            EndError::NotMounted { .. } => Self::new(FailureKind::NotFound, message),
            EndError::Busy { mountpoint } => {
                let users = users::of(&mountpoint);
                let failure = Self::new(FailureKind::Busy, message);
                let failure = session::describe(&users).into_iter().fold(failure, Self::hint);
                failure.hint("`--wait SECONDS` waits for its end, `--lazy` detaches it at once")
            }
            EndError::Refused { .. } => Self::new(FailureKind::Mount, message),
        }
    }
}

//! In place of the commands that make mounts, on systems where slotfs makes none: nothing that could be typed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::context::Context;
use super::failure::{Failure, FailureKind};
use crate::settings::Overrides;

/// No command.
#[derive(Debug, clap::Subcommand)]
pub enum MountCommand {}

impl MountCommand {
    /// There is no command that could say anything.
    pub fn apply(&self, _overrides: &mut Overrides) {
        match *self {}
    }

    /// There is no command that could serve.
    #[must_use]
    pub fn serve(&self) -> Option<ExitCode> {
        match *self {}
    }

    /// There is no command that could be carried out.
    ///
    /// # Errors
    /// None.
    pub fn run(&self, _context: &Context) -> Result<u8, Failure> {
        match *self {}
    }
}

/// slotfs is no launcher where it cannot run packages.
pub mod own {
    use std::ffi::OsString;

    /// Returns them as they are.
    #[must_use]
    pub fn arguments(arguments: Vec<OsString>) -> Vec<OsString> {
        arguments
    }
}

/// Nobody calls slotfs as a mount helper.
pub mod helper {
    use std::ffi::{OsStr, OsString};
    use std::process::ExitCode;

    /// Nothing is done.
    #[must_use]
    pub fn main(_arguments: &[OsString], _is_command: impl FnOnce(&OsStr) -> bool) -> Option<ExitCode> {
        None
    }
}

/// There are no mounts that could be left behind.
pub fn sweep(_context: &Context) -> Vec<PathBuf> {
    Vec::new()
}

/// No launch is recorded where nothing is mounted.
///
/// # Errors
/// Always.
pub fn touched_files(what: &Path, _context: &Context) -> Result<Arc<[Vec<u8>]>, Failure> {
    let message = format!("no launch of `{}` was recorded: slotfs mounts nothing here", what.display());
    Err(Failure::new(FailureKind::Unavailable, message))
}

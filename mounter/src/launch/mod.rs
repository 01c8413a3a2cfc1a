//! What a package's own launcher would give the program, as a plan that can be compared, then applied.
//!
//! `docs/launchers.md` has the table of what the Rust and the Go launcher do and what slotfs does where they
//! differ. Starting the program, passing signals on and waiting is the session's.
//!
//! **Invariant:** nothing here reads the process's own environment; what is inherited comes in as a value.

pub mod checks;
pub mod command_line;
pub mod directories;
mod environment;
mod error;
pub mod executable;
mod inside;
pub mod pattern;
pub mod placeholders;
mod run_setup;
pub mod setup;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use slotfs_fs::package::metadata::Metadata;

pub use error::LaunchError;

use crate::host::files;
use crate::settings::{Environment, Family};
use executable::Search;
use placeholders::{Placeholders, Scope};

/// A package in its place.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// The signed metadata.
    pub metadata: &'a Metadata,
    /// The package file, absolute, links resolved.
    pub package: &'a Path,
    /// The environment's content directory, absolute.
    pub workenv: &'a Path,
    /// The directory that holds it and other environments, absolute.
    pub cache: &'a Path,
}

/// Everything that starting the program takes. The working directory is the caller's own, unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The file to execute.
    pub executable: PathBuf,
    /// What the program sees as its own name: the package's file name.
    pub argv0: OsString,
    /// The command's arguments, then the user's.
    pub arguments: Vec<OsString>,
    /// Every variable.
    pub environment: BTreeMap<OsString, OsString>,
}

impl Launch {
    /// Plans the start of a package's program. Looks on the disk for the program, so the environment must be
    /// mounted or extracted; changes nothing.
    ///
    /// # Errors
    /// A package without a command, a command or variable that cannot be used, a program that is not there.
    pub fn plan(
        program: &Program<'_>,
        inherited: &Environment,
        user_arguments: &[OsString],
    ) -> Result<Self, LaunchError> {
        let no_command = || LaunchError::NoCommand { package: program.package.to_owned() };
        let command = program.metadata.execution.as_ref().ok_or_else(no_command)?.command.as_str();
        let placeholders = Placeholders::new(program.metadata, program.workenv);
        let words = command_line::split(command)?;
        let mut words = words.iter().map(|word| placeholders.fill(word, Scope::Program));
        let first = words.next().ok_or_else(no_command)?;
        let arguments: Vec<OsString> = words.chain(user_arguments.iter().cloned()).collect();
        for argument in [&first].into_iter().chain(&arguments) {
            without_nul(|| "the argument".to_owned(), argument)?;
        }
        let environment = environment::of_program(program, &placeholders, inherited)?;

        // As in the launchers: where the caller would find it, then in the package, then where the package says.
        let mut directories = inherited.search_path();
        directories.push(program.workenv.join("bin"));
        directories.extend(environment.search_path());
        let executable = find_program(&first, program.workenv, &directories, inherited.family())?;
        Ok(Self {
            executable,
            argv0: program.package.file_name().unwrap_or_default().to_owned(),
            arguments,
            environment: environment.into_variables(),
        })
    }
}

/// What must be done once before the program may start.
#[derive(Debug)]
pub struct Setup {
    steps: Vec<setup::Step>,
    environment: Environment,
}

impl Setup {
    /// Reads a package's setup commands and plans their environment.
    ///
    /// # Errors
    /// A command or variable that cannot be used.
    pub fn plan(program: &Program<'_>, inherited: &Environment) -> Result<Self, LaunchError> {
        let placeholders = Placeholders::new(program.metadata, program.workenv);
        Ok(Self {
            steps: setup::plan(program)?,
            environment: environment::of_setup(program, &placeholders, inherited)?,
        })
    }

    /// Returns the steps.
    #[must_use]
    pub fn steps(&self) -> &[setup::Step] {
        &self.steps
    }

    /// Carries the steps out in order; `told` hears of each before it starts. The environment must be mounted
    /// writable, or extracted.
    ///
    /// # Errors
    /// The first step that fails; a command's end of output and exit code are in the error. What earlier steps
    /// did stays, and setup must be done again from the first one.
    pub fn run(&self, program: &Program<'_>, told: impl FnMut(&setup::Step)) -> Result<(), LaunchError> {
        run_setup::run(program, &self.environment, &self.steps, told)
    }
}

/// Makes the directories that the package wants at every start.
///
/// # Errors
/// One that leads out of the environment, or that the disk refuses.
pub fn make_directories(program: &Program<'_>) -> Result<(), LaunchError> {
    let placeholders = Placeholders::new(program.metadata, program.workenv);
    directories::make(program, &directories::plan(program.metadata, &placeholders))
}

/// Tells whether the environment holds what its package says a prepared one holds (`cache_validation`).
#[must_use]
pub fn passes_check(program: &Program<'_>) -> bool {
    checks::plan(program).is_none_or(|check| check.is_met())
}

fn find_program(
    word: &OsStr,
    workenv: &Path,
    directories: &[PathBuf],
    family: Family,
) -> Result<PathBuf, LaunchError> {
    let (exists, is_executable) = (&files::is_there, &files::is_executable_file);
    Search { workenv, directories, family, exists, is_executable }.find(word)
}

/// Refuses what no program can be given (`execve(2)` takes strings that end with NUL).
fn without_nul(place: impl FnOnce() -> String, value: &OsStr) -> Result<(), LaunchError> {
    if value.as_encoded_bytes().contains(&0) {
        return Err(LaunchError::Nul { place: place(), value: value.to_owned() });
    }
    Ok(())
}

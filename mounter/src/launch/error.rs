//! Why a program or its setup could not be planned or run.

use std::ffi::OsString;
use std::path::PathBuf;

use slotfs_fs::disk::DiskError;

/// A launch that cannot be planned, or setup that failed.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Nothing to run: an archive, a directory, or a package without a command.
    #[error("`{}` says no command to run", package.display())]
    NoCommand {
        /// The package.
        package: PathBuf,
    },
    /// A quote without its end.
    #[error("the command `{command}` has a {quote} without its end")]
    UnclosedQuote {
        /// The command as the package writes it.
        command: String,
        /// `single quote`, `double quote` or `backslash`.
        quote: &'static str,
    },
    /// The program does not exist.
    #[error("cannot find the program `{}`: looked for {}", program.display(), listed(searched))]
    NoProgram {
        /// What the command says, with placeholders replaced.
        program: PathBuf,
        /// Every path that was tried.
        searched: Vec<PathBuf>,
    },
    /// A value that should be text is something else.
    #[error("`{section}` gives the variable `{name}` a value that is no text")]
    NotText {
        /// `execution.env` or `workenv.env`.
        section: &'static str,
        /// The variable.
        name: String,
    },
    /// A variable's name is empty or has `=` or NUL in it.
    #[error("`{section}` sets a variable with the impossible name `{}`", name.escape_debug())]
    BadVariableName {
        /// The metadata section.
        section: &'static str,
        /// The name.
        name: String,
    },
    /// A value or argument has a NUL character, which no program can be given.
    #[error("{place} has a NUL character: `{}`", value.display().to_string().escape_debug())]
    Nul {
        /// Where: `the argument`, or a variable.
        place: String,
        /// The value.
        value: OsString,
    },
    /// A path of the package leads out of its work environment.
    #[error("{purpose} `{}` leads out of the work environment `{}`", path.display(), workenv.display())]
    Outside {
        /// What the path is for, with its article.
        purpose: &'static str,
        /// The path, with placeholders replaced.
        path: PathBuf,
        /// The environment.
        workenv: PathBuf,
    },
    /// A setup command that cannot be understood.
    #[error("setup command {position} {problem}")]
    BadSetup {
        /// From 1.
        position: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A setup command's program could not be started.
    #[error("cannot start setup command {position}, `{command}`: {source}")]
    SetupStart {
        /// From 1.
        position: usize,
        /// The command line as run.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// A setup command ended in failure.
    #[error("setup command {position}, `{command}`, ended with {status}{}", shown(output))]
    SetupFailed {
        /// From 1.
        position: usize,
        /// The command line as run.
        command: String,
        /// `exit code 3`, or the signal.
        status: String,
        /// The end of what it printed to both of its outputs.
        output: String,
    },
    /// The disk refused.
    #[error(transparent)]
    Disk(DiskError),
}

impl From<DiskError> for LaunchError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

fn listed(paths: &[PathBuf]) -> String {
    let quoted: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
    if quoted.is_empty() { "nothing, since PATH is empty".to_owned() } else { quoted.join(", ") }
}

fn shown(output: &str) -> String {
    let output = output.trim_end();
    if output.is_empty() { " and printed nothing".to_owned() } else { format!("; it printed:\n{output}") }
}

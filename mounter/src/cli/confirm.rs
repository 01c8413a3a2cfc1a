//! The question before something is destroyed.
//!
//! **Invariant:** nothing goes without a yes: typed by a person, or said with `--yes`.

use std::path::Path;

use super::failure::{Failure, FailureKind};
use super::output::Output;

/// What goes with every command that removes something.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ConsentArguments {
    /// Only show what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Asks on the terminal whether to go on, unless `yes` says so already.
///
/// # Errors
/// The answer is no, which `unchanged` says the outcome of; or there is nobody to ask.
pub fn confirm(question: &str, yes: bool, unchanged: &str, output: &Output) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    match output.ask(question) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(FailureKind::Negative, unchanged)),
        None => Err(Failure::new(FailureKind::Usage, "nobody is there to be asked")
            .hint("`--yes` goes on without asking, `--dry-run` only says what would be done")),
    }
}

/// Asks on the terminal whether what is at `path` may be replaced, unless `yes` says so already; `what` goes on behind
/// "is there already".
///
/// # Errors
/// The answer is no, or there is nobody to ask.
pub fn replace(path: &Path, what: &str, yes: bool, output: &Output) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let path = path.display();
    match output.ask(&format!("`{path}` is there already {what}. Replace it?")) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(FailureKind::Negative, format!("`{path}` is unchanged"))),
        None => Err(Failure::new(FailureKind::Usage, format!("`{path}` is there already {what}"))
            .hint("name another place, or say `--yes` to replace it for good")),
    }
}

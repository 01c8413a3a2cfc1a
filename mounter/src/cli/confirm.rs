//! The question before something is destroyed.
//!
//! **Invariant:** nothing goes without a yes: typed by a person, or said with `--yes`.

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

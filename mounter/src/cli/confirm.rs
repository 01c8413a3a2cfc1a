//! The question before something is destroyed.
//!
//! **Invariant:** nothing goes without a yes: typed by a person, or said with `--yes`.

use std::io::{self, BufRead, IsTerminal, Write};

use super::failure::{Failure, FailureKind};
use super::output::{Output, printable};

/// Asks on the terminal whether to go on, unless `yes` says so already.
///
/// # Errors
/// The answer is no; or there is nobody to ask.
pub fn confirm(question: &str, yes: bool, output: &Output) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let failure = Failure::new(FailureKind::Usage, "nobody can be asked here whether to remove that");
        return Err(failure.hint("pass `--yes` to remove it, `--dry-run` to see what would go"));
    }
    output.ask(&format!("{} [y/N] ", printable(question)));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    if read.is_ok_and(|length| length == 0) {
        // The question's line was not ended by anybody's answer.
        let _ = writeln!(io::stderr().lock());
    }
    Err(Failure::new(FailureKind::Negative, "nothing was removed"))
}

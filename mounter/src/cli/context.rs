//! What every command is given: settings, and where to print.

use super::arguments::GlobalArguments;
use super::failure::Failure;
use super::output::Output;

/// What every command is given.
#[derive(Debug)]
pub struct Context {
    /// Where to print.
    pub output: Output,
}

impl Context {
    /// Resolves the settings and starts the log.
    pub fn new(global: &GlobalArguments) -> Result<Self, Failure> {
        let no_color = false;
        let output = Output::new(global.color, no_color, global.quiet);
        Ok(Self { output })
    }
}

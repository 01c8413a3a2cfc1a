//! `slotfs completions`: a script that teaches a shell the command line.

use super::context::Context;
use super::failure::Failure;
use super::output::ColorWish;

/// Print a completion script for a shell
///
/// For bash: `slotfs completions bash > ~/.local/share/bash-completion/completions/slotfs`. For fish: `slotfs
/// completions fish > ~/.config/fish/completions/slotfs.fish`. For zsh, into a directory of `$fpath`, as `_slotfs`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Carries the command out.
///
/// # Errors
/// What could not be written.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::command(ColorWish::Never), "slotfs", &mut script);
    context.output.data(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

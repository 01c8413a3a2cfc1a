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
    clap_complete::generate(arguments.shell, &mut visible(), "slotfs", &mut script);
    context.output.data(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

/// Returns the command tree without what is not meant for people; shells would offer it.
fn visible() -> clap::Command {
    let whole = super::command(ColorWish::Never);
    let commands: Vec<clap::Command> =
        whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    clap::Command::default().name("slotfs").args(whole.get_arguments().cloned()).subcommands(commands)
}

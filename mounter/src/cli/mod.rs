//! The command line: parse, call the library, print. Nothing here decides or touches a mount itself.
//!
//! One file for each command: its `Arguments`, and a `run` that returns the exit code.

pub mod arguments;
pub mod complete;
pub mod confirm;
pub mod context;
pub mod doctor;
pub mod extract;
pub mod failure;
pub mod inspect;
pub mod keygen;
pub mod list;
pub mod man;
#[cfg(unix)]
pub mod mounts;
#[cfg(not(unix))]
#[path = "mounts/absent.rs"]
pub mod mounts;
pub mod notices;
pub mod output;
pub mod pack;
pub mod package;
pub mod progress;
mod rebuilt;
pub mod reference;
pub mod relaunch;
pub mod status;
pub mod table;
pub mod verify;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches};

use arguments::{Command, CommandLine};
use context::Context;
use failure::{Failure, FailureKind};
use output::{ColorWish, Output};

use crate::settings::{Environment, variables};

/// Runs slotfs with the arguments of a process, its name first, and returns its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = mounts::own::arguments(arguments.into_iter().collect());
    if let Some(code) = mounts::helper::main(&arguments, is_command) {
        return code;
    }
    let wish = color_wish(&arguments);
    let parsed = CommandLine::command()
        .try_get_matches_from(&arguments)
        // Help and complaints show what only the whole tree has.
        .or_else(|_| {
            let mut whole = command(wish);
            whole.build();
            whole.try_get_matches_from(arguments)
        })
        .and_then(|matches| CommandLine::from_arg_matches(&matches));
    let line = match parsed {
        Ok(line) => line,
        Err(error) => {
            return usage(&error, wish);
        }
    };
    if let Command::Mounts(command) = &line.command
        && let Some(code) = command.serve()
    {
        return code;
    }
    let environment = Environment::of_process();
    let no_color = environment.filled(variables::NO_COLOR).is_some();
    let plain = Output::new(line.global.color, no_color, line.global.quiet);
    let outcome = Context::new(environment, &line.global, line.command.overrides())
        .and_then(|context| dispatch(&line.command, &context));
    match outcome {
        Ok(code) => code.into(),
        Err(failure) => {
            plain.failure(&failure);
            failure.kind.exit_code().into()
        }
    }
}

/// Prints help, or what is wrong with the command line in the form of every other failure.
fn usage(error: &clap::Error, wish: ColorWish) -> ExitCode {
    if !error.use_stderr() {
        // A reader may be gone already.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let no_color = Environment::of_process().filled(variables::NO_COLOR).is_some();
    let output = Output::new(wish, no_color, false);
    let text = error.render();
    let text = if output.talk_has_colors() { text.ansi().to_string() } else { text.to_string() };
    output.rendered(&text.replacen("error:", "slotfs:", 1).replacen("tip:", "hint:", 1));
    FailureKind::Usage.exit_code().into()
}

fn dispatch(command: &Command, context: &Context) -> Result<u8, Failure> {
    context::start_log(&context.settings.log, context.output)?;
    match command {
        Command::Mounts(command) => command.run(context),
        Command::Extract(arguments) => extract::run(arguments, context),
        Command::Inspect(arguments) => inspect::run(arguments, context),
        Command::List(arguments) => list::run(arguments, context),
        Command::Pack(arguments) => pack::run(arguments, context),
        Command::Relaunch(arguments) => relaunch::run(arguments, context),
        Command::Keygen(arguments) => keygen::run(arguments, context),
        Command::Verify(arguments) => verify::run(arguments, context),
        Command::Completions(arguments) => complete::run(arguments, context),
        Command::Doctor(arguments) => doctor::run(arguments, context),
        Command::Man(arguments) => man::run(arguments, context),
        Command::Reference => reference::run(context),
    }
}

/// Returns the command tree with everything that help shows, once it is built.
fn command(color: ColorWish) -> clap::Command {
    let color = match color {
        ColorWish::Auto => ColorChoice::Auto,
        ColorWish::Always => ColorChoice::Always,
        ColorWish::Never => ColorChoice::Never,
    };
    CommandLine::command().color(color).styles(arguments::STYLES).after_long_help(after_help())
}

/// Tells whether `word` names a command.
fn is_command(word: &OsStr) -> bool {
    let root = CommandLine::command();
    let is_named = |command: &clap::Command| {
        word == command.get_name() || command.get_all_aliases().any(|alias| word == alias)
    };
    word == "help" || root.get_subcommands().any(is_named)
}

/// Finds `--color` before parsing, because help is printed while parsing.
fn color_wish(arguments: &[OsString]) -> ColorWish {
    let texts = arguments.iter().map(|argument| argument.to_str().unwrap_or_default());
    let texts: Vec<&str> = texts.take_while(|&text| text != "--").collect();
    let joined = texts.iter().find_map(|text| text.strip_prefix("--color="));
    let apart = || texts.windows(2).find(|pair| pair[0] == "--color").map(|pair| pair[1]);
    match joined.or_else(apart) {
        Some("always") => ColorWish::Always,
        Some("never") => ColorWish::Never,
        _ => ColorWish::Auto,
    }
}

/// Returns what follows the options in `--help`: variables and exit codes.
fn after_help() -> String {
    let mut text = String::from("Environment:\n");
    for variable in variables::ALL {
        text.push_str(&format!("  {:<25}  {}\n", variable.name, variable.meaning));
    }
    text.push_str("\nExit codes:\n    0  success\n");
    for kind in FailureKind::ALL {
        text.push_str(&format!("  {:>3}  {}\n", kind.exit_code(), kind.meaning()));
    }
    text.push_str("\n`slotfs run` passes the program's exit code through, and 128+n when signal n ended it.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        command(ColorWish::Auto).debug_assert();
    }

    #[test]
    fn the_wish_for_colours_is_found_before_parsing() {
        let wish = |line: &str| color_wish(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(wish("slotfs --color always --help"), ColorWish::Always);
        assert_eq!(wish("slotfs list --color=never"), ColorWish::Never);
        assert_eq!(wish("slotfs run x -- --color=never"), ColorWish::Auto);
        assert_eq!(wish("slotfs --color"), ColorWish::Auto);
    }

    #[test]
    fn exit_codes_are_told_apart() {
        let codes: Vec<u8> = FailureKind::ALL.map(FailureKind::exit_code).to_vec();
        let mut sorted = codes.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(codes, sorted);
    }
}

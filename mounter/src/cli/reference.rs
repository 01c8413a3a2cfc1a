//! `slotfs __reference`: `docs/commands.md`, made from the same tree that parses the command line.

use std::fmt::Write as _;

use clap::builder::StyledStr;

use super::context::Context;
use super::failure::{Failure, FailureKind};
use super::output::ColorWish;
use crate::settings::variables;

/// Carries the command out.
///
/// # Errors
/// What could not be written.
pub fn run(context: &Context) -> Result<u8, Failure> {
    context.output.data(&markdown())?;
    Ok(0)
}

fn markdown() -> String {
    let mut root = super::command(ColorWish::Never).disable_help_subcommand(true);
    root.build();
    let mut text = String::from(
        "# Commands\n\n<!-- Made by `cargo run -p slotfs -- __reference > docs/commands.md`; a test compares. -->\n\n",
    );
    let _ = writeln!(text, "{}\n", about(&root));
    let commands: Vec<&clap::Command> =
        root.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    text.push_str("| command | |\n|---|---|\n");
    for command in &commands {
        let name = command.get_name();
        let first = plain(command.get_about());
        let _ = writeln!(text, "| [`slotfs {name}`](#slotfs-{name}) | {} |", cell(&first));
    }
    text.push_str("\n## Options of every command\n\n");
    options(&mut text, root.get_arguments().filter(|argument| argument.is_global_set()));
    for command in commands {
        section(&mut text, command);
    }
    environment(&mut text);
    exit_codes(&mut text);
    text
}

fn section(text: &mut String, command: &clap::Command) {
    let name = command.get_name();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let _ = write!(text, "\n## slotfs {name}\n\n    {usage}\n\n{}\n", about(command));
    let own: Vec<&clap::Arg> = command
        .get_arguments()
        .filter(|argument| !argument.is_global_set() && argument.get_id() != "help")
        .collect();
    if !own.is_empty() {
        text.push('\n');
        options(text, own.into_iter());
    }
}

fn options<'a>(text: &mut String, arguments: impl Iterator<Item = &'a clap::Arg>) {
    text.push_str("| | |\n|---|---|\n");
    for argument in arguments.filter(|argument| !argument.is_hide_set()) {
        let help = plain(argument.get_long_help().or(argument.get_help()));
        let _ = writeln!(text, "| `{}` | {}{} |", spelling(argument), cell(&help), choices(argument));
    }
}

/// Returns how an argument is typed: `-q, --quiet`, `--log LEVEL`, `PACKAGE…`.
fn spelling(argument: &clap::Arg) -> String {
    let values = argument.get_value_names().unwrap_or_default().join(" ");
    let takes_value = argument.get_action().takes_values();
    let many = argument.get_num_args().is_some_and(|range| range.max_values() > 1);
    let many =
        if many || (argument.is_positional() && matches!(argument.get_action(), clap::ArgAction::Append)) {
            "…"
        } else {
            ""
        };
    if argument.is_positional() {
        return format!("{values}{many}");
    }
    let mut names = Vec::new();
    names.extend(argument.get_short().map(|short| format!("-{short}")));
    names.extend(argument.get_long().map(|long| format!("--{long}")));
    let names = names.join(", ");
    if takes_value { format!("{names} {values}{many}") } else { names }
}

fn choices(argument: &clap::Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let values = argument.get_possible_values();
    let names: Vec<String> = values
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({})", value.get_name(), lower_first(&plain(Some(help)))),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) }
}

fn environment(text: &mut String) {
    text.push_str("\n## Environment\n\n| variable | meaning |\n|---|---|\n");
    for variable in variables::ALL {
        let _ = writeln!(text, "| `{}` | {} |", variable.name, variable.meaning);
    }
}

fn exit_codes(text: &mut String) {
    text.push_str(
        "\n## Exit codes\n\n`slotfs run` passes the program's own exit code through, and 128+n when signal n ended \
         it. Codes 102 to 109 mean what they mean for the package launchers.\n\n| code | meaning |\n|---|---|\n\
         | 0 | success |\n",
    );
    for kind in FailureKind::ALL {
        let _ = writeln!(text, "| {} | {} |", kind.exit_code(), kind.meaning());
    }
}

fn about(command: &clap::Command) -> String {
    let text = plain(command.get_long_about().or(command.get_about()));
    // The first line is a title without a full stop; what follows are sentences.
    match text.split_once("\n\n") {
        Some((title, rest)) => format!("{title}.\n\n{rest}"),
        None => format!("{text}."),
    }
}

fn plain(text: Option<&StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

/// Returns text that fits into a field of a table.
fn cell(text: &str) -> String {
    text.replace("\n\n", "<br>").replace('\n', " ").replace('|', "\\|")
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

//! slotfs as the launcher of a package: its own executable has a package behind it.
//!
//! **Invariant:** whatever the arguments are, they are the program's, unless FLAVOR_LAUNCHER_CLI says that they are ours.

use std::ffi::OsString;
use std::path::Path;

use slotfs_fs::package;

use crate::session::profile::replay::PREFETCH_COMMAND;
use crate::session::server::SERVE_COMMAND;
use crate::settings::{Environment, variables};

/// Returns what is to be done: the `arguments` as they are, or, where this very executable is a package, to run it with
/// them.
#[must_use]
pub fn arguments(arguments: Vec<OsString>) -> Vec<OsString> {
    let Ok(own) = std::env::current_exe() else { return arguments };
    // Who cannot read itself has no package to run.
    if is_our_own(&arguments) || !package::ends_like_one(&own).unwrap_or(false) {
        return arguments;
    }
    let is_command_line =
        Environment::of_process().text(variables::FLAVOR_LAUNCHER_CLI).is_some_and(means_yes);
    understood(&own, arguments, is_command_line)
}

/// Also a package starts its server and what that needs with this program, under this name.
fn is_our_own(arguments: &[OsString]) -> bool {
    matches!(arguments, [name, command, ..]
        if name == "slotfs" && [SERVE_COMMAND, PREFETCH_COMMAND].iter().any(|own| command == own))
}

fn means_yes(text: &str) -> bool {
    ["1", "true", "yes"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Puts the command in front that the arguments are for. As a command line, the words of FlavorPack's launchers mean this
/// package, and everything else is what it would be to slotfs.
fn understood(own: &Path, arguments: Vec<OsString>, is_command_line: bool) -> Vec<OsString> {
    let word = |text: &str| OsString::from(text);
    let run =
        |arguments: &[OsString]| [&[word("slotfs"), word("run"), own.into(), word("--")], arguments].concat();
    let Some((_, given)) = arguments.split_first() else { return run(&[]) };
    if !is_command_line {
        return run(given);
    }
    match (given.first().and_then(|first| first.to_str()), given.len()) {
        (None, 0) | (Some("info"), 1) => vec![word("slotfs"), word("inspect"), own.into()],
        (Some("metadata"), 1) => vec![word("slotfs"), word("inspect"), word("--json"), own.into()],
        (Some("verify"), 1) => vec![word("slotfs"), word("verify"), own.into()],
        (Some("run"), _) => run(&given[1..]),
        _ => arguments,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_the_programs_unless_the_launcher_is_asked() {
        let shown = |line: &str, is_command_line: bool| {
            let words = line.split_whitespace().map(OsString::from).collect();
            let words = understood(Path::new("/a/app.psp"), words, is_command_line);
            words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        for (line, program, launcher) in [
            ("app", "slotfs run /a/app.psp --", "slotfs inspect /a/app.psp"),
            ("app --help x", "slotfs run /a/app.psp -- --help x", "app --help x"),
            ("app verify", "slotfs run /a/app.psp -- verify", "slotfs verify /a/app.psp"),
            ("app run -x", "slotfs run /a/app.psp -- run -x", "slotfs run /a/app.psp -- -x"),
            ("app metadata", "slotfs run /a/app.psp -- metadata", "slotfs inspect --json /a/app.psp"),
            ("app list --json", "slotfs run /a/app.psp -- list --json", "app list --json"),
        ] {
            assert_eq!(shown(line, false), program);
            assert_eq!(shown(line, true), launcher);
        }
        assert!(means_yes("TRUE") && means_yes("1") && !means_yes("0") && !means_yes("no"));
    }
}

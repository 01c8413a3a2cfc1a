//! What holds for every command: help, usage errors, settings, colours, pages and scripts made from the tree.

use std::process::{Command, Stdio};

use slotfs_tests::command::{Done, Home, binary};

use super::packages::{application, write};
use super::shown::{check, shown};

#[test]
fn help_and_usage_errors() {
    let home = Home::new();
    check!("help_short", shown(&home, "-h"));
    check!("help_long", shown(&home, "--help"));
    check!("usage_unknown_command", shown(&home, "verfy x.psp"));
    check!("usage_missing_argument", shown(&home, "verify"));
    check!("usage_bad_value", shown(&home, "verify x --verify lenient"));
    assert_eq!(home.run(["--version"]).success().stdout, format!("slotfs {}\n", env!("CARGO_PKG_VERSION")));
    home.run::<_, &str>([]).code(2);
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let home = Home::new();
    let with = |name: &str, value: &str| {
        let done = Done::of(home.slotfs(["list"]).env(name, value));
        super::shown::transcript(&home, &format!("list   ({name}={value})"), &done)
    };
    check!("settings_bad_mode", with("SLOTFS_MODE", "fast"));
    check!("settings_bad_log", with("SLOTFS_LOG", "slotfs=loud"));
    check!("settings_missing_file", shown(&home, "list --config nowhere.json"));
    std::fs::write(home.path("wrong.json"), "{\n  \"mode\": 1\n}\n").unwrap();
    check!("settings_wrong_file", shown(&home, "list --config wrong.json"));
}

#[test]
fn colours_are_for_terminals_and_for_who_asks() {
    let home = Home::new();
    write(&home, &application().build());
    let colored = |arguments: &[&str], variable: Option<&str>| {
        let mut command = home.slotfs(arguments);
        if let Some(name) = variable {
            command.env(name, "1");
        }
        let done = Done::of(&mut command);
        (done.stdout.contains('\u{1b}'), done.stderr.contains('\u{1b}'))
    };
    assert_eq!(colored(&["verify", "hello.psp"], None), (false, false));
    assert_eq!(colored(&["verify", "hello.psp", "--color", "always"], None), (true, false));
    assert_eq!(colored(&["inspect", "nobody", "--color=always"], None), (false, true));
    assert_eq!(colored(&["verify", "hello.psp", "--color", "never"], None), (false, false));
    // An explicit wish is stronger than the variable.
    assert_eq!(colored(&["verify", "hello.psp", "--color", "always"], Some("NO_COLOR")), (true, false));
    assert_eq!(colored(&["--color=always", "--help"], None), (true, false));
}

#[test]
fn on_a_terminal_there_are_colours_unless_told_otherwise() {
    let home = Home::new();
    write(&home, &application().build());
    if home.program("script").arg("--version").output().is_err() {
        slotfs_tests::command::skip("`script` (util-linux) is not installed".into());
        return;
    }
    let on_terminal = |variables: &str| {
        let line = format!("{variables} {} verify hello.psp", binary().display());
        let mut command = home.program("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm-256color");
        Done::of(&mut command).success().stdout
    };
    assert!(on_terminal("").contains("\u{1b}[32m✓"), "{:?}", on_terminal(""));
    assert!(!on_terminal("NO_COLOR=1").contains("\u{1b}[32m"), "{:?}", on_terminal("NO_COLOR=1"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::new();
    let mut command = home.slotfs(["__reference"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let done = Done::from(child.wait_with_output().unwrap());
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let done = Done::from(home.slotfs(["__reference"]).stdout(full).output().unwrap());
    assert_eq!(done.code, 106, "{}", done.stderr);
    assert!(done.stderr.contains("cannot write to standard output"), "{}", done.stderr);
}

#[test]
fn the_reference_in_the_documentation_is_up_to_date() {
    let home = Home::new();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands.md");
    let made = home.run(["__reference"]).success().stdout;
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(made == kept, "run: cargo run -p slotfs -- __reference > docs/commands.md");
}

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    let home = Home::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = home.run(["completions", shell]).success().stdout;
        for word in ["verify", "inspect", "list", "--json"] {
            assert!(script.contains(word.trim_start_matches('-')), "{shell}: {word}");
        }
        assert!(!script.contains("__reference"), "{shell} would offer a hidden command");
    }
    let bash = home.run(["completions", "bash"]).success().stdout;
    std::fs::write(home.path("completion"), bash).unwrap();
    Done::of(home.program("bash").args(["-n", "completion"])).success();
}

#[test]
fn manual_pages_are_well_formed() {
    let home = Home::new();
    check!("man", shown(&home, "man pages/man1"));
    let folder = home.path("pages/man1");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(
        names.contains(&"slotfs.1".to_owned()) && names.contains(&"slotfs-verify.1".to_owned()),
        "{names:?}"
    );
    assert!(!names.iter().any(|name| name.contains("__") || name.contains("help")), "{names:?}");
    for name in names {
        let page = std::fs::read_to_string(folder.join(&name)).unwrap();
        assert!(page.contains(".TH") && page.contains(".SH \"EXIT STATUS\""), "{name}");
        let mut man = Command::new("man");
        man.args(["--warnings", "-l"]).arg(folder.join(&name)).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        if let Ok(output) = man.output() {
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
        }
    }
}

//! What the launchers were seen to give their programs, and what slotfs gives instead where it differs.

use std::path::Path;

use slotfs_fs::package::metadata::Metadata;

use super::*;
use crate::settings::Family;

const INHERITED: &[(&str, &str)] = &[("HOME", "/home/me"), ("PATH", "/usr/bin:/bin")];

fn run(
    make: fn(&Program<'_>, &Placeholders, &Environment) -> Result<Environment, LaunchError>,
    json: &str,
    inherited: &[(&'static str, &'static str)],
) -> Result<Vec<String>, LaunchError> {
    let metadata: Metadata = serde_json::from_str(json).unwrap();
    let program = Program {
        metadata: &metadata,
        package: Path::new("/p/app.psp"),
        workenv: Path::new("/c/app"),
        cache: Path::new("/c"),
    };
    let inherited = Environment::new(Family::Unix, "/", inherited.iter().copied());
    let made = make(&program, &Placeholders::new(&metadata, program.workenv), &inherited)?;
    let line = |(name, value): (&OsString, &OsString)| format!("{}={}", name.display(), value.display());
    Ok(made.variables().iter().map(line).collect())
}

fn program(json: &str, more: &[(&'static str, &'static str)]) -> Vec<String> {
    run(of_program, json, &[INHERITED, more].concat()).unwrap()
}

const ALWAYS: [&str; 3] =
    ["FLAVOR_COMMAND_NAME=app.psp", "FLAVOR_ORIGINAL_COMMAND=/p/app.psp", "FLAVOR_WORKENV=/c/app"];

fn with_always(more: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = ALWAYS.iter().chain(more).map(|line| (*line).to_owned()).collect();
    // By name, as the variables are.
    lines.sort_by(|one, other| one.split('=').next().cmp(&other.split('=').next()));
    lines
}

#[test]
fn a_plain_program_inherits_and_learns_where_it_is() {
    assert_eq!(
        program("{}", &[("X", "")]),
        with_always(&["FLAVOR_CACHE=/c", "HOME=/home/me", "PATH=/c/app/bin:/usr/bin:/bin", "X="])
    );
    // What the user set stays.
    let set =
        program("{}", &[("FLAVOR_CACHE", "/mine"), ("FLAVOR_CACHE_DIR", "/root"), ("FLAVOR_WORKENV", "/o")]);
    assert!(
        set.contains(&"FLAVOR_CACHE=/mine".to_owned()) && set.contains(&"FLAVOR_CACHE_DIR=/root".to_owned())
    );
    assert!(set.contains(&"FLAVOR_WORKENV=/c/app".to_owned()));
}

#[test]
fn runtime_rules_apply_in_their_order() {
    let json = r#"{"runtime": {"env": {"unset": ["S_*", "Q?", "L[ab]", "GONE"], "pass": ["S_OK", "OLDP"],
        "map": {"OLD": "NEW", "OLDP": "NEWP", "A": "B", "B": "C", "GONE": "G2", "ABSENT": "X"},
        "set": {"SET": "{workenv}/literal", "C2": "x"}}}}"#;
    let inherited = [
        ("S_A", "1"),
        ("S_OK", "2"),
        ("Q1", "1"),
        ("Q12", "1"),
        ("La", "1"),
        ("OLD", "o"),
        ("OLDP", "p"),
        ("A", "a"),
        ("B", "b"),
        ("GONE", "g"),
        ("C2", "c"),
    ];
    assert_eq!(
        program(json, &inherited),
        with_always(&[
            "C=a",
            "C2=x",
            "FLAVOR_CACHE=/c",
            "HOME=/home/me",
            "La=1",
            "NEW=o",
            "OLDP=p",
            "PATH=/c/app/bin:/usr/bin:/bin",
            "Q12=1",
            "SET={workenv}/literal",
            "S_OK=2",
        ])
    );
}

#[test]
fn everything_may_be_unset_but_what_is_passed() {
    let json = r#"{"runtime": {"env": {"unset": ["*"], "pass": ["LC_*"]}}}"#;
    assert_eq!(program(json, &[("LC_ALL", "C"), ("X", "1")]), with_always(&["LC_ALL=C", "PATH=/c/app/bin"]));
}

#[test]
fn later_sections_win_and_placeholders_are_replaced() {
    let json = r#"{"package": {"name": "n", "version": "2"}, "slots": [{"target": "bin/x"}],
        "workenv": {"env": {"HOME": "{workenv}/home", "PATH": "{workenv}/x:/bin", "W": "w", "FLAVOR_WORKENV": "/no"}},
        "execution": {"command": "x", "env": {"E": "{package_name}-{version}-{slot:0}-{slot:9}-{os}", "W": "e",
            "FLAVOR_COMMAND_NAME": "no", "NUMBER": 5, "TRUTH": true}}}"#;
    assert_eq!(
        program(json, &[]),
        with_always(&[
            "E=n-2-/c/app/bin/x-{slot:9}-{os}",
            "FLAVOR_CACHE=/c",
            "HOME=/c/app/home",
            "NUMBER=5",
            "PATH=/c/app/bin:/c/app/x:/bin",
            "TRUTH=true",
            "W=e",
        ])
    );
}

#[test]
fn setup_commands_get_the_users_environment() {
    let json = r#"{"package": {"version": "2"}, "runtime": {"env": {"unset": ["*"], "set": {"R": "1"}}},
        "workenv": {"env": {"HOME": "/no"}}, "execution": {"env": {"X": "{workenv}-{version}", "PATH": "/no"}}}"#;
    assert_eq!(
        run(of_setup, json, INHERITED).unwrap(),
        ["FLAVOR_WORKENV=/c/app", "HOME=/home/me", "PATH=/c/app/bin:/usr/bin:/bin", "X=/c/app-2",]
    );
    assert_eq!(
        run(of_setup, r#"{"execution": {"env": {"PATH": "/no"}}}"#, &[]).unwrap(),
        ["FLAVOR_WORKENV=/c/app", "PATH=/c/app/bin",]
    );
}

#[test]
fn what_no_program_can_be_given_is_refused() {
    for (json, words) in [
        (r#"{"execution": {"env": {"A": null}}}"#, "`execution.env` gives the variable `A`"),
        (r#"{"workenv": {"env": {"A": ["x"]}}}"#, "`workenv.env` gives the variable `A`"),
        (r#"{"execution": {"env": {"A=B": "x"}}}"#, "impossible name `A=B`"),
        (r#"{"execution": {"env": {"": "x"}}}"#, "impossible name ``"),
        (r#"{"runtime": {"env": {"set": {"A\u0000": "x"}}}}"#, r"impossible name `A\0`"),
        (r#"{"runtime": {"env": {"map": {"HOME": "="}}}}"#, "impossible name `=`"),
        (r#"{"execution": {"env": {"A": "x\u0000y"}}}"#, "the variable `A` has a NUL"),
    ] {
        let error = run(of_program, json, INHERITED).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

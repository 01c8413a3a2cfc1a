//! What `slotfs clean` and `slotfs remove` say.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use slotfs_tests::command::Home;

use super::inspect::launcher_environment;
use super::shown::{check, shown, shown_loosely};

/// Makes every file of an environment look as if it had last been used `days` ago.
fn age(place: &Path, days: u64) {
    for entry in fs::read_dir(place).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            age(&entry.path(), days);
        } else {
            let time = SystemTime::now() - Duration::from_secs(days * 86_400 + 60);
            let times = fs::FileTimes::new().set_accessed(time).set_modified(time);
            fs::File::options().write(true).open(entry.path()).unwrap().set_times(times).unwrap();
        }
    }
}

/// Sizes on disk differ from one kind of disk to another.
fn without_sizes(text: &str) -> String {
    let words = text.split_inclusive([' ', '\n']);
    let mut out = String::new();
    let mut number = String::new();
    for word in words {
        let bare = word.trim();
        if !number.is_empty() && matches!(bare, "B" | "KiB" | "MiB") {
            out.push_str(&word.replace(bare, "[SIZE]"));
            number.clear();
            continue;
        }
        out.push_str(&std::mem::take(&mut number));
        if bare.parse::<f64>().is_ok() && word.ends_with(' ') {
            number = word.to_owned();
        } else {
            out.push_str(word);
        }
    }
    out + &number
}

fn said(home: &Home, line: &str) -> String {
    let text = without_sizes(&shown_loosely(home, line));
    text.lines()
        .map(|line| match line.trim_start() {
            bytes if bytes.starts_with("\"bytes\": ") || bytes.starts_with("\"freed_bytes\": ") => {
                let (key, value) = line.split_once(": ").unwrap();
                let comma = if value.ends_with(',') { "," } else { "" };
                format!("{key}: \"[SIZE]\"{comma}\n")
            }
            bytes if bytes.starts_with("\"written_bytes\": ") => {
                format!("{}: \"[SIZE]\",\n", line.split_once(": ").unwrap().0)
            }
            _ => format!("{line}\n"),
        })
        .collect()
}

fn home() -> Home {
    let home = Home::new();
    for (name, days) in [("greeter", 45), ("grumbler", 3), ("begun", 0), ("running", 60)] {
        launcher_environment(&home, name, "1");
        age(&home.workenv(name), days);
        age(&home.cache().join(format!(".{name}.pspf")), days);
    }
    fs::remove_file(home.cache().join(".begun.pspf/instance/extract/complete")).unwrap();
    home
}

#[test]
fn a_clean_says_what_why_and_how_much() {
    let home = home();
    let locked = home.cache().join(".running.pspf/instance/extract/lock");
    fs::write(&locked, format!("{}\n", std::process::id())).unwrap();
    let without_pid = |text: String| text.replace(&std::process::id().to_string(), "[PID]");
    check!("clean_dry_run", without_pid(said(&home, "clean --dry-run")));
    check!("clean_dry_run_json", without_pid(said(&home, "clean --dry-run --json")));
    check!("clean_refused", without_pid(said(&home, "clean")));
    check!("clean", without_pid(said(&home, "clean --yes")));
    fs::remove_file(locked).unwrap();
    check!("clean_all_json", without_pid(said(&home, "clean --all --yes --json")));
    check!("clean_nothing", shown(&home, "clean"));
    check!("clean_nothing_json", shown(&home, "clean --json"));
    check!("clean_usage", shown(&home, "clean --all --older-than 3"));
}

#[test]
fn a_removal_says_what_goes() {
    let home = home();
    check!("remove_dry_run", said(&home, "remove greeter grumbler --dry-run"));
    check!("remove_refused", said(&home, "remove greeter"));
    check!("remove_unknown", shown(&home, "remove nobody -y"));
    check!("remove_json", said(&home, "remove greeter --yes --json"));
    check!("remove", said(&home, "remove grumbler --yes"));
    fs::write(home.cache().join(".running.pspf/instance/extract/lock"), format!("{}\n", std::process::id()))
        .unwrap();
    let text = shown(&home, "remove running -y");
    check!("remove_in_use", text.replace(&std::process::id().to_string(), "[PID]"));
}

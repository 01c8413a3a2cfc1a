//! A run of slotfs as text for a snapshot: command, both streams, exit code; without what differs each time.

use slotfs_tests::command::{Done, Home};

/// Runs `slotfs` with the words of `line` and returns all it says.
pub(crate) fn shown(home: &Home, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    transcript(home, line, &home.run(words))
}

/// As [`shown`], with two spaces for every longer gap: columns are as wide as process numbers and times make them.
pub(crate) fn shown_loosely(home: &Home, line: &str) -> String {
    let text = shown(home, line);
    let lines = text.lines().map(|line| {
        let start = line.len() - line.trim_start().len();
        let fields: Vec<&str> = line[start..].split("  ").map(str::trim).filter(|f| !f.is_empty()).collect();
        format!("{}{}\n", &line[..start], fields.join("  "))
    });
    lines.collect()
}

/// Returns what was said as text.
pub(crate) fn transcript(home: &Home, line: &str, done: &Done) -> String {
    let mut text = format!("$ slotfs {line}\n");
    for (name, stream) in [("stdout", &done.stdout), ("stderr", &done.stderr)] {
        let stream = without_other_mounts(stream);
        if !stream.is_empty() {
            text.push_str(&format!("--- {name}\n{stream}"));
            assert!(stream.ends_with('\n'), "{name} does not end its line: {stream:?}");
        }
    }
    text.push_str(&format!("--- exit code {}\n", done.code));
    text.replace(&home.root().display().to_string(), "[HOME]")
}

/// Leaves out what other tests have mounted at this moment, and no home of these tests has.
fn without_other_mounts(stream: &str) -> String {
    const JSON: &str = "\"other_mounts\": [";
    if let Some((own, _)) = stream.split_once(JSON) {
        return format!("{own}{JSON}]\n}}\n");
    }
    let own = stream.split("\nMOUNTED AT").next().unwrap_or_default();
    if own.starts_with("MOUNTED AT") { String::new() } else { own.to_owned() }
}

/// Compares with the snapshot `name`, digests and times left out.
macro_rules! check {
    ($name:literal, $text:expr) => {
        insta::with_settings!({
            prepend_module_to_snapshot => false,
            omit_expression => true,
            filters => vec![
                (r#""last_used": \d+"#, r#""last_used": "[TIME]""#),
                (r"\b[0-9a-f]{8}([0-9a-f]{8}){0,7}(…|\b)", "[HEX]$2"),
                (r" in \d+(\.\d+)? (ms|s)\n", " in [TIME]\n"),
                (r"\b\d+ (minutes?|hours?|days?) ago|just now|yesterday", "[AGO]"),
            ],
        }, { insta::assert_snapshot!($name, $text) });
    };
}

pub(crate) use check;

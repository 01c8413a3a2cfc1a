//! The source itself: the order of modules and the rules that keep it readable. Each rule is also shown a sample
//! that breaks it.

mod code;
mod rules;

use std::path::{Path, PathBuf};

use rules::{RULES, Source};

/// The crates whose source is held to the rules.
const CRATES: [&str; 3] = ["policy", "fs", "mounter"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for name in CRATES {
        collect(&repository().join(name).join("src"), &mut files);
    }
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text =
                std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = path.strip_prefix(repository()).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            Source::new(&name, &text)
        })
        .collect()
}

#[test]
fn the_source_keeps_the_rules() {
    let sources = sources();
    assert!(sources.len() > 30, "only {} files found: is this the repository?", sources.len());
    let mut broken = Vec::new();
    for source in &sources {
        for rule in RULES {
            for (line, reason) in (rule.check)(source) {
                broken.push(format!("{}:{line}: {}: {reason}", source.path, rule.name));
            }
        }
    }
    assert!(broken.is_empty(), "{} places break the rules:\n{}", broken.len(), broken.join("\n"));
}

/// Files that a rule names must exist: a name that is left over allows what nobody meant to allow.
#[test]
fn every_named_file_exists() {
    for path in rules::named_places() {
        assert!(repository().join(path).exists(), "`{path}` is named by a rule and does not exist");
    }
}

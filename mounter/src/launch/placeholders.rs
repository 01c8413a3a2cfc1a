//! `{workenv}`, `{package_name}`, `{version}` and `{slot:N}`; everything else in braces stays as it is.
//!
//! A text is gone through once: what a placeholder stands for is never looked at again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use slotfs_fs::package::metadata::Metadata;
use slotfs_fs::package::target;

use crate::host::files;

/// Which placeholders a text may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All four: `execution.command`, `execution.env`, `workenv.env`.
    Program,
    /// All but `{slot:N}`: setup commands and `cache_validation`.
    Setup,
    /// `{workenv}` alone: `workenv.directories`.
    Directories,
}

/// What the placeholders of one package stand for.
#[derive(Clone, Debug)]
pub struct Placeholders {
    workenv: PathBuf,
    name: String,
    version: String,
    slots: Vec<PathBuf>,
}

impl Placeholders {
    /// Takes the values from a package's metadata and its environment's content directory.
    #[must_use]
    pub fn new(metadata: &Metadata, workenv: &Path) -> Self {
        Self {
            workenv: workenv.to_owned(),
            name: metadata.package.name.clone(),
            version: metadata.package.version.clone(),
            slots: metadata.slots.iter().map(|slot| place_of(&slot.target, workenv)).collect(),
        }
    }

    /// Replaces the placeholders of `scope` in `text`.
    #[must_use]
    pub fn fill(&self, text: &str, scope: Scope) -> OsString {
        let mut filled = OsString::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, braced) = rest.split_at(open);
            filled.push(before);
            let value = braced.find('}').and_then(|close| {
                let (name, after) = (braced.get(1..close)?, braced.get(close + 1..)?);
                Some((self.value(name, scope)?, after))
            });
            if let Some((value, after)) = value {
                filled.push(value);
                rest = after;
            } else {
                filled.push("{");
                rest = &braced[1..];
            }
        }
        filled.push(rest);
        filled
    }

    fn value(&self, name: &str, scope: Scope) -> Option<OsString> {
        match (name, scope) {
            ("workenv", _) => Some(self.workenv.clone().into_os_string()),
            ("package_name", Scope::Program | Scope::Setup) => Some(self.name.clone().into()),
            ("version", Scope::Program | Scope::Setup) => Some(self.version.clone().into()),
            (_, Scope::Program) => {
                let digits = name.strip_prefix("slot:")?;
                let number: usize = digits.parse().ok()?;
                // `{slot:01}` and `{slot:+1}` are left alone, as in the launchers.
                (number.to_string() == digits)
                    .then(|| self.slots.get(number))?
                    .map(|path| path.clone().into())
            }
            (_, Scope::Setup | Scope::Directories) => None,
        }
    }
}

/// Returns where `{slot:N}` points: the environment and the slot's target, also for a tar slot, which is
/// unpacked at the root whatever its target. A target that is none (possible for a tar slot, whose target is
/// ignored) stands for the root.
fn place_of(target: &str, workenv: &Path) -> PathBuf {
    let names = target::components(target).unwrap_or_default();
    names.into_iter().fold(workenv.to_owned(), |path, name| path.join(files::path_from_bytes(name)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn each_scope_fills_its_own() {
        let metadata: Metadata = serde_json::from_str(
            r#"{"package": {"name": "n{version}", "version": "1"}, "slots": [
                {"target": "{workenv}/bin/x"}, {"target": "d//a/"}, {"target": "./e/./b"}, {"target": "{workenv}"},
                {"target": "x{workenv}/c"}, {"target": "/abs/f"}, {"target": "../out"}]}"#,
        )
        .unwrap();
        let placeholders = Placeholders::new(&metadata, Path::new("/w w"));
        for (text, scope, wanted) in [
            ("{workenv}/a:{workenv}", Scope::Program, "/w w/a:/w w"),
            ("{package_name}-{version}", Scope::Program, "n{version}-1"),
            ("{package_name}-{version}-{workenv}-{slot:0}", Scope::Setup, "n{version}-1-/w w-{slot:0}"),
            (
                "{package_name}{version}{slot:0}{workenv}",
                Scope::Directories,
                "{package_name}{version}{slot:0}/w w",
            ),
            ("{slot:0} {slot:1} {slot:2} {slot:3}", Scope::Program, "/w w/bin/x /w w/d/a /w w/e/b /w w"),
            ("{slot:4} {slot:5} {slot:6}", Scope::Program, "/w w/x/c /w w /w w"),
            (
                "{slot:7}{slot:01}{slot:+1}{slot:x}{slot:}{slot: 1}",
                Scope::Program,
                "{slot:7}{slot:01}{slot:+1}{slot:x}{slot:}{slot: 1}",
            ),
            ("{slot:99999999999999999999}", Scope::Program, "{slot:99999999999999999999}"),
            ("{os} {arch} $HOME ~ {}", Scope::Program, "{os} {arch} $HOME ~ {}"),
            ("{{workenv}} {a{version}", Scope::Program, "{/w w} {a1"),
            ("{workenv", Scope::Program, "{workenv"),
            ("é}{é}{", Scope::Program, "é}{é}{"),
            ("", Scope::Program, ""),
        ] {
            assert_eq!(placeholders.fill(text, scope), wanted, "{text}");
        }
    }
}

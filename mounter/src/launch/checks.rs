//! `cache_validation`: a file that must hold a text for a prepared environment to count as prepared.

use std::path::{Path, PathBuf};

use super::Program;
use super::placeholders::{Placeholders, Scope};

/// Longest file that is compared; expected texts are a line.
const LONGEST: u64 = 1 << 20;

/// The file and the text it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Which file; relative ones are inside the environment.
    pub file: PathBuf,
    /// Its content without white space at both ends.
    pub expected: String,
}

/// Reads the package's check; `None` where it has none.
#[must_use]
pub fn plan(program: &Program<'_>) -> Option<Check> {
    let section = program.metadata.cache_validation.as_ref()?;
    let placeholders = Placeholders::new(program.metadata, program.workenv);
    let file = placeholders.fill(&section.check_file, Scope::Setup);
    let expected = placeholders.fill(&section.expected_content, Scope::Setup);
    Some(Check { file: program.workenv.join(file), expected: expected.to_string_lossy().trim().to_owned() })
}

impl Check {
    /// Tells whether the file is there and holds the text. What cannot be read does not.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.read().is_some_and(|text| text.trim() == self.expected)
    }

    fn read(&self) -> Option<String> {
        let known = std::fs::metadata(Path::new(&self.file)).ok()?;
        if !known.is_file() || known.len() > LONGEST {
            return None;
        }
        String::from_utf8(std::fs::read(&self.file).ok()?).ok()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn the_trimmed_text_decides() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = serde_json::from_str(
            r#"{"package": {"name": "app", "version": "3"}, "cache_validation":
                {"check_file": "{workenv}/metadata/installed", "expected_content": "{package_name}-{version}"}}"#,
        )
        .unwrap();
        let program = Program {
            metadata: &metadata,
            package: Path::new("/p"),
            workenv: folder.path(),
            cache: folder.path(),
        };
        let check = plan(&program).unwrap();
        assert_eq!(check.expected, "app-3");
        assert!(!check.is_met());
        std::fs::create_dir(folder.path().join("metadata")).unwrap();
        for (text, met) in
            [(&b"app-3"[..], true), (b" app-3\r\n", true), (b"app-4", false), (b"", false), (b"\xff", false)]
        {
            std::fs::write(&check.file, text).unwrap();
            assert_eq!(check.is_met(), met, "{text:?}");
        }
    }
}

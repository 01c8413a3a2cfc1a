//! `setup_commands` read into steps. Nothing is run here.

use std::ffi::OsString;

use serde_json::{Map, Value};

use super::command_line;
use super::directories::parse_mode;
use super::placeholders::{Placeholders, Scope};
use super::{LaunchError, Program};

/// What one setup command does, placeholders replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Runs a program.
    Execute {
        /// The program and its arguments; never empty.
        words: Vec<OsString>,
    },
    /// Runs a program once for each path that matches, the path as one more argument.
    ExecuteEach {
        /// The program and its first arguments; never empty.
        words: Vec<OsString>,
        /// Where to look.
        path: OsString,
        /// What to look for.
        pattern: String,
    },
    /// Writes a file, with exactly this content.
    Write {
        /// Which.
        path: OsString,
        /// What.
        content: OsString,
        /// Permission bits, where given.
        mode: Option<u32>,
    },
    /// Sets the mode of the files that match.
    ChangeMode {
        /// Which, with wildcards.
        path: OsString,
        /// Permission bits.
        mode: u32,
    },
}

/// One setup command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Position among the package's setup commands, from 1.
    pub position: usize,
    /// The package's own words for it, or the command.
    pub title: String,
    /// What to do.
    pub action: Action,
}

/// Reads a package's setup commands in order; one without anything to do is left out.
///
/// # Errors
/// The first command that cannot be understood, by its position.
pub fn plan(program: &Program<'_>) -> Result<Vec<Step>, LaunchError> {
    let placeholders = Placeholders::new(program.metadata, program.workenv);
    let mut steps = Vec::new();
    for (position, value) in (1..).zip(&program.metadata.setup_commands) {
        let reader = Reader { position, placeholders: &placeholders };
        let (title, action) = match value {
            Value::String(command) => (None, reader.execute(command)?),
            Value::Object(fields) => (text(fields, "description"), reader.object(fields)?),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                return Err(reader.bad("is neither an object nor a command"));
            }
        };
        if let Some(action) = action {
            let title = title.map_or_else(|| describe(&action), str::to_owned);
            steps.push(Step { position, title, action });
        }
    }
    Ok(steps)
}

struct Reader<'a> {
    position: usize,
    placeholders: &'a Placeholders,
}

impl Reader<'_> {
    fn object(&self, fields: &Map<String, Value>) -> Result<Option<Action>, LaunchError> {
        match text(fields, "type") {
            // One without a type is a command: the Go launcher runs it.
            Some("execute") | None => self.execute(self.required(fields, "command")?),
            Some("enumerate_and_execute") => {
                let Some(enumerate) = fields.get("enumerate").and_then(Value::as_object) else {
                    return Err(self.bad("has no `enumerate`"));
                };
                let words = self.words(self.required(fields, "command")?)?;
                let path = self.fill(self.required(enumerate, "path")?);
                let pattern = self.required(enumerate, "pattern")?.to_owned();
                Ok((!words.is_empty()).then_some(Action::ExecuteEach { words, path, pattern }))
            }
            Some("write_file") => Ok(Some(Action::Write {
                path: self.fill(self.required(fields, "path")?),
                content: self.fill(self.required(fields, "content")?),
                mode: self.mode(fields)?,
            })),
            Some("chmod") => Ok(Some(Action::ChangeMode {
                path: self.fill(self.required(fields, "path")?),
                // Without a mode that can be read, the launchers' own default.
                mode: text(fields, "mode").and_then(parse_mode).unwrap_or(0o700),
            })),
            Some(unknown) => Err(self.bad(&format!("has the unknown type `{unknown}`"))),
        }
    }

    fn execute(&self, command: &str) -> Result<Option<Action>, LaunchError> {
        let words = self.words(command)?;
        Ok((!words.is_empty()).then_some(Action::Execute { words }))
    }

    fn words(&self, command: &str) -> Result<Vec<OsString>, LaunchError> {
        let words: Vec<_> = command_line::split(command)?.iter().map(|word| self.fill(word)).collect();
        for word in &words {
            super::without_nul(|| format!("setup command {}", self.position), word)?;
        }
        Ok(words)
    }

    /// A file's mode: a number as the Go launcher takes it, or octal digits as `chmod` has them.
    fn mode(&self, fields: &Map<String, Value>) -> Result<Option<u32>, LaunchError> {
        let mode = match fields.get("mode") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number.as_u64().and_then(|mode| u32::try_from(mode).ok()),
            Some(Value::String(octal)) => parse_mode(octal),
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
        };
        match mode {
            Some(mode) if mode <= 0o7777 => Ok(Some(mode)),
            _ => Err(self.bad("has a `mode` that is none")),
        }
    }

    fn required<'a>(&self, fields: &'a Map<String, Value>, key: &str) -> Result<&'a str, LaunchError> {
        text(fields, key).ok_or_else(|| self.bad(&format!("has no text `{key}`")))
    }

    fn fill(&self, text: &str) -> OsString {
        self.placeholders.fill(text, Scope::Setup)
    }

    fn bad(&self, problem: &str) -> LaunchError {
        LaunchError::BadSetup { position: self.position, problem: problem.to_owned() }
    }
}

fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    fields.get(key).and_then(Value::as_str)
}

fn describe(action: &Action) -> String {
    match action {
        Action::Execute { words } | Action::ExecuteEach { words, .. } => {
            command_line::join(words.iter().map(OsString::as_os_str))
        }
        Action::Write { path, .. } => format!("write {}", path.display()),
        Action::ChangeMode { path, mode } => format!("chmod {mode:o} {}", path.display()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(commands: &str) -> Result<Vec<Step>, LaunchError> {
        let json =
            format!(r#"{{"package": {{"name": "app", "version": "3"}}, "setup_commands": {commands}}}"#);
        let metadata = serde_json::from_str(&json).unwrap();
        plan(&Program {
            metadata: &metadata,
            package: Path::new("/p"),
            workenv: Path::new("/w w"),
            cache: Path::new("/"),
        })
    }

    #[test]
    fn every_kind_is_read() {
        let steps = read(
            r#"[{"type": "execute", "command": "{workenv}/x '{package_name} y' {slot:0}"},
                {"type": "enumerate_and_execute", "command": "i -q", "enumerate": {"path": "{workenv}/wh", "pattern": "*.whl"}},
                {"type": "write_file", "path": "{workenv}/m", "content": "{package_name}-{version}\n", "mode": 448},
                {"type": "write_file", "path": "n", "content": "", "mode": "0644"},
                {"type": "chmod", "path": "{workenv}/bin/*", "mode": "755", "description": "make it run"},
                {"type": "chmod", "path": "x", "mode": "u+x"},
                {"command": "untyped"}, "bare 'a b'", {"type": "execute", "command": " "}, ""]"#,
        )
        .unwrap();
        let words = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        let actions: Vec<_> = steps.iter().map(|step| step.action.clone()).collect();
        assert_eq!(
            actions,
            [
                Action::Execute { words: words(&["/w w/x", "app y", "{slot:0}"]) },
                Action::ExecuteEach {
                    words: words(&["i", "-q"]),
                    path: "/w w/wh".into(),
                    pattern: "*.whl".into()
                },
                Action::Write { path: "/w w/m".into(), content: "app-3\n".into(), mode: Some(0o700) },
                Action::Write { path: "n".into(), content: "".into(), mode: Some(0o644) },
                Action::ChangeMode { path: "/w w/bin/*".into(), mode: 0o755 },
                Action::ChangeMode { path: "x".into(), mode: 0o700 },
                Action::Execute { words: words(&["untyped"]) },
                Action::Execute { words: words(&["bare", "a b"]) },
            ]
        );
        assert_eq!(steps[0].title, "'/w w/x' 'app y' {slot:0}");
        assert_eq!((steps[4].title.as_str(), steps[4].position), ("make it run", 5));
    }

    #[test]
    fn what_cannot_be_understood_is_named_by_its_position() {
        for (commands, words) in [
            (
                r#"["true", {"type": "bogus", "command": "x"}]"#,
                "setup command 2 has the unknown type `bogus`",
            ),
            (r#"[{"type": "execute"}]"#, "setup command 1 has no text `command`"),
            (r#"[{"type": "execute", "command": ["x"]}]"#, "has no text `command`"),
            (r#"[{"type": "enumerate_and_execute", "command": "x"}]"#, "has no `enumerate`"),
            (
                r#"[{"type": "enumerate_and_execute", "command": "x", "enumerate": {"path": "p"}}]"#,
                "no text `pattern`",
            ),
            (r#"[{"type": "write_file", "path": "x"}]"#, "has no text `content`"),
            (
                r#"[{"type": "write_file", "path": "x", "content": "", "mode": "rw"}]"#,
                "has a `mode` that is none",
            ),
            (
                r#"[{"type": "write_file", "path": "x", "content": "", "mode": 99999}]"#,
                "has a `mode` that is none",
            ),
            (r#"[{"type": "chmod"}]"#, "has no text `path`"),
            (r#"[7]"#, "setup command 1 is neither an object nor a command"),
            (r#"["it's"]"#, "has a single quote without its end"),
            (r#"["a\u0000b"]"#, "setup command 1 has a NUL character"),
        ] {
            let error = read(commands).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}

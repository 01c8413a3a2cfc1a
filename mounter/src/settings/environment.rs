//! The process's environment as a value: taken once, handed down, replaced in tests. Nothing else reads it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::variables;

/// The two ways systems treat paths and variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Names of variables are case-sensitive; `PATH` is split at `:`.
    Unix,
    /// Names of variables are not case-sensitive; `PATH` is split at `;`.
    Windows,
}

/// Variables, working directory and system family of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    working_directory: PathBuf,
    family: Family,
}

impl Environment {
    /// Takes a copy of this process's environment. To be called once, by `main`.
    #[must_use]
    pub fn of_process() -> Self {
        let family = if std::env::consts::FAMILY == "windows" { Family::Windows } else { Family::Unix };
        // Without a working directory (it was removed) relative paths are refused by whoever opens them.
        let working_directory = std::env::current_dir().unwrap_or_default();
        Self { variables: std::env::vars_os().collect(), working_directory, family }
    }

    /// Returns an environment made of parts.
    pub fn new<Name: Into<OsString>, Value: Into<OsString>>(
        family: Family,
        working_directory: impl Into<PathBuf>,
        variables: impl IntoIterator<Item = (Name, Value)>,
    ) -> Self {
        let mut made =
            Self { variables: BTreeMap::new(), working_directory: working_directory.into(), family };
        for (name, value) in variables {
            made.set(name, value);
        }
        made
    }

    /// Returns the system's family.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// Returns the working directory; empty when it does not exist any more.
    #[must_use]
    pub fn working_directory(&self) -> &Path {
        &self.working_directory
    }

    /// Returns every variable, sorted by name.
    #[must_use]
    pub fn variables(&self) -> &BTreeMap<OsString, OsString> {
        &self.variables
    }

    /// Gives up the variables.
    #[must_use]
    pub fn into_variables(self) -> BTreeMap<OsString, OsString> {
        self.variables
    }

    /// Returns a variable's value, also an empty one.
    #[must_use]
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        let name = self.spelled(name.as_ref())?;
        self.variables.get(name).map(OsString::as_os_str)
    }

    /// Returns a variable's value unless it is empty; the launchers treat both alike.
    #[must_use]
    pub fn filled(&self, name: &str) -> Option<&OsStr> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Returns a variable's value as text unless it is empty or not UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.filled(name).and_then(OsStr::to_str)
    }

    /// Sets a variable; on Windows an existing one keeps its spelling (`Path`).
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let name = name.into();
        let name = self.spelled(&name).cloned().unwrap_or(name);
        self.variables.insert(name, value.into());
    }

    /// Removes a variable and returns its value.
    pub fn remove(&mut self, name: impl AsRef<OsStr>) -> Option<OsString> {
        let name = self.spelled(name.as_ref())?.clone();
        self.variables.remove(&name)
    }

    /// Keeps only the variables whose name `wanted` accepts.
    pub fn retain(&mut self, mut wanted: impl FnMut(&OsStr) -> bool) {
        self.variables.retain(|name, _| wanted(name));
    }

    /// Returns the home directory.
    #[must_use]
    pub fn home(&self) -> Option<&Path> {
        let name = match self.family {
            Family::Unix => variables::HOME,
            Family::Windows => variables::USERPROFILE,
        };
        self.filled(name).map(Path::new)
    }

    /// Returns the directory for temporary files.
    #[must_use]
    pub fn temporary(&self) -> &Path {
        match self.family {
            Family::Unix => self.filled(variables::TMPDIR).map_or(Path::new("/tmp"), Path::new),
            Family::Windows => self.filled(variables::TEMP).map_or(Path::new("C:\\Windows\\Temp"), Path::new),
        }
    }

    /// Returns the directories that a search path names; an empty entry means the working directory and is
    /// left out, because what lies there is not to be run by accident.
    #[must_use]
    pub fn search_path(&self) -> Vec<PathBuf> {
        let Some(path) = self.get(variables::PATH) else { return Vec::new() };
        std::env::split_paths(path).filter(|entry| !entry.as_os_str().is_empty()).collect()
    }

    /// Puts a directory before those that `PATH` names.
    pub fn search_first(&mut self, directory: &Path) {
        let mut path = directory.as_os_str().to_owned();
        if let Some(old) = self.get(variables::PATH) {
            path.push(match self.family {
                Family::Unix => ":",
                Family::Windows => ";",
            });
            path.push(old);
        }
        self.set(variables::PATH, path);
    }

    /// Makes a path absolute by the working directory, without looking at the disk.
    #[must_use]
    pub fn absolute(&self, path: impl AsRef<Path>) -> PathBuf {
        self.working_directory.join(path)
    }

    fn spelled(&self, name: &OsStr) -> Option<&OsString> {
        match self.family {
            Family::Unix => self.variables.get_key_value(name).map(|(name, _)| name),
            Family::Windows => self.variables.keys().find(|known| known.eq_ignore_ascii_case(name)),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn windows_names_ignore_case_and_keep_their_spelling() {
        let mut windows = Environment::new(Family::Windows, "", [("Path", "C:\\x")]);
        windows.search_first(Path::new("C:\\w\\bin"));
        assert_eq!(windows.get("PATH").unwrap(), "C:\\w\\bin;C:\\x");
        assert_eq!(windows.variables().len(), 1);
        assert!(windows.remove("path").is_some() && windows.get("Path").is_none());
        let unix = Environment::new(Family::Unix, "/", [("Path", "/x")]);
        assert!(unix.get("PATH").is_none());
    }

    #[test]
    fn an_empty_search_path_still_gets_its_separator_as_the_launchers_write_it() {
        let mut empty = Environment::new(Family::Unix, "/", [("PATH", "")]);
        empty.search_first(Path::new("/w/bin"));
        assert_eq!(empty.get("PATH").unwrap(), "/w/bin:");
        let mut absent = Environment::new(Family::Unix, "/", [("HOME", "")]);
        absent.search_first(Path::new("/w/bin"));
        assert_eq!(absent.get("PATH").unwrap(), "/w/bin");
        assert!(absent.home().is_none());
    }
}

//! A setting's value together with where it came from, so that `slotfs doctor` can say why it is what it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A command-line flag, with its dashes.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// The configuration file.
    File(Arc<Path>),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => formatter.write_str(flag),
            Self::Variable(name) => write!(formatter, "environment variable {name}"),
            Self::File(path) => write!(formatter, "`{}`", path.display()),
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// A value and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value in force.
    pub value: T,
    /// Who set it.
    pub origin: Origin,
}

/// The candidates for one setting, the strongest first.
#[derive(Debug)]
pub(super) struct Choice<'a, T> {
    found: Option<Sourced<T>>,
    file: Option<&'a PathBuf>,
}

impl<'a, T> Choice<'a, T> {
    /// Starts with the flag's value; `file` is the configuration file that was read.
    pub(super) fn flag(name: &'static str, value: Option<T>, file: Option<&'a PathBuf>) -> Self {
        Self { found: value.map(|value| Sourced { value, origin: Origin::Flag(name) }), file }
    }

    /// Adds an environment variable's value, used where nothing stronger was given.
    pub(super) fn variable(mut self, name: &'static str, value: Option<T>) -> Self {
        if self.found.is_none() {
            self.found = value.map(|value| Sourced { value, origin: Origin::Variable(name) });
        }
        self
    }

    /// Adds the configuration file's value.
    pub(super) fn file(mut self, value: Option<T>) -> Self {
        if let (None, Some(value), Some(path)) = (&self.found, value, self.file) {
            self.found = Some(Sourced { value, origin: Origin::File(path.as_path().into()) });
        }
        self
    }

    /// Ends with the default.
    pub(super) fn or(self, default: T) -> Sourced<T> {
        self.found.unwrap_or(Sourced { value: default, origin: Origin::Default })
    }
}

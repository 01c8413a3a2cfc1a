//! What can be wrong with a setting.

use std::io;
use std::path::PathBuf;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A word that is none of those allowed.
    #[error("`{found}` is no {setting}: use {}", listed(allowed))]
    UnknownWord {
        /// Which setting.
        setting: &'static str,
        /// What was given.
        found: String,
        /// What would do.
        allowed: &'static [&'static str],
    },
    /// Not a number of bytes.
    #[error("`{found}` is no size: use a number of bytes, or one with a unit such as `64GiB`")]
    BadSize {
        /// What was given.
        found: String,
    },
    /// The configuration file could not be read.
    #[error("cannot read the configuration file `{}`: {source}", path.display())]
    UnreadableFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration file says something that cannot be used.
    #[error("the configuration file `{}` is wrong: {source}", path.display())]
    BadFile {
        /// Which file.
        path: PathBuf,
        /// What, with line and column.
        source: serde_json::Error,
    },
    /// A variable that slotfs defines itself has a value that cannot be used.
    #[error("environment variable {name} is wrong: {source}")]
    BadVariable {
        /// Which variable.
        name: &'static str,
        /// Why.
        source: Box<SettingsError>,
    },
    /// A relative directory, but there is no working directory.
    #[error("cannot use the relative cache directory `{}`: the working directory does not exist", path.display())]
    NoWorkingDirectory {
        /// The relative directory.
        path: PathBuf,
    },
}

fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

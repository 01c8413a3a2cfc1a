//! The configuration file: JSON, every key known, every mistake named with its line. Read, never written.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::limits::Size;
use super::variables;
use super::verify::Verify;
use super::words::{Mode, Strategy, TrustRule};
use super::{Environment, SettingsError};

/// Larger files are refused; nobody writes one by hand.
const LARGEST: u64 = 1 << 20;

/// What the file may say. A missing key is the same as no file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigFile {
    /// The directory that holds work environments.
    pub cache_directory: Option<PathBuf>,
    /// `auto`, `mount` or `extract`.
    pub mode: Option<Mode>,
    /// `aggressive`, `balanced`, `conservative` or `minimal`.
    pub strategy: Option<Strategy>,
    /// `strict`, `standard`, `relaxed`, `minimal` or `none`, and `before-serving` or `while-serving`; both with a comma.
    pub verify: Option<Verify>,
    /// `any`, `known` or `pinned`.
    pub trust: Option<TrustRule>,
    /// Replay what earlier launches touched.
    pub prefetch: Option<bool>,
    /// Keep temporary files.
    pub keep: Option<bool>,
    /// How much what programs write may take: a number of bytes or `"2GiB"`.
    pub max_upper: Option<Size>,
    /// Overwrite what goes before it goes.
    pub secure: Option<bool>,
    /// Log filter.
    pub log: Option<String>,
    /// Directories of trusted public keys, in place of the user's.
    pub trusted_keys: Option<Vec<PathBuf>>,
    /// Bounds of one slot.
    pub limits: LimitsSection,
}

/// `limits`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsSection {
    /// Bytes that one slot may decode to: a number or `"64GiB"`.
    pub decoded: Option<Size>,
    /// Files, directories and links in one slot.
    pub entries: Option<u64>,
    /// Bytes of memory that decoding may take at once: a number or `"256MiB"`.
    pub memory: Option<Size>,
}

/// Returns where the file is and whether somebody named it (then it must exist).
pub(super) fn location(environment: &Environment, flag: Option<&Path>) -> Option<(PathBuf, bool)> {
    if let Some(path) = flag {
        return Some((environment.absolute(path), true));
    }
    if let Some(path) = environment.filled(variables::SLOTFS_CONFIG) {
        return Some((environment.absolute(path), true));
    }
    Some((folder(environment)?.join("config.json"), false))
}

/// Returns the directory of the user's own settings; `None` without a home directory.
pub(super) fn folder(environment: &Environment) -> Option<PathBuf> {
    let base = match environment.filled(variables::XDG_CONFIG_HOME) {
        Some(base) => environment.absolute(base),
        None => environment.home()?.join(".config"),
    };
    Some(base.join("slotfs"))
}

/// Reads the file; a missing one is `None` unless it was asked for by name.
///
/// # Errors
/// Names the file and, where it is the content, the line and column.
pub(super) fn read(path: &Path, must_exist: bool) -> Result<Option<ConfigFile>, SettingsError> {
    let failed = |source| SettingsError::UnreadableFile { path: path.to_owned(), source };
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        // A file where a directory is expected on the way (`NotADirectory`) means the same as no file.
        Err(error)
            if !must_exist && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    if size > LARGEST {
        return Err(failed(std::io::Error::new(
            ErrorKind::FileTooLarge,
            "a settings file has at most 1 MiB",
        )));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    parse(&bytes).map(Some).map_err(|source| SettingsError::BadFile { path: path.to_owned(), source })
}

fn parse(bytes: &[u8]) -> serde_json::Result<ConfigFile> {
    serde_json::from_slice(bytes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = br#"{ "cache_directory": "/c", "mode": "extract", "strategy": "minimal", "verify": "none",
            "prefetch": false, "keep": true, "max_upper": "1MiB", "secure": true, "log": "debug", "trusted_keys": ["/k"],
            "limits": { "decoded": "2GiB", "entries": 7, "memory": "64MiB" } }"#;
        let config = parse(text).unwrap();
        assert_eq!(config.mode, Some(Mode::Extract));
        assert_eq!(
            config.limits,
            LimitsSection { decoded: Some(Size(2 << 30)), entries: Some(7), memory: Some(Size(64 << 20)) }
        );
        assert_eq!((config.max_upper, config.secure), (Some(Size(1 << 20)), Some(true)));
        assert_eq!(parse(b"{}").unwrap(), ConfigFile::default());
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (text, words) in [
            ("{\n \"modus\": \"auto\"\n}", "unknown field `modus`"),
            ("{\n \"mode\": \"fast\"\n}", "`fast`"),
            ("{\n \"limits\": {\"files\": 1}\n}", "unknown field `files`"),
            ("{\n \"prefetch\": 1\n}", "expected a boolean"),
            ("{\n \"limits\": {\"decoded\": \"many\"}\n}", "`many` is no size"),
            ("{\n oops", "line 2"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("line 2"), "{error}");
        }
    }
}

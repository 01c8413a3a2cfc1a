//! Flags, environment, configuration file, default, in that order; each value remembers where it came from.
//!
//! **Invariant:** this module alone reads the process's environment, once, through
//! [`Environment::of_process`]; everything else is handed the values.

mod cache;
pub mod config_file;
pub mod environment;
mod error;
pub mod limits;
mod sourced;
pub mod variables;
pub mod verify;
pub mod words;

use std::path::{Path, PathBuf};

pub use environment::{Environment, Family};
pub use error::SettingsError;
pub use limits::{Limits, Size};
pub use sourced::{Origin, Sourced};
pub use verify::Verify;
pub use words::{ExecMode, Mode, Strategy, TrustRule, Validation, VerifyTime};

use config_file::ConfigFile;
use sourced::Choice;

/// What the command line says; `None` where it says nothing.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--cache-dir`.
    pub cache_directory: Option<PathBuf>,
    /// `--mode`.
    pub mode: Option<Mode>,
    /// `--strategy`.
    pub strategy: Option<Strategy>,
    /// `--verify`.
    pub verify: Option<Verify>,
    /// `--trust`.
    pub trust: Option<TrustRule>,
    /// `--accept-key`.
    pub accept_key: bool,
    /// `--fresh` is `Some(false)`.
    pub reuse: Option<bool>,
    /// `--keep`.
    pub keep: Option<bool>,
    /// `--prefetch`, `--no-prefetch`.
    pub prefetch: Option<bool>,
    /// `--log`.
    pub log: Option<String>,
    /// `--color`, `--no-color`.
    pub color: Option<bool>,
    /// `--max-decoded`.
    pub max_decoded: Option<Size>,
    /// `--decode-memory`.
    pub decode_memory: Option<Size>,
    /// `--max-entries`.
    pub max_entries: Option<u64>,
    /// `--max-upper`.
    pub max_upper: Option<Size>,
    /// `--secure`.
    pub secure: Option<bool>,
}

/// Where the log goes and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Filter in the syntax of `tracing-subscriber`'s `EnvFilter`.
    pub filter: Sourced<String>,
    /// The file to append to; standard error where `None`.
    pub path: Sourced<Option<PathBuf>>,
    /// One JSON object a line.
    pub json: Sourced<bool>,
}

/// Every setting in force.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The configuration file that was read.
    pub config: Option<PathBuf>,
    /// The directory that holds work environments, absolute.
    pub cache_directory: Sourced<PathBuf>,
    /// The directory where the packages' own launchers look for theirs, absolute.
    pub launcher_cache_directory: PathBuf,
    /// Mount or extract.
    pub mode: Sourced<Mode>,
    /// What is kept.
    pub strategy: Sourced<Strategy>,
    /// What is checked.
    pub verify: Sourced<Validation>,
    /// When slots are hashed.
    pub verify_time: Sourced<VerifyTime>,
    /// Whose signatures count.
    pub trust: Sourced<TrustRule>,
    /// A key takes the place of the pinned one.
    pub accept_key: bool,
    /// The file of pinned keys; `None` without a home directory.
    pub pins: Option<PathBuf>,
    /// Use what an earlier run prepared.
    pub reuse: Sourced<bool>,
    /// Keep temporary files.
    pub keep: Sourced<bool>,
    /// Replay what earlier launches touched.
    pub prefetch: Sourced<bool>,
    /// What the launchers would do to start the program.
    pub exec_mode: Sourced<ExecMode>,
    /// The log.
    pub log: Log,
    /// Colours in messages, where the terminal has them.
    pub color: Sourced<bool>,
    /// Bytes that one slot may decode to.
    pub max_decoded: Sourced<Size>,
    /// Entries that one slot may hold.
    pub max_entries: Sourced<u64>,
    /// Bytes of memory that decoding may take at once.
    pub decode_memory: Sourced<Option<Size>>,
    /// How much the files that programs write in one environment may take.
    pub max_upper: Sourced<Option<Size>>,
    /// Overwrite what goes before it goes.
    pub secure: Sourced<bool>,
    /// Directories of trusted public keys (`*.pub`), the user's before the system's.
    pub trusted_keys: Sourced<Vec<PathBuf>>,
    /// The operator's policy files in the order they apply: the later one overrides.
    pub policy_files: Vec<PathBuf>,
}

impl Settings {
    /// Combines everything that was said.
    ///
    /// # Errors
    /// A word, size or file that cannot be used. Values of the launchers' own variables never fail: what
    /// they do not know, slotfs ignores as they do.
    pub fn resolve(environment: &Environment, overrides: &Overrides) -> Result<Self, SettingsError> {
        let location = config_file::location(environment, overrides.config.as_deref());
        let read = match &location {
            Some((path, must_exist)) => config_file::read(path, *must_exist)?,
            None => None,
        };
        let config = location.map(|(path, _)| path).filter(|_| read.is_some());
        let read = read.unwrap_or_default();
        let file = config.as_ref();
        let limits = Limits::default();
        let own_verify: Option<Verify> = own_word(environment, variables::SLOTFS_VERIFY)?;

        let configured = Choice::flag("", None, file).file(read.cache_directory.clone());
        let configured = match configured.or(PathBuf::new()) {
            Sourced { origin: Origin::Default, .. } => None,
            // A relative directory in the file is relative to the file.
            Sourced { value, origin } => {
                let folder = file.and_then(|path| path.parent()).unwrap_or(Path::new(""));
                Some(Sourced { value: folder.join(value), origin })
            }
        };
        Ok(Self {
            cache_directory: cache::resolve(environment, overrides.cache_directory.as_deref(), configured)?,
            launcher_cache_directory: cache::of_launchers(environment),
            mode: Choice::flag("--mode", overrides.mode, file)
                .variable(variables::SLOTFS_MODE, own_word(environment, variables::SLOTFS_MODE)?)
                .file(read.mode)
                .or(Mode::Auto),
            strategy: Choice::flag("--strategy", overrides.strategy, file)
                .variable(variables::SLOTFS_STRATEGY, own_word(environment, variables::SLOTFS_STRATEGY)?)
                .file(read.strategy)
                .or(Strategy::Balanced),
            verify: Choice::flag("--verify", overrides.verify.and_then(|verify| verify.level), file)
                .variable(variables::SLOTFS_VERIFY, own_verify.and_then(|verify| verify.level))
                .variable(variables::FLAVOR_VALIDATION, validation(environment))
                .file(read.verify.and_then(|verify| verify.level))
                .or(Validation::Strict),
            verify_time: Choice::flag("--verify", overrides.verify.and_then(|verify| verify.time), file)
                .variable(variables::SLOTFS_VERIFY, own_verify.and_then(|verify| verify.time))
                .file(read.verify.and_then(|verify| verify.time))
                .or(VerifyTime::BeforeServing),
            trust: Choice::flag("--trust", overrides.trust, file)
                .variable(variables::SLOTFS_TRUST, own_word(environment, variables::SLOTFS_TRUST)?)
                .file(read.trust)
                .or(TrustRule::Any),
            accept_key: overrides.accept_key,
            pins: config_file::folder(environment).map(|folder| folder.join("pins.json")),
            reuse: Choice::flag("--fresh", overrides.reuse, file)
                .variable(variables::FLAVOR_WORKENV_CACHE, reuse(environment))
                .or(true),
            keep: Choice::flag("--keep", overrides.keep, file)
                .variable(variables::FLAVOR_KEEP_TEMP, switch(environment, variables::FLAVOR_KEEP_TEMP))
                .file(read.keep)
                .or(false),
            prefetch: Choice::flag("--prefetch", overrides.prefetch, file).file(read.prefetch).or(true),
            exec_mode: Choice::flag("", None, file)
                .variable(variables::FLAVOR_EXEC_MODE, exec_mode(environment))
                .or(ExecMode::Exec),
            log: log(environment, overrides, &read, file),
            color: Choice::flag("--color", overrides.color, file)
                .variable(variables::NO_COLOR, environment.filled(variables::NO_COLOR).map(|_| false))
                .or(true),
            max_decoded: Choice::flag("--max-decoded", overrides.max_decoded, file)
                .file(read.limits.decoded)
                .or(limits.decoded),
            max_entries: Choice::flag("--max-entries", overrides.max_entries, file)
                .file(read.limits.entries)
                .or(limits.entries),
            decode_memory: Choice::flag("--decode-memory", overrides.decode_memory.map(Some), file)
                .file(read.limits.memory.map(Some))
                .or(None),
            secure: Choice::flag("--secure", overrides.secure, file).file(read.secure).or(false),
            max_upper: max_upper(environment, overrides, &read, file)?,
            trusted_keys: trusted_keys(environment, &read, file),
            policy_files: policy_files(environment),
            config,
        })
    }

    /// Returns the bounds of one slot.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            decoded: self.max_decoded.value,
            entries: self.max_entries.value,
            memory: self.decode_memory.value,
        }
    }
}

/// Reads one of slotfs's own word variables; here a wrong word is an error.
fn own_word<T: std::str::FromStr<Err = SettingsError>>(
    environment: &Environment,
    name: &'static str,
) -> Result<Option<T>, SettingsError> {
    let wrong = |source| SettingsError::BadVariable { name, source: Box::new(source) };
    environment.filled(name).map(|value| value.to_string_lossy().parse().map_err(wrong)).transpose()
}

fn max_upper(
    environment: &Environment,
    overrides: &Overrides,
    read: &ConfigFile,
    file: Option<&PathBuf>,
) -> Result<Sourced<Option<Size>>, SettingsError> {
    let variable = own_word(environment, variables::SLOTFS_MAX_UPPER)?;
    Ok(Choice::flag("--max-upper", overrides.max_upper.map(Some), file)
        .variable(variables::SLOTFS_MAX_UPPER, variable.map(Some))
        .file(read.max_upper.map(Some))
        .or(None))
}

/// The launchers take every unknown word for `strict`.
fn validation(environment: &Environment) -> Option<Validation> {
    let value = environment.filled(variables::FLAVOR_VALIDATION)?;
    Some(value.to_string_lossy().parse().unwrap_or(Validation::Strict))
}

fn reuse(environment: &Environment) -> Option<bool> {
    let value = environment.text(variables::FLAVOR_WORKENV_CACHE)?;
    Some(!(value == "0" || value.eq_ignore_ascii_case("false")))
}

fn exec_mode(environment: &Environment) -> Option<ExecMode> {
    let value = environment.text(variables::FLAVOR_EXEC_MODE)?;
    Some(if value.eq_ignore_ascii_case("spawn") { ExecMode::Spawn } else { ExecMode::Exec })
}

fn switch(environment: &Environment, name: &str) -> Option<bool> {
    let value = environment.text(name)?;
    Some(["1", "true", "yes"].iter().any(|yes| value.eq_ignore_ascii_case(yes)))
}

fn log(environment: &Environment, overrides: &Overrides, read: &ConfigFile, file: Option<&PathBuf>) -> Log {
    let level = |name| {
        let value = environment.text(name)?.to_ascii_lowercase();
        ["trace", "debug", "info", "warn", "error"].contains(&value.as_str()).then_some(value)
    };
    let filter = Choice::flag("--log", overrides.log.clone(), file)
        .variable(variables::SLOTFS_LOG, environment.text(variables::SLOTFS_LOG).map(str::to_owned))
        .variable(variables::FLAVOR_LAUNCHER_LOG_LEVEL, level(variables::FLAVOR_LAUNCHER_LOG_LEVEL))
        .variable(variables::FLAVOR_LOG_LEVEL, level(variables::FLAVOR_LOG_LEVEL))
        .file(read.log.clone())
        .or("warn".to_owned());
    let path = environment.filled(variables::FLAVOR_LOG_PATH).map(|path| Some(environment.absolute(path)));
    Log {
        filter,
        path: Choice::flag("", None, file).variable(variables::FLAVOR_LOG_PATH, path).or(None),
        json: Choice::flag("", None, file)
            .variable(variables::FLAVOR_JSON_LOG, switch(environment, variables::FLAVOR_JSON_LOG))
            .or(false),
    }
}

/// The directory of FlavorPack's own settings, and the variable that named it.
fn flavor_configuration(environment: &Environment) -> Option<PathBuf> {
    if let Some(path) = environment.filled(variables::FLAVOR_CONFIG_DIR) {
        return Some(environment.absolute(path));
    }
    let base = match environment.filled(variables::XDG_CONFIG_HOME) {
        Some(base) => environment.absolute(base),
        None => environment.home()?.join(".config"),
    };
    Some(base.join("flavor"))
}

fn system_configuration(environment: &Environment) -> Option<&'static Path> {
    (environment.family() == Family::Unix).then_some(Path::new("/etc/flavor"))
}

fn trusted_keys(
    environment: &Environment,
    read: &ConfigFile,
    file: Option<&PathBuf>,
) -> Sourced<Vec<PathBuf>> {
    let system = system_configuration(environment).map(|folder| folder.join("trusted-keys"));
    let with_system = |own: Vec<PathBuf>| own.into_iter().chain(system.clone()).collect::<Vec<_>>();
    let named = environment.filled(variables::FLAVOR_TRUSTED_KEYS_DIR);
    let usual = flavor_configuration(environment).map(|folder| folder.join("trusted-keys"));
    Choice::flag("", None, file)
        .variable(
            variables::FLAVOR_TRUSTED_KEYS_DIR,
            named.map(|path| with_system(vec![environment.absolute(path)])),
        )
        .file(read.trusted_keys.clone().map(with_system))
        .or(with_system(usual.into_iter().collect()))
}

/// The system's file first: the user's overrides it, as in the launchers.
fn policy_files(environment: &Environment) -> Vec<PathBuf> {
    let system = system_configuration(environment).map(|folder| folder.join("policy.json"));
    system
        .into_iter()
        .chain(flavor_configuration(environment).map(|folder| folder.join("policy.json")))
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests;

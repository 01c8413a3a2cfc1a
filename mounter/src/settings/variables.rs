//! The name of every environment variable that slotfs reads or gives to a program, and what each means.
//!
//! **Invariant:** no other file of this crate spells the name of a variable that slotfs reads.

/// One variable for the help page and `slotfs doctor`: its name, who defined it, what it does.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Name as exported.
    pub name: &'static str,
    /// What slotfs does with it, one sentence.
    pub meaning: &'static str,
}

/// Log filter (`debug`, or `slotfs=trace,slotfs_fs=info`); wins over the launchers' two variables.
pub const SLOTFS_LOG: &str = "SLOTFS_LOG";
/// The configuration file to read instead of the one in the user's configuration directory.
pub const SLOTFS_CONFIG: &str = "SLOTFS_CONFIG";
/// `auto`, `mount` or `extract`.
pub const SLOTFS_MODE: &str = "SLOTFS_MODE";
/// `aggressive`, `balanced`, `conservative` or `minimal`.
pub const SLOTFS_STRATEGY: &str = "SLOTFS_STRATEGY";

/// How much the files that programs write may take, such as `2GiB`.
pub const SLOTFS_MAX_UPPER: &str = "SLOTFS_MAX_UPPER";
/// How packages are verified, and when.
pub const SLOTFS_VERIFY: &str = "SLOTFS_VERIFY";
/// Whose signatures count.
pub const SLOTFS_TRUST: &str = "SLOTFS_TRUST";

/// Seconds since 1970: nothing in a package is younger (the specification of reproducible-builds.org).
pub const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The directory that holds work environments; also given to the program.
pub const FLAVOR_CACHE: &str = "FLAVOR_CACHE";
/// A work environment; the cache root is the parent of its parent. Also given to the program.
pub const FLAVOR_WORKENV: &str = "FLAVOR_WORKENV";
/// The launchers' cache root; work environments are in its `workenv`.
pub const FLAVOR_CACHE_DIR: &str = "FLAVOR_CACHE_DIR";
/// `false` or `0`: do not reuse what an earlier run prepared.
pub const FLAVOR_WORKENV_CACHE: &str = "FLAVOR_WORKENV_CACHE";
/// `strict`, `standard`, `relaxed`, `minimal` or `none`; anything else is `strict`.
pub const FLAVOR_VALIDATION: &str = "FLAVOR_VALIDATION";
/// `spawn` or `exec`. slotfs runs the program as a child in both and passes signals and exit codes on.
pub const FLAVOR_EXEC_MODE: &str = "FLAVOR_EXEC_MODE";
/// Log level of the launchers: `trace`, `debug`, `info`, `warn` or `error`.
pub const FLAVOR_LAUNCHER_LOG_LEVEL: &str = "FLAVOR_LAUNCHER_LOG_LEVEL";
/// Log level of all FlavorPack tools.
pub const FLAVOR_LOG_LEVEL: &str = "FLAVOR_LOG_LEVEL";
/// Append the log to this file instead of standard error.
pub const FLAVOR_LOG_PATH: &str = "FLAVOR_LOG_PATH";
/// `1` or `true`: log as JSON lines.
pub const FLAVOR_JSON_LOG: &str = "FLAVOR_JSON_LOG";
/// `1`, `true` or `yes`: arguments of a package whose launcher is slotfs are for slotfs, not for the program.
pub const FLAVOR_LAUNCHER_CLI: &str = "FLAVOR_LAUNCHER_CLI";
/// `1` or `true`: keep temporary files for a look.
pub const FLAVOR_KEEP_TEMP: &str = "FLAVOR_KEEP_TEMP";
/// Directory of the operator's `policy.json` and `trusted-keys`.
pub const FLAVOR_CONFIG_DIR: &str = "FLAVOR_CONFIG_DIR";
/// Directory of trusted public keys.
pub const FLAVOR_TRUSTED_KEYS_DIR: &str = "FLAVOR_TRUSTED_KEYS_DIR";

/// Base of the user's caches (XDG Base Directory Specification).
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";
/// Base of the user's settings (XDG Base Directory Specification).
pub const XDG_CONFIG_HOME: &str = "XDG_CONFIG_HOME";
/// The user's home directory on Unix.
pub const HOME: &str = "HOME";
/// The user's home directory on Windows.
pub const USERPROFILE: &str = "USERPROFILE";
/// Where temporary files go on Unix.
pub const TMPDIR: &str = "TMPDIR";
/// Where temporary files go on Windows.
pub const TEMP: &str = "TEMP";
/// Directories searched for programs.
pub const PATH: &str = "PATH";
/// Set and not empty: no colours.
pub const NO_COLOR: &str = "NO_COLOR";

/// The package's file name, given to the program.
pub const FLAVOR_COMMAND_NAME: &str = "FLAVOR_COMMAND_NAME";
/// The package's absolute path, given to the program.
pub const FLAVOR_ORIGINAL_COMMAND: &str = "FLAVOR_ORIGINAL_COMMAND";

/// Every variable that changes what slotfs does, in the order of the help page.
pub const ALL: &[Variable] = &[
    Variable { name: SLOTFS_LOG, meaning: "log filter, such as `debug` or `slotfs=trace`" },
    Variable { name: SLOTFS_CONFIG, meaning: "configuration file to read" },
    Variable { name: SLOTFS_MODE, meaning: "`auto`, `mount` or `extract`" },
    Variable { name: SLOTFS_STRATEGY, meaning: "`aggressive`, `balanced`, `conservative` or `minimal`" },
    Variable { name: SLOTFS_MAX_UPPER, meaning: "how much what programs write may take, such as `2GiB`" },
    Variable { name: SLOTFS_VERIFY, meaning: "as `--verify`" },
    Variable { name: SLOTFS_TRUST, meaning: "`any`, `known` or `pinned`" },
    Variable { name: SOURCE_DATE_EPOCH, meaning: "nothing in a package is younger; seconds since 1970" },
    Variable { name: FLAVOR_CACHE, meaning: "directory that holds work environments" },
    Variable { name: FLAVOR_WORKENV, meaning: "a work environment whose cache is used" },
    Variable { name: FLAVOR_CACHE_DIR, meaning: "cache root; work environments are in its `workenv`" },
    Variable { name: FLAVOR_WORKENV_CACHE, meaning: "`false` or `0`: prepare the environment anew" },
    Variable { name: FLAVOR_VALIDATION, meaning: "`strict`, `standard`, `relaxed`, `minimal` or `none`" },
    Variable { name: FLAVOR_EXEC_MODE, meaning: "accepted; slotfs always runs the program as a child" },
    Variable { name: FLAVOR_LAUNCHER_LOG_LEVEL, meaning: "log level, where `SLOTFS_LOG` is not set" },
    Variable { name: FLAVOR_LOG_LEVEL, meaning: "log level, where the other two are not set" },
    Variable { name: FLAVOR_LOG_PATH, meaning: "append the log to this file" },
    Variable { name: FLAVOR_JSON_LOG, meaning: "`1` or `true`: log as JSON lines" },
    Variable {
        name: FLAVOR_LAUNCHER_CLI,
        meaning: "`1` or `true`: a package that is slotfs takes its commands",
    },
    Variable { name: FLAVOR_KEEP_TEMP, meaning: "`1` or `true`: keep temporary files" },
    Variable { name: FLAVOR_CONFIG_DIR, meaning: "directory of `policy.json` and `trusted-keys`" },
    Variable { name: FLAVOR_TRUSTED_KEYS_DIR, meaning: "directory of trusted public keys" },
    Variable { name: XDG_CACHE_HOME, meaning: "base of the default cache directory" },
    Variable { name: XDG_CONFIG_HOME, meaning: "base of the default configuration directories" },
    Variable { name: HOME, meaning: "base of both where those are not set" },
    Variable { name: USERPROFILE, meaning: "the same on Windows" },
    Variable { name: TMPDIR, meaning: "base of the cache where there is no home directory" },
    Variable { name: TEMP, meaning: "the same on Windows" },
    Variable { name: PATH, meaning: "where programs are looked for" },
    Variable { name: NO_COLOR, meaning: "set and not empty: no colours" },
];

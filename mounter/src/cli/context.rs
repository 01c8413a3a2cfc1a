//! What every command is given: settings, environment, and where to print.

use std::fs::OpenOptions;

use slotfs_fs::disk::Context as _;
use tracing_subscriber::EnvFilter;

use super::arguments::GlobalArguments;
use super::failure::{Failure, FailureKind};
use super::output::{ColorWish, Output};
use crate::settings::{Environment, Log, Origin, Overrides, Settings};

/// What every command is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// Everything that flags, environment and configuration file say.
    pub settings: Settings,
    /// This process's environment.
    pub environment: Environment,
    /// Where to print.
    pub output: Output,
}

impl Context {
    /// Resolves the settings from `environment`, the command's own `overrides` and what goes with every command.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn new(
        environment: Environment,
        global: &GlobalArguments,
        overrides: Overrides,
    ) -> Result<Self, Failure> {
        let overrides = Overrides {
            config: global.config.clone(),
            cache_directory: global.cache_dir.clone(),
            log: global.log.clone(),
            color: match global.color {
                ColorWish::Auto => None,
                ColorWish::Always => Some(true),
                ColorWish::Never => Some(false),
            },
            ..overrides
        };
        let settings = Settings::resolve(&environment, &overrides)?;
        let output = Output::new(global.color, !settings.color.value, global.quiet);
        Ok(Self { settings, environment, output })
    }
}

/// Starts the log: to standard error, or appended to the file that the settings name.
///
/// # Errors
/// The filter cannot be understood, or the file cannot be opened.
pub fn start_log(log: &Log, output: Output) -> Result<(), Failure> {
    // What these log reaches the caller as an error, too, and a command tells that itself. And a request that the kernel
    // took back, because who waited was killed or the mount went, is no error.
    let told = if log.filter.origin == Origin::Default {
        ",slotfs_fs::layer=off,slotfs_fs::slot=off,fuser::reply=off"
    } else {
        ""
    };
    let filter = EnvFilter::try_new(format!("{}{told}", log.filter.value)).map_err(|error| {
        let message =
            format!("cannot use the log filter `{}` ({}): {error}", log.filter.value, log.filter.origin);
        Failure::new(FailureKind::Configuration, message)
            .hint("use error, warn, info, debug or trace, or pairs such as `slotfs=debug,slotfs_fs=trace`")
    })?;
    // A log that cannot be written is no reason to fail, and nobody could be told.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_target(false).log_internal_errors(false);
    // A second start in one process (tests do that) keeps the first log.
    let _ = match &log.path.value {
        Some(path) => {
            let file =
                OpenOptions::new().create(true).append(true).open(path).context("open the log", path)?;
            let builder = builder.with_ansi(false).with_writer(file);
            if log.json.value { builder.json().try_init() } else { builder.try_init() }
        }
        None => {
            let builder = builder.with_ansi(output.talk_has_colors()).with_writer(std::io::stderr);
            // A person who watches knows what time it is.
            if log.json.value { builder.json().try_init() } else { builder.without_time().try_init() }
        }
    };
    Ok(())
}

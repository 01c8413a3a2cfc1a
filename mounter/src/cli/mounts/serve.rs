//! The hidden command that the others start to serve a mount. Its standard error is its log.

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::session::{overlay, serve};

/// Serve the mount that is asked for on standard input
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to log
    #[arg(long, default_value = "warn")]
    filter: String,
    /// Serve layers that were given by hand
    #[arg(long)]
    overlay: bool,
    /// The work environment, for those who look at the list of processes
    #[arg(value_name = "NAME")]
    _name: Option<String>,
}

/// Serves until the mount is gone. Settings and environment are not looked at: the request holds everything.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    // A request that the kernel took back, because who waited was killed or the mount went, is no error.
    let wanted = format!("fuser::reply=off,{}", arguments.filter);
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(false);
    // The log may lie on a full disk, which is nothing to die of. Reporting that to standard error, which is the log, is.
    let log = log.log_internal_errors(false);
    // Only tests start a second log in one process.
    let _ = log.with_writer(std::io::stderr).try_init();
    let served =
        if arguments.overlay { overlay::serve::serve_for_caller() } else { serve::serve_for_caller() };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

//! The hidden command that the others start to serve a mount. Its standard error is its log.

use std::path::Path;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::host::standby::{self, Side};
use crate::session::overlay;
use crate::session::serve::Heard;

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
    start_log(&arguments.filter);
    let served = if arguments.overlay {
        overlay::serve::serve_for_caller()
    } else {
        Heard::listen(None).and_then(Heard::serve)
    };
    code(served)
}

/// Makes a copy of this process that serves when it is asked to, and returns what it ends with; `None` in the original.
/// Whoever mounts needs a server as a rule, and has something to do until it knows for what; meanwhile the copy looks into
/// `package`.
#[must_use]
pub fn stand_by(package: Option<&Path>) -> Option<ExitCode> {
    match standby::split(c"slotfs-server") {
        Ok(Side::Copy) => {}
        // Without a copy, this program is started again for it.
        Ok(Side::Original) | Err(_) => return None,
    }
    // Nobody needs a server, or whoever did is gone.
    let Ok(heard) = Heard::listen(package) else { return Some(ExitCode::FAILURE) };
    heard.write_log();
    start_log(heard.log());
    Some(code(heard.serve()))
}

fn start_log(filter: &str) {
    // A request that the kernel took back, because who waited was killed or the mount went, is no error.
    let wanted = format!("fuser::reply=off,{filter}");
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(false);
    // The log may lie on a full disk, which is nothing to die of. Reporting that to standard error, which is the log, is.
    let log = log.log_internal_errors(false);
    // Only tests start a second log in one process.
    let _ = log.with_writer(std::io::stderr).try_init();
}

fn code<E>(served: Result<(), E>) -> ExitCode {
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

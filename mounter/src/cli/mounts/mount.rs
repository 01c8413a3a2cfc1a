//! `slotfs mount`: a package's files, mounted until they are unmounted.

use std::path::PathBuf;
use std::time::Duration;

use super::session::{self, AccessArguments};
use crate::cli::arguments::{PackageArguments, WritingArguments};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::session::live::Ended;
use crate::session::prepare::prepare;
use crate::session::{beside, foreground};
use crate::settings::Overrides;
use crate::workenv::NameRule;

/// Mount a package and leave it mounted
///
/// Without a directory the package is mounted at its work environment, where `slotfs run` and (with --for-launcher) the
/// package's own launcher use it. Setup commands are run the first time. The place is printed. `slotfs unmount` ends
/// the mount.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A package, archive or directory
    #[arg(value_name = "PACKAGE")]
    pub(super) package_path: PathBuf,
    /// Where to mount; made if it is missing, and removed afterwards if it was made [default: the work environment]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Stay in the foreground; the mount ends with this command
    #[arg(long)]
    foreground: bool,
    /// Mount where the package's own launcher looks, so that `./app.psp` starts from the mount
    #[arg(long, conflicts_with_all = ["directory", "ro"])]
    for_launcher: bool,
    /// Do setup again, even if it was done
    #[arg(long)]
    fresh: bool,
    /// Access to slots.
    #[command(flatten)]
    access: AccessArguments,
    /// How much may be written.
    #[command(flatten)]
    writing: WritingArguments,
    /// How packages are judged.
    #[command(flatten)]
    package: PackageArguments,
}

impl Arguments {
    /// Adds what was said to `overrides`.
    pub fn apply(&self, overrides: &mut Overrides) {
        self.access.apply(overrides);
        self.package.apply(overrides);
        self.writing.apply(overrides);
        overrides.reuse = self.fresh.then_some(false);
    }
}

/// Carries the command out.
///
/// # Errors
/// There is no mount.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let for_launcher = arguments.for_launcher.then(|| session::for_launcher(context));
    let context = for_launcher.as_ref().unwrap_or(context);
    session::sweep(context);
    let examined = session::examined_or_beside(&arguments.package_path, context)?;
    let wishes = arguments.access.wishes();
    let rule = if arguments.for_launcher { NameRule::Launcher } else { NameRule::Any };
    let directory = arguments.directory.as_ref().map(|path| context.environment.absolute(path));
    let mut wanted = session::wanted(context, &wishes, rule);
    wanted.mountpoint = directory.as_deref();
    wanted.keep = !arguments.foreground;
    let prepared = prepare(&examined, &wanted, &mut session::teller(context))?;
    context.output.data(&format!("{}\n", prepared.content.display()))?;
    if !arguments.foreground {
        prepared.session.leave();
        return Ok(0);
    }
    let mountpoint = prepared.session.record().request.mountpoint.clone();
    foreground::wait(&prepared.session).map_err(|error| {
        Failure::new(FailureKind::Mount, format!("cannot wait for the end of the mount: {error}"))
    })?;
    if let Some(message) = beside::refusal(prepared.session.place()) {
        prepared.session.end(Duration::from_secs(10))?;
        return Err(session::refused(message));
    }
    let limit = Duration::from_secs(10);
    if prepared.session.end(limit)? == Ended::Busy {
        session::tell_users(context, &mountpoint, limit.as_secs());
    }
    Ok(0)
}

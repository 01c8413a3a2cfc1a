//! `slotfs run`: a package's program, started from the mount.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::session::{self, AccessArguments};
use crate::cli::arguments::{PackageArguments, WritingArguments};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::progress::Bars;
use crate::session::live::Ended;
use crate::session::prepare::Step;
use crate::session::run;
use crate::settings::{Mode, Overrides};
use crate::workenv::NameRule;

/// Run a package's program without unpacking the package
///
/// The slots are mounted at the package's work environment, its setup commands are run the first time, and the program
/// gets what the package's own launcher would give it: arguments, working directory, environment, standard streams,
/// signals. Its exit code is passed through, and 128+n when signal n ended it. Two runs of one package share one mount;
/// the last one out unmounts. What the program writes stays, unless the slot's lifecycle says otherwise.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A package, archive or directory
    #[arg(value_name = "PACKAGE")]
    pub(super) package_path: PathBuf,
    /// What the program is given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
    /// Mount, extract, or mount where FUSE works and else extract [default: $SLOTFS_MODE, else auto]
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
    /// Do setup again, even if it was done
    #[arg(long)]
    fresh: bool,
    /// How long to wait at the end for what keeps the mount busy, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u64,
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
        overrides.mode = self.mode;
        overrides.reuse = self.fresh.then_some(false);
    }
}

/// Carries the command out.
///
/// # Errors
/// The program did not run.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    session::sweep(context);
    let examined = session::examined_or_beside(&arguments.package_path, context)?;
    let wishes = arguments.access.wishes();
    let wanted = session::wanted(context, &wishes, NameRule::Any);
    let limit = Duration::from_secs(arguments.wait);
    let bars = Bars::new(context.output);
    let mut teller = session::teller(context);
    let mut told = |step: Step<'_>| {
        if step == Step::Starting {
            bars.clear();
        }
        teller(step);
    };
    let ran = run::run(&examined, &wanted, &arguments.arguments, limit, &mut told, &bars)?;
    match ran.ended {
        Ok(Ended::Gone | Ended::Stays) => {}
        Ok(Ended::Busy) => session::tell_users(context, &ran.mountpoint, arguments.wait),
        Err(error) => context.output.warn(&error.to_string()),
    }
    Ok(ran.ending.exit_code())
}

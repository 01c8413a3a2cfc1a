//! `slotfs warm`: packages made ready before anybody needs them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::session;
use crate::cli::arguments::{PackageArguments, WritingArguments};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::plan::Wishes;
use crate::session::prepare::prepare;
use crate::settings::Overrides;
use crate::workenv::NameRule;

/// Prepare packages before their first run
///
/// Each package is verified, its slots are indexed, and its setup commands are run. It is left mounted where its own
/// launcher looks, so that plain `./app.psp` starts from the mount, too; `slotfs unmount` ends that, and what was
/// prepared stays.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Packages
    #[arg(required = true, value_name = "PACKAGE")]
    pub(super) packages: Vec<PathBuf>,
    /// Prepare only; leave nothing mounted
    #[arg(long)]
    unmounted: bool,
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
        self.package.apply(overrides);
        self.writing.apply(overrides);
    }
}

/// Carries the command out.
///
/// # Errors
/// A package could not be prepared; the others were, all the same.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let context = &session::for_launcher(context);
    session::sweep(context);
    let mut failed: Option<Failure> = None;
    for path in &arguments.packages {
        match warm(path, arguments.unmounted, context) {
            Ok(()) => {}
            Err(failure) => {
                // The last one is told when the command ends.
                if let Some(earlier) = failed.replace(failure) {
                    context.output.failure(&earlier);
                }
            }
        }
    }
    failed.map_or(Ok(0), Err)
}

fn warm(path: &Path, unmounted: bool, context: &Context) -> Result<(), Failure> {
    let examined = session::examined(path, context)?;
    let wishes = Wishes::default();
    let mut wanted = session::wanted(context, &wishes, NameRule::Launcher);
    wanted.keep = !unmounted;
    wanted.settled = true;
    // Indexing reads and decodes everything once.
    wanted.patience.ready = Duration::from_hours(1);
    let prepared = prepare(&examined, &wanted, &mut session::teller(context))?;
    context.output.data(&format!("{}\n", prepared.content.display()))?;
    if unmounted {
        prepared.session.end(Duration::from_secs(10))?;
    } else {
        prepared.session.leave();
    }
    Ok(())
}

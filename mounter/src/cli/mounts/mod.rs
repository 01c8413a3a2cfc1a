//! The commands that make and end mounts, and those about what was written there or is left of it. Where slotfs makes none,
//! `absent.rs` stands in for this module.

pub mod clean;
pub mod helper;
pub mod mount;
pub mod options;
pub mod overlay;
pub mod own;
pub mod prefetch;
pub mod profile;
pub mod remove;
pub mod run;
pub mod serve;
pub mod session;
pub mod store;
pub mod unmount;
pub mod warm;
pub mod written;

use std::path::PathBuf;
use std::process::ExitCode;

pub use profile::touched_files;
pub use session::sweep;

use super::context::Context;
use super::failure::Failure;
use crate::settings::Overrides;

/// The commands that make and end mounts or remove what was mounted.
#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
#[expect(missing_docs, reason = "documentation here would replace the help of the commands")]
pub enum MountCommand {
    Run(run::Arguments),
    Mount(mount::Arguments),
    #[command(alias = "umount")]
    Unmount(unmount::Arguments),
    Warm(warm::Arguments),
    Clean(clean::Arguments),
    Remove(remove::Arguments),
    Path(written::path::Arguments),
    Diff(written::diff::Arguments),
    Reset(written::reset::Arguments),
    Snapshot(written::snapshot::MakeArguments),
    Snapshots(written::snapshot::ListArguments),
    Restore(written::snapshot::RestoreArguments),
    Commit(written::commit::Arguments),
    Overlay(overlay::Arguments),
    Profile(profile::Arguments),
    Store(store::Arguments),
    #[command(name = "__serve", hide = true)]
    Serve(serve::Arguments),
    #[command(name = "__prefetch", hide = true)]
    Prefetch(prefetch::Arguments),
}

impl MountCommand {
    /// Adds what the command's own flags say to `overrides`.
    pub fn apply(&self, overrides: &mut Overrides) {
        match self {
            Self::Run(arguments) => arguments.apply(overrides),
            Self::Mount(arguments) => arguments.apply(overrides),
            Self::Warm(arguments) => arguments.apply(overrides),
            Self::Overlay(arguments) => arguments.apply(overrides),
            Self::Unmount(_)
            | Self::Clean(_)
            | Self::Remove(_)
            | Self::Path(_)
            | Self::Diff(_)
            | Self::Reset(_)
            | Self::Snapshot(_)
            | Self::Snapshots(_)
            | Self::Restore(_)
            | Self::Commit(_)
            | Self::Profile(_)
            | Self::Store(_)
            | Self::Prefetch(_)
            | Self::Serve(_) => {}
        }
    }

    /// Serves, if that is the command or this process becomes the server of the command's own mount: it gets everything
    /// that it needs to know from whoever started it, and looks at no setting.
    #[must_use]
    pub fn serve(&self) -> Option<ExitCode> {
        match self {
            Self::Serve(arguments) => Some(serve::run(arguments)),
            Self::Prefetch(arguments) => Some(prefetch::run(arguments)),
            Self::Run(arguments) => serve::stand_by(Some(&arguments.package_path)),
            Self::Mount(arguments) => serve::stand_by(Some(&arguments.package_path)),
            Self::Warm(arguments) => serve::stand_by(arguments.packages.first().map(PathBuf::as_path)),
            Self::Unmount(_)
            | Self::Overlay(_)
            | Self::Clean(_)
            | Self::Remove(_)
            | Self::Path(_)
            | Self::Diff(_)
            | Self::Reset(_)
            | Self::Snapshot(_)
            | Self::Snapshots(_)
            | Self::Restore(_)
            | Self::Commit(_)
            | Self::Profile(_)
            | Self::Store(_) => None,
        }
    }

    /// Carries the command out.
    ///
    /// # Errors
    /// As the command says.
    pub fn run(&self, context: &Context) -> Result<u8, Failure> {
        match self {
            Self::Run(arguments) => run::run(arguments, context),
            Self::Mount(arguments) => mount::run(arguments, context),
            Self::Unmount(arguments) => unmount::run(arguments, context),
            Self::Warm(arguments) => warm::run(arguments, context),
            Self::Clean(arguments) => clean::run(arguments, context),
            Self::Remove(arguments) => remove::run(arguments, context),
            Self::Path(arguments) => written::path::run(arguments, context),
            Self::Diff(arguments) => written::diff::run(arguments, context),
            Self::Reset(arguments) => written::reset::run(arguments, context),
            Self::Snapshot(arguments) => written::snapshot::make(arguments, context),
            Self::Snapshots(arguments) => written::snapshot::list(arguments, context),
            Self::Restore(arguments) => written::snapshot::restore(arguments, context),
            Self::Commit(arguments) => written::commit::run(arguments, context),
            Self::Overlay(arguments) => overlay::run(arguments, context),
            Self::Profile(arguments) => profile::run(arguments, context),
            Self::Store(arguments) => store::run(arguments, context),
            Self::Serve(arguments) => Ok(u8::from(serve::run(arguments) != ExitCode::SUCCESS)),
            Self::Prefetch(arguments) => Ok(u8::from(prefetch::run(arguments) != ExitCode::SUCCESS)),
        }
    }
}

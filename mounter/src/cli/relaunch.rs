//! `slotfs relaunch`: another launcher for a package that somebody else signed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::context::Context;
use super::failure::Failure;
use super::output::{human_duration, human_size};
use super::pack::{INTERRUPTED, may_be_replaced};
use super::progress::Bars;
use crate::host::interrupt;
use crate::pack::{self, Launcher, PackError};

/// Put another launcher on a package
///
/// The new package is the old one with another executable in front: slots, metadata and signature are the same bytes, so
/// whoever trusted the one can trust the other. With slotfs itself as launcher, which is the default, `./new.psp` mounts
/// itself and runs, on machines on which nothing is installed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The package
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// Where to write it; may be the same
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// The executable in front: the word `slotfs` for slotfs itself, a file, or a package to take it from
    #[arg(long, value_name = "FILE|slotfs", default_value = "slotfs")]
    launcher: PathBuf,
    /// Do not ask before a file is replaced that is no package
    #[arg(short, long)]
    yes: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no new package then.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let started = Instant::now();
    let stop = interrupt::watch();
    let new: &Path = &arguments.new;
    may_be_replaced(new, arguments.yes, context)?;
    let bars = Bars::new(context.output);
    let launcher = Launcher::named(&arguments.launcher);
    let written = pack::relaunch(&arguments.old, &launcher, new, stop, &bars);
    bars.clear();
    let size = match written {
        Err(error @ PackError::Interrupted) => {
            context.output.failure(&Failure::from(error));
            return Ok(INTERRUPTED);
        }
        other => other?,
    };
    let (size, time) = (human_size(size), human_duration(started.elapsed()));
    context.output.note(&format!("wrote `{}` ({size}) in {time}", new.display()));
    Ok(0)
}

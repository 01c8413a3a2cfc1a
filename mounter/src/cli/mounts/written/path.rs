//! `slotfs path`: where what was written is.

use std::path::PathBuf;

use slotfs_fs::overlay::{Upper, View, format};
use slotfs_fs::volume::{FsError, Volume, VolumeOptions};

use super::snapshot::with_bar;
use super::{diff, find, layers_of, quiet};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::printable;
use crate::host::files;
use crate::session::still::Quiet;
use crate::workenv::Listed;

/// Print where the files are that programs wrote
///
/// One line, the directory that holds everything written in a work environment, in the form of the kernel's overlayfs.
/// Look, but do not change it while the environment is mounted. A large file of which only attributes or names were
/// changed is empty there, and its content in the package; with --whole it is there.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A work environment's name or id, or the beginning of either
    #[arg(value_name = "NAME|ID")]
    what: PathBuf,
    /// First bring the content of files that have attributes only, so that other programs can read all of them;
    /// --max-upper counts what was brought
    #[arg(long)]
    whole: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no such environment, or it has no such directory; with `--whole` also: it is in use, the content is nowhere, or
/// the disk refuses.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let listed = find(&arguments.what, context)?;
    let upper = listed.workenv.upper();
    if arguments.whole {
        complete(&listed, context)?;
    }
    let view = View::open(&upper)?;
    if view.map_or(Ok(false), |view| format::may_have_bare_copies(view.root()))? {
        context.output.note("large files of which only attributes were changed are empty there; see --whole");
    }
    if arguments.json {
        context.output.json(&serde_json::json!({
            "name": listed.workenv.name().to_string(),
            "id": listed.id.as_ref().map(ToString::to_string),
            "upper": upper.display().to_string(),
        }))?;
    } else if context.output.data_is_watched() {
        context.output.data(&format!("{}\n", printable(&upper.display().to_string())))?;
    } else {
        // A script needs the very bytes.
        let mut line = files::path_bytes(&upper);
        line.push(b'\n');
        context.output.bytes(&line)?;
    }
    Ok(0)
}

/// Brings the content of every file that has attributes only.
fn complete(listed: &Listed, context: &Context) -> Result<(), Failure> {
    let Some(stack) = layers_of(listed, context) else {
        let message = format!("the content of files of `{}` is in its package", listed.workenv.name());
        return Err(Failure::new(FailureKind::NotFound, message).hint("put the package back where it was"));
    };
    let _still = match quiet(listed)? {
        Quiet::Still(still) => still,
        Quiet::Live(mut live) => return Ok(live.line.complete()?),
    };
    let place = listed.workenv.upper();
    let upper = Upper::open(&place, &listed.workenv.work())?;
    let volume = Volume::over(stack, Some(upper), VolumeOptions::default())?;
    let total = volume.bare_copies()?.iter().map(|file| file.size).sum();
    let missing = with_bar("Copying", total, context, |told| Ok(volume.fill_all(told)?))?;
    for file in &missing {
        context.output.warn(&format!(
            "the content of `{}` is in another build of the package",
            diff::shown(&file.path)
        ));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(FailureKind::NotFound, "not every file has its content")
        .hint("`slotfs reset` takes such files back"))
}

impl From<FsError> for Failure {
    fn from(error: FsError) -> Self {
        if let FsError::Disk(error) = error {
            error.into()
        } else if let FsError::Layer(error) = error {
            error.into()
        } else {
            Self::new(FailureKind::Disk, error.to_string())
        }
    }
}

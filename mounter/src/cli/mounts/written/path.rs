//! `slotfs path`: where what was written is.

use std::path::PathBuf;

use super::find;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::printable;
use crate::host::files;

/// Print where the files are that programs wrote
///
/// One line, the directory that holds everything written in a work environment, in the form of the kernel's overlayfs.
/// Look, but do not change it while the environment is mounted.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A work environment's name or id, or the beginning of either
    #[arg(value_name = "NAME|ID")]
    what: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no such environment, or it has no such directory.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let listed = find(&arguments.what, context)?;
    let upper = listed.workenv.upper();
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

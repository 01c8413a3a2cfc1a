//! `slotfs inspect`: what a package holds and what became of it here.

mod report;
mod text;

use std::path::{Path, PathBuf};

use slotfs_fs::package::Package;

use self::report::Report;
use super::context::Context;
use super::failure::Failure;
use super::{mounts, package, status};
use crate::host::mount_table;
use crate::workenv::{Cache, Listed, WorkenvError};

/// Show what a package holds and what became of it here
///
/// Takes a package, archive or directory, or the name, id or unique beginning of either of a work environment.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A package, or a work environment's name or id
    #[arg(value_name = "PACKAGE|ID")]
    what: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no such package or environment, or it cannot be read.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    mounts::sweep(context);
    let cache = Cache::new(&context.settings.cache_directory.value);
    let (package, listed) = find(&arguments.what, &cache, context)?;
    let table = mount_table::read()?;
    let report = Report {
        package: package.as_ref().map(|package| report::describe(package, &cache, context)).transpose()?,
        environment: listed.map(|listed| status::of(&listed, &table)),
    };
    if arguments.json {
        context.output.json(&report)?;
    } else {
        context.output.data(&text::of(&report, &context.output))?;
    }
    Ok(0)
}

/// What exists as a file is a package; everything else is looked for among the environments.
fn find(what: &Path, cache: &Cache, context: &Context) -> Result<(Option<Package>, Option<Listed>), Failure> {
    if !what.exists() || is_environment(what, cache) {
        let listed = cache.find(what).map_err(|error| neither(what, error))?;
        let package = match &listed.path {
            Some(path) => open_noted(path, &listed, context),
            None => None,
        };
        return Ok((package, Some(listed)));
    }
    let package = package::open(what)?;
    let all = cache.all()?;
    let listed =
        all.into_iter().find(|listed| listed.id.as_ref().is_some_and(|id| id.as_str() == package.id()));
    Ok((Some(package), listed))
}

/// Says that nothing answers to `what`: what looks like a file was meant as one.
fn neither(what: &Path, error: WorkenvError) -> Failure {
    let is_missing = matches!(error, WorkenvError::NotFound { .. });
    let is_path = what.components().count() > 1 || what.extension().is_some();
    match package::open(what) {
        Err(failure) if is_missing && is_path => failure,
        _ => error.into(),
    }
}

/// Tells whether `what` is the content directory of an environment of `cache`, without asking the directory itself.
fn is_environment(what: &Path, cache: &Cache) -> bool {
    let parent = what.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let same = parent.canonicalize().ok().zip(cache.directory().canonicalize().ok());
    same.is_some_and(|(parent, cache)| parent == cache) && cache.find(what).is_ok()
}

/// Opens the package that an environment was made from, if it is still the same one.
fn open_noted(path: &Path, listed: &Listed, context: &Context) -> Option<Package> {
    match package::open(path) {
        Ok(package) if listed.id.as_ref().is_some_and(|id| id.as_str() == package.id()) => Some(package),
        Ok(_) => {
            context.output.warn(&format!("`{}` is another package by now", path.display()));
            None
        }
        Err(failure) => {
            context.output.warn(&failure.message);
            None
        }
    }
}

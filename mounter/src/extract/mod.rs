//! The same tree as plain files, for people who want files and for machines without FUSE.
//!
//! The tree is walked first (what there is, whether it fits), written beside its place on several threads, and
//! moved in when it is complete. Owners are not restored: the files belong to whoever extracts.
//!
//! **Invariant:** nothing is written outside the directory that extraction itself made, and after a failure or a
//! kill nothing half done is ever taken for a tree.

mod destination;
mod error;
pub mod layers;
mod plan;
pub mod progress;
mod report;
mod write;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use slotfs_fs::disk::{Context, atomic};
use slotfs_fs::layer::stack::Stack;

pub use destination::sweep;
pub use error::ExtractError;
pub use report::{Report, Skipped};

use crate::host::plain;
use destination::Workshop;
use plan::Plan;
use progress::Progress;
use write::Writer;

/// How to extract.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Replace what is in the destination.
    pub force: bool,
    /// The root's mode; the tree's own where `None`.
    pub root_mode: Option<u32>,
    /// A file that says that the tree is complete: removed before, written after everything is on disk.
    pub marker: Option<&'a Path>,
    /// The current directory of this process: what holds it is not replaced.
    pub current_directory: &'a Path,
    /// Becomes true when the user wants it to stop.
    pub stop: &'a AtomicBool,
}

/// Writes the tree of `stack` as plain files at `destination`.
///
/// # Errors
/// Nothing of the tree is left then, and what was in the destination is still there.
pub fn extract(
    stack: &Stack,
    destination: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Report, ExtractError> {
    let workshop = Workshop::open(destination, options.current_directory, options.force)?;
    let (place, root) = (workshop.destination().to_owned(), workshop.root.clone());
    write_tree(stack, workshop, options, progress).map_err(|error| error.seen_from(&place, &root))
}

fn write_tree(
    stack: &Stack,
    workshop: Workshop,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Report, ExtractError> {
    let mut report = Report::default();
    let plan = Plan::of(stack, &workshop.root, &mut report)?;
    if let Some(available) = plain::available_space(&workshop.root)
        && plan.disk_bytes > available
    {
        let path = workshop.destination().to_owned();
        return Err(ExtractError::NoSpace { path, needed: plan.disk_bytes, available });
    }
    let writer = Writer {
        stack,
        plan: &plan,
        root: &workshop.root,
        progress,
        stop: options.stop,
        cannot_share: AtomicBool::new(false),
        sync_each: options.marker.is_some() && !plain::SYNCS_FILE_SYSTEMS,
        report: Mutex::new(report),
    };
    writer.make_directories()?;
    // Decoding keeps a core busy, writing waits for the disk: one thread for each core does both.
    writer.write_files(std::thread::available_parallelism().map_or(2, std::num::NonZero::get))?;
    writer.make_links()?;
    writer.finish_directories(options.root_mode)?;
    let report = writer.report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    publish(workshop, options.marker)?;
    // This process may be over next, and the index is for the next one.
    stack.finish();
    Ok(report)
}

fn publish(workshop: Workshop, marker: Option<&Path>) -> Result<(), ExtractError> {
    let Some(marker) = marker else { return workshop.publish() };
    match std::fs::remove_file(marker) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).context("remove", marker).map_err(ExtractError::from);
        }
        _ => {}
    }
    plain::sync_file_system(&workshop.root).context("sync the file system of", &workshop.root)?;
    workshop.publish()?;
    Ok(atomic::write(marker, b"")?)
}

//! Tidying up after a mount that is gone: what must not outlive it goes. The server does it at its end, and
//! whoever finds a crashed session does it in its place.
//!
//! **Invariant:** each step may have been done before, and a step that fails keeps none of the others from being
//! done; the record goes last, so that what was interrupted is done again.

use std::io::ErrorKind;

use slotfs_fs::disk::{Context, DiskError};

use super::place::Place;
use super::record::SessionRecord;
use super::request::ServeRequest;

/// Takes back what was only true while `request` was served. The mount is gone.
///
/// # Errors
/// The first failure, after everything else was tried. The record stays then.
pub(super) fn finish(request: &ServeRequest, place: &Place) -> Result<(), DiskError> {
    let withdrawn = if request.published { place.workenv().withdraw() } else { Ok(()) };
    let withdrawn = withdrawn.map_err(|error| {
        DiskError::new("withdraw", place.workenv().checksum_file(), std::io::Error::other(error))
    });
    let removed = if request.mountpoint_made { remove_mountpoint(request) } else { Ok(()) };
    let unkept = place.keep_no_longer();
    withdrawn.and(removed).and(unkept)?;
    SessionRecord::remove(place)
}

/// Removes the mountpoint that was made for the mount, unless somebody put something there since.
fn remove_mountpoint(request: &ServeRequest) -> Result<(), DiskError> {
    match std::fs::remove_dir(&request.mountpoint) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(()),
        result => result.context("remove the directory", &request.mountpoint),
    }
}

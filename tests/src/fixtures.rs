//! Real packages, made by other people's builders, that some tests run on.
//!
//! `SLOTFS_TEST_PACKAGES` names the directory that holds them. Without it such a test says so and ends; with
//! `SLOTFS_TEST_STRICT=1` it fails instead, so that no machine which should have them skips by accident.

use std::path::PathBuf;

/// Returns the directory of real packages, or says why there is none.
///
/// # Panics
/// When there is none and `SLOTFS_TEST_STRICT` is 1.
#[must_use]
#[expect(clippy::print_stderr, reason = "a skipped test has to say so")]
pub fn packages() -> Option<PathBuf> {
    let folder = std::env::var_os("SLOTFS_TEST_PACKAGES").map(PathBuf::from);
    let usable = folder.filter(|folder| folder.is_dir());
    if usable.is_none() {
        let reason = "skipped: SLOTFS_TEST_PACKAGES does not name a directory of real packages";
        assert!(std::env::var_os("SLOTFS_TEST_STRICT").is_none_or(|value| value != "1"), "{reason}");
        eprintln!("{reason}");
    }
    usable
}

//! Every path of the store is made here and nowhere else.

use std::path::{Path, PathBuf};

use crate::disk::digest::Digest;

/// The store below the shared folder.
pub(super) const FOLDER: &str = "objects-v1";
/// Objects that are being written, a folder for each batch.
pub(super) const STAGING: &str = "staging";
/// Tells backup programs to leave the folder out (<https://bford.info/cachedir/>).
pub(super) const TAG: &str = "CACHEDIR.TAG";
pub(super) const TAG_TEXT: &[u8] =
    b"Signature: 8a477f597d28d172789f06886806bc55\n# This directory holds caches made by slotfs.\n";

/// `ab/cdef…`
pub(super) fn object(root: &Path, digest: &Digest) -> PathBuf {
    let text = digest.to_string();
    let (folder, name) = text.split_at(2);
    root.join(folder).join(name)
}

/// The digest that a path below the root stands for.
pub(super) fn digest(folder: &str, name: &str) -> Option<Digest> {
    (folder.len() == 2).then(|| Digest::parse(&format!("{folder}{name}"))).flatten()
}

pub(super) fn staging(root: &Path) -> PathBuf {
    root.join(STAGING)
}

//! Every path of the store is made here and nowhere else.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::disk::digest::Digest;

/// The folder of the store below the shared one.
pub const FOLDER: &str = "objects-v1";
/// Which chunks large objects have, a file for each.
pub(super) const CHUNK_LISTS: &str = "large";
/// What ends the name of an object in parts.
const PARTS: &str = ".parts";
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

/// `ab/cdef….parts`
pub(super) fn parts(root: &Path, digest: &Digest) -> PathBuf {
    let mut path = object(root, digest).into_os_string();
    path.push(PARTS);
    path.into()
}

pub(super) fn chunk_lists(root: &Path) -> PathBuf {
    root.join(CHUNK_LISTS)
}

/// `large/abcdef…`
pub(super) fn chunk_list(root: &Path, digest: &Digest) -> PathBuf {
    chunk_lists(root).join(digest.to_string())
}

/// The digest that a path below the root stands for, and whether the object is in parts.
pub(super) fn digest(folder: &str, name: &str) -> Option<(Digest, bool)> {
    let (name, in_parts) = name.strip_suffix(PARTS).map_or((name, false), |name| (name, true));
    let digest = (folder.len() == 2).then(|| Digest::parse(&format!("{folder}{name}"))).flatten()?;
    Some((digest, in_parts))
}

/// The modification time of a sealed object, which whoever writes to it later changes: some second in the months after
/// September 2001, as the digest has it. In whole seconds, for disks that keep no finer times.
pub(super) fn seal(digest: &Digest) -> SystemTime {
    let [first, second, third, ..] = digest.0;
    let offset = u64::from(u32::from_be_bytes([0, first, second, third]));
    UNIX_EPOCH + Duration::from_secs(1_000_000_000 + offset)
}

pub(super) fn staging(root: &Path) -> PathBuf {
    root.join(STAGING)
}

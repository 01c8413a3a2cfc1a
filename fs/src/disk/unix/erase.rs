//! Overwriting content in place before its last name goes.
//!
//! That reaches the blocks which the file system gives the file. Earlier copies of them (journals of data, snapshots and
//! clones of the disk, disks that write elsewhere, flash memory) are out of reach.
//!
//! **Invariant:** only a file with a single name is overwritten: another name may be somebody else's.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use super::{Spot, data_from, hole_from};
use crate::disk::{Context, DiskError};
use crate::node::Kind;

/// How much is written at a time, in bytes.
const PIECE: usize = 1 << 20;

/// Whether content is overwritten before its last name goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Erasure {
    /// The disk uses the blocks again when it likes.
    #[default]
    None,
    /// With zeros, which are on the disk before the name goes.
    Overwrite,
}

impl Spot {
    /// Overwrites the content of a regular file that has no other name, durably; anything else is left as it is, and so
    /// is everything with [`Erasure::None`].
    ///
    /// # Errors
    /// What the host reports; what is gone meanwhile is fine.
    pub fn erase(&self, erasure: Erasure) -> Result<(), DiskError> {
        if erasure == Erasure::None {
            return Ok(());
        }
        let erased = self.overwrite();
        match erased {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn overwrite(&self) -> Result<(), DiskError> {
        let Some(stat) = self.stat()? else { return Ok(()) };
        let attributes = stat.attributes;
        if attributes.kind != Kind::File || attributes.links != 1 || attributes.size == 0 {
            return Ok(());
        }
        let file = match self.open_file(true, false) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.set_mode(0o600)?;
                self.open_file(true, false)
            }
            other => other,
        }?;
        overwrite(&file, attributes.size)?;
        file.sync_data().context("sync", "an overwritten file")
    }
}

fn overwrite(file: &File, size: u64) -> Result<(), DiskError> {
    let zeros = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE))];
    let mut at = 0;
    while let Some(start) = data_from(file, at)? {
        let end = hole_from(file, start)?.unwrap_or(size).min(size);
        at = start;
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(PIECE).min(zeros.len());
            file.write_all_at(&zeros[..length], at).context("overwrite", "a file")?;
            at += length as u64;
        }
        if at >= size {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use super::*;
    use crate::disk::unix::Directory;

    #[test]
    fn only_what_has_no_other_name_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::write(&one, vec![7; 3_000_000]).unwrap();
        fs::hard_link(&one, &other).unwrap();
        let spot = Spot::named(&Arc::new(Directory::open(folder.path()).unwrap()), b"one");
        spot.erase(Erasure::Overwrite).unwrap();
        assert_eq!(fs::read(&other).unwrap(), vec![7; 3_000_000]);
        fs::remove_file(&other).unwrap();
        spot.erase(Erasure::None).unwrap();
        assert_eq!(fs::read(&one).unwrap(), vec![7; 3_000_000]);
        fs::set_permissions(&one, fs::Permissions::from_mode(0o400)).unwrap();
        let mut open = fs::File::open(&one).unwrap();
        spot.erase(Erasure::Overwrite).unwrap();
        let mut content = Vec::new();
        open.read_to_end(&mut content).unwrap();
        assert_eq!(content, vec![0; 3_000_000]);
    }

    #[test]
    fn a_tree_is_overwritten_before_it_goes_and_other_names_keep_their_content() {
        let folder = tempfile::tempdir().unwrap();
        let place = |path: &str| folder.path().join(path);
        fs::create_dir_all(place("tree/deep")).unwrap();
        fs::write(place("tree/deep/file"), "secret").unwrap();
        fs::hard_link(place("tree/deep/file"), place("tree/second-name")).unwrap();
        fs::write(place("tree/shared"), "theirs").unwrap();
        fs::hard_link(place("tree/shared"), place("theirs")).unwrap();
        let mut open = fs::File::open(place("tree/deep/file")).unwrap();
        let root = Arc::new(Directory::open(folder.path()).unwrap());
        root.remove_whole(b"tree", Erasure::Overwrite).unwrap();
        let mut content = Vec::new();
        open.read_to_end(&mut content).unwrap();
        assert_eq!(content, vec![0; 6]);
        assert!(!place("tree").exists());
        assert_eq!(fs::read(place("theirs")).unwrap(), b"theirs");
    }
}

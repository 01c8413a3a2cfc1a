//! Moving what was written at one path from one upper directory to another.
//!
//! **Invariant:** what is moved is moved by one rename, so that it is in exactly one of the two at every moment; what
//! the other one has at that path already stays.

use std::sync::Arc;

use super::duplicate::copy_attributes;
use crate::disk::DiskError;
use crate::disk::unix::{Directory, SetTimes, Spot, XattrFlag};
use crate::layer::marks::{HAS_ASIDE, OVERRIDE, OverrideStat};
use crate::node::Kind;

/// Moves what is at `path` in the upper directory `from` to the same path in `to`, on the same disk, with the
/// directories above it as they are in `from`. Returns `false` when there is nothing, or something in the way.
///
/// # Errors
/// What the host reports; the directories above may have been made then.
pub fn carry(from: &Arc<Directory>, to: &Arc<Directory>, path: &[Vec<u8>]) -> Result<bool, DiskError> {
    let Some((name, above)) = path.split_last() else { return Ok(false) };
    let (mut source, mut target) = (Arc::clone(from), Arc::clone(to));
    for name in above {
        if source.stat(name)?.is_none() {
            return Ok(false);
        }
        let below = Arc::new(source.child(name)?);
        if target.stat(name)?.is_none() {
            target.make_directory(name, 0o700)?;
            if let Some(stat) = source.stat(name)? {
                copy_attributes(&Spot::named(&source, name), &Spot::named(&target, name), &stat)?;
            }
        }
        target = Arc::new(target.child(name)?);
        source = below;
    }
    if source.stat(name)?.is_none() || target.stat(name)?.is_some() {
        return Ok(false);
    }
    // Being moved is no change of what is in a directory that a user would see.
    let times = Spot::named(&source, b".").stat()?.map(|stat| SetTimes::of(&stat.attributes));
    expect_aside(from, to)?;
    source.rename(name, &target, name)?;
    if let Some(times) = times.filter(|_| !above.is_empty()) {
        Spot::named(&target, b".").set_times(times)?;
    }
    Ok(true)
}

/// What is kept aside counts only where the directory itself says that there is something.
fn expect_aside(from: &Arc<Directory>, to: &Arc<Directory>) -> Result<(), DiskError> {
    let (from, to) = (Spot::named(from, b"."), Spot::named(to, b"."));
    let is_marked = from.xattr(HAS_ASIDE)?.is_some() || from.xattr(OVERRIDE)?.is_some();
    if !is_marked || to.xattr(HAS_ASIDE)?.is_some() {
        return Ok(());
    }
    let Some(stat) = to.stat()? else { return Ok(()) };
    let value = OverrideStat::of(&stat.attributes).value(Kind::Directory);
    to.set_xattr(HAS_ASIDE, value.as_bytes(), XattrFlag::Set)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn path(text: &str) -> Vec<Vec<u8>> {
        text.split('/').map(|name| name.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_path_is_moved_once_with_the_directories_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::set_permissions(from.join("a"), fs::Permissions::from_mode(0o710)).unwrap();
        fs::write(from.join("a/b/file"), "first").unwrap();
        let before = fs::metadata(from.join("a/b")).unwrap().modified().unwrap();
        let open = |path| Arc::new(Directory::open(path).unwrap());
        let (source, target) = (open(&from), open(&to));
        assert!(carry(&source, &target, &path("a/b/file")).unwrap());
        assert_eq!(fs::read(to.join("a/b/file")).unwrap(), b"first");
        assert_eq!(fs::metadata(to.join("a")).unwrap().mode() & 0o777, 0o710);
        assert_eq!(fs::metadata(to.join("a/b")).unwrap().modified().unwrap(), before);
        assert!(!carry(&source, &target, &path("a/b/file")).unwrap(), "it is there no more");
        fs::write(from.join("a/b/file"), "second").unwrap();
        assert!(!carry(&source, &target, &path("a/b/file")).unwrap(), "it is in the way");
        assert_eq!(fs::read(to.join("a/b/file")).unwrap(), b"first");
        assert!(!carry(&source, &target, &path("missing/file")).unwrap());
        assert!(!to.join("missing").exists());
    }
}

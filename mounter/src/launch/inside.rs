//! Keeping a package's own paths inside its work environment, links resolved.
//!
//! This guards against mistakes in a package, not against its programs, which run with the user's rights anyway.

use std::path::{Component, Path, PathBuf};

use slotfs_fs::disk::{Context, DiskError};

use super::LaunchError;

/// Returns the path that `path` means, made absolute from the environment and free of `.` and `..`. `purpose`
/// names it in the error, with its article.
///
/// # Errors
/// [`LaunchError::Outside`] when it, or a link on the way, leads out; the disk's.
pub(super) fn locate(workenv: &Path, path: &Path, purpose: &'static str) -> Result<PathBuf, LaunchError> {
    let outside = || LaunchError::Outside { purpose, path: path.to_owned(), workenv: workenv.to_owned() };
    let plain =
        without_dots(&workenv.join(path)).filter(|plain| plain.starts_with(workenv)).ok_or_else(outside)?;
    if stays_inside(workenv, &plain)? { Ok(plain) } else { Err(outside()) }
}

/// Tells whether the longest part of `path` that exists is inside, with every link resolved.
pub(super) fn stays_inside(workenv: &Path, path: &Path) -> Result<bool, DiskError> {
    let root = workenv.canonicalize().context("resolve", workenv)?;
    let mut part = path;
    loop {
        match part.canonicalize() {
            Ok(real) => return Ok(real.starts_with(&root)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // A dangling link exists itself, and writing to it would make a file where it points.
                if part.symlink_metadata().is_ok() {
                    return Ok(false);
                }
                let Some(parent) = part.parent() else { return Ok(false) };
                part = parent;
            }
            Err(error) => return Err(DiskError::new("resolve", part, error)),
        }
    }
}

fn without_dots(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !plain.pop() {
                    return None;
                }
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(component),
        }
    }
    Some(plain)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_stay_and_dots_may_not_leave() {
        let folder = tempfile::tempdir().unwrap();
        let workenv = folder.path().join("w");
        std::fs::create_dir_all(workenv.join("a")).unwrap();
        std::fs::create_dir_all(folder.path().join("w2")).unwrap();
        let locate = |path: &str| locate(&workenv, Path::new(path), "the path");
        for (path, wanted) in [("a/b/c", "a/b/c"), ("./a/../x", "x"), ("", ""), ("a/.", "a")] {
            assert_eq!(locate(path).unwrap(), workenv.join(wanted), "{path}");
        }
        let absolute = workenv.join("a/new");
        assert_eq!(locate(absolute.to_str().unwrap()).unwrap(), absolute);
        let sibling = format!("{}2/x", workenv.display());
        for path in ["../x", "a/../../x", "/etc/passwd", "/", "/../../..", sibling.as_str()] {
            let error = locate(path).unwrap_err().to_string();
            assert!(error.starts_with(&format!("the path `{path}` leads out of")), "{error}");
        }
    }
}

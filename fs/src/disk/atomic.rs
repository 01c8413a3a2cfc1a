//! Files and directories that are either complete or absent: write a temporary, sync, rename, sync the folder.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Context, DiskError};

static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// Returns a name beside `path` that no other thread or live process uses: `.{name}.{pid}-{n}.tmp`.
#[must_use]
pub fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{}.tmp", std::process::id(), SEQUENCE.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

/// Replaces the file at `path` by one holding `bytes`; a reader sees the old or the new file, whole. The new
/// content is on disk when this returns.
///
/// # Errors
/// Names the step and path that failed; the temporary is removed and the old file is untouched.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    write_with(path, |file| file.write_all(bytes))
}

/// As [`write()`], with the content produced by `fill`.
///
/// # Errors
/// As [`write()`].
pub fn write_with(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<(), DiskError> {
    let temporary = temporary_beside(path);
    let result = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .read(true)
            .create_new(true)
            .open(&temporary)
            .context("create", &temporary)?;
        fill(&mut file).context("write", &temporary)?;
        file.sync_all().context("sync", &temporary)?;
        drop(file);
        fs::rename(&temporary, path).context("rename into place", path)
    })();
    if result.is_err() {
        // The first error is the one to report; a leftover temporary is swept by the next clean.
        let _ = fs::remove_file(&temporary);
        return result;
    }
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Makes earlier renames and creations in `directory` durable (`fsync(2)` on the directory; Windows needs none).
///
/// # Errors
/// Names the directory when it cannot be opened or synced.
pub fn sync_directory(directory: &Path) -> Result<(), DiskError> {
    if cfg!(windows) {
        return Ok(());
    }
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory).and_then(|file| file.sync_all()).context("sync the directory", directory)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write(&path, b"old").unwrap();
        let error = write_with(&path, |_| Err(std::io::Error::other("disk on fire"))).unwrap_err();
        assert!(error.to_string().contains("disk on fire"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

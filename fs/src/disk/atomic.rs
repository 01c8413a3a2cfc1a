//! Files and directories that are either complete or absent: write a temporary, sync, rename, sync the folder.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
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

/// As [`write()`], but the new content is on disk when the system likes: what a crash leaves may be the old file, the new
/// one, none, or one that is empty. For what is compared before it is relied upon, and made again.
///
/// # Errors
/// As [`write()`].
pub fn write_unsynced(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let temporary = temporary_beside(path);
    let written = fs::write(&temporary, bytes)
        .context("write", &temporary)
        .and_then(|()| fs::rename(&temporary, path).context("rename into place", path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// As [`write()`], with the content produced by `fill`.
///
/// # Errors
/// As [`write()`].
pub fn write_with(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<(), DiskError> {
    let options = WriteOptions::default();
    let temporary = temporary_beside(path);
    write_as(path, &options, |file| fill(file).context("write", &temporary))
}

/// How a file is made.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// Mode bits that it has from the start, where there are modes; the process's umask takes some away.
    pub mode: u32,
    /// Whether a file that is there already is replaced.
    pub replace: bool,
}

impl Default for WriteOptions {
    /// An ordinary file, which replaces another one.
    fn default() -> Self {
        Self { mode: 0o666, replace: true }
    }
}

/// As [`write_with()`], with a chosen mode, and with errors of `fill` that may be of another kind.
///
/// # Errors
/// What `fill` fails with; else as [`write()`], and `AlreadyExists` for what is there and not to be replaced.
pub fn write_as<T, E: From<DiskError>>(
    path: &Path,
    options: &WriteOptions,
    fill: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<T, E> {
    let temporary = temporary_beside(path);
    let result = (|| {
        let mut file = new_file(options.mode).open(&temporary).context("create", &temporary)?;
        let filled = fill(&mut file)?;
        file.sync_all().context("sync", &temporary)?;
        drop(file);
        if options.replace {
            fs::rename(&temporary, path).context("rename into place", path)?;
        } else {
            put_beside_nothing(&temporary, path)?;
        }
        sync_directory(path.parent().unwrap_or(Path::new(".")))?;
        Ok(filled)
    })();
    if result.is_err() {
        // The first error is the one to report; a leftover temporary is swept by the next clean.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Gives `temporary` the name `path`, which nothing may have.
fn put_beside_nothing(temporary: &Path, path: &Path) -> Result<(), DiskError> {
    match fs::hard_link(temporary, path) {
        // Unlike a rename, a link never replaces anything.
        Ok(()) => fs::remove_file(temporary).context("remove", temporary),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(DiskError::new("create", path, error)),
        // Memory sticks have no links.
        Err(_) if path.symlink_metadata().is_err() => {
            fs::rename(temporary, path).context("rename into place", path)
        }
        Err(_) => Err(DiskError::new("create", path, ErrorKind::AlreadyExists)),
    }
}

fn new_file(mode: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).read(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options
}

/// Makes `directory` and those above it that are missing, for nobody but their owner, where there are modes.
///
/// # Errors
/// Names the directory when it cannot be made.
pub fn create_private_directory(directory: &Path) -> Result<(), DiskError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).context("create the directory", directory)
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

    #[test]
    fn what_is_not_to_be_replaced_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let once = WriteOptions { replace: false, mode: 0o600 };
        let put =
            |text: &'static [u8]| write_as(&path, &once, |file| file.write_all(text).context("write", &path));
        put(b"first").unwrap();
        assert_eq!(put(b"second").unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

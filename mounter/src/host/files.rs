//! Permissions and names of files where systems differ. What a system does not have is a no-op here.

use std::io;
use std::path::{Path, PathBuf};

/// Creates a directory and its missing parents, each readable by the user alone (mode 0700 on Unix, the
/// inherited rights elsewhere). Existing ones keep their rights.
///
/// # Errors
/// As [`std::fs::DirBuilder::create`].
pub fn create_private_directories(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Creates one directory with the usual rights: 0777 without the umask.
///
/// # Errors
/// As [`std::fs::create_dir_all`].
pub fn create_directories(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Sets the permission bits of a file or directory, following links (`chmod(2)`); nothing outside Unix.
///
/// # Errors
/// As [`std::fs::set_permissions`].
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    #[cfg(unix)]
    {
        let permissions = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
        std::fs::set_permissions(path, permissions)
    }
    #[cfg(not(unix))]
    {
        let _ = mode;
        std::fs::metadata(path).map(drop)
    }
}

/// Returns the permission bits of a file or directory, following links; `None` outside Unix.
///
/// # Errors
/// As [`std::fs::metadata`].
pub fn mode(path: &Path) -> io::Result<Option<u32>> {
    let metadata = std::fs::metadata(path)?;
    #[cfg(unix)]
    let mode = Some(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777);
    #[cfg(not(unix))]
    let mode = {
        let _ = metadata;
        None
    };
    Ok(mode)
}

/// Tells whether there is something at the path that is no directory.
#[must_use]
pub fn is_there(path: &Path) -> bool {
    // `std::fs::metadata` asks for the time of birth, too, which the kernel has to ask a mount for.
    #[cfg(unix)]
    {
        use rustix::fs::FileType;
        rustix::fs::stat(path)
            .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) != FileType::Directory)
    }
    #[cfg(not(unix))]
    {
        std::fs::metadata(path).is_ok_and(|found| !found.is_dir())
    }
}

/// Tells whether the path is a regular file that somebody may execute (any file outside Unix).
#[must_use]
pub fn is_executable_file(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use rustix::fs::FileType;
        rustix::fs::stat(path).is_ok_and(|found| {
            FileType::from_raw_mode(found.st_mode) == FileType::RegularFile && found.st_mode & 0o111 != 0
        })
    }
    #[cfg(not(unix))]
    {
        std::fs::metadata(path).is_ok_and(|found| found.is_file())
    }
}

/// Returns the path's exact bytes: as they are on Unix; elsewhere UTF-8, with what cannot be said replaced.
#[must_use]
pub fn path_bytes(path: &Path) -> Vec<u8> {
    #[cfg(unix)]
    {
        std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec()
    }
    #[cfg(not(unix))]
    {
        path.to_string_lossy().into_owned().into_bytes()
    }
}

/// Undoes [`path_bytes`].
#[must_use]
pub fn path_from_bytes(bytes: Vec<u8>) -> PathBuf {
    #[cfg(unix)]
    {
        PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes))
    }
    #[cfg(not(unix))]
    {
        PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
    }
}

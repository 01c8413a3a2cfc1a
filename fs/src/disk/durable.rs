//! Making many written files durable with one call, where the host can.
//!
//! **Invariant:** success means that everything written to the file's file system before the call is on disk.

use std::fs::File;
use std::io;

/// Flushes the whole file system that holds `file` (`syncfs(2)`).
///
/// # Errors
/// `ErrorKind::Unsupported` where the host has no such call: sync each file instead. Otherwise what the host
/// reports, as when a write-back failed.
pub fn sync_file_system(file: &File) -> io::Result<()> {
    platform::sync_file_system(file)
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs::File;
    use std::io;

    pub(super) fn sync_file_system(file: &File) -> io::Result<()> {
        Ok(rustix::fs::syncfs(file)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::fs::File;
    use std::io;

    pub(super) fn sync_file_system(_: &File) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

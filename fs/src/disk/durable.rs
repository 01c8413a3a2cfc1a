//! Making many written files durable with one call, where the host can.
//!
//! **Invariant:** success means that everything written to the file system before the call is on disk.

use std::io;
use std::path::Path;

/// Whether [`sync_file_system`] does anything here. Where it does not, sync each file while it is open.
pub const CAN_SYNC_FILE_SYSTEM: bool = cfg!(target_os = "linux");

/// Flushes the whole file system that holds `path` (`syncfs(2)`).
///
/// # Errors
/// What the host reports, as when a write-back failed; `ErrorKind::Unsupported` where it has no such call.
pub fn sync_file_system(path: &Path) -> io::Result<()> {
    platform::sync_file_system(path)
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    pub(super) fn sync_file_system(path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::io;
    use std::path::Path;

    pub(super) fn sync_file_system(_: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

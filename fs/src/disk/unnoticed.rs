//! Reading without a trace: who only looks after a file must not make it look used.

use std::fs::File;
use std::io;
use std::path::Path;

/// Opens a file for reading so that its access time stays, where the system can do that and the file is the user's own.
///
/// # Errors
/// As [`File::open`].
pub fn open(path: &Path) -> io::Result<File> {
    platform::open(path)
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    use rustix::fs::{Mode, OFlags};

    pub(super) fn open(path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOATIME;
        match rustix::fs::open(path, flags, Mode::empty()) {
            // Somebody else's file.
            Err(rustix::io::Errno::PERM) => File::open(path),
            opened => Ok(opened?.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    pub(super) fn open(path: &Path) -> io::Result<File> {
        File::open(path)
    }
}

//! Why a volume could not be mounted or unmounted: what is missing, so that a caller can fall back or say so.

use std::io;
use std::path::PathBuf;

/// Why a volume could not be mounted, or stopped being served.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The FUSE device is missing, or this user may not open it.
    #[error("cannot open `{}`: {source}", path.display())]
    Device {
        /// The device.
        path: PathBuf,
        /// Why it cannot be opened.
        source: io::Error,
    },
    /// `mount(2)` needs privileges, and the helper that has them is not installed.
    #[error("mounting needs the program `fusermount3`, which is not installed")]
    HelperMissing,
    /// The helper could not be run.
    #[error("cannot run `{helper}`: {source}")]
    Helper {
        /// The helper.
        helper: PathBuf,
        /// Why it could not be run.
        source: io::Error,
    },
    /// The helper ran and refused.
    #[error("`{helper}` refused to mount on `{}`: {message}", mountpoint.display())]
    HelperRefused {
        /// The helper.
        helper: PathBuf,
        /// Where to.
        mountpoint: PathBuf,
        /// What it said.
        message: String,
    },
    /// The kernel refused.
    #[error("the kernel refused to mount on `{}`: {source}", mountpoint.display())]
    Mount {
        /// Where to.
        mountpoint: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The mount point cannot be looked at; ENOTCONN means that a dead mount lies there.
    #[error("cannot use `{}` as a mount point: {source}", mountpoint.display())]
    Mountpoint {
        /// Where to.
        mountpoint: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The mount point is something else.
    #[error("cannot mount on `{}`: not a directory", mountpoint.display())]
    NotDirectory {
        /// Where to.
        mountpoint: PathBuf,
    },
    /// Other users must see the mount, and this machine does not let an ordinary user show it to them.
    #[error("other users cannot be let in: `user_allow_other` is not set in `{}`", configuration.display())]
    OthersRefused {
        /// The file where it would be set.
        configuration: PathBuf,
    },
    /// The kernel's FUSE and ours do not come to terms.
    #[error("no common FUSE protocol for `{}`: {source}", mountpoint.display())]
    Handshake {
        /// Where to.
        mountpoint: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No thread could be started.
    #[error("cannot start a thread to serve `{}`: {source}", mountpoint.display())]
    Thread {
        /// Where to.
        mountpoint: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Serving ended with an error.
    #[error("cannot go on serving `{}`: {source}", mountpoint.display())]
    Serving {
        /// What was served.
        mountpoint: PathBuf,
        /// Why it ended.
        source: io::Error,
    },
    /// This system has no mounts that slotfs could make.
    #[error("mounting is not supported on this system")]
    Unsupported,
}

impl DriverError {
    /// Tells whether this machine, or this user on it, cannot mount at all, so that extracting is the way
    /// out; otherwise the fault lies with this one mount point or request.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Device { .. }
            | Self::HelperMissing
            | Self::Helper { .. }
            | Self::HelperRefused { .. }
            | Self::Handshake { .. }
            | Self::Unsupported => true,
            Self::Mount { source, .. } => matches!(
                source.raw_os_error(),
                Some(libc::EPERM | libc::EACCES | libc::ENODEV | libc::ENOSYS)
            ),
            Self::Mountpoint { .. }
            | Self::NotDirectory { .. }
            | Self::OthersRefused { .. }
            | Self::Thread { .. }
            | Self::Serving { .. } => false,
        }
    }
}

/// Why a mount could not be taken away.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Something uses it.
    #[error("cannot unmount `{}`: it is in use", mountpoint.display())]
    Busy {
        /// The mount.
        mountpoint: PathBuf,
    },
    /// Nothing is mounted there.
    #[error("cannot unmount `{}`: nothing is mounted there", mountpoint.display())]
    NotMounted {
        /// The place.
        mountpoint: PathBuf,
    },
    /// It is somebody else's, or the helper that may do it is missing or refused.
    #[error("cannot unmount `{}`: {message}", mountpoint.display())]
    Refused {
        /// The mount.
        mountpoint: PathBuf,
        /// What stands against it.
        message: String,
    },
    /// The kernel refused for another reason.
    #[error("cannot unmount `{}`: {source}", mountpoint.display())]
    Kernel {
        /// The mount.
        mountpoint: PathBuf,
        /// Why.
        source: io::Error,
    },
}

//! What whoever runs this process may do.

/// Tells whether this process may do anything on this machine (effective user 0). Always `false` outside Unix.
#[must_use]
pub fn is_root() -> bool {
    #[cfg(unix)]
    {
        rustix::process::geteuid().is_root()
    }
    #[cfg(not(unix))]
    {
        false
    }
}

/// Returns the home directory that the system notes for whoever runs this process. Always `None` outside Unix.
#[must_use]
pub fn home_directory() -> Option<std::path::PathBuf> {
    #[cfg(unix)]
    {
        nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir)
    }
    #[cfg(not(unix))]
    {
        None
    }
}

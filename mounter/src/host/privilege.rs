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

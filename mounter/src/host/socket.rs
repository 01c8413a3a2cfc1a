//! Sockets in a directory, by which processes of one user talk to each other.
//!
//! **Invariant:** who is at the other end is asked of the kernel, never of him.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Listens at `name` in `directory`, where nobody else does; what an earlier listener left is replaced. Only this user may
/// connect.
///
/// # Errors
/// What the host reports.
pub fn listen(directory: &Path, name: &str) -> io::Result<UnixListener> {
    let held = File::open(directory)?;
    let path = short(&held, directory, name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to who listens at `name` in `directory`.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when nobody does; or what the host reports.
pub fn connect(directory: &Path, name: &str) -> io::Result<UnixStream> {
    let held = File::open(directory)?;
    UnixStream::connect(short(&held, directory, name))
}

/// Names a socket in the open directory: a socket's path has at most 107 bytes, a directory's may have more.
fn short(held: &File, directory: &Path, name: &str) -> PathBuf {
    if cfg!(target_os = "linux") {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", held.as_raw_fd()))
    } else {
        directory.join(name)
    }
}

/// Returns the user at the other end.
///
/// # Errors
/// What the host reports.
#[cfg(target_os = "linux")]
pub fn peer_user(stream: &UnixStream) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(stream)?.uid.as_raw())
}

/// Returns the user at the other end.
///
/// # Errors
/// What the host reports.
#[cfg(not(target_os = "linux"))]
pub fn peer_user(stream: &UnixStream) -> io::Result<u32> {
    Ok(nix::unistd::getpeereid(stream)?.0.as_raw())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_socket_deep_down_connects_this_user() {
        let folder = tempfile::tempdir().unwrap();
        let deep = if cfg!(target_os = "linux") {
            folder.path().join("d".repeat(200))
        } else {
            folder.path().to_path_buf()
        };
        std::fs::create_dir_all(&deep).unwrap();
        assert!(connect(&deep, "control").is_err());
        drop(listen(&deep, "control").unwrap());
        assert!(connect(&deep, "control").is_err(), "nobody listens there any more");
        let listener = listen(&deep, "control").unwrap();
        assert_eq!(std::fs::metadata(deep.join("control")).unwrap().permissions().mode() & 0o777, 0o600);
        let mut caller = connect(&deep, "control").unwrap();
        let (mut heard, _) = listener.accept().unwrap();
        assert_eq!(peer_user(&heard).unwrap(), nix::unistd::geteuid().as_raw());
        caller.write_all(b"x").unwrap();
        drop(caller);
        let mut text = String::new();
        heard.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }
}

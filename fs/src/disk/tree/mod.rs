//! A directory tree of the host, read by paths that never leave it and never pass through a symbolic link.

#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod platform;

use crate::node::{Attributes, Kind};

pub use platform::HostTree;

/// What tells one file of the host from every other: its disk and its inode, or what stands for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostIdentity {
    /// Which disk.
    pub disk: u64,
    /// Which inode on it.
    pub inode: u64,
}

/// Names and values of extended attributes.
pub type HostAttributes = Vec<(Vec<u8>, Vec<u8>)>;

/// A node of the tree.
#[derive(Clone, Copy, Debug)]
pub struct HostNode {
    /// Which one it is.
    pub identity: HostIdentity,
    /// What `stat(2)` tells.
    pub attributes: Attributes,
}

/// An entry of a directory.
#[derive(Clone, Debug)]
pub struct HostName {
    /// Its name.
    pub name: Vec<u8>,
    /// Its kind.
    pub kind: Kind,
    /// Which node it is.
    pub identity: HostIdentity,
}

#[cfg(all(test, unix))]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn links_are_seen_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("inside");
        std::fs::create_dir_all(inside.join("d")).unwrap();
        std::fs::write(inside.join("d/f"), "text").unwrap();
        std::fs::write(folder.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("..", inside.join("up")).unwrap();
        let tree = HostTree::open(&inside).unwrap();
        let look = |path: &[&[u8]]| tree.look(path);
        assert_eq!(look(&[b"d", b"f"]).unwrap().unwrap().attributes.size, 4);
        assert_eq!(look(&[b"up"]).unwrap().unwrap().attributes.kind, Kind::Symlink);
        assert_eq!(tree.read_link(&[b"up"]).unwrap(), b"..");
        assert!(look(&[b"nothing"]).unwrap().is_none());
        assert!(look(&[b"up", b"secret"]).is_err());
        assert!(tree.open_file(&[b"up", b"secret"]).is_err());
        let names: Vec<_> = tree.list(&[]).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), 2);
    }
}

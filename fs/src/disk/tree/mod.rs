//! A directory tree of the host, read by paths that never leave it and never pass through a symbolic link.

#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod platform;

use crate::node::Attributes;

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
    /// What it names.
    pub node: HostNode,
}

#[cfg(all(test, unix))]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use crate::node::Kind;

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

    #[test]
    fn with_a_directory_kept_open_every_path_still_leads_where_it_did() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a/b/c", "a/bc", "d"] {
            std::fs::create_dir_all(folder.path().join(path)).unwrap();
            std::fs::write(folder.path().join(path).join("f"), path).unwrap();
        }
        std::os::unix::fs::symlink("b", folder.path().join("a/link")).unwrap();
        let tree = HostTree::open(folder.path()).unwrap().keeping_open();
        let read = |path: &str| {
            let names: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
            tree.open_file(&names).ok().and_then(|file| std::io::read_to_string(file).ok())
        };
        for path in ["a/b/c", "a/b/c", "a/bc", "d", "a/b/c", "d", "a/bc"] {
            assert_eq!(read(&format!("{path}/f")).as_deref(), Some(path));
        }
        for path in ["a/link/c/f", "a/f/f", "b/c/f", "a/b/f"] {
            assert_eq!(read(path), None, "{path}");
            assert_eq!(read("a/b/c/f").as_deref(), Some("a/b/c"), "after {path}");
        }
        assert_eq!(tree.list(&[b"a"]).unwrap().len(), 3);
        assert_eq!(tree.list(&[]).unwrap().len(), 2);
        // As long as it is the last one, it is the same one.
        assert!(tree.look(&[b"d", b"f"]).unwrap().is_some());
        std::fs::rename(folder.path().join("d"), folder.path().join("e")).unwrap();
        assert!(tree.look(&[b"d", b"f"]).unwrap().is_some());
        assert!(tree.look(&[b"e", b"f"]).unwrap().is_some());
        assert!(tree.look(&[b"d", b"f"]).is_err());
    }
}

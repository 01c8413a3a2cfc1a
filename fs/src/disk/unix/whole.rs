//! Whole trees: how much they take, and taking them away.
//!
//! **Invariant:** no symbolic link is followed and no other file system is entered, so that a tree that somebody
//! prepared for it never makes this remove or count anything outside.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::Arc;

use super::{Directory, Erasure, Spot, Stat};
use crate::disk::DiskError;
use crate::node::{Kind, Timestamp};

/// Directories below this many others are moved up before they are emptied, so that no depth of a tree takes more
/// open files than this.
const DEEPEST: usize = 64;

/// How often a directory is listed again in which somebody else keeps making something.
const AGAIN: u32 = 100;

/// What a tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeSize {
    /// Bytes that it takes on disk; what has several names counts once.
    pub bytes: u64,
    /// Names in it that are no directories.
    pub files: u64,
    /// When a regular file in it was last read or written, as far as the disk keeps track of that.
    pub used: Option<Timestamp>,
}

impl TreeSize {
    /// Adds what another tree holds.
    pub fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.files = self.files.saturating_add(other.files);
        self.used = self.used.max(other.used);
    }
}

/// A directory of a tree, and what is left to be done in it.
struct Level {
    directory: Arc<Directory>,
    name: Vec<u8>,
    left: Vec<Vec<u8>>,
    /// How often it was found not empty after all.
    again: u32,
}

impl Directory {
    /// Measures `name` and everything in it. What cannot be looked at counts nothing.
    #[must_use]
    pub fn measure(&self, name: &[u8]) -> TreeSize {
        let mut size = TreeSize::default();
        let Ok(Some(root)) = self.stat(name) else { return size };
        let mut several = HashSet::new();
        let mut count = |stat: &Stat| {
            let attributes = &stat.attributes;
            let is_directory = attributes.kind == Kind::Directory;
            if is_directory || attributes.links < 2 || several.insert((stat.disk, stat.inode)) {
                size.bytes = size.bytes.saturating_add(attributes.blocks.saturating_mul(512));
            }
            size.files += u64::from(!is_directory);
            if attributes.kind == Kind::File {
                size.used = size.used.max(Some(attributes.accessed.max(attributes.modified)));
            }
        };
        count(&root);
        // One open directory for each level; where that is too many, what lies deeper counts nothing.
        let mut open: Vec<Level> = Vec::new();
        if root.attributes.kind == Kind::Directory {
            open.extend(Level::list(self, name));
        }
        while let Some(at) = open.last_mut() {
            let Some(below) = at.left.pop() else {
                open.pop();
                continue;
            };
            let Ok(Some(stat)) = at.directory.stat(&below) else { continue };
            // A mount in there is not part of the tree.
            if stat.disk != root.disk {
                continue;
            }
            count(&stat);
            if stat.attributes.kind == Kind::Directory {
                let level = Level::list(&at.directory, &below);
                open.extend(level);
            }
        }
        size
    }

    /// Removes `name` and everything in it, also directories that their owner made unreadable. What somebody else
    /// removes meanwhile is fine. With [`Erasure::Overwrite`] the content of each file goes before its last name, unless
    /// it has another one outside.
    ///
    /// # Errors
    /// The first thing that could not be removed; `ErrorKind::CrossesDevices` where something is mounted in there.
    pub fn remove_whole(self: &Arc<Self>, name: &[u8], erasure: Erasure) -> Result<(), DiskError> {
        let Some(root) = self.stat(name)? else { return Ok(()) };
        if root.attributes.kind != Kind::Directory {
            Spot::named(self, name).erase(erasure)?;
            return unless_gone(self.unlink(name)).map(drop);
        }
        let mut moved_up = 0_u64;
        let mut open: Vec<Level> = Level::open_up(self, name, &root)?.into_iter().collect();
        while let Some(at) = open.last_mut() {
            let Some(below) = at.left.pop() else {
                let Some(done) = open.pop() else { break };
                let above = open.last().map_or(self, |level| &level.directory);
                match above.remove_directory(&done.name) {
                    // Something was put in there since it was listed.
                    Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && done.again < AGAIN => {
                        let left = unless_gone(names(&done.directory))?;
                        open.extend(left.map(|left| Level { left, again: done.again + 1, ..done }));
                    }
                    result => drop(unless_gone(result)?),
                }
                continue;
            };
            let directory = Arc::clone(&at.directory);
            let Some(stat) = directory.stat(&below)? else { continue };
            if stat.attributes.kind != Kind::Directory {
                Spot::named(&directory, &below).erase(erasure)?;
                unless_gone(directory.unlink(&below))?;
            } else if stat.disk != root.disk {
                let reason = std::io::Error::new(ErrorKind::CrossesDevices, "something is mounted there");
                return Err(DiskError::new("remove", directory.shown(&below), reason));
            } else if open.len() < DEEPEST {
                open.extend(Level::open_up(&directory, &below, &stat)?);
            } else {
                let aside = format!(".slotfs-{}-{moved_up}", std::process::id()).into_bytes();
                moved_up += 1;
                if unless_gone(directory.rename(&below, &open[0].directory, &aside))?.is_some() {
                    open[0].left.push(aside);
                }
            }
        }
        Ok(())
    }
}

impl Level {
    fn list(above: &Directory, name: &[u8]) -> Result<Self, DiskError> {
        let directory = Arc::new(above.child(name)?);
        Ok(Self { left: names(&directory)?, directory, name: name.to_vec(), again: 0 })
    }

    /// Opens the directory `name` for being emptied, if it is still there. Its owner may do that whatever its mode is.
    fn open_up(above: &Arc<Directory>, name: &[u8], stat: &Stat) -> Result<Option<Self>, DiskError> {
        if stat.attributes.mode & 0o700 != 0o700 {
            unless_gone(Spot::named(above, name).set_mode(0o700))?;
        }
        unless_gone(Self::list(above, name))
    }
}

fn names(directory: &Directory) -> Result<Vec<Vec<u8>>, DiskError> {
    Ok(directory.list()?.into_iter().map(|listed| listed.name).collect())
}

/// Returns `None` where somebody else was quicker.
fn unless_gone<T>(result: Result<T, DiskError>) -> Result<Option<T>, DiskError> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_goes_whole_and_nothing_outside_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let place = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(place("tree/closed/in")).unwrap();
        std::fs::create_dir_all(place("tree/read-only")).unwrap();
        std::fs::create_dir_all(place("outside")).unwrap();
        std::fs::write(place("outside/kept"), b"kept").unwrap();
        std::fs::write(place("tree/closed/in/file"), b"x").unwrap();
        std::fs::write(place("tree/read-only/file"), b"x").unwrap();
        symlink("../outside", place("tree/link")).unwrap();
        let mode = |path: &str, mode| {
            std::fs::set_permissions(place(path), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode("tree/closed", 0o000);
        mode("tree/read-only", 0o500);
        let root = Arc::new(Directory::open(folder.path()).unwrap());
        root.remove_whole(b"tree", Erasure::None).unwrap();
        root.remove_whole(b"tree", Erasure::None).unwrap();
        assert!(!place("tree").exists());
        assert_eq!(std::fs::read(place("outside/kept")).unwrap(), b"kept");
    }

    #[test]
    fn a_tree_deeper_than_files_may_be_open_goes() {
        let folder = tempfile::tempdir().unwrap();
        let root = Arc::new(Directory::open(folder.path()).unwrap());
        root.make_directory(b"tree", 0o700).unwrap();
        let mut at = root.child(b"tree").unwrap();
        for _ in 0..DEEPEST + 20 {
            at.make_directory(b"directory-with-a-long-name", 0o700).unwrap();
            at.create_file(b"file", 0o600).unwrap();
            at = at.child(b"directory-with-a-long-name").unwrap();
        }
        assert_eq!(root.measure(b"tree").files, DEEPEST as u64 + 20);
        root.remove_whole(b"tree", Erasure::None).unwrap();
        assert_eq!(root.list().unwrap().len(), 0);
    }

    #[test]
    fn two_who_remove_one_tree_do_not_disturb_each_other() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..100 {
            let deep = folder.path().join(format!("tree/{}/{number}", number % 7));
            std::fs::create_dir_all(&deep).unwrap();
            std::fs::write(deep.join("file"), b"").unwrap();
        }
        let root = Arc::new(Directory::open(folder.path()).unwrap());
        let removed = std::thread::scope(|scope| {
            let other = scope.spawn(|| root.remove_whole(b"tree", Erasure::None));
            (root.remove_whole(b"tree", Erasure::None), other.join().unwrap())
        });
        assert!(removed.0.is_ok() && removed.1.is_ok(), "{removed:?}");
        assert_eq!(root.list().unwrap().len(), 0);
    }

    #[test]
    fn what_has_two_names_counts_once_and_times_are_the_latest() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tree")).unwrap();
        let file = folder.path().join("tree/file");
        std::fs::write(&file, [1; 100_000]).unwrap();
        let root = Directory::open(folder.path()).unwrap();
        let one = root.measure(b"tree");
        std::fs::hard_link(&file, folder.path().join("tree/link")).unwrap();
        let two = root.measure(b"tree");
        assert_eq!((one.files, two.files), (1, 2));
        assert!(one.bytes >= 100_000 && one.bytes == two.bytes, "{one:?} {two:?}");
        assert!(one.used.is_some_and(|used| used.seconds > 1_700_000_000));
        assert_eq!(root.measure(b"nothing"), TreeSize::default());
    }
}

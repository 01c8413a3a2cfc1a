//! A directory of the host as a layer. It may change under the volume, so nothing about it lasts, unless the user says that it
//! does not change.
//!
//! Nodes are numbered by their inode number where that fits, so that numbers are the same at the next mount.
//! What is remembered is one name per node that was met; content and attributes are asked for each time.
//!
//! **Invariant:** nothing outside the directory is read, whatever links it holds.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::marks::{self, Marks};
use super::{ExtendedAttributes, Layer, LayerError, LayerNode, Visit, VisitWhole};
use crate::disk::DiskError;
use crate::disk::range::FileRange;
use crate::disk::tree::{HostIdentity, HostName, HostTree};
use crate::node::{Attributes, Kind};

const ROOT: LayerNode = LayerNode(0);
/// How many files are kept open for reading.
const KEPT_OPEN: usize = 32;
/// How much of a file that will be read soon is asked for, in bytes; the kernel goes on by itself.
const EXPECTED: u64 = 1 << 20;

/// A directory of the host.
#[derive(Debug)]
pub struct DirectoryLayer {
    path: PathBuf,
    tree: HostTree,
    disk: u64,
    /// Whether the marks of overlayfs mean something.
    marked: bool,
    /// Whether nobody changes it.
    lasting: bool,
    /// Whether owners and modes are kept aside: the directory itself says so.
    overridden: bool,
    known: Mutex<Known>,
    open: Mutex<VecDeque<(LayerNode, Arc<File>)>>,
}

#[derive(Debug, Default)]
struct Known {
    nodes: HashMap<LayerNode, Place>,
}

/// Where a node was last met.
#[derive(Debug)]
struct Place {
    parent: LayerNode,
    name: Box<[u8]>,
    identity: HostIdentity,
}

impl DirectoryLayer {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// Names the path.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let tree = HostTree::open(path)?;
        let disk = tree.look(&[])?.map_or(0, |root| root.identity.disk);
        let open = Mutex::new(VecDeque::new());
        Ok(Self {
            path: path.to_path_buf(),
            tree,
            disk,
            marked: false,
            lasting: false,
            overridden: false,
            known: Mutex::default(),
            open,
        })
    }

    /// As [`Self::open`], for whoever goes through it once: the directory whose entries are being read stays open.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_once(path: &Path) -> Result<Self, DiskError> {
        let layer = Self::open(path)?;
        Ok(Self { tree: layer.tree.keeping_open(), ..layer })
    }

    /// As [`Self::open`], of a directory that may have been the upper directory of an overlay: its marks are
    /// honoured, and not shown. With `lasting` nobody changes it, so that what was seen of it once need not be looked at again.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_marked(path: &Path, lasting: bool) -> Result<Self, DiskError> {
        let layer = Self::open(path)?;
        let is_override =
            |(name, _): &(Vec<u8>, Vec<u8>)| name == marks::HAS_ASIDE || name == marks::OVERRIDE;
        // Who may not look at the directory's own attributes sees what the disk has.
        let overridden = layer.tree.extended_attributes(&[]).is_ok_and(|all| all.iter().any(is_override));
        Ok(Self { marked: true, lasting, overridden, ..layer })
    }

    /// Tells whether a node with these attributes can carry marks.
    fn may_be_marked(&self, attributes: &Attributes) -> bool {
        self.marked && matches!(attributes.kind, Kind::File | Kind::Directory)
    }

    /// Returns what is to be shown of what the host says about a node.
    fn shown(&self, node: LayerNode, found: Attributes) -> Result<Attributes, LayerError> {
        let empty = found.kind == Kind::File && found.size == 0;
        if empty && self.marked || self.overridden && self.may_be_marked(&found) {
            return Ok(marks::shown_attributes(found, &self.all_attributes(node)?, self.overridden));
        }
        Ok(found)
    }

    /// Returns the entries of a directory, sorted by name.
    fn list(&self, directory: LayerNode, after: Option<&[u8]>) -> Result<Vec<HostName>, LayerError> {
        let mut names = self.at(directory, None, |path| self.tree.list(path))?;
        names.retain(|entry| after.is_none_or(|after| *entry.name > *after));
        names.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(names)
    }

    fn all_attributes(&self, node: LayerNode) -> Result<ExtendedAttributes, LayerError> {
        self.at(node, None, |path| self.tree.extended_attributes(path))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `action` on the names that lead to `node`, and to `name` in it if that is given.
    fn at<T>(
        &self,
        node: LayerNode,
        name: Option<&[u8]>,
        action: impl FnOnce(&[&[u8]]) -> Result<T, DiskError>,
    ) -> Result<T, LayerError> {
        let mut names = Vec::new();
        {
            let known = self.known();
            let mut at = node;
            while at != ROOT {
                let place = known.nodes.get(&at).ok_or_else(|| self.unknown(node))?;
                names.push(place.name.clone());
                at = place.parent;
            }
        }
        let path: Vec<&[u8]> = names.iter().rev().map(|name| &**name).chain(name).collect();
        Ok(action(&path)?)
    }

    fn unknown(&self, node: LayerNode) -> LayerError {
        LayerError::Corrupt {
            slot: self.path.display().to_string(),
            path: format!("#{}", node.0),
            reason: "there is no such node".into(),
        }
    }

    fn number(&self, parent: LayerNode, name: &[u8], identity: HostIdentity) -> LayerNode {
        let other_disk = identity.disk.wrapping_sub(self.disk).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let wide = identity.inode ^ other_disk;
        let folded = u32::try_from(wide).unwrap_or(((wide >> 32) ^ wide) as u32);
        let mut known = self.known();
        let mut number = LayerNode(folded.max(1));
        while known.nodes.get(&number).is_some_and(|place| place.identity != identity) {
            number = LayerNode(number.0.checked_add(1).unwrap_or(1));
        }
        let place =
            known.nodes.entry(number).or_insert_with(|| Place { parent, name: name.into(), identity });
        if (place.parent, &*place.name) != (parent, name) {
            (place.parent, place.name) = (parent, name.into());
        }
        number
    }

    fn file(&self, node: LayerNode) -> Result<Arc<File>, LayerError> {
        let open = |files: &VecDeque<(LayerNode, Arc<File>)>| {
            files.iter().find(|(kept, _)| *kept == node).map(|(_, file)| Arc::clone(file))
        };
        let files = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open(&files()) {
            return Ok(file);
        }
        let file = Arc::new(self.at(node, None, |path| self.tree.open_file(path))?);
        let mut files = files();
        if files.len() >= KEPT_OPEN {
            files.pop_front();
        }
        files.push_back((node, Arc::clone(&file)));
        Ok(file)
    }
}

impl Layer for DirectoryLayer {
    fn root(&self) -> LayerNode {
        ROOT
    }

    fn lookup(&self, directory: LayerNode, name: &[u8]) -> Result<Option<LayerNode>, LayerError> {
        let found = self.at(directory, Some(name), |path| self.tree.look(path))?;
        Ok(found.map(|found| self.number(directory, name, found.identity)))
    }

    fn attributes(&self, node: LayerNode) -> Result<Attributes, LayerError> {
        let found = self.at(node, None, |path| {
            self.tree
                .look(path)?
                .ok_or_else(|| DiskError::new("stat", &self.path, std::io::ErrorKind::NotFound))
        })?;
        self.shown(node, found.attributes)
    }

    fn has_marks(&self) -> bool {
        self.marked
    }

    fn marks(&self, node: LayerNode, attributes: &Attributes) -> Result<Marks, LayerError> {
        // A device kept aside is the user's own, also 0/0.
        if attributes.kind == Kind::CharacterDevice && self.marked {
            let is_mark = |name: &[u8]| name == marks::NODE || name == marks::OVERRIDE;
            let aside = self.all_attributes(node)?.iter().any(|(name, _)| is_mark(name));
            return Ok(if aside { Marks::default() } else { Marks::of(attributes, &Vec::new()) });
        }
        if !self.may_be_marked(attributes) {
            return Ok(Marks::default());
        }
        Ok(Marks::of(attributes, &self.all_attributes(node)?))
    }

    fn read_directory(
        &self,
        directory: LayerNode,
        after: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), LayerError> {
        for entry in self.list(directory, after)? {
            let node = self.number(directory, &entry.name, entry.node.identity);
            if let ControlFlow::Break(()) = visit(&entry.name, node, entry.node.attributes.kind) {
                break;
            }
        }
        Ok(())
    }

    fn read_whole_directory(
        &self,
        directory: LayerNode,
        visit: &mut VisitWhole<'_>,
    ) -> Result<(), LayerError> {
        for entry in self.list(directory, None)? {
            let node = self.number(directory, &entry.name, entry.node.identity);
            visit(&entry.name, node, self.shown(node, entry.node.attributes)?);
        }
        Ok(())
    }

    fn read_link(&self, node: LayerNode) -> Result<Vec<u8>, LayerError> {
        self.at(node, None, |path| self.tree.read_link(path))
    }

    fn extended_attributes(&self, node: LayerNode) -> Result<ExtendedAttributes, LayerError> {
        let mut all = self.all_attributes(node)?;
        if self.marked {
            all = all
                .into_iter()
                .filter_map(|(name, value)| Some((marks::shown_name(&name)?, value)))
                .collect();
            all.sort_unstable();
        }
        Ok(all)
    }

    fn read(&self, node: LayerNode, offset: u64, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let file = self.file(node)?;
        let failed = |error| DiskError::new("read", &self.path, error);
        // The range ends where any file does.
        let Some(all) = FileRange::new(file, 0, i64::MAX.cast_unsigned()) else { return Ok(0) };
        let mut done = 0;
        while done < buffer.len() {
            match all.read_at(offset + done as u64, &mut buffer[done..]) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error).into()),
            }
        }
        Ok(done)
    }

    fn expect(&self, node: LayerNode, size: u64) {
        // Whoever reads it hears what is wrong.
        if let Some(content) = self.file(node).ok().and_then(|file| FileRange::new(file, 0, size)) {
            content.will_need(0, size.min(EXPECTED));
        }
    }

    fn host_file(&self, node: LayerNode) -> Result<Option<Arc<File>>, LayerError> {
        self.file(node).map(Some)
    }

    fn is_settled(&self) -> bool {
        self.lasting
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn shows_the_directory_as_it_is_now() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        std::fs::write(folder.path().join("d/one"), "first").unwrap();
        let layer = DirectoryLayer::open(folder.path()).unwrap();
        let d = layer.lookup(ROOT, b"d").unwrap().unwrap();
        let one = layer.lookup(d, b"one").unwrap().unwrap();
        let mut buffer = [0; 16];
        assert_eq!(layer.read(one, 2, &mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"rst");
        std::fs::write(folder.path().join("d/two"), "second").unwrap();
        let mut names = Vec::new();
        let mut visit = |name: &[u8], node: LayerNode, _| {
            names.push((name.to_vec(), node));
            ControlFlow::Continue(())
        };
        layer.read_directory(d, None, &mut visit).unwrap();
        assert_eq!((names.len(), &names[0]), (2, &(b"one".to_vec(), one)));
        std::fs::rename(folder.path().join("d/one"), folder.path().join("d/three")).unwrap();
        assert_eq!(layer.lookup(d, b"one").unwrap(), None);
        let three = layer.lookup(d, b"three").unwrap();
        assert!(three == Some(one) || cfg!(windows), "the number follows the file");
        assert_eq!(layer.attributes(three.unwrap()).unwrap().size, 5);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_former_upper_hides_moves_and_keeps_its_marks_to_itself() {
        use crate::layer::stack::{PlacedLayer, Stack};
        use rustix::fs::{XattrFlags, lsetxattr};

        let folder = tempfile::tempdir().unwrap();
        let [lower, upper] = ["lower", "upper"].map(|name| folder.path().join(name));
        for (directory, file) in
            [("lower/d", "old"), ("lower/o", "hidden"), ("upper/d", "new"), ("upper/o", "top")]
        {
            std::fs::create_dir_all(folder.path().join(directory)).unwrap();
            std::fs::write(folder.path().join(directory).join(file), file).unwrap();
        }
        std::fs::write(upper.join("d/old"), "").unwrap();
        std::fs::create_dir(upper.join("moved")).unwrap();
        std::fs::write(upper.join("bare"), [0; 3]).unwrap();
        let marks: [(&str, &[u8], &[u8]); 8] = [
            ("d/old", marks::WHITEOUT, b"y"),
            ("d", marks::OPAQUE, b"x"),
            ("o", marks::OPAQUE, b"y"),
            ("o", b"user.overlay.overlay.opaque", b"the user's"),
            ("moved", marks::REDIRECT, b"/d"),
            ("bare", marks::REDIRECT, b"d/old"),
            ("bare", marks::LENGTH, b"3:any"),
            ("bare", marks::METACOPY, b""),
        ];
        for (path, name, value) in marks {
            if lsetxattr(upper.join(path), name, value, XattrFlags::empty()).is_err() {
                // This disk keeps none; nor could it hold an upper directory.
                return;
            }
        }
        let placed = |path: &Path| PlacedLayer {
            name: path.display().to_string(),
            layer: Arc::new(DirectoryLayer::open_marked(path, false).unwrap()),
            target: Vec::new(),
            writable: true,
        };
        let stack = Stack::new(vec![placed(&lower), placed(&upper)]);
        let find = |path: &str| stack.walk(path.split('/').map(str::as_bytes)).unwrap();
        let names = |path: &str| {
            let mut names = Vec::new();
            stack
                .list(&find(path).unwrap(), &mut |name, _, _| {
                    names.push(String::from_utf8_lossy(name).into_owned());
                    ControlFlow::Continue(())
                })
                .unwrap();
            names
        };
        assert_eq!(
            (names("d"), names("o"), names("moved")),
            (vec!["new".into()], vec!["top".into()], vec!["old".into()])
        );
        assert!(find("d/old").is_none() && find("o/hidden").is_none() && find("moved/old").is_some());
        let (layer, node) = find("bare").unwrap().content().unwrap();
        let mut buffer = [0; 8];
        assert_eq!(stack.layer(layer).layer.read(node, 0, &mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"old");
        let (layer, node) = find("o").unwrap().top().unwrap();
        let shown = stack.layer(layer).layer.extended_attributes(node).unwrap();
        assert_eq!(shown, [(marks::OPAQUE.to_vec(), b"the user's".to_vec())]);
        // Another file in the place of the content is not taken for it.
        std::fs::write(lower.join("d/old"), "longer").unwrap();
        assert!(stack.walk([b"bare".as_slice()]).is_err());
    }
}

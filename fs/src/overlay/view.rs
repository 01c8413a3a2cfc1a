//! Looking at an upper directory that somebody else may have open: nothing is locked, changed or cleared.
//!
//! **Invariant:** what vanishes while it is looked at is as if it had not been there; a volume that works over the
//! same directory is never in the way and never disturbed.

use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::aside::Aside;
use super::format::{self, Found};
use super::{Upper, index};
use crate::disk::DiskError;
use crate::disk::unix::{Directory, Spot, Stat};
use crate::node::{Attributes, Kind};

/// An upper directory to look at.
#[derive(Debug)]
pub struct View {
    root: Arc<Directory>,
    index: Option<Arc<Directory>>,
    /// By number of the layers' node: inode of the copied-up file in the index.
    numbers: HashMap<u64, u64>,
    /// By inode of the copied-up file in the index: number of the layers' node.
    copies: HashMap<u64, u64>,
    /// What is shown and is not on the disk.
    aside: Arc<Aside>,
    /// Nodes of the layers whose remaining names are counted.
    counted: Vec<u64>,
}

/// What is under one name.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What the host says about it.
    pub stat: Stat,
    /// What it means.
    pub found: Found,
    /// Whether it is a copy of something in the layers.
    pub copied: bool,
}

/// Returns `None` for what is not there any more.
///
/// # Errors
/// What the host reports else.
pub fn present<T>(result: Result<T, DiskError>) -> Result<Option<T>, DiskError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

impl View {
    /// Opens the upper directory at `upper`; `None` where there is none.
    ///
    /// # Errors
    /// What the host reports.
    pub fn open(upper: &Path) -> Result<Option<Self>, DiskError> {
        let Some(root) = present(Directory::open(upper))? else { return Ok(None) };
        let index = present(Directory::open(&index::beside(upper)))?.map(Arc::new);
        let root = Arc::new(root);
        let aside = Arc::new(Aside::load(&root, index.as_ref())?);
        Self::over(root, index, aside).map(Some)
    }

    /// Looks at an upper directory that this process has open.
    ///
    /// # Errors
    /// What the host reports.
    pub fn of(upper: &Upper) -> Result<Self, DiskError> {
        let (root, index) = (Arc::clone(upper.root()), Arc::clone(upper.index_directory()));
        Self::over(root, Some(index), Arc::clone(upper.aside()))
    }

    fn over(
        root: Arc<Directory>,
        index: Option<Arc<Directory>>,
        aside: Arc<Aside>,
    ) -> Result<Self, DiskError> {
        let (mut numbers, mut counted) = (HashMap::new(), Vec::new());
        for listed in index.as_ref().map_or(Ok(Vec::new()), |index| index.list())? {
            match index::parse(&listed.name) {
                Some((number, false)) => drop(numbers.insert(number, listed.inode)),
                Some((number, true)) => counted.push(number),
                None => {}
            }
        }
        let copies = numbers.iter().map(|(number, inode)| (*inode, *number)).collect();
        Ok(Self { root, index, numbers, copies, aside, counted })
    }

    /// Returns the upper directory.
    #[must_use]
    pub fn root(&self) -> &Arc<Directory> {
        &self.root
    }

    /// Tells whether the upper was last used over other layers than those with the fingerprint `layers`.
    ///
    /// # Errors
    /// What the host reports.
    pub fn is_over_others(&self, layers: &str) -> Result<bool, DiskError> {
        let Some(index) = &self.index else { return Ok(false) };
        let known = present(Spot::named(index, index::LAYERS).read_link())?;
        Ok(known.is_some_and(|known| known != layers.as_bytes()))
    }

    /// Returns the copy that shows under every name of the layers' node `number`, if there is one. `layers` is the
    /// fingerprint of the layers; copies over others are not looked at.
    ///
    /// # Errors
    /// What the host reports.
    pub fn copy_of(&self, number: u64, layers: &str) -> Result<Option<Spot>, DiskError> {
        let Some(index) = self.index.as_ref().filter(|_| self.numbers.contains_key(&number)) else {
            return Ok(None);
        };
        let spot = Spot::named(index, &index::file_name(number));
        Ok(Some(spot).filter(|_| is_about(index, layers)))
    }

    /// Returns every node of the layers that the index knows something about.
    pub(super) fn indexed_numbers(&self, layers: &str) -> BTreeSet<u64> {
        let index = self.index.as_ref().filter(|index| is_about(index, layers));
        let known = index.map(|_| self.numbers.keys().chain(&self.counted));
        known.into_iter().flatten().copied().collect()
    }

    /// Returns the nodes of the layers that have a copy and names left that show it without being in the upper.
    pub(super) fn numbers_with_names_left(&self, layers: &str) -> Result<BTreeSet<u64>, DiskError> {
        let mut left = BTreeSet::new();
        let Some(index) =
            self.index.as_ref().filter(|index| !self.counted.is_empty() && is_about(index, layers))
        else {
            return Ok(left);
        };
        for number in self.counted.iter().filter(|number| self.numbers.contains_key(number)) {
            let count = present(Spot::named(index, &index::left_name(*number)).read_link())?;
            if count.is_some_and(|count| count != b"0") {
                left.insert(*number);
            }
        }
        Ok(left)
    }

    /// Returns which node of the layers the upper's file `inode` is a copy of, if the index has it.
    pub(super) fn number_of(&self, inode: u64) -> Option<u64> {
        self.copies.get(&inode).copied()
    }

    /// Returns what is kept aside.
    pub(super) fn aside(&self) -> &Aside {
        &self.aside
    }

    /// Returns `stat`, which the host says of `spot`, as the volume shows it.
    pub(super) fn shown(&self, spot: &Spot, stat: &Stat) -> Result<Attributes, DiskError> {
        self.aside.shown(spot, stat)
    }

    /// Looks at `name` in `directory`; `None` when nothing is there.
    ///
    /// # Errors
    /// What the host reports.
    pub fn examine(&self, directory: &Arc<Directory>, name: &[u8]) -> Result<Option<Seen>, DiskError> {
        let Some((stat, found)) = present(format::look(directory, name, &self.aside))?.flatten() else {
            return Ok(None);
        };
        let carries = matches!(stat.attributes.kind, Kind::File | Kind::Directory);
        let noted = match Spot::named(directory, name).xattr(format::INODE) {
            // A file that may not be read keeps it to itself.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
            other => present(other)?.flatten(),
        };
        let copied = self.copies.contains_key(&stat.inode) || carries && noted.is_some();
        Ok(Some(Seen { stat, found, copied }))
    }
}

/// Tells whether the numbers in the index are about these layers.
fn is_about(index: &Arc<Directory>, layers: &str) -> bool {
    let known = Spot::named(index, index::LAYERS).read_link();
    known.is_ok_and(|known| known == layers.as_bytes())
}

/// The part of a volume that is asked about: everything, or what is at and below some paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    paths: Vec<Vec<Vec<u8>>>,
}

impl Scope {
    /// What is at or below `paths`; everything when there are none, or one is the root.
    #[must_use]
    pub fn of(mut paths: Vec<Vec<Vec<u8>>>) -> Self {
        if paths.iter().any(Vec::is_empty) {
            paths.clear();
        }
        Self { paths }
    }

    /// Tells whether it is everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.paths.is_empty()
    }

    /// Returns the paths; none stands for everything.
    #[must_use]
    pub fn paths(&self) -> &[Vec<Vec<u8>>] {
        &self.paths
    }

    /// Tells whether `path` belongs to it.
    #[must_use]
    pub fn holds(&self, path: &[Vec<u8>]) -> bool {
        self.is_everything() || self.paths.iter().any(|wanted| path.starts_with(wanted))
    }

    /// Tells whether something below the directory `path` may belong to it.
    #[must_use]
    pub fn reaches_below(&self, path: &[Vec<u8>]) -> bool {
        self.holds(path) || self.paths.iter().any(|wanted| wanted.starts_with(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<Vec<u8>> {
        text.split('/').filter(|name| !name.is_empty()).map(|name| name.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_scope_holds_whole_names_and_is_reached_from_above() {
        let scope = Scope::of(vec![path("a/b"), path("c")]);
        let table = [
            ("a/b", true, true),
            ("a/b/x", true, true),
            ("a/bb", false, false),
            ("a", false, true),
            ("", false, true),
            ("c", true, true),
            ("d", false, false),
        ];
        for (text, holds, reaches) in table {
            assert_eq!(
                (scope.holds(&path(text)), scope.reaches_below(&path(text))),
                (holds, reaches),
                "{text}"
            );
        }
        assert!(Scope::of(vec![path("a"), path("")]).holds(&path("z")));
        assert!(Scope::default().is_everything());
    }
}

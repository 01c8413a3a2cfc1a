//! The changes as a layer over the others: what it has to hold, and what it cannot hide because no archive of a package
//! says that something is gone.
//!
//! **Invariant:** what is told follows from the upper directory and the layers' names alone; no content is read.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::changes::{listed, shown_below};
use super::format::{Found, UpperEntry};
use super::shared::{names_of, shared_names};
use super::view::{Seen, View};
use crate::disk::unix::Directory;
use crate::layer::LayerError;
use crate::layer::stack::{Lower, PlacedLayer, Stack};
use crate::layer::without::Without;
use crate::node::Kind;

/// A path in a volume, name by name from the root.
pub type Path = Vec<Vec<u8>>;

/// What a layer over the others needs so that the tree is the volume's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Above {
    /// Paths that it has to hold as the volume shows them, with all directories on the way.
    pub held: BTreeSet<Path>,
    /// Paths that must not be in the layers any more, with all that is below them.
    pub gone: BTreeSet<Path>,
}

impl Above {
    /// Compares the upper directory with the layers. `strict`: what took the place of something of another kind must not be
    /// in the layers any more, either, because who unpacks one archive over the other would stumble over it.
    ///
    /// # Errors
    /// A layer or the host could not answer.
    pub fn of(view: &View, stack: &Stack, strict: bool) -> Result<Self, LayerError> {
        let mut walk = Walk {
            view,
            stack,
            strict,
            above: Self::default(),
            linked: BTreeSet::new(),
            waiting: Vec::new(),
        };
        let root = Some(stack.root()?);
        walk.waiting.push(Level {
            upper: Some((Arc::clone(view.root()), None)),
            shown: root.clone(),
            place: root,
            path: Path::new(),
            is_whole: false,
        });
        while let Some(level) = walk.waiting.pop() {
            walk.level(&level)?;
        }
        let (mut above, linked) = (walk.above, walk.linked);
        for shared in shared_names(view, stack)?.into_iter().chain(names_of(view, stack, &linked)?) {
            for length in 1..=shared.path.len() {
                above.held.insert(shared.path[..length].to_vec());
            }
        }
        Ok(above)
    }

    /// Returns what is left of a layer.
    ///
    /// # Errors
    /// The layer could not answer.
    pub fn rest(&self, placed: &PlacedLayer) -> Result<Rest, LayerError> {
        let mut lost = Vec::new();
        for path in &self.gone {
            if placed.target.starts_with(path) {
                return Ok(Rest::Nothing);
            }
            let Some(inside) = path.strip_prefix(placed.target.as_slice()) else { continue };
            if !Without::new(Arc::clone(&placed.layer), [inside])?.is_whole() {
                lost.push(path.clone());
            }
        }
        if lost.is_empty() {
            return Ok(Rest::All);
        }
        let inside = lost.iter().filter_map(|path| path.strip_prefix(placed.target.as_slice()));
        Ok(Rest::Less(Arc::new(Without::new(Arc::clone(&placed.layer), inside)?), lost))
    }

    /// Tells whether nothing was changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.gone.is_empty()
    }
}

/// What is left of a layer below the changes.
#[derive(Clone, Debug)]
pub enum Rest {
    /// All of it.
    All,
    /// The layer without these paths of the volume.
    Less(Arc<Without>, Vec<Path>),
    /// Nothing: where it lies is gone.
    Nothing,
}

/// A directory that is still to be compared.
struct Level {
    /// As in the archive of changes: the directory above it in the upper, and its name there.
    upper: Option<(Arc<Directory>, Option<Vec<u8>>)>,
    /// What of the layers shows in it.
    shown: Option<Lower>,
    /// What the layers have at its path, whether it shows or not.
    place: Option<Lower>,
    path: Path,
    /// Whether what the layers have here does not show by itself.
    is_whole: bool,
}

struct Walk<'a> {
    view: &'a View,
    stack: &'a Stack,
    strict: bool,
    above: Above,
    /// Files of the layers with several names, one of which is held: the others have to be, too, to stay names of one file.
    linked: BTreeSet<u64>,
    waiting: Vec<Level>,
}

impl Walk<'_> {
    fn level(&mut self, level: &Level) -> Result<(), LayerError> {
        let mut names = BTreeSet::new();
        let mut upper = None;
        if let Some((parent, name)) = &level.upper {
            let Some((directory, listed)) = listed(parent, name.as_deref())? else { return Ok(()) };
            names.extend(listed);
            upper = Some(directory);
        }
        if level.is_whole {
            names.append(&mut self.names_in(level.shown.as_ref())?);
        }
        let mut visible = BTreeSet::new();
        for name in names {
            if self.name(level, upper.as_ref(), &name)? {
                visible.insert(name);
            }
        }
        if level.is_whole {
            for name in self.names_in(level.place.as_ref())?.difference(&visible) {
                self.above.gone.insert(below(&level.path, name));
            }
        }
        Ok(())
    }

    fn names_in(&self, directory: Option<&Lower>) -> Result<BTreeSet<Vec<u8>>, LayerError> {
        let mut names = BTreeSet::new();
        if let Some(directory) = directory {
            self.stack.list(directory, &mut |name, _, _| {
                names.insert(name.to_vec());
                ControlFlow::Continue(())
            })?;
        }
        Ok(names)
    }

    /// Looks at one name, and tells whether the volume shows something there.
    fn name(
        &mut self,
        level: &Level,
        upper: Option<&Arc<Directory>>,
        name: &[u8],
    ) -> Result<bool, LayerError> {
        let place = self.child(level.place.as_ref(), name)?;
        let shown = self.child(level.shown.as_ref(), name)?;
        let path = below(&level.path, name);
        let seen = match upper {
            Some(directory) => self.view.examine(directory, name)?,
            None => None,
        };
        let same = |seen: &Seen, place: &Lower| self.view.number_of(seen.stat.inode) == Some(place.inode());
        let is_replaced = match (&seen, &place) {
            (Some(seen), Some(place)) => !same(seen, place) && self.has_more_names(place)?,
            // What a directory that was moved here shows is something else.
            (None, Some(place)) if level.is_whole => {
                let is_other = shown.as_ref().is_some_and(|shown| shown.inode() != place.inode());
                is_other && self.has_more_names(place)?
            }
            _ => false,
        };
        let entry = match seen.map(|seen| seen.found) {
            Some(Found::Entry(entry)) => Some(entry),
            Some(Found::Whiteout) => {
                if place.is_some() {
                    self.above.gone.insert(path);
                }
                return Ok(false);
            }
            Some(Found::Nothing) | None => None,
        };
        let kind = match (&entry, &shown) {
            (Some(entry), _) => entry.attributes.kind,
            (None, Some(shown)) if level.is_whole => {
                if self.has_more_names(shown)? {
                    self.linked.insert(shown.inode());
                }
                shown.kind
            }
            (None, _) => return Ok(false),
        };
        let was_directory = place.as_ref().map(|place| place.kind == Kind::Directory);
        let is_other_kind = was_directory.is_some_and(|was| was != (kind == Kind::Directory));
        let hides_names = match &place {
            Some(place) if is_other_kind && place.kind == Kind::Directory => self.has_linked_files(place)?,
            _ => false,
        };
        // Where a file lost a name, the others say how many there are.
        if self.strict && is_other_kind || is_replaced || hides_names {
            self.above.gone.insert(path.clone());
        }
        self.above.held.insert(path.clone());
        if kind == Kind::Directory {
            let upper =
                upper.filter(|_| entry.is_some()).map(|parent| (Arc::clone(parent), Some(name.to_vec())));
            self.directory(level, entry.as_ref(), upper, (shown, place), path)?;
        }
        Ok(true)
    }

    /// Tells whether a file of the layers has other names.
    fn has_more_names(&self, lower: &Lower) -> Result<bool, LayerError> {
        Ok(lower.kind != Kind::Directory && self.stack.attributes(lower)?.links > 1)
    }

    /// Tells whether a directory of the layers holds, at any depth, files that have other names.
    fn has_linked_files(&self, directory: &Lower) -> Result<bool, LayerError> {
        let mut waiting = vec![directory.clone()];
        while let Some(directory) = waiting.pop() {
            for name in self.names_in(Some(&directory))? {
                let Some(child) = self.child(Some(&directory), &name)? else { continue };
                if self.has_more_names(&child)? {
                    return Ok(true);
                }
                if child.kind == Kind::Directory {
                    waiting.push(child);
                }
            }
        }
        Ok(false)
    }

    fn directory(
        &mut self,
        level: &Level,
        entry: Option<&UpperEntry>,
        upper: Option<(Arc<Directory>, Option<Vec<u8>>)>,
        (shown, place): (Option<Lower>, Option<Lower>),
        path: Path,
    ) -> Result<(), LayerError> {
        let covers = entry.is_some_and(|entry| entry.opaque || entry.redirect.is_some());
        let shown = match entry {
            Some(entry) => shown_below(self.stack, entry, shown)?,
            None => shown,
        };
        let place = place.filter(|place| place.kind == Kind::Directory);
        self.waiting.push(Level { upper, shown, place, path, is_whole: level.is_whole || covers });
        Ok(())
    }

    fn child(&self, directory: Option<&Lower>, name: &[u8]) -> Result<Option<Lower>, LayerError> {
        match directory {
            Some(directory) => self.stack.lookup(directory, name),
            None => Ok(None),
        }
    }
}

fn below(path: &[Vec<u8>], name: &[u8]) -> Path {
    [path, &[name.to_vec()]].concat()
}

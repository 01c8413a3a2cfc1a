//! `renameat2(2)`.
//!
//! What moves is in the upper directory first. A directory of the layers takes a redirect along, so that its
//! content follows; a directory of the upper that comes to lie over one of the layers becomes opaque. What then
//! happens is one rename on disk:
//!
//! | at the new name | a file moves | a directory moves |
//! |---|---|---|
//! | nothing | rename | rename |
//! | whiteout | rename over it | exchange with it |
//! | file | rename over it | refused |
//! | empty directory | refused | its marks are cleared, rename over it |
//!
//! and a whiteout is left at the old name where the layers would shine through.

use std::sync::Arc;

use super::copy_up::Need;
use super::look::{DirectoryView, Held, check_name, needs_look};
use super::remove::Fate;
use super::table::{LowerPath, Node};
use super::{FsError, NodeId, RenameMode, Volume, lock};
use crate::disk::unix::{Directory, NewSpecial, Spot, XattrFlag};
use crate::node::{Attributes, Kind};
use crate::overlay::Upper;
use crate::overlay::format::{self, Found};

/// One end of a rename, as found before.
#[derive(Debug)]
struct End<'a> {
    parent: DirectoryView,
    name: &'a [u8],
    /// Whether the layers hold something under this name.
    below: bool,
}

impl Volume {
    /// `renameat2(2)`.
    ///
    /// # Errors
    /// `NotFound`, `Exists`, `NotEmpty`, `IsDirectory`, `NotDirectory`, `NameTooLong`, `ReadOnly`, `Invalid` for
    /// a directory into itself, or what the upper's disk reports.
    pub fn rename(
        &self,
        parent: NodeId,
        name: &[u8],
        new_parent: NodeId,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), FsError> {
        let upper = self.writable_upper()?;
        check_name(new_name)?;
        loop {
            let from = self.end(parent, name)?;
            let to = self.end(new_parent, new_name)?;
            let moved = self.find_to_change(parent, name)?.ok_or(FsError::NotFound)?;
            let target = self.find_to_change(new_parent, new_name)?;
            if !self.check_rename(&from, &to, &moved, target.as_ref(), mode)? {
                return Ok(());
            }
            self.copy_up(&from.parent.node, Need::Attributes)?;
            self.copy_up(&to.parent.node, Need::Attributes)?;
            self.copy_up(&moved, Need::Attributes)?;
            let mut views = vec![&from.parent, &to.parent];
            let target_view = match &target {
                Some(target) if target.kind == Kind::Directory => Some(self.directory_view(target.id)?),
                _ => None,
            };
            if mode == RenameMode::Exchange {
                if let Some(target) = &target {
                    self.copy_up(target, Need::Attributes)?;
                }
            } else if let Some(view) = &target_view {
                if !self.list(view)?.entries.is_empty() {
                    return Err(FsError::NotEmpty);
                }
                views.push(view);
            }
            let links = target.as_ref().map_or(Ok(0), |target| self.original_links(target))?;
            let Some(_names) = self.names_if_unchanged(&views) else { continue };
            // Checked again now that nothing moves any more.
            self.check_loop(&moved, new_parent)?;
            let step = Move { volume: self, upper, from: &from, to: &to, moved: &moved, links };
            let renamed = match (mode, target) {
                (RenameMode::Exchange, Some(target)) => {
                    self.check_loop(&target, parent)?;
                    step.exchange(&target)
                }
                (_, target) => step.replace(target.as_deref(), target_view.as_ref(), mode),
            };
            self.count_again(&moved);
            return renamed;
        }
    }

    fn end<'a>(&self, parent: NodeId, name: &'a [u8]) -> Result<End<'a>, FsError> {
        check_name(name)?;
        let view = self.live_directory(parent)?;
        let below = self.shines_through(&view, name)?;
        Ok(End { parent: view, name, below })
    }

    /// `false` when there is nothing to do.
    fn check_rename(
        &self,
        from: &End<'_>,
        to: &End<'_>,
        moved: &Held<'_>,
        target: Option<&Held<'_>>,
        mode: RenameMode,
    ) -> Result<bool, FsError> {
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(FsError::Exists),
            (RenameMode::Exchange, None) => return Err(FsError::NotFound),
            // Two names of one file: nothing happens, says POSIX.
            (_, Some(target)) if target.id == moved.id => return Ok(false),
            (RenameMode::Replace | RenameMode::Whiteout, Some(target)) => {
                match (moved.kind == Kind::Directory, target.kind == Kind::Directory) {
                    (true, false) => return Err(FsError::NotDirectory),
                    (false, true) => return Err(FsError::IsDirectory),
                    (true, true) | (false, false) => {}
                }
            }
            _ => {}
        }
        if mode == RenameMode::Whiteout && !self.options.devices {
            return Err(FsError::NotPermitted);
        }
        self.check_loop(moved, to.parent.node.id)?;
        self.check_writable_name(from.parent.node.id, from.name)?;
        self.check_writable_name(to.parent.node.id, to.name)?;
        self.check_movable(moved)?;
        match target {
            Some(target) if mode == RenameMode::Exchange => self.check_movable(target)?,
            _ => {}
        }
        Ok(true)
    }

    fn check_loop(&self, moved: &Node, into: NodeId) -> Result<(), FsError> {
        if moved.kind == Kind::Directory && self.is_within(into, moved.id) {
            return Err(FsError::Invalid("a directory cannot be moved into itself"));
        }
        Ok(())
    }
}

/// A rename that has passed all checks; the names are held.
struct Move<'a> {
    volume: &'a Volume,
    upper: &'a Upper,
    from: &'a End<'a>,
    to: &'a End<'a>,
    moved: &'a Arc<Node>,
    /// How many names the layers give what is replaced.
    links: u32,
}

impl Move<'_> {
    fn exchange(&self, target: &Arc<Node>) -> Result<(), FsError> {
        let (from, to) = (self.directory(self.from)?, self.directory(self.to)?);
        self.prepare(self.moved, &from, self.from.name, self.to.below)?;
        self.prepare(target, &to, self.to.name, self.from.below)?;
        let (moved, target) = (Arc::clone(self.moved), Arc::clone(target));
        self.materialise(&moved, &from, self.from.name)?;
        self.materialise(&target, &to, self.to.name)?;
        self.mark_numbers(&moved, self.to, &to)?;
        self.mark_numbers(&target, self.from, &from)?;
        from.exchange(self.from.name, &to, self.to.name)?;
        self.touched();
        let mut table = lock(&self.volume.table);
        table.detach(self.from.parent.node.id, self.from.name);
        table.detach(self.to.parent.node.id, self.to.name);
        table.attach(self.to.parent.node.id, &Arc::from(self.to.name), moved.id);
        table.attach(self.from.parent.node.id, &Arc::from(self.from.name), target.id);
        Ok(())
    }

    fn replace(
        &self,
        target: Option<&Arc<Node>>,
        target_view: Option<&DirectoryView>,
        mode: RenameMode,
    ) -> Result<(), FsError> {
        let (from, to) = (self.directory(self.from)?, self.directory(self.to)?);
        self.prepare(self.moved, &from, self.from.name, self.to.below)?;
        self.materialise(self.moved, &from, self.from.name)?;
        self.mark_numbers(self.moved, self.to, &to)?;
        let fate = match target {
            Some(target) => Some((target, self.fate(target, target_view, &to)?)),
            None => None,
        };
        self.rename_on_disk(&from, &to)?;
        if mode == RenameMode::Whiteout {
            self.leave_device(&from)?;
        }
        self.touched();
        {
            let mut table = lock(&self.volume.table);
            table.detach(self.from.parent.node.id, self.from.name);
            table.detach(self.to.parent.node.id, self.to.name);
            table.attach(self.to.parent.node.id, &Arc::from(self.to.name), self.moved.id);
        }
        match fate {
            None => Ok(()),
            Some((target, fate)) if target.kind == Kind::Directory => {
                self.volume.mark_removed(target, fate.into_pinned());
                Ok(())
            }
            Some((target, fate)) => self.volume.after_unlink(self.upper, target, fate),
        }
    }

    /// Finds out what becomes of what is replaced; a directory is emptied of its marks.
    fn fate(
        &self,
        target: &Arc<Node>,
        view: Option<&DirectoryView>,
        to: &Arc<Directory>,
    ) -> Result<Fate, FsError> {
        let fate = self.volume.before_unlink(self.upper, target, self.links, to, self.to.name)?;
        if let Some(view) = view
            && self.volume.is_upper(target.id)
        {
            self.volume.clear_marks(view, &self.volume.upper_directory(target.id)?)?;
        }
        Ok(fate)
    }

    fn rename_on_disk(&self, from: &Arc<Directory>, to: &Arc<Directory>) -> Result<(), FsError> {
        let (name, new_name) = (self.from.name, self.to.name);
        if self.from.below {
            self.volume.expect_whiteout(self.from.parent.node.id, from)?;
        }
        let over_whiteout = matches!(self.upper.examine(to, new_name, false)?, Found::Whiteout);
        if over_whiteout && self.moved.kind == Kind::Directory {
            self.upper.expect_whiteouts(from)?;
            from.exchange(name, to, new_name)?;
            if !self.from.below {
                from.unlink(name)?;
            }
            return Ok(());
        }
        if self.from.below {
            return Ok(self.upper.rename_covering(from, name, to, new_name)?);
        }
        Ok(from.rename(name, to, new_name)?)
    }

    /// Makes sure that a directory's content goes with it, and nothing else shines through at the new place.
    fn prepare(
        &self,
        node: &Arc<Node>,
        directory: &Arc<Directory>,
        name: &[u8],
        below: bool,
    ) -> Result<(), FsError> {
        if node.kind != Kind::Directory {
            return Ok(());
        }
        let spot = Spot::named(directory, name);
        let is_opaque = lock(&self.volume.table)
            .slot(node.id)
            .is_some_and(|slot| slot.upper.is_some_and(|upper| upper.opaque));
        if node.lower.is_some() && !is_opaque {
            let redirect = path_of(node.lower_path.as_ref());
            return Ok(spot.set_xattr(format::REDIRECT, &redirect, XattrFlag::Set)?);
        }
        if below && !is_opaque {
            spot.set_xattr(format::OPAQUE, b"y", XattrFlag::Set)?;
            let mut table = lock(&self.volume.table);
            if let Some(state) = table.slot_mut(node.id).and_then(|slot| slot.upper.as_mut()) {
                state.opaque = true;
            }
        }
        Ok(())
    }

    /// A copy in the index may not have this name on disk yet.
    fn materialise(&self, node: &Node, directory: &Arc<Directory>, name: &[u8]) -> Result<(), FsError> {
        if !matches!(self.upper.examine(directory, name, false)?, Found::Nothing) {
            return Ok(());
        }
        directory.link(&self.volume.upper_spot(node)?, name)?;
        if let Some(left) = self.upper.names_left(node.inode) {
            self.upper.set_names_left(node.inode, left.saturating_sub(1))?;
        }
        Ok(())
    }

    fn mark_numbers(&self, node: &Node, end: &End<'_>, directory: &Arc<Directory>) -> Result<(), FsError> {
        if needs_look(node) {
            self.volume.mark_impure(end.parent.node.id, directory)?;
        }
        Ok(())
    }

    /// `RENAME_WHITEOUT`: users see a 0/0 character device, which is kept aside.
    fn leave_device(&self, from: &Arc<Directory>) -> Result<(), FsError> {
        let prepared = self.upper.temporary();
        let new = NewSpecial { kind: Kind::CharacterDevice, mode: 0, device: 0 };
        self.volume.make_special(self.upper, &prepared, new)?;
        let own = prepared.spot().stat()?.map_or(Attributes::bare(Kind::File, 0), |stat| stat.attributes);
        self.upper.give_mode(&prepared.spot(), &Attributes { mode: 0, ..own })?;
        self.volume.mark_impure(self.from.parent.node.id, from)?;
        Ok(prepared.publish(from, self.from.name)?)
    }

    fn directory(&self, end: &End<'_>) -> Result<Arc<Directory>, FsError> {
        self.volume.upper_directory(end.parent.node.id)
    }

    fn touched(&self) {
        self.volume.touched(self.from.parent.node.id);
        self.volume.touched(self.to.parent.node.id);
    }
}

/// Writes a path in the layers as overlayfs writes redirects: from the root, with a slash first.
fn path_of(path: Option<&Arc<LowerPath>>) -> Vec<u8> {
    let mut names = Vec::new();
    let mut at = path;
    while let Some(step) = at {
        names.push(&step.name);
        at = step.parent.as_ref();
    }
    names.iter().rev().fold(Vec::new(), |mut text, name| {
        text.push(b'/');
        text.extend_from_slice(name);
        text
    })
}

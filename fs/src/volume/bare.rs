//! Files that were copied up without their content, because only their attributes or names were changed.
//!
//! Such a copy is a sparse file that says where in the layers its content is. It is read from there until somebody
//! opens it for writing or cuts it; then the content is brought, into that same file, so that all its names keep
//! showing it. The mark that it is bare goes last.
//!
//! **Invariant:** a file without the mark has its content, on disk; a crash in between leaves a bare copy as before.

use std::fs::File;
use std::sync::Arc;

use super::look::Held;
use super::room::full;
use super::table::{Bare, NewNode, Node};
use super::{FsError, NodeId, Volume, lock};
use crate::disk::unix::{
    SetTimes, Spot, XattrFlag, allocate, begin_to_sync, clone_file, copy_inside, set_length, write_sparse,
};
use crate::disk::{Context, DiskError};
use crate::layer::LayerError;
use crate::layer::stack::Lower;
use crate::node::{Attributes, Kind};
use crate::overlay::allowance::Room;
use crate::overlay::format::{BareCopy, Found, bare_copy};
use crate::overlay::shared::{SharedName, shared_names};
use crate::overlay::{Temporary, Upper, View};

/// How much is copied at a time, in bytes.
const PIECE: usize = 1 << 20;

/// What lets a program do more than its user, `capabilities(7)`.
const CAPABILITY: &[u8] = b"security.capability";

/// `FALLOC_FL_PUNCH_HOLE` and `FALLOC_FL_KEEP_SIZE`, fallocate(2).
const FREE: i32 = 3;

/// A file that was copied up without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BareFile {
    /// One of its names.
    pub path: Vec<Vec<u8>>,
    /// How long it is, in bytes.
    pub size: u64,
}

impl Volume {
    /// Tells whether the node's copy has attributes only.
    pub(super) fn bare(&self, id: NodeId) -> Option<Bare> {
        self.upper.as_ref()?;
        lock(&self.table).slot(id).and_then(|slot| slot.bare)
    }

    /// Describes a bare copy as found in the upper directory. What lies in the layers now is its content only if they are
    /// the same ones, and it is as long as it was.
    pub(super) fn bare_from(
        &self,
        content: Option<Lower>,
        copy: &BareCopy,
        size: u64,
    ) -> Result<(Option<Lower>, Option<Bare>), FsError> {
        let Some(content) = content else { return Ok((None, Some(Bare { size, blocks: 0 }))) };
        let attributes = self.stack.attributes(&content)?;
        let layers = self.upper.as_ref().and_then(Upper::layers).unwrap_or_default();
        let fits = copy.fits(layers, &attributes, size);
        let bare = Bare { size, blocks: attributes.blocks };
        Ok((fits.then_some(content), Some(bare)))
    }

    /// Describes the copy in the index, found under a name that only the layers have.
    pub(super) fn bare_of_index(&self, upper: &Upper, new: &NewNode) -> Result<Option<Bare>, FsError> {
        if new.kind != Kind::File {
            return Ok(None);
        }
        let spot = upper.indexed_spot(new.inode);
        let Some(copy) = bare_copy(&spot)? else { return Ok(None) };
        let size = spot.stat()?.map_or(0, |stat| stat.attributes.size);
        Ok(self.bare_from(new.lower.clone(), &copy, size)?.1)
    }

    /// Prepares a bare copy of a file that only the layers hold; `None` where it has to be a whole one.
    pub(super) fn prepare_bare(
        &self,
        upper: &Upper,
        node: &Node,
        prepared: &Temporary<'_>,
        attributes: &Attributes,
    ) -> Result<Option<Bare>, FsError> {
        let wanted = self.options.bare_copies.is_some_and(|least| attributes.size >= least.max(1));
        if node.kind != Kind::File || !wanted {
            return Ok(None);
        }
        let Some(path) = self.path_in_layers(node)? else { return Ok(None) };
        upper.expect_bare_copies()?;
        let file = upper.work().create_file(prepared.name(), 0o600)?;
        if let Some(allowance) = &self.allowance {
            allowance.begin(Room::of_file(&file)?);
        }
        set_length(&file, attributes.size)?;
        match upper.mark_bare(&prepared.spot(), &path, attributes.size) {
            // Durable before it hides the original.
            Ok(()) => file.sync_all().context("sync", "a copied-up file")?,
            Err(error) => {
                // The path may be longer than the disk's attributes.
                tracing::debug!("the whole file is copied: {error}");
                upper.work().unlink(prepared.name())?;
                if let Some(allowance) = &self.allowance {
                    allowance.abandoned(Room::of_file(&file)?);
                }
                return Ok(None);
            }
        }
        Ok(Some(Bare { size: attributes.size, blocks: attributes.blocks }))
    }

    /// Returns the path that leads to the content of `node`, which only the layers hold; `None` when there is none.
    fn path_in_layers(&self, node: &Node) -> Result<Option<Vec<u8>>, FsError> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        {
            let table = lock(&self.table);
            let Some((parent, name)) = table.slot(node.id).and_then(|slot| slot.names.first()) else {
                return Ok(None);
            };
            names.push(name.to_vec());
            let mut at = table.slot(*parent).and_then(|slot| slot.node.lower_path.as_ref());
            while let Some(step) = at {
                names.push(step.name.to_vec());
                at = step.parent.as_ref();
            }
        }
        let found = self.stack.walk(names.iter().rev().map(Vec::as_slice))?;
        let content = node.lower.as_ref().and_then(Lower::content);
        if content.is_none() || found.and_then(|found| found.content()) != content {
            return Ok(None);
        }
        Ok(Some(names.iter().rev().flat_map(|name| [b"/", name.as_slice()].concat()).collect()))
    }

    /// Brings the content of a bare copy, or only its first `keep` bytes, and makes it a copy like any other.
    pub(super) fn fill(&self, node: &Arc<Node>, keep: Option<u64>) -> Result<(), FsError> {
        let upper = self.writable_upper()?;
        let _alone = self.copying.begin(node.id);
        let Some(bare) = self.bare(node.id) else { return Ok(()) };
        let (file, before) = {
            let _names = self.names();
            let spot = self.upper_spot(node)?;
            let before = Privileges::of(&spot)?;
            (open_to_fill(&spot, before.attributes.mode)?, before)
        };
        if let Some(allowance) = &self.allowance {
            allowance.begin(Room::of_file(&file)?);
        }
        let length = keep.map_or(bare.size, |keep| keep.min(bare.size));
        let brought = match &node.lower {
            Some(lower) => self.bring(lower, &file, length),
            None if length == 0 => self.then_settled(&file, || cut(&file, 0)),
            None => Err(self.content_missing(node)),
        };
        if brought.is_err() && length > 0 {
            // What there is of it takes space for nothing. Where it cannot be freed, it still means nothing.
            if let Err(error) = self.counted(&file, || Ok(allocate(&file, FREE, 0, bare.size)?)) {
                tracing::debug!("{error}");
            }
        }
        {
            let _names = self.names();
            before.give_back(&self.upper_spot(node)?)?;
        }
        brought?;
        {
            let _names = self.names();
            upper.mark_filled(&self.upper_spot(node)?)?;
        }
        // The mark is gone for good before anything is written: fdatasync(2) need not take attributes along.
        file.sync_all().context("sync", "a copied-up file")?;
        if let Some(slot) = lock(&self.table).slot_mut(node.id) {
            slot.bare = None;
        }
        Ok(())
    }

    /// Writes the first `length` bytes of a file of the layers into `target`, if there is room for them, and makes that
    /// durable. A copy that is still bare is cut like this, too: what is left is the beginning of what is in the layers.
    pub(super) fn bring(&self, lower: &Lower, target: &File, length: u64) -> Result<(), FsError> {
        let _reserved = match self.allowance.as_ref().filter(|_| length > 0) {
            Some(allowance) => Some(allowance.reserve(length).ok_or_else(full)?),
            None => None,
        };
        self.then_settled(target, || {
            if length > 0 {
                self.pour(lower, target, length)?;
            }
            cut(target, length)
        })
    }

    /// Counts what came of a change before what was reserved for it is anybody's again.
    fn then_settled(&self, file: &File, change: impl FnOnce() -> Result<(), FsError>) -> Result<(), FsError> {
        let changed = change();
        if let Some(allowance) = &self.allowance {
            allowance.settle(|| Room::of_file(file))?;
        }
        changed
    }

    /// Tells whether there may be bare copies that slotfs has made here: without looking for them.
    ///
    /// # Errors
    /// What the upper's disk reports.
    pub fn may_have_bare_copies(&self) -> Result<bool, FsError> {
        Ok(self.writable_upper()?.may_have_bare_copies()?)
    }

    /// Finds every bare copy, whoever made it.
    ///
    /// # Errors
    /// What the upper's disk or a layer reports.
    pub fn bare_copies(&self) -> Result<Vec<BareFile>, FsError> {
        let upper = self.writable_upper()?;
        let mut found = Vec::new();
        let mut waiting = vec![(self.hold(NodeId::ROOT)?, Vec::new())];
        while let Some((directory, path)) = waiting.pop() {
            for name in self.worth_a_look(upper, directory.id)? {
                let Some(node) = self.find(directory.id, &name)? else { continue };
                let path = [path.as_slice(), &[name]].concat();
                if node.kind == Kind::Directory {
                    waiting.push((node, path));
                } else if let Some(Bare { size, .. }) = self.bare(node.id) {
                    found.push(BareFile { path, size });
                }
            }
        }
        // Copies whose last name in the upper directory is gone: the layers still have names for them.
        for SharedName { path, .. } in shared_names(&View::of(upper)?, &self.stack)? {
            let node = self.walk(&path)?;
            if let Some(Bare { size, .. }) = node.and_then(|node| self.bare(node.id)) {
                found.push(BareFile { path, size });
            }
        }
        Ok(found)
    }

    /// Brings the content of every bare copy, so that the upper directory is whole for others. `told` hears how many bytes
    /// each one has. Returns those that have no content any more.
    ///
    /// # Errors
    /// What the upper's disk reports, or a layer about content that is there.
    pub fn fill_all(&self, told: &mut dyn FnMut(u64)) -> Result<Vec<BareFile>, FsError> {
        let upper = self.writable_upper()?;
        let mut missing = Vec::new();
        for file in self.bare_copies()? {
            let Some(node) = self.walk(&file.path)? else { continue };
            if self.bare(node.id).is_some() && node.lower.is_none() {
                tracing::warn!("{}", self.content_missing(&node));
                missing.push(file);
            } else {
                self.fill(&node, None)?;
                told(file.size);
            }
        }
        if missing.is_empty() && upper.may_have_bare_copies()? {
            upper.expect_no_bare_copies()?;
        }
        Ok(missing)
    }

    fn walk(&self, path: &[Vec<u8>]) -> Result<Option<Held<'_>>, FsError> {
        let mut at = self.hold(NodeId::ROOT)?;
        for name in path {
            match self.find(at.id, name) {
                Ok(Some(next)) => at = next,
                Ok(None) | Err(FsError::NotDirectory) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(at))
    }

    /// Returns the names in a directory of the upper that are directories or bare copies.
    fn worth_a_look(&self, upper: &Upper, directory: NodeId) -> Result<Vec<Vec<u8>>, FsError> {
        let _names = self.names();
        let open = self.upper_directory(directory)?;
        let mut found = Vec::new();
        for listed in open.list()? {
            if let Found::Entry(entry) = upper.examine(&open, &listed.name, false)?
                && (entry.attributes.kind == Kind::Directory || entry.bare.is_some())
            {
                found.push(listed.name);
            }
        }
        Ok(found)
    }

    fn pour(&self, lower: &Lower, target: &File, length: u64) -> Result<(), FsError> {
        let Some((layer, at)) = lower.content() else { return Ok(()) };
        let layer = &self.stack.layer(layer).layer;
        if let Some(source) = layer.host_file(at)?
            && (clone_file(&source, target)? || copy_inside(&source, target, length)?)
        {
            return Ok(());
        }
        let mut buffer = vec![0; PIECE.min(usize::try_from(length).unwrap_or(PIECE))];
        let mut offset = 0;
        while offset < length {
            let wanted = usize::try_from(length - offset).unwrap_or(PIECE).min(buffer.len());
            let count = layer.read(at, offset, &mut buffer[..wanted])?;
            if count == 0 {
                break;
            }
            write_sparse(target, offset, &buffer[..count])?;
            begin_to_sync(target, offset, count as u64);
            offset += count as u64;
        }
        Ok(())
    }

    /// `pread(2)` of a file whose content is in the layers.
    pub(super) fn read_layers(&self, node: &Node, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        let bare = self.bare(node.id);
        let Some((layer, at)) = node.lower.as_ref().and_then(|lower| lower.content()) else {
            return if bare.is_some() { Err(self.content_missing(node)) } else { Ok(0) };
        };
        let shown = bare.map_or(u64::MAX, |bare| bare.size.saturating_sub(offset));
        let wanted = usize::try_from(shown).unwrap_or(usize::MAX).min(buffer.len());
        Ok(self.stack.layer(layer).layer.read(at, offset, &mut buffer[..wanted])?)
    }

    fn content_missing(&self, node: &Node) -> FsError {
        let name = lock(&self.table).slot(node.id).and_then(|slot| slot.names.first().cloned());
        let path = name.map(|(_, name)| String::from_utf8_lossy(&name).into_owned()).unwrap_or_default();
        let slot = self.upper.as_ref().map(|upper| upper.path().display().to_string()).unwrap_or_default();
        let reason = "it has attributes only, and its content is in none of the layers".into();
        LayerError::Corrupt { slot, path, reason }.into()
    }
}

/// Gives the file its length, durably with all that was written to it.
fn cut(file: &File, length: u64) -> Result<(), FsError> {
    set_length(file, length)?;
    Ok(file.sync_all().context("sync", "a copied-up file")?)
}

/// What the host changes when a file is written, although nobody who uses the volume has written yet: times, and bits and
/// capabilities that let a program do more.
struct Privileges {
    attributes: Attributes,
    capability: Option<Vec<u8>>,
}

impl Privileges {
    fn of(spot: &Spot) -> Result<Self, FsError> {
        let attributes = spot.stat()?.ok_or(FsError::NotFound)?.attributes;
        Ok(Self { attributes, capability: spot.xattr(CAPABILITY)? })
    }

    fn give_back(&self, spot: &Spot) -> Result<(), FsError> {
        let now = Self::of(spot)?;
        if now.attributes.mode != self.attributes.mode {
            spot.set_mode(self.attributes.mode)?;
        }
        if let Some(value) = self.capability.as_ref().filter(|_| now.capability.is_none())
            && let Err(error) = spot.set_xattr(CAPABILITY, value, XattrFlag::Set)
        {
            tracing::debug!("a capability is lost in copying up: {error}");
        }
        Ok(spot.set_times(SetTimes::of(&self.attributes))?)
    }
}

/// Opens the copy for writing, whatever its mode says about that: for a moment its owner may.
fn open_to_fill(spot: &Spot, mode: u32) -> Result<File, DiskError> {
    const OWNER: u32 = 0o600;
    match spot.open_file(true, false) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && mode & OWNER != OWNER => {
            spot.set_mode(mode | OWNER)?;
            let opened = spot.open_file(true, false);
            spot.set_mode(mode)?;
            opened
        }
        other => other,
    }
}

//! Where an entry goes: the rules of unpacking, applied to a tree instead of a disk.
//!
//! Follows GNU tar: a later entry replaces an earlier one of its name; an empty directory gives way to a file, one that
//! is not empty does not; parents that no entry describes are made; an entry below a symbolic link goes where the link
//! leads.
//!
//! **Invariant:** nothing is ever placed outside the root, whatever links the archive holds.

use super::nodes::{Full, Nodes};
use super::record::{ExtentRecord, NodeRecord, flags, join, kind_code};
use super::tables::{Place, pack_attributes};
use crate::node::{Kind, Timestamp};
use crate::slot::scan::{Body, Content, Entry};
use crate::slot::{Limits, NoticeKind, SlotError};

/// `NAME_MAX` of Linux, macOS and Windows alike.
const LONGEST_NAME: usize = 255;
/// `PATH_MAX` of Linux less the closing NUL; Linux makes no link without a target.
const LONGEST_TARGET: usize = 4095;
/// As many links as Linux follows (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The node.
    pub node: u32,
    /// Whether it is a file whose content follows in the archive.
    pub is_file: bool,
}

/// A step of a path that is being followed.
struct Step {
    name: Vec<u8>,
    /// It comes from a link's target, which cannot make directories.
    from_link: bool,
}

enum Refusal {
    Notice(NoticeKind),
    Full,
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl From<NoticeKind> for Refusal {
    fn from(kind: NoticeKind) -> Self {
        Self::Notice(kind)
    }
}

impl Nodes {
    /// Places an entry; `None` when it was refused, which leaves a notice.
    pub(super) fn place(&mut self, entry: &Entry, limits: &Limits) -> Result<Option<Placed>, SlotError> {
        if self.count() >= limits.entries {
            return Err(SlotError::TooManyEntries { limit: limits.entries });
        }
        match self.try_place(entry, limits) {
            Ok(placed) => Ok(Some(placed)),
            Err(Refusal::Notice(kind)) => {
                self.notice(&entry.path, kind);
                Ok(None)
            }
            Err(Refusal::Full) => Err(SlotError::TooManyEntries { limit: self.count() }),
        }
    }

    fn try_place(&mut self, entry: &Entry, limits: &Limits) -> Result<Placed, Refusal> {
        if entry.body == Body::Unreadable {
            return Err(NoticeKind::Unreadable.into());
        }
        if entry.body == Body::Unknown {
            return Err(NoticeKind::UnknownKind.into());
        }
        if let Body::Symlink(target) = &entry.body
            && (target.is_empty() || target.len() > LONGEST_TARGET || target.contains(&0))
        {
            return Err(NoticeKind::BadName.into());
        }
        let mut names = split(&entry.path)?;
        if entry.path.starts_with(b"/") {
            self.notice(&entry.path, NoticeKind::Absolute);
        }
        let Some(name) = names.pop() else {
            // The root itself: `.` or `./`.
            if entry.body != Body::Directory {
                return Err(NoticeKind::DirectoryInTheWay.into());
            }
            return Ok(self.describe(0, entry)?);
        };
        let parent = self.walk(names, Some(entry.modified), limits)?;
        self.report(entry);
        match &entry.body {
            Body::HardLink(target) => {
                let node = self.linked(target, limits)?;
                return self.hard_link(parent, &name, node, entry);
            }
            Body::Copy(target) => {
                let node = self.linked(target, limits)?;
                return self.copy(parent, &name, node, entry);
            }
            Body::File(_)
            | Body::Symlink(_)
            | Body::Directory
            | Body::Fifo
            | Body::Device(..)
            | Body::Unreadable
            | Body::Unknown => {}
        }
        match self.child(parent, &name) {
            Some(node) if entry.body == Body::Directory && self.get(node).kind() == Some(Kind::Directory) => {
                Ok(self.describe(node, entry)?)
            }
            _ => self.put(parent, &name, entry),
        }
    }

    /// Notes what a cautious reader will not show as archived.
    fn report(&mut self, entry: &Entry) {
        if entry.mode & 0o6000 != 0 {
            self.notice(&entry.path, NoticeKind::SetId);
        }
        if matches!(entry.body, Body::Device(..)) {
            self.notice(&entry.path, NoticeKind::Device);
        }
        if entry.attributes.iter().any(|(name, _)| !name.starts_with(b"user.")) {
            self.notice(&entry.path, NoticeKind::AttributeDropped);
        }
    }

    /// Follows `names` from the root, making directories that are missing when `make` gives them a time.
    fn walk(
        &mut self,
        names: Vec<Vec<u8>>,
        make: Option<Timestamp>,
        limits: &Limits,
    ) -> Result<u32, Refusal> {
        let step = |name, from_link| Step { name, from_link };
        let mut todo: Vec<Step> = names.into_iter().rev().map(|name| step(name, false)).collect();
        let mut stack = vec![0];
        let mut links = 0;
        while let Some(Step { name, from_link }) = todo.pop() {
            let here = stack.last().copied().unwrap_or(0);
            if name == b".." {
                // Only link targets still hold one.
                if stack.len() == 1 {
                    return Err(NoticeKind::LeavesThroughLink.into());
                }
                stack.pop();
                continue;
            }
            let node = match (self.child(here, &name), make) {
                (Some(node), _) => node,
                (None, Some(time)) if !from_link => self.make_parent(here, &name, time)?,
                (None, _) => return Err(NoticeKind::ParentNotDirectory.into()),
            };
            match self.get(node).kind() {
                Some(Kind::Directory) => stack.push(node),
                Some(Kind::Symlink) => {
                    links += 1;
                    let target = super::tables::target(self, node).unwrap_or_default();
                    if links > MOST_LINKS || target.starts_with(b"/") || target.is_empty() {
                        return Err(NoticeKind::LeavesThroughLink.into());
                    }
                    let parts = target.split(|byte| *byte == b'/').rev();
                    todo.extend(
                        parts
                            .filter(|part| !part.is_empty() && *part != b".")
                            .map(|part| step(part.to_vec(), true)),
                    );
                }
                _ => return Err(NoticeKind::ParentNotDirectory.into()),
            }
            if stack.len() > limits.path_depth as usize {
                return Err(NoticeKind::BadName.into());
            }
        }
        Ok(stack.last().copied().unwrap_or(0))
    }

    fn make_parent(&mut self, parent: u32, name: &[u8], time: Timestamp) -> Result<u32, Full> {
        let mut record = blank(Kind::Directory, 0o755);
        record.flags = flags::IMPLIED;
        record.set_modified(time);
        let node = self.add(record)?;
        self.link(parent, name, node)?;
        Ok(node)
    }

    /// Fills in a directory that is there already.
    fn describe(&mut self, node: u32, entry: &Entry) -> Result<Placed, Full> {
        let attributes = self.store_attributes(entry)?;
        self.change(node, |record| {
            set_owner(record, entry);
            record.flags &= !flags::IMPLIED;
            record.attributes = attributes.into();
        });
        Ok(Placed { node, is_file: false })
    }

    /// Puts a new node under a name, in place of what is there.
    fn put(&mut self, parent: u32, name: &[u8], entry: &Entry) -> Result<Placed, Refusal> {
        let record = self.record_of(entry)?;
        self.clear(parent, name, entry)?;
        let node = self.add(record)?;
        self.link(parent, name, node)?;
        Ok(Placed { node, is_file: matches!(entry.body, Body::File(_)) })
    }

    /// Removes what has the name, unless it is a directory with something in it.
    fn clear(&mut self, parent: u32, name: &[u8], entry: &Entry) -> Result<(), Refusal> {
        let Some(old) = self.child(parent, name) else { return Ok(()) };
        if self.get(old).kind() == Some(Kind::Directory) && self.entries_in(old) > 0 {
            return Err(NoticeKind::DirectoryInTheWay.into());
        }
        self.notice(&entry.path, NoticeKind::Replaced);
        self.unlink(parent, name);
        Ok(())
    }

    /// Finds what a link to an earlier entry leads to.
    fn linked(&mut self, target: &[u8], limits: &Limits) -> Result<u32, Refusal> {
        let dangling = || Refusal::Notice(NoticeKind::DanglingHardLink);
        let mut names = split(target).map_err(|_| dangling())?;
        let last = names.pop().ok_or_else(dangling)?;
        let from = match self.walk(names, None, limits) {
            Ok(from) => from,
            Err(Refusal::Full) => return Err(Refusal::Full),
            Err(Refusal::Notice(_)) => return Err(dangling()),
        };
        let node = self.child(from, &last).ok_or_else(dangling)?;
        if self.get(node).kind() == Some(Kind::Directory) {
            return Err(dangling());
        }
        Ok(node)
    }

    fn hard_link(&mut self, parent: u32, name: &[u8], node: u32, entry: &Entry) -> Result<Placed, Refusal> {
        if self.child(parent, name) != Some(node) {
            self.clear(parent, name, entry)?;
            self.link(parent, name, node)?;
        }
        Ok(Placed { node, is_file: false })
    }

    /// Makes a file of its own whose content is that of the file `node`.
    fn copy(&mut self, parent: u32, name: &[u8], node: u32, entry: &Entry) -> Result<Placed, Refusal> {
        let original = self.get(node);
        if original.kind() != Some(Kind::File) {
            return Err(NoticeKind::DanglingHardLink.into());
        }
        let mut record = blank(Kind::File, 0);
        record.flags = original.flags;
        (record.size, record.content, record.digest) = (original.size, original.content, original.digest);
        set_owner(&mut record, entry);
        record.attributes = self.store_attributes(entry)?.into();
        self.clear(parent, name, entry)?;
        let node = self.add(record)?;
        self.link(parent, name, node)?;
        Ok(Placed { node, is_file: false })
    }

    fn record_of(&mut self, entry: &Entry) -> Result<NodeRecord, Full> {
        let mut record = match &entry.body {
            Body::File(content) => {
                let mut record = blank(Kind::File, 0);
                self.set_content(&mut record, content)?;
                record
            }
            Body::Symlink(target) => {
                let mut record = blank(Kind::Symlink, 0);
                record.size = (target.len() as u64).into();
                record.content = (self.blob.len() as u64).into();
                self.blob.extend_from_slice(target);
                record
            }
            Body::Device(kind, number) => {
                let mut record = blank(*kind, 0);
                record.content = join(number.minor, number.major);
                record
            }
            Body::Fifo => blank(Kind::Fifo, 0),
            Body::Directory | Body::HardLink(_) | Body::Copy(_) | Body::Unreadable | Body::Unknown => {
                blank(Kind::Directory, 0)
            }
        };
        set_owner(&mut record, entry);
        if matches!(entry.body, Body::Symlink(_)) {
            // What `lstat(2)` shows of every symbolic link on Linux.
            record.mode = 0o777.into();
        }
        record.attributes = self.store_attributes(entry)?.into();
        Ok(record)
    }

    pub(super) fn set_content(&mut self, record: &mut NodeRecord, content: &Content) -> Result<(), Full> {
        let row = |length: usize| u32::try_from(length).map_err(|_| Full);
        record.size = content.size().into();
        match content {
            Content::Whole { decoded, .. } => record.content = (*decoded).into(),
            Content::Sparse { extents, .. } => {
                record.flags |= flags::SPARSE;
                record.content = join(row(self.extents.len())?, row(extents.len())?);
                self.extents.extend(extents.iter().copied().map(ExtentRecord::from));
            }
            Content::Zip(zip) => {
                record.flags |= flags::ZIP;
                record.content = join(row(self.zips.len())?, 1);
                self.zips.push((*zip).into());
            }
        }
        Ok(())
    }

    /// Keeps the attributes of users; others (labels, capabilities, ACLs) mean something else on another system.
    fn store_attributes(&mut self, entry: &Entry) -> Result<u32, Full> {
        let mut kept: Vec<_> =
            entry.attributes.iter().filter(|(name, _)| name.starts_with(b"user.")).cloned().collect();
        if kept.is_empty() {
            return Ok(0);
        }
        kept.sort();
        let start = u32::try_from(self.attributes.len() + 1).map_err(|_| Full)?;
        self.attributes.extend(pack_attributes(&kept));
        Ok(start)
    }
}

/// A node record without names.
pub(super) fn blank(kind: Kind, mode: u16) -> NodeRecord {
    NodeRecord { kind: kind_code(kind), mode: mode.into(), ..NodeRecord::default() }
}

fn set_owner(record: &mut NodeRecord, entry: &Entry) {
    record.mode = u16::try_from(entry.mode & 0o7777).unwrap_or(0).into();
    record.user = entry.user.into();
    record.group = entry.group.into();
    record.set_modified(entry.modified);
}

/// Splits a path into its names without empty ones and `.`; refuses `..`, long names and NULs.
fn split(path: &[u8]) -> Result<Vec<Vec<u8>>, NoticeKind> {
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(NoticeKind::ParentInPath),
            name if name.len() > LONGEST_NAME || name.contains(&0) => return Err(NoticeKind::BadName),
            name => names.push(name.to_vec()),
        }
    }
    Ok(names)
}

impl Place {
    /// Tells whether the bytes are in the decoded stream.
    #[must_use]
    pub fn is_decoded(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Extents(_))
    }
}

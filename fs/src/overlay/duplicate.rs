//! A second copy of directories of the overlay, with all that makes them what they are: holes, links among the files,
//! whiteouts, extended attributes as they are stored, owners, times. Blocks are shared where the disk can.
//!
//! Where changes are held up meanwhile, most can be copied ahead ([`Draft`]); what was changed since is copied again.
//!
//! **Invariant:** the source stays as it is; what is copied is complete, or an error says what could not be.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::allowance;
use super::changes::listed;
use super::format::bare_copy;
use crate::disk::unix::{
    Directory, NewSpecial, SetTimes, Spot, Stat, XattrFlag, clone_file, data_from, hole_from, is_root,
    set_length,
};
use crate::disk::{Context, DiskError};
use crate::node::{Attributes, Kind, Timestamp};

/// How much is copied at a time, in bytes.
const PIECE: usize = 1 << 20;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duplicated {
    /// Names, those of directories included.
    pub names: u64,
    /// Length of the files in bytes, each once; those whose content is in the layers take none.
    pub bytes: u64,
}

/// A directory that is being copied.
struct Level {
    source: Arc<Directory>,
    target: Arc<Directory>,
    path: Vec<Vec<u8>>,
    left: Vec<Vec<u8>>,
}

/// Content that was copied ahead, while others may have gone on writing.
#[derive(Debug)]
pub struct Draft {
    directory: Arc<Directory>,
    /// By inode of the source.
    files: HashMap<u64, Drafted>,
}

/// What a file was when its copying began.
#[derive(Clone, Copy, Debug)]
struct Drafted {
    size: u64,
    modified: Timestamp,
    changed: Timestamp,
}

impl Draft {
    /// Copies the content of the files in `sources` into the empty `directory`, under their inode numbers. Where the disk
    /// shares blocks there is nothing to do ahead. `told` hears the length of each file that is done.
    ///
    /// # Errors
    /// The disk refuses; what vanishes meanwhile is none.
    pub fn take(
        sources: &[Arc<Directory>],
        directory: Arc<Directory>,
        told: &mut dyn FnMut(u64),
    ) -> Result<Self, DiskError> {
        let mut draft = Self { directory, files: HashMap::new() };
        let mut waiting: Vec<_> = sources.iter().map(|source| (Arc::clone(source), None)).collect();
        while let Some((parent, name)) = waiting.pop() {
            let name: Option<Vec<u8>> = name;
            let Some((directory, names)) = listed(&parent, name.as_deref())? else { continue };
            for name in names {
                let Some(stat) = directory.stat(&name)? else { continue };
                match stat.attributes.kind {
                    Kind::Directory => waiting.push((Arc::clone(&directory), Some(name))),
                    Kind::File if !draft.file(&Spot::named(&directory, &name), &stat, told)? => {
                        return Ok(draft);
                    }
                    Kind::File
                    | Kind::Symlink
                    | Kind::Fifo
                    | Kind::Socket
                    | Kind::CharacterDevice
                    | Kind::BlockDevice => {}
                }
            }
        }
        Ok(draft)
    }

    /// Copies one file; `false` when the disk shares blocks.
    fn file(&mut self, source: &Spot, stat: &Stat, told: &mut dyn FnMut(u64)) -> Result<bool, DiskError> {
        let Attributes { size, modified, changed, .. } = stat.attributes;
        if size == 0 || is_recent(changed) || self.files.contains_key(&stat.inode) {
            return Ok(true);
        }
        // Who may not read a file is helped when nobody changes it any more.
        let Ok(file) = source.open_file(false, false) else { return Ok(true) };
        if bare_copy(source)?.is_some() {
            return Ok(true);
        }
        let name = stat.inode.to_string().into_bytes();
        let target = self.directory.create_file(&name, 0o600)?;
        if clone_file(&file, &target)? {
            self.directory.unlink(&name)?;
            return Ok(false);
        }
        copy_content(&file, &target, size)?;
        told(size);
        self.files.insert(stat.inode, Drafted { size, modified, changed });
        Ok(true)
    }

    /// Moves the content of a file that has not been changed since to `name` in `target`; tells whether it did.
    fn give(&mut self, stat: &Stat, target: &Directory, name: &[u8]) -> Result<bool, DiskError> {
        let Some(drafted) = self.files.remove(&stat.inode) else { return Ok(false) };
        let now = &stat.attributes;
        if (now.size, now.modified, now.changed) != (drafted.size, drafted.modified, drafted.changed) {
            return Ok(false);
        }
        self.directory.rename(stat.inode.to_string().as_bytes(), target, name)?;
        Ok(true)
    }
}

/// Tells whether a change as late as `changed` could be followed by another one at the same time: disks count time in
/// steps, of seconds at worst.
fn is_recent(changed: Timestamp) -> bool {
    let step = if changed.nanoseconds == 0 { Duration::from_secs(2) } else { Duration::from_millis(50) };
    let then = u64::try_from(changed.seconds).unwrap_or_default();
    let then = SystemTime::UNIX_EPOCH + Duration::new(then, changed.nanoseconds);
    SystemTime::now().duration_since(then).map_or(true, |age| age < step)
}

/// Copies what is in the first directory of each pair into the second, an empty one; links between the pairs stay
/// links. What `draft` has need not be copied again. Nothing is synced; see [`crate::disk::unix::sync_file_system`]. `told` hears the length of
/// each file that is copied now.
///
/// # Errors
/// The first thing that could not be copied; what was copied until then is left.
pub fn duplicate(
    pairs: &[(Arc<Directory>, Arc<Directory>)],
    draft: Option<&mut Draft>,
    told: &mut dyn FnMut(u64),
) -> Result<Duplicated, DiskError> {
    let mut copy = Copy { pairs, draft, links: HashMap::new(), done: Duplicated::default(), told };
    for (number, (source, target)) in pairs.iter().enumerate() {
        let mut levels = vec![level(Arc::clone(source), Arc::clone(target), Vec::new())?];
        while let Some(at) = levels.last_mut() {
            let Some(name) = at.left.pop() else {
                let source = Spot::named(&at.source, b".");
                if let Some(stat) = source.stat()? {
                    copy_attributes(&source, &Spot::named(&at.target, b"."), &stat)?;
                }
                levels.pop();
                continue;
            };
            if let Some(below) = copy.name(number, at, name)? {
                levels.push(below);
            }
        }
    }
    Ok(copy.done)
}

fn level(source: Arc<Directory>, target: Arc<Directory>, path: Vec<Vec<u8>>) -> Result<Level, DiskError> {
    let left = listed(&source, None)?.map_or(Vec::new(), |(_, names)| names);
    Ok(Level { source, target, path, left })
}

struct Copy<'a> {
    pairs: &'a [(Arc<Directory>, Arc<Directory>)],
    draft: Option<&'a mut Draft>,
    /// By inode of the source: in which pair the copy is, and where.
    links: HashMap<u64, (usize, Vec<Vec<u8>>)>,
    done: Duplicated,
    told: &'a mut dyn FnMut(u64),
}

impl Copy<'_> {
    /// Copies one name; a directory is returned, to be filled.
    fn name(&mut self, pair: usize, at: &Level, name: Vec<u8>) -> Result<Option<Level>, DiskError> {
        let Some(stat) = at.source.stat(&name)? else { return Ok(None) };
        if at.path.is_empty() && name == allowance::USED {
            // The copy may take other blocks.
            return Ok(None);
        }
        self.done.names += 1;
        let path = [at.path.as_slice(), std::slice::from_ref(&name)].concat();
        if stat.attributes.kind == Kind::Directory {
            at.target.make_directory(&name, 0o700)?;
            let (source, target) = (at.source.child(&name)?, at.target.child(&name)?);
            return level(Arc::new(source), Arc::new(target), path).map(Some);
        }
        if stat.attributes.links > 1 {
            if let Some((pair, first)) = self.links.get(&stat.inode) {
                at.target.link(&self.copied(*pair, first)?, &name)?;
                return Ok(None);
            }
            self.links.insert(stat.inode, (pair, path));
        }
        self.node(at, &name, &stat)?;
        Ok(None)
    }

    /// Copies what is no directory. A file that its owner may not read is made readable meanwhile.
    fn node(&mut self, at: &Level, name: &[u8], stat: &Stat) -> Result<(), DiskError> {
        const READ: u32 = 0o400;
        let source = Spot::named(&at.source, name);
        let mode = stat.attributes.mode;
        if is_root() || stat.attributes.kind != Kind::File || mode & READ != 0 {
            return self.readable_node(at, name, stat);
        }
        source.set_mode(mode | READ)?;
        let copied = self.readable_node(at, name, stat);
        source.set_mode(mode)?;
        copied
    }

    fn readable_node(&mut self, at: &Level, name: &[u8], stat: &Stat) -> Result<(), DiskError> {
        let (source, target) = (Spot::named(&at.source, name), Spot::named(&at.target, name));
        match stat.attributes.kind {
            Kind::File => {
                let size = stat.attributes.size;
                if let Some(draft) = &mut self.draft
                    && draft.give(stat, &at.target, name)?
                {
                    self.done.bytes += size;
                    return copy_attributes(&source, &target, stat);
                }
                let file = at.target.create_file(name, 0o600)?;
                if bare_copy(&source)?.is_some() {
                    // What it may hold after a crash means nothing.
                    set_length(&file, size)?;
                } else {
                    copy_content(&source.open_file(false, false)?, &file, size)?;
                    self.done.bytes += size;
                    (self.told)(size);
                }
            }
            Kind::Symlink => at.target.make_symlink(name, &source.read_link()?)?,
            kind @ (Kind::Directory
            | Kind::Fifo
            | Kind::Socket
            | Kind::CharacterDevice
            | Kind::BlockDevice) => {
                let device = stat.attributes.device;
                at.target.make_special(name, NewSpecial { kind, mode: 0o600, device })?;
            }
        }
        copy_attributes(&source, &target, stat)
    }

    /// Returns where the first name of a file was copied to.
    fn copied(&self, pair: usize, path: &[Vec<u8>]) -> Result<Spot, DiskError> {
        let mut at = Arc::clone(&self.pairs[pair].1);
        let (name, above) = path.split_last().map_or((&b"."[..], path), |(name, above)| (name, above));
        for name in above {
            at = Arc::new(at.child(name)?);
        }
        Ok(Spot::named(&at, name))
    }
}

/// Copies the content of a file that nobody changes; holes stay holes.
fn copy_content(source: &File, target: &File, size: u64) -> Result<(), DiskError> {
    if size == 0 || clone_file(source, target)? {
        return Ok(());
    }
    let mut buffer = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE))];
    let mut at = 0;
    while let Some(start) = data_from(source, at)? {
        let end = hole_from(source, start)?.unwrap_or(size);
        at = start;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(PIECE).min(buffer.len());
            let count = source.read_at(&mut buffer[..wanted], at).context("read", "a written file")?;
            if count == 0 {
                break;
            }
            target.write_all_at(&buffer[..count], at).context("write", "a copy")?;
            at += count as u64;
        }
        if at < end {
            break;
        }
    }
    set_length(target, size)
}

/// Gives a directory the attributes of another one, and takes those from it that the other one does not have.
///
/// # Errors
/// What the host reports.
pub fn take_attributes(source: &Arc<Directory>, target: &Arc<Directory>) -> Result<(), DiskError> {
    let (source, target) = (Spot::named(source, b"."), Spot::named(target, b"."));
    let wanted = source.xattr_names()?;
    for name in target.xattr_names()? {
        if name.starts_with(b"user.") && !wanted.contains(&name) {
            target.remove_xattr(&name)?;
        }
    }
    match source.stat()? {
        Some(stat) => copy_attributes(&source, &target, &stat),
        None => Ok(()),
    }
}

/// Gives `target` what `source` has besides its content. Attributes come before the mode, which may forbid setting them.
pub(super) fn copy_attributes(source: &Spot, target: &Spot, stat: &Stat) -> Result<(), DiskError> {
    let attributes = &stat.attributes;
    match target.set_owner(Some(attributes.user), Some(attributes.group)) {
        Err(error) if !is_root() && error.kind() == std::io::ErrorKind::PermissionDenied => {}
        other => other?,
    }
    for name in source.xattr_names()? {
        let Some(value) = source.xattr(&name)? else { continue };
        match target.set_xattr(&name, &value, XattrFlag::Set) {
            // What only root may set, only root's programs have set, or the host will set it itself.
            Err(error) if !is_root() && !name.starts_with(b"user.") => {
                tracing::debug!("an extended attribute is not copied: {error}");
            }
            other => other?,
        }
    }
    if attributes.kind != Kind::Symlink {
        target.set_mode(attributes.mode)?;
    }
    target.set_times(SetTimes::of(attributes))
}

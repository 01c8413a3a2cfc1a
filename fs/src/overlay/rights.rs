//! Giving nodes owners, modes and attributes: on the disk where who serves may, else aside.
//!
//! Root sets everything on the disk, and nothing here costs it anything. Everybody else owns what is in the upper directory,
//! whomever it is shown to belong to, and can always read and write it there. See [`super::aside`] for the form.
//!
//! **Invariant:** what is shown changes in one step: a value is written before the disk is made to fit it, and taken away
//! after. Without rights of his own to a file, nobody on the host gets any because of what is kept aside.

use std::sync::Arc;

use super::Upper;
use super::access_list::{ACCESS, mode_of, with_mode};
use super::aside::carries;
use super::format::unless_unreadable;
use crate::disk::DiskError;
use crate::disk::unix::{
    Directory, NO_ATTRIBUTE, Spot, Stat, XattrFlag, is_access_denied, is_in_group, is_root, own_ids,
};
use crate::layer::marks::{HAS_ASIDE, OVERRIDE, OverrideStat, aside_name, stored_name};
use crate::node::{Attributes, Kind};

const SET_ID: u32 = 0o6000;
const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const GROUP_EXECUTE: u32 = 0o0010;
/// What lets a program do more than its user, `capabilities(7)`.
const CAPABILITY: &[u8] = b"security.capability";
/// More than any value takes, name included, in bytes.
const LONGEST: usize = 128;

/// What the server of an upper directory may do on its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rights {
    /// What the host lets it.
    #[default]
    Own,
    /// What an ordinary user may, whoever it is: so that what is written does not depend on it.
    Ordinary,
}

/// `chmod(2)` and `chown(2)`: what is `Some` changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnerChange {
    /// Owner.
    pub user: Option<u32>,
    /// Group.
    pub group: Option<u32>,
    /// Permission bits.
    pub mode: Option<u32>,
}

/// Finds out whether this process may give files away and take set-id bits along; ordinary users are not asked.
pub(super) fn may_give_away(work: &Arc<Directory>, name: &[u8], rights: Rights) -> bool {
    const SOMEBODY: u32 = 1;
    rights == Rights::Own
        && is_root()
        && Spot::named(work, name).set_owner(Some(SOMEBODY), Some(SOMEBODY)).is_ok()
}

impl OwnerChange {
    /// The largest number means "unchanged" to the system call.
    fn ids(&self) -> (Option<u32>, Option<u32>) {
        (self.user.filter(|id| *id != u32::MAX), self.group.filter(|id| *id != u32::MAX))
    }

    /// Returns what `before` becomes; giving a file away takes its set-id bits, as `chown(2)` says.
    fn applied(&self, before: &Attributes) -> OverrideStat {
        let mut after = OverrideStat::of(before);
        let (user, group) = self.ids();
        (after.user, after.group) = (user.unwrap_or(after.user), group.unwrap_or(after.group));
        let is_given = self.user.is_some() || self.group.is_some();
        if is_given && !matches!(before.kind, Kind::Directory | Kind::Symlink) {
            after.mode &= if after.mode & GROUP_EXECUTE != 0 { !SET_ID } else { !SET_USER };
        }
        after.mode = self.mode.map_or(after.mode, |mode| mode & 0o7777);
        after
    }
}

impl Upper {
    /// Tells whether the disk holds everything that is shown.
    pub(crate) fn is_plain(&self) -> bool {
        self.may_give_away && !self.aside.is_marked()
    }

    /// Tells whether device nodes may be tried on the disk.
    pub(crate) fn may_make_devices(&self) -> bool {
        self.rights == Rights::Own
    }

    /// Gives a prepared node its owner, as far as the disk takes it; comes before [`Self::give_mode`], and before
    /// attributes that a change of owner takes away.
    ///
    /// # Errors
    /// What the host reports.
    pub(crate) fn give_owner(&self, spot: &Spot, shown: &Attributes) -> Result<(), DiskError> {
        if self.may_give_away { spot.set_owner(Some(shown.user), Some(shown.group)) } else { Ok(()) }
    }

    /// Gives a prepared node its mode, and its owner where the disk does not take it.
    ///
    /// # Errors
    /// What the host reports.
    pub(crate) fn give_mode(&self, spot: &Spot, shown: &Attributes) -> Result<(), DiskError> {
        if self.is_plain() {
            return if shown.kind == Kind::Symlink { Ok(()) } else { spot.set_mode(shown.mode) };
        }
        let Some(stat) = spot.stat()? else { return Ok(()) };
        let wanted = OverrideStat::of(&Attributes { kind: stat.attributes.kind, ..*shown });
        if !self.fits(&stat.attributes, &wanted) {
            let _alone = self.aside.changing();
            self.expect_aside()?;
        }
        self.keep(spot, &stat, wanted)
    }

    /// Returns how many bytes [`Self::change_owner`] may take on the disk.
    ///
    /// # Errors
    /// What the host reports.
    pub(crate) fn room_for(&self, spot: &Spot, change: &OwnerChange) -> Result<usize, DiskError> {
        if self.is_plain() {
            return Ok(0);
        }
        let Some(stat) = spot.stat()? else { return Ok(0) };
        let has_value = self.aside.stat(spot, &stat)?.is_some();
        let wanted = change.applied(&self.aside.shown(spot, &stat)?);
        Ok(if has_value || self.fits(&stat.attributes, &wanted) { 0 } else { LONGEST })
    }

    /// `chown(2)` and `chmod(2)`.
    ///
    /// # Errors
    /// What the host reports.
    pub(crate) fn change_owner(&self, spot: &Spot, change: &OwnerChange) -> Result<(), DiskError> {
        let OwnerChange { user, group, mode } = *change;
        if self.is_plain() {
            if user.is_some() || group.is_some() {
                spot.set_owner(user, group)?;
            }
            return mode.map_or(Ok(()), |mode| spot.set_mode(mode));
        }
        let _alone = self.aside.changing();
        let Some(stat) = spot.stat()? else { return Ok(()) };
        let before = self.aside.shown(spot, &stat)?;
        if user.is_some() || group.is_some() {
            self.drop_capability(spot)?;
        }
        let wanted = change.applied(&before);
        if !self.fits(&stat.attributes, &wanted) {
            self.expect_aside()?;
        }
        self.keep(spot, &stat, wanted)
    }

    /// Tells whether the disk may have this owner and mode.
    fn fits(&self, disk: &Attributes, wanted: &OverrideStat) -> bool {
        if self.may_give_away {
            return true;
        }
        let is_ours = |group| self.rights == Rights::Own && is_in_group(group);
        let OverrideStat { user, group, mode, .. } = *wanted;
        let has_owner = user == disk.user && (group == disk.group || is_ours(group));
        has_owner
            && match disk.kind {
                Kind::File => mode & SET_ID == 0 && mode & 0o600 == 0o600,
                Kind::Directory => {
                    let group_holds =
                        mode & SET_GROUP == 0 || self.rights == Rights::Ordinary || is_ours(group);
                    mode & SET_USER == 0 && mode & 0o700 == 0o700 && group_holds
                }
                Kind::Symlink => true,
                Kind::Fifo | Kind::Socket | Kind::CharacterDevice | Kind::BlockDevice => mode & SET_ID == 0,
            }
    }

    /// Shows `wanted` from now on. The change of the disk's mode at the end is also what changes the time of the last change.
    fn keep(&self, spot: &Spot, stat: &Stat, wanted: OverrideStat) -> Result<(), DiskError> {
        let disk = &stat.attributes;
        let fits = self.fits(disk, &wanted);
        if !carries(disk.kind) {
            return self.keep_by_name(spot, stat, wanted, fits);
        }
        if fits {
            if (wanted.user, wanted.group) != (disk.user, disk.group) {
                let user = Some(wanted.user).filter(|user| *user != disk.user);
                spot.set_owner(user, Some(wanted.group))?;
            }
            spot.set_mode(wanted.mode)?;
            return self.take_value_away(spot, stat, wanted);
        }
        let device = super::format::device_of(spot, stat)?;
        self.set_value(spot, stat, OverrideStat { device, ..wanted })?;
        spot.set_mode(mode_on_disk(disk, &wanted))
    }

    /// The same of what carries no attributes.
    fn keep_by_name(
        &self,
        spot: &Spot,
        stat: &Stat,
        wanted: OverrideStat,
        fits: bool,
    ) -> Result<(), DiskError> {
        let disk = &stat.attributes;
        let index = self.index_directory();
        if !fits {
            self.aside.record(index, (spot, stat), wanted)?;
            return spot.set_owner(None, None);
        }
        let user = Some(wanted.user).filter(|user| *user != disk.user);
        spot.set_owner(user, Some(wanted.group).filter(|group| *group != disk.group))?;
        if disk.kind != Kind::Symlink {
            spot.set_mode(wanted.mode)?;
        }
        self.aside.forget(index, stat)
    }

    fn take_value_away(&self, spot: &Spot, stat: &Stat, held: OverrideStat) -> Result<(), DiskError> {
        if !self.aside.is_marked() {
            return Ok(());
        }
        if self.aside.is_root(stat) {
            // It says that there may be others.
            return self.set_value(spot, stat, held);
        }
        match spot.xattr(OVERRIDE)? {
            Some(_) => spot.remove_xattr(OVERRIDE),
            None => Ok(()),
        }
    }

    /// Writes the value. A file that somebody else put there may have a mode that forbids it.
    fn set_value(&self, spot: &Spot, stat: &Stat, value: OverrideStat) -> Result<(), DiskError> {
        let name = if self.aside.is_root(stat) { HAS_ASIDE } else { OVERRIDE };
        let value = value.value(stat.attributes.kind);
        match spot.set_xattr(name, value.as_bytes(), XattrFlag::Set) {
            Err(error) if is_access_denied(&error) => {
                let needed = if stat.attributes.kind == Kind::Directory { 0o700 } else { 0o600 };
                spot.set_mode(stat.attributes.mode | needed)?;
                spot.set_xattr(name, value.as_bytes(), XattrFlag::Set)
            }
            other => other,
        }
    }

    /// Notes, before the first value is there, that this directory may have some. Whoever calls changes alone.
    fn expect_aside(&self) -> Result<(), DiskError> {
        if self.aside.is_marked() {
            return Ok(());
        }
        let root = Spot::named(self.root(), b".");
        if let Some(stat) = root.stat()? {
            self.set_value(&root, &stat, OverrideStat::of(&stat.attributes))?;
        }
        self.root().sync()?;
        self.aside.set_marked(true);
        Ok(())
    }

    /// Runs `action`; where a mode on the disk that somebody else gave the file forbids it, that mode is kept aside first.
    ///
    /// # Errors
    /// Those of `action`, or what the host reports.
    pub(crate) fn with_rights<T>(
        &self,
        spot: &Spot,
        action: impl Fn() -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        match action() {
            Err(error) if is_access_denied(&error) && !self.may_give_away => {
                let _alone = self.aside.changing();
                let Some(stat) = spot.stat()?.filter(|stat| stat.attributes.kind == Kind::File) else {
                    return Err(error);
                };
                let shown = OverrideStat::of(&self.aside.shown(spot, &stat)?);
                if self.fits(&stat.attributes, &shown) {
                    return Err(error);
                }
                self.expect_aside()?;
                self.keep(spot, &stat, shown)?;
                action()
            }
            other => other,
        }
    }

    /// Makes sure that who serves may do everything in the directory `name`: somebody else may have put it there with a mode
    /// that forbids it, which is kept aside then.
    ///
    /// # Errors
    /// What the host reports.
    pub(crate) fn open_up(&self, parent: &Arc<Directory>, name: &[u8]) -> Result<(), DiskError> {
        if self.may_give_away {
            return Ok(());
        }
        let is_closed = |stat: &Stat| stat.attributes.mode & 0o700 != 0o700;
        let Some(stat) = parent.stat(name)?.filter(is_closed) else { return Ok(()) };
        if stat.attributes.kind != Kind::Directory || stat.attributes.user != own_ids().0 {
            return Ok(());
        }
        let spot = Spot::named(parent, name);
        let _alone = self.aside.changing();
        let shown = OverrideStat::of(&self.aside.shown(&spot, &stat)?);
        self.expect_aside()?;
        self.keep(&spot, &stat, shown)
    }

    /// Sets the attribute that users call `name`.
    ///
    /// # Errors
    /// What the host reports; EEXIST and ENODATA as `flag` says.
    pub(crate) fn set_attribute(
        &self,
        spot: &Spot,
        name: &[u8],
        value: &[u8],
        flag: XattrFlag,
    ) -> Result<(), DiskError> {
        let set = || spot.set_xattr(&stored_name(name), value, flag);
        if self.is_plain() {
            return set();
        }
        if name == ACCESS {
            return self.set_access_list(spot, value, flag);
        }
        let Some(kept) = aside_name(name) else { return self.with_rights(spot, set) };
        if self.may_give_away {
            set()?;
            return self.drop_kept(spot, &kept);
        }
        let kind = spot.stat()?.map(|stat| stat.attributes.kind);
        if self.rights == Rights::Own {
            match set() {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
                other => return other,
            }
        }
        if !kind.is_some_and(carries) {
            return Err(refused(std::io::ErrorKind::PermissionDenied.into()));
        }
        match (flag, self.aside.attribute(spot, name)?) {
            (XattrFlag::Create, Some(_)) => return Err(refused(std::io::ErrorKind::AlreadyExists.into())),
            (XattrFlag::Replace, None) => {
                return Err(refused(std::io::Error::from_raw_os_error(NO_ATTRIBUTE)));
            }
            _ => {}
        }
        {
            let _alone = self.aside.changing();
            self.expect_aside()?;
        }
        self.with_rights(spot, || spot.set_xattr(&kept, value, XattrFlag::Set))
    }

    /// Removes the attribute that users call `name`.
    ///
    /// # Errors
    /// What the host reports; ENODATA where it is not set.
    pub(crate) fn remove_attribute(&self, spot: &Spot, name: &[u8]) -> Result<(), DiskError> {
        let remove = || spot.remove_xattr(&stored_name(name));
        if self.is_plain() {
            return remove();
        }
        if let Some(kept) = aside_name(name).filter(|_| self.aside.is_marked())
            && spot.xattr(&kept)?.is_some()
        {
            return spot.remove_xattr(&kept);
        }
        self.with_rights(spot, remove)
    }

    /// Takes from a file that is about to be written or given away what lets it do more than its user. The host does that by
    /// itself where the disk has it.
    ///
    /// # Errors
    /// What the host reports.
    pub(crate) fn drop_capability(&self, spot: &Spot) -> Result<(), DiskError> {
        match aside_name(CAPABILITY).filter(|_| self.aside.is_marked()) {
            Some(kept) => self.drop_kept(spot, &kept),
            None => Ok(()),
        }
    }

    fn drop_kept(&self, spot: &Spot, kept: &[u8]) -> Result<(), DiskError> {
        match unless_unreadable(spot.xattr(kept))? {
            Some(_) => spot.remove_xattr(kept),
            None => Ok(()),
        }
    }

    /// An access control list changes the mode, so it may be one that the disk must not have.
    fn set_access_list(&self, spot: &Spot, list: &[u8], flag: XattrFlag) -> Result<(), DiskError> {
        let _alone = self.aside.changing();
        let set = |list: &[u8]| spot.set_xattr(ACCESS, list, flag);
        let (Some(bits), Some(stat)) = (mode_of(list), spot.stat()?) else { return set(list) };
        let mut wanted = OverrideStat::of(&self.aside.shown(spot, &stat)?);
        wanted.mode = wanted.mode & !0o777 | bits;
        if self.fits(&stat.attributes, &wanted) {
            set(list)?;
            return self.keep(spot, &stat, wanted);
        }
        self.expect_aside()?;
        let before = self.aside.stat(spot, &stat)?;
        self.set_value(spot, &stat, wanted)?;
        let disk = mode_on_disk(&stat.attributes, &wanted);
        let done = set(&with_mode(list.to_vec(), disk)).and_then(|()| spot.set_mode(disk));
        if done.is_err() {
            // The disk may have no lists at all.
            match before {
                Some(before) => self.set_value(spot, &stat, before)?,
                None => spot.remove_xattr(OVERRIDE)?,
            }
        }
        done
    }

    /// Makes what was kept aside of symbolic links, fifos and sockets durable.
    ///
    /// # Errors
    /// What the host reports.
    pub(crate) fn sync_aside(&self) -> Result<(), DiskError> {
        self.aside.sync(self.index_directory())
    }

    /// Gives up what is kept aside of something that has lost its last name; while it `is_held`, it is still shown.
    ///
    /// # Errors
    /// What the host reports.
    pub(crate) fn lost_name(&self, inode: u64, kind: Kind, is_held: bool) -> Result<(), DiskError> {
        if !self.aside.is_marked() || carries(kind) {
            return Ok(());
        }
        self.aside.lost_name(self.index_directory(), (inode, kind), is_held)
    }
}

/// Returns the mode on the disk of something whose own is kept aside: who serves may do everything. Others may what they
/// may anyhow only where owner and group are the disk's.
fn mode_on_disk(disk: &Attributes, wanted: &OverrideStat) -> u32 {
    let is_own = (disk.user, disk.group) == (wanted.user, wanted.group);
    let others = if is_own { wanted.mode & 0o077 } else { 0 };
    if disk.kind == Kind::Directory {
        0o700 | others | wanted.mode & STICKY
    } else {
        0o600 | wanted.mode & 0o100 | others
    }
}

fn refused(reason: std::io::Error) -> DiskError {
    DiskError::new("set an extended attribute of", "a node of the upper directory", reason)
}

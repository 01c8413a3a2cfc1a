//! New files, directories, links and special nodes.
//!
//! What is new is prepared in `work/` with its owner and mode and then appears by one rename.

use std::fs::File;
use std::sync::Arc;

use super::copy_up::Need;
use super::look::{check_name, upper_inode};
use super::table::{NewNode, Node, UpperState};
use super::{Access, Caller, Entry, FsError, NodeId, Opened, Volume, lock};
use crate::disk::unix::{Directory, NewSpecial, Spot, XattrFlag};
use crate::node::{Attributes, Kind};
use crate::overlay::format;
use crate::overlay::{Temporary, Upper};

const SET_GROUP_ID: u32 = 0o2000;

impl Volume {
    /// `mknod(2)`: an empty file, fifo, socket or device node. Counts a reference.
    ///
    /// # Errors
    /// `Exists`, `NotFound`, `NotDirectory`, `NameTooLong`, `ReadOnly`, `NotPermitted` for devices where the
    /// volume has none, or what the upper's disk reports.
    pub fn make_node(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
        kind: Kind,
        mode: u32,
        device: u64,
    ) -> Result<Entry, FsError> {
        match kind {
            Kind::File => {
                return Ok(self
                    .make(caller, parent, name, (kind, mode), |upper, prepared| {
                        upper.work().create_file(prepared.name(), 0o600)?;
                        Ok(())
                    })?
                    .0);
            }
            Kind::Fifo | Kind::Socket => {}
            Kind::CharacterDevice | Kind::BlockDevice if self.options.devices => {}
            Kind::CharacterDevice | Kind::BlockDevice => return Err(FsError::NotPermitted),
            Kind::Directory | Kind::Symlink => return Err(FsError::Invalid("not a kind for mknod")),
        }
        let new = NewSpecial { kind, mode: 0o600, device };
        let made = self.make(caller, parent, name, (kind, mode), |upper, prepared| {
            self.make_special(upper, prepared, new)
        })?;
        Ok(made.0)
    }

    /// `mkdir(2)`. Counts a reference.
    ///
    /// # Errors
    /// As [`Self::make_node`].
    pub fn make_directory(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
    ) -> Result<Entry, FsError> {
        let made = self.make(caller, parent, name, (Kind::Directory, mode), |upper, prepared| {
            Ok(upper.work().make_directory(prepared.name(), 0o700)?)
        })?;
        Ok(made.0)
    }

    /// `symlink(2)`. Counts a reference.
    ///
    /// # Errors
    /// As [`Self::make_node`].
    pub fn make_symlink(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
        target: &[u8],
    ) -> Result<Entry, FsError> {
        let made = self.make(caller, parent, name, (Kind::Symlink, 0o777), |upper, prepared| {
            Ok(upper.work().make_symlink(prepared.name(), target)?)
        })?;
        Ok(made.0)
    }

    /// `open(2)` with `O_CREAT | O_EXCL`. Counts a reference.
    ///
    /// # Errors
    /// As [`Self::make_node`].
    pub fn create(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        access: Access,
    ) -> Result<(Entry, Opened), FsError> {
        let mut file = None;
        let (entry, node) = self.make(caller, parent, name, (Kind::File, mode), |upper, prepared| {
            let created = upper.work().create_file(prepared.name(), 0o600)?;
            // Opened again while the mode still lets its owner.
            file = Some(if access.append { prepared.spot().open_file(true, true)? } else { created });
            Ok(())
        })?;
        let file = file.map(Arc::<File>::new);
        let handle = self.add_file_handle(&node, access, file.clone());
        let backing = file.filter(|_| self.allowance.is_none());
        Ok((entry, Opened { handle, backing, keep_cache: true }))
    }

    /// Makes a fifo, socket or device. What the disk cannot hold is kept aside: a device that may not be made,
    /// and every 0/0 character device, which would read back as a whiteout.
    pub(super) fn make_special(
        &self,
        upper: &Upper,
        prepared: &Temporary<'_>,
        new: NewSpecial,
    ) -> Result<(), FsError> {
        let is_device = matches!(new.kind, Kind::CharacterDevice | Kind::BlockDevice);
        let is_whiteout = new.kind == Kind::CharacterDevice && new.device == 0;
        if !is_whiteout && (!is_device || upper.may_make_devices()) {
            match upper.work().make_special(prepared.name(), new) {
                Err(error) if is_device && error.kind() == std::io::ErrorKind::PermissionDenied => {}
                other => return Ok(other?),
            }
        }
        upper.work().create_file(prepared.name(), 0o600)?;
        let value = format::device_value(new.kind, new.device);
        Ok(prepared.spot().set_xattr(format::NODE, &value, XattrFlag::Set)?)
    }

    fn make(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
        (kind, mode): (Kind, u32),
        build: impl FnOnce(&Upper, &Temporary<'_>) -> Result<(), FsError>,
    ) -> Result<(Entry, Arc<Node>), FsError> {
        let upper = self.writable_upper()?;
        check_name(name)?;
        let prepared = upper.temporary();
        let mut build = Some(build);
        let _names = loop {
            let view = self.live_directory(parent)?;
            if self.find(parent, name)?.is_some() {
                return Err(FsError::Exists);
            }
            self.check_writable_name(parent, name)?;
            self.copy_up(&view.node, Need::Attributes)?;
            if let Some(build) = build.take() {
                build(upper, &prepared)?;
                self.give_owner(&view.node, caller, kind, mode, &prepared)?;
            }
            if let Some(names) = self.names_if_unchanged(&[&view]) {
                break names;
            }
        };
        let directory = self.upper_directory(parent)?;
        if prepared.spot().stat()?.is_some_and(|stat| stat.attributes.kind != kind) {
            // Kept aside: the listing must look at the attributes to know the kind.
            self.mark_impure(parent, &directory)?;
        }
        let state = appear(prepared, &directory, name, kind)?;
        self.touched(parent);
        let inode = upper_inode(state.inode);
        let new = NewNode { kind, inode, lower: None, lower_path: None, upper: Some(state), bare: None };
        let node = self.add_named(parent, name, new);
        let spot = Spot::Named { directory, name: name.into() };
        Ok((Entry { node: node.id, status: self.upper_status(&node, &spot)? }, node))
    }

    /// Makes a node that has just got its name known, with one reference.
    fn add_named(&self, parent: NodeId, name: &[u8], new: NewNode) -> Arc<Node> {
        let mut table = lock(&self.table);
        let node = table.insert(new);
        table.attach(parent, &Arc::from(name), node.id);
        table.acquire(node.id, 1);
        node
    }

    /// Gives a new node its owner, mode and, in a set-group-id directory, that directory's group; and the access
    /// control list that it inherits.
    fn give_owner(
        &self,
        parent: &Node,
        caller: Caller,
        kind: Kind,
        mode: u32,
        prepared: &Temporary<'_>,
    ) -> Result<(), FsError> {
        let directory = self.status(parent)?.attributes;
        let inherits = directory.mode & SET_GROUP_ID != 0;
        let group = if inherits { directory.group } else { caller.group };
        let mode = if inherits && kind == Kind::Directory { mode | SET_GROUP_ID } else { mode };
        let (spot, upper) = (prepared.spot(), self.writable_upper()?);
        let inherited = self.inherited(parent, kind, mode)?;
        let mode = inherited.as_ref().map_or(mode, |inherited| inherited.mode);
        let owned = Attributes { user: caller.user, group, ..Attributes::bare(kind, mode) };
        upper.give_owner(&spot, &owned)?;
        upper.give_mode(&spot, &owned)?;
        inherited.map_or(Ok(()), |inherited| inherited.give(upper, &spot))?;
        self.count_new(&spot)
    }
}

/// Lets a prepared node appear at `name`, where nothing or a whiteout is.
fn appear(
    prepared: Temporary<'_>,
    directory: &Arc<Directory>,
    name: &[u8],
    kind: Kind,
) -> Result<UpperState, FsError> {
    let inode = prepared.spot().stat()?.ok_or(FsError::NotFound)?.inode;
    let covers = kind == Kind::Directory && directory.stat(name)?.is_some();
    if covers {
        // What lies below was removed and must not shine through.
        prepared.spot().set_xattr(format::OPAQUE, b"y", XattrFlag::Set)?;
        prepared.exchange(directory, name)?;
    } else {
        prepared.publish(directory, name)?;
    }
    Ok(UpperState { inode, opaque: covers, impure: false })
}

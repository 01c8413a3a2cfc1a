//! Access control lists (`acl(5)`): what a new node inherits from the directory it is made in. Everything else
//! about them is the kernel's and the disk's business; they are kept as the extended attributes they are.
//!
//! **Invariant:** a list that makes no sense grants nothing: the new node gets its mode alone.

use super::table::Node;
use super::{FsError, NodeId, Volume};
use crate::disk::unix::{Spot, XattrFlag, is_unsupported};
use crate::node::Kind;
use crate::overlay::Upper;
use crate::overlay::access_list::{
    ACCESS, DEFAULT, ENTRY, GROUP, GROUP_OWNER, MASK, OTHER, USER, USER_OWNER, VERSION, tag,
};

/// What a new node gets from the default list of its directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inherited {
    /// Permission bits; the caller's umask has no say.
    pub(super) mode: u32,
    /// The access list, if it says more than the mode.
    access: Option<Vec<u8>>,
    /// A directory passes the default list on.
    default: Option<Vec<u8>>,
}

impl Inherited {
    /// Combines `default`, the directory's default list, with the `mode` that was asked for.
    fn new(default: Vec<u8>, kind: Kind, mode: u32) -> Option<Self> {
        let mut access = default.clone();
        let (version, entries) = access.split_at_mut_checked(VERSION.len())?;
        if version != VERSION || entries.len() % ENTRY != 0 {
            return None;
        }
        let (mut granted, mut group, mut more) = (mode & !0o777, None, false);
        for entry in entries.chunks_exact_mut(ENTRY) {
            let tag = tag(entry);
            let shift = match tag {
                USER_OWNER => 6,
                GROUP_OWNER | MASK => 3,
                OTHER => 0,
                USER | GROUP => {
                    more = true;
                    continue;
                }
                _ => return None,
            };
            let permissions = entry[2] & ((mode >> shift) & 0o7) as u8;
            if tag == GROUP_OWNER {
                group = Some((permissions, entry));
                continue;
            }
            if tag == MASK {
                // It comes after the group's entry and stands for it in the mode.
                (group, more) = (None, true);
            }
            entry[2] = permissions;
            granted |= u32::from(permissions) << shift;
        }
        if let Some((permissions, entry)) = group {
            entry[2] = permissions;
            granted |= u32::from(permissions) << 3;
        }
        let default = (kind == Kind::Directory).then_some(default);
        Some(Self { mode: granted, access: more.then_some(access), default })
    }

    /// Gives the lists to a prepared node.
    pub(super) fn give(&self, upper: &Upper, spot: &Spot) -> Result<(), FsError> {
        for (name, list) in [(ACCESS, &self.access), (DEFAULT, &self.default)] {
            let Some(list) = list else { continue };
            match upper.set_attribute(spot, name, list, XattrFlag::Set) {
                Err(error) if is_unsupported(&error) => {
                    tracing::debug!("an access control list is lost: {error}");
                }
                other => other?,
            }
        }
        Ok(())
    }
}

impl Volume {
    /// Tells whether what is made in the directory `parent` inherits an access control list, so that the caller's
    /// umask has no say in its mode.
    ///
    /// # Errors
    /// `Unknown`, or what a layer or the upper's disk reports.
    pub fn inherits_access_list(&self, parent: NodeId) -> Result<bool, FsError> {
        Ok(self.default_list(parent)?.is_some())
    }

    fn default_list(&self, directory: NodeId) -> Result<Option<Vec<u8>>, FsError> {
        match self.extended_attribute(directory, DEFAULT) {
            Ok(list) => Ok(Some(list)),
            Err(FsError::NoAttribute) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns what a new node of this `kind` and `mode` inherits from `parent`.
    pub(super) fn inherited(
        &self,
        parent: &Node,
        kind: Kind,
        mode: u32,
    ) -> Result<Option<Inherited>, FsError> {
        if kind == Kind::Symlink {
            return Ok(None);
        }
        Ok(self.default_list(parent.id)?.and_then(|list| Inherited::new(list, kind, mode)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u8, u32)]) -> Vec<u8> {
        let mut list = VERSION.to_vec();
        for &(tag, permissions, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend([permissions, 0]);
            list.extend(id.to_le_bytes());
        }
        list
    }

    const NOBODY: u32 = u32::MAX;

    #[test]
    fn the_mode_asked_for_limits_what_is_inherited() {
        let default = list(&[
            (USER_OWNER, 7, NOBODY),
            (USER, 7, 1),
            (GROUP_OWNER, 5, NOBODY),
            (MASK, 7, NOBODY),
            (OTHER, 5, NOBODY),
        ]);
        let file = Inherited::new(default.clone(), Kind::File, 0o640).unwrap();
        let expected = list(&[
            (USER_OWNER, 6, NOBODY),
            (USER, 7, 1),
            (GROUP_OWNER, 5, NOBODY),
            (MASK, 4, NOBODY),
            (OTHER, 0, NOBODY),
        ]);
        assert_eq!(file, Inherited { mode: 0o640, access: Some(expected), default: None });
        let directory = Inherited::new(default.clone(), Kind::Directory, 0o2777).unwrap();
        assert_eq!((directory.mode, directory.default), (0o2775, Some(default)));
    }

    #[test]
    fn a_list_that_says_no_more_than_a_mode_becomes_one() {
        let default = list(&[(USER_OWNER, 7, NOBODY), (GROUP_OWNER, 5, NOBODY), (OTHER, 0, NOBODY)]);
        let file = Inherited::new(default, Kind::File, 0o666).unwrap();
        assert_eq!(file, Inherited { mode: 0o640, access: None, default: None });
    }

    #[test]
    fn nonsense_is_not_inherited() {
        for nonsense in [vec![], vec![2, 0, 0], vec![9, 0, 0, 0], list(&[(0x40, 7, 0)]), vec![2, 0, 0, 0, 1]]
        {
            assert_eq!(Inherited::new(nonsense, Kind::File, 0o666), None);
        }
    }
}

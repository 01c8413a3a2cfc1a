//! Access control lists (`acl(5)`) as extended attributes, and the part of them that is the mode.
//!
//! The entries of owner, mask (without one: group) and others are the permission bits. Of a node whose mode is kept aside the
//! disk's list has the disk's bits there, and the ones kept aside are shown.
//!
//! **Invariant:** what makes no sense is left as it is.

/// What a node grants.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
/// What a directory gives to what is made in it.
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// `ACL_EA_VERSION` of `linux/posix_acl_xattr.h`: four bytes, then entries of tag, permissions and id, all little
/// endian.
pub(crate) const VERSION: [u8; 4] = [2, 0, 0, 0];
/// Length of an entry in bytes.
pub(crate) const ENTRY: usize = 8;

pub(crate) const USER_OWNER: u16 = 0x01;
pub(crate) const USER: u16 = 0x02;
pub(crate) const GROUP_OWNER: u16 = 0x04;
pub(crate) const GROUP: u16 = 0x08;
pub(crate) const MASK: u16 = 0x10;
pub(crate) const OTHER: u16 = 0x20;

/// Returns the tag of an entry.
pub(crate) fn tag(entry: &[u8]) -> u16 {
    u16::from_le_bytes([entry[0], entry[1]])
}

/// Returns where in the mode the permissions of an entry with this `tag` are, if they are there.
fn place(tag: u16, has_mask: bool) -> Option<u32> {
    match tag {
        USER_OWNER => Some(6),
        MASK => Some(3),
        GROUP_OWNER if !has_mask => Some(3),
        OTHER => Some(0),
        _ => None,
    }
}

fn entries(list: &[u8]) -> Option<&[u8]> {
    list.strip_prefix(&VERSION).filter(|entries| entries.len() % ENTRY == 0)
}

fn has_mask(entries: &[u8]) -> bool {
    entries.chunks_exact(ENTRY).any(|entry| tag(entry) == MASK)
}

/// Returns the permission bits (`0o000 ..= 0o777`) that `list` says; `None` for what is no list.
pub(super) fn mode_of(list: &[u8]) -> Option<u32> {
    let entries = entries(list)?;
    let masked = has_mask(entries);
    let bits = entries.chunks_exact(ENTRY).filter_map(|entry| {
        let shift = place(tag(entry), masked)?;
        Some(u32::from(entry[2] & 7) << shift)
    });
    Some(bits.fold(0, |mode, bits| mode | bits))
}

/// Returns `list` with the permission bits of `mode`.
pub(super) fn with_mode(mut list: Vec<u8>, mode: u32) -> Vec<u8> {
    let Some(masked) = entries(&list).map(has_mask) else { return list };
    for entry in list[VERSION.len()..].chunks_exact_mut(ENTRY) {
        if let Some(shift) = place(tag(entry), masked) {
            entry[2] = (mode >> shift & 7) as u8;
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u8)]) -> Vec<u8> {
        let mut list = VERSION.to_vec();
        for &(tag, permissions) in entries {
            list.extend(tag.to_le_bytes());
            list.extend([permissions, 0, 0xff, 0xff, 0xff, 0xff]);
        }
        list
    }

    #[test]
    fn the_mask_stands_for_the_group() {
        let plain = list(&[(USER_OWNER, 6), (GROUP_OWNER, 4), (OTHER, 1)]);
        let masked = list(&[(USER_OWNER, 6), (USER, 7), (GROUP_OWNER, 5), (MASK, 4), (OTHER, 0)]);
        assert_eq!((mode_of(&plain), mode_of(&masked)), (Some(0o641), Some(0o640)));
        assert_eq!(with_mode(plain, 0o752), list(&[(USER_OWNER, 7), (GROUP_OWNER, 5), (OTHER, 2)]));
        let expected = list(&[(USER_OWNER, 0), (USER, 7), (GROUP_OWNER, 5), (MASK, 7), (OTHER, 3)]);
        assert_eq!(with_mode(masked, 0o073), expected);
    }

    #[test]
    fn nonsense_stays_nonsense() {
        for nonsense in [vec![], vec![9, 0, 0, 0], vec![2, 0, 0, 0, 1]] {
            assert_eq!(mode_of(&nonsense), None);
            assert_eq!(with_mode(nonsense.clone(), 0o777), nonsense);
        }
    }
}

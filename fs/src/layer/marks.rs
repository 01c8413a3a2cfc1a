//! The marks that overlayfs leaves in an upper directory, and how they are read where such a directory lies below
//! as a layer.
//!
//! The kernel writes them in `trusted.overlay.`, with `userxattr` in `user.overlay.`; fuse-overlayfs has a name of its
//! own for opaque directories; slotfs adds `user.slotfs.` for what overlayfs has no place for. Owners and modes that a disk
//! does not hold are in [`super::override_stat`].
//!
//! **Invariant:** parsing what is on disk never fails: what makes no sense is as if it were not there.

use super::ExtendedAttributes;
pub use super::override_stat::{OVERRIDE, OverrideStat};
use crate::node::{Attributes, Kind};

/// Marks an empty file as a whiteout.
pub const WHITEOUT: &[u8] = b"user.overlay.whiteout";
/// `y`: hides what the layers hold; `x`: holds whiteouts of the second form.
pub const OPAQUE: &[u8] = b"user.overlay.opaque";
/// Where in the layers a directory's content is.
pub const REDIRECT: &[u8] = b"user.overlay.redirect";
/// The directory holds entries that have inode numbers of their own.
pub const IMPURE: &[u8] = b"user.overlay.impure";
/// The stable inode number.
pub const INODE: &[u8] = b"user.slotfs.inode";
/// A device that is kept aside.
pub const NODE: &[u8] = b"user.slotfs.node";

/// A file that has attributes only: its content is that of the layers below.
pub const METACOPY: &[u8] = b"user.overlay.metacopy";
/// How long such a file was in the layers, in decimal, a colon, and which layers these were, so that another one in its
/// place is not taken for it.
pub const LENGTH: &[u8] = b"user.slotfs.length";

/// On the upper directory itself: there may be files that have attributes only.
pub const HAS_BARE: &[u8] = b"user.slotfs.bare";

/// On the upper directory itself: owners and modes may be kept aside. The value is its own, as [`OVERRIDE`] would have it;
/// where that is on the root of a layer, fuse-overlayfs fails on everything that has none.
pub const HAS_ASIDE: &[u8] = b"user.slotfs.aside";

/// What stands before the name of an attribute that only root may set, and a server that is not root has been given.
const ASIDE: &[u8] = b"user.slotfs.aside.";

/// The name under which a user's attribute called [`OVERRIDE`] is stored.
const USERS_OVERRIDE: &[u8] = b"user.slotfs.containers.override_stat";

/// What fuse-overlayfs calls [`OPAQUE`].
const OTHER_OPAQUE: &[u8] = b"user.fuseoverlayfs.opaque";

/// Name spaces of marks, the first one is ours; what stands before a user's attribute of the same name.
const PREFIXES: [(&[u8], &[u8]); 3] =
    [(b"user.overlay.", b"overlay."), (b"trusted.overlay.", b"overlay."), (b"user.slotfs.", b"slotfs.")];

/// What overlayfs says about one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Nothing is there, whatever lies below.
    pub whiteout: bool,
    /// A directory that hides what lies below.
    pub opaque: bool,
    /// A directory in whose listing kinds may not be what they seem.
    pub closer_look: bool,
    /// Where in the layers below a directory goes on, or a file's content is.
    pub redirect: Option<Vec<u8>>,
    /// A file whose content is that of the layers below; how long it was, where that is noted.
    pub bare: Option<Option<u64>>,
}

impl Marks {
    /// Reads the marks of a node with these attributes, of both kinds.
    #[must_use]
    pub fn of(attributes: &Attributes, extended: &ExtendedAttributes) -> Self {
        let value = |name: &[u8]| find(extended, name);
        match attributes.kind {
            Kind::CharacterDevice => Self { whiteout: attributes.device == 0, ..Self::default() },
            Kind::File => Self {
                whiteout: attributes.size == 0 && value(WHITEOUT).is_some(),
                redirect: value(METACOPY).and_then(|_| value(REDIRECT)).map(<[u8]>::to_vec),
                bare: value(METACOPY).map(|_| Some(value(LENGTH).and_then(parse_length)?.0)),
                ..Self::default()
            },
            Kind::Directory => {
                let opaque = value(OPAQUE);
                let theirs = extended.iter().any(|(name, value)| name == OTHER_OPAQUE && value == b"y");
                Self {
                    whiteout: false,
                    opaque: opaque == Some(b"y") || theirs,
                    closer_look: opaque.is_some() || value(IMPURE).is_some(),
                    redirect: value(REDIRECT).map(<[u8]>::to_vec),
                    bare: None,
                }
            }
            Kind::Symlink | Kind::Fifo | Kind::Socket | Kind::BlockDevice => Self::default(),
        }
    }
}

/// Finds the mark called `name` (of ours), else what the kernel calls it without `userxattr`.
fn find<'a>(extended: &'a ExtendedAttributes, name: &[u8]) -> Option<&'a [u8]> {
    let trusted = trusted(name);
    let named =
        |wanted: &[u8]| extended.iter().find(|(known, _)| known == wanted).map(|(_, value)| value.as_slice());
    named(name).or_else(|| named(&trusted))
}

/// Returns what the kernel calls the mark `name` without `userxattr`.
#[must_use]
pub fn trusted(name: &[u8]) -> Vec<u8> {
    let rest = name.strip_prefix(PREFIXES[0].0).unwrap_or(name);
    [PREFIXES[1].0, rest].concat()
}

/// Returns the name under which an attribute that users call `name` is stored.
#[must_use]
pub fn stored_name(name: &[u8]) -> Vec<u8> {
    if name == OVERRIDE {
        return USERS_OVERRIDE.to_vec();
    }
    for (prefix, part) in PREFIXES {
        if let Some(rest) = name.strip_prefix(prefix) {
            return [prefix, part, rest].concat();
        }
    }
    name.to_vec()
}

/// Returns what users call the attribute stored as `name`; `None` when it is a mark.
#[must_use]
pub fn shown_name(name: &[u8]) -> Option<Vec<u8>> {
    if name == USERS_OVERRIDE {
        return Some(OVERRIDE.to_vec());
    }
    if let Some(kept) = name.strip_prefix(ASIDE) {
        return is_roots(kept).then(|| kept.to_vec());
    }
    for (prefix, part) in PREFIXES {
        if let Some(rest) = name.strip_prefix(prefix) {
            return rest.strip_prefix(part).map(|rest| [prefix, rest].concat());
        }
    }
    (name != OTHER_OPAQUE && name != OVERRIDE).then(|| name.to_vec())
}

/// Returns the name under which an attribute that users call `name` is kept aside; `None` for what needs no root.
#[must_use]
pub fn aside_name(name: &[u8]) -> Option<Vec<u8>> {
    is_roots(name).then(|| [ASIDE, name].concat())
}

/// Tells whether an attribute that is stored as `name` is one kept aside.
#[must_use]
pub fn is_aside(name: &[u8]) -> bool {
    name.starts_with(ASIDE)
}

fn is_roots(name: &[u8]) -> bool {
    name.starts_with(b"trusted.") || name.starts_with(b"security.")
}

/// Reads the value of [`LENGTH`]: how long, and in which layers.
#[must_use]
pub fn parse_length(value: &[u8]) -> Option<(u64, String)> {
    let (length, layers) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some((length.parse().ok()?, layers.to_owned()))
}

/// Writes down a device that is kept aside.
#[must_use]
pub fn device_value(kind: Kind, device: u64) -> Vec<u8> {
    let letter = if kind == Kind::BlockDevice { 'b' } else { 'c' };
    format!("{letter} {device}").into_bytes()
}

/// Reads what [`device_value`] has written.
#[must_use]
pub fn parse_device(value: &[u8]) -> Option<(Kind, u64)> {
    let (letter, number) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let kind = match letter {
        "c" => Kind::CharacterDevice,
        "b" => Kind::BlockDevice,
        _ => return None,
    };
    Some((kind, number.parse().ok()?))
}

/// Returns a layer's attributes as they are shown: a device that was kept aside is a device, and with `overridden` owners
/// and modes are those that were kept aside.
pub(super) fn shown_attributes(
    mut attributes: Attributes,
    extended: &ExtendedAttributes,
    overridden: bool,
) -> Attributes {
    let kept =
        || find(extended, HAS_ASIDE).or_else(|| find(extended, OVERRIDE)).and_then(OverrideStat::parse);
    if overridden && let Some(kept) = kept() {
        kept.apply(&mut attributes);
    }
    if attributes.kind == Kind::File
        && attributes.size == 0
        && let Some((kind, device)) = find(extended, NODE).and_then(parse_device)
    {
        (attributes.kind, attributes.device) = (kind, device);
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(kind: Kind, device: u64) -> Attributes {
        Attributes { device, ..Attributes::bare(kind, 0) }
    }

    fn extended(names: &[(&str, &str)]) -> ExtendedAttributes {
        names.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn our_attributes_are_hidden_and_users_keep_theirs() {
        let table: [(&[u8], &[u8]); 7] = [
            (b"user.comment", b"user.comment"),
            (b"user.overlay.opaque", b"user.overlay.overlay.opaque"),
            (b"user.overlay.overlay.opaque", b"user.overlay.overlay.overlay.opaque"),
            (b"trusted.overlay.opaque", b"trusted.overlay.overlay.opaque"),
            (b"user.slotfs.inode", b"user.slotfs.slotfs.inode"),
            (b"user.containers.override_stat", b"user.slotfs.containers.override_stat"),
            (b"user.slotfs.containers.override_stat", b"user.slotfs.slotfs.containers.override_stat"),
        ];
        for (shown, stored) in table {
            assert_eq!(stored_name(shown), stored);
            assert_eq!(shown_name(stored).as_deref(), Some(shown));
        }
        for ours in [
            OPAQUE,
            REDIRECT,
            IMPURE,
            INODE,
            HAS_ASIDE,
            NODE,
            WHITEOUT,
            METACOPY,
            LENGTH,
            HAS_BARE,
            OTHER_OPAQUE,
            OVERRIDE,
        ] {
            assert_eq!(shown_name(ours), None);
        }
    }

    #[test]
    fn what_only_root_may_set_is_shown_under_its_own_name() {
        for name in [&b"trusted.note"[..], b"security.capability", b"trusted.overlay.opaque"] {
            let kept = aside_name(name);
            assert!(kept.as_deref().is_some_and(is_aside));
            assert_eq!(kept.and_then(|kept| shown_name(&kept)).as_deref(), Some(name));
        }
        assert_eq!(aside_name(b"user.note"), None);
        assert_eq!(shown_name(b"user.slotfs.aside.user.note"), None);
    }

    #[test]
    fn devices_read_back_and_nonsense_is_nothing() {
        assert_eq!(parse_device(&device_value(Kind::BlockDevice, 2049)), Some((Kind::BlockDevice, 2049)));
        for nonsense in [&b""[..], b"c", b"c x", b"d 1", b"\xff 1"] {
            assert_eq!(parse_device(nonsense), None);
        }
    }

    #[test]
    fn each_tool_is_understood() {
        let whiteout = |kind, device, names: &[(&str, &str)]| {
            Marks::of(&attributes(kind, device), &extended(names)).whiteout
        };
        assert!(whiteout(Kind::CharacterDevice, 0, &[]));
        assert!(!whiteout(Kind::CharacterDevice, 259, &[]));
        assert!(whiteout(Kind::File, 0, &[("trusted.overlay.whiteout", "")]));
        assert!(!whiteout(Kind::File, 0, &[("user.overlay.overlay.whiteout", "y")]));
        for name in ["user.overlay.opaque", "trusted.overlay.opaque", "user.fuseoverlayfs.opaque"] {
            assert!(Marks::of(&attributes(Kind::Directory, 0), &extended(&[(name, "y")])).opaque, "{name}");
        }
        let marks = Marks::of(&attributes(Kind::Directory, 0), &extended(&[("user.overlay.opaque", "x")]));
        assert!(marks.closer_look && !marks.opaque);
    }
}

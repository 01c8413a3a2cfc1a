//! Owner and mode of a node that its disk does not hold, as the attribute `user.containers.override_stat` has them.
//!
//! The convention is that of containers/storage (`pkg/idtools`: `FormatContainersOverrideXattrDevice`,
//! `parseOverrideXattr`) and fuse-overlayfs (`utils.c`: `override_mode`), which looks for it in a layer whose root has it:
//!
//! ```text
//! user ":" group ":" mode [":" type]
//! type = "file" | "dir" | "symlink" | "pipe" | "socket" | "block-" major "-" minor | "char-" major "-" minor
//! ```
//!
//! Numbers are decimal, the mode is octal: written with four digits, read with bits above 07777 ignored, as others put the
//! kind there.
//!
//! **Invariant:** parsing what is on disk never fails: what makes no sense is as if it were not there.

use crate::disk::kind::{device_number, device_parts};
use crate::node::{Attributes, Kind};

/// The attribute's name; on the root of a tree it says that others in the tree may have it.
pub const OVERRIDE: &[u8] = b"user.containers.override_stat";

const PERMISSIONS: u32 = 0o7777;

/// What is shown instead of what the disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverrideStat {
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Permission bits, `0o0000 ..= 0o7777`.
    pub mode: u32,
    /// Kind and number of a device that is a file on the disk.
    pub device: Option<(Kind, u64)>,
}

impl OverrideStat {
    /// Returns what is to be written down so that these attributes are shown.
    #[must_use]
    pub fn of(attributes: &Attributes) -> Self {
        let Attributes { kind, user, group, mode, device, .. } = *attributes;
        let is_device = matches!(kind, Kind::CharacterDevice | Kind::BlockDevice);
        Self { user, group, mode: mode & PERMISSIONS, device: is_device.then_some((kind, device)) }
    }

    /// Returns the attribute's value for a node that is of this `kind` on the disk.
    #[must_use]
    pub fn value(&self, kind: Kind) -> String {
        let Self { user, group, mode, device } = self;
        let (kind, device) = device.unwrap_or((kind, 0));
        let (major, minor) = device_parts(device);
        let kind = match kind {
            Kind::File => "file".into(),
            Kind::Directory => "dir".into(),
            Kind::Symlink => "symlink".into(),
            Kind::Fifo => "pipe".into(),
            Kind::Socket => "socket".into(),
            Kind::CharacterDevice => format!("char-{major}-{minor}"),
            Kind::BlockDevice => format!("block-{major}-{minor}"),
        };
        format!("{user}:{group}:{mode:04o}:{kind}")
    }

    /// Reads the attribute's value.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(value).ok()?.split(':');
        let user = parts.next()?.parse().ok()?;
        let group = parts.next()?.parse().ok()?;
        let mode = u32::from_str_radix(parts.next()?, 8).ok()? & PERMISSIONS;
        let device = parts.next().and_then(parse_device);
        parts.next().is_none().then_some(Self { user, group, mode, device })
    }

    /// Shows it instead of what the disk has. Only an empty file can stand for a device.
    pub fn apply(&self, attributes: &mut Attributes) {
        (attributes.user, attributes.group, attributes.mode) = (self.user, self.group, self.mode);
        if let Some((kind, device)) =
            self.device.filter(|_| attributes.kind == Kind::File && attributes.size == 0)
        {
            (attributes.kind, attributes.device) = (kind, device);
        }
    }
}

fn parse_device(kind: &str) -> Option<(Kind, u64)> {
    let mut parts = kind.split('-');
    let kind = match parts.next()? {
        "char" => Kind::CharacterDevice,
        "block" => Kind::BlockDevice,
        _ => return None,
    };
    Some((kind, device_number(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<OverrideStat> {
        OverrideStat::parse(value.as_bytes())
    }

    #[test]
    fn values_read_back_and_are_those_of_containers_storage() {
        let stat = OverrideStat { user: 1000, group: 1011, mode: 0o644, device: None };
        let table = [
            (Kind::File, "1000:1011:0644:file"),
            (Kind::Directory, "1000:1011:0644:dir"),
            (Kind::Symlink, "1000:1011:0644:symlink"),
            (Kind::Fifo, "1000:1011:0644:pipe"),
            (Kind::Socket, "1000:1011:0644:socket"),
        ];
        for (kind, value) in table {
            assert_eq!((stat.value(kind).as_str(), read(value)), (value, Some(stat)));
        }
    }

    #[cfg(unix)]
    #[test]
    fn devices_have_their_number() {
        for (kind, value) in
            [(Kind::CharacterDevice, "0:5:4660:char-10-229"), (Kind::BlockDevice, "0:5:4660:block-8-1")]
        {
            let stat = read(value);
            let device = stat.and_then(|stat| stat.device);
            assert_eq!(device.map(|(kind, _)| kind), Some(kind));
            assert_eq!(stat.map(|stat| stat.value(Kind::File)).as_deref(), Some(value));
        }
    }

    #[test]
    fn what_others_write_is_understood_and_nonsense_is_nothing() {
        let plain = Some(OverrideStat { user: 1, group: 2, mode: 0o755, device: None });
        for value in
            ["1:2:0755", "1:2:755", "1:2:0100755", "1:2:0755:file", "1:2:0755:unknown", "1:2:0755:char-x"]
        {
            assert_eq!(read(value), plain, "{value}");
        }
        for nonsense in
            ["", "1:2", "1:2:9", "-1:2:0755", "1:2:0755:file:more", "a:2:0755", "1:4294967296:0755"]
        {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
        assert_eq!(OverrideStat::parse(b"\xff:2:0755"), None);
    }
}

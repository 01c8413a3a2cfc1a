//! Operations that are generated, and carried out on the oracle and on something real.
//!
//! Names come from a small set and paths are short, so that operations meet each other often.

use proptest::prelude::*;
use slotfs_fs::node::Kind;
use slotfs_fs::volume::RenameMode;

/// A path of generated names.
pub type OperationPath = Vec<Vec<u8>>;

/// One step of a workload.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are the arguments of the system call of that name")]
pub enum Operation {
    Create {
        path: OperationPath,
        mode: u32,
    },
    MakeDirectory {
        path: OperationPath,
        mode: u32,
    },
    MakeSymlink {
        path: OperationPath,
        target: Vec<u8>,
    },
    MakeNode {
        path: OperationPath,
        kind: Kind,
        device: u64,
    },
    Link {
        from: OperationPath,
        to: OperationPath,
    },
    Unlink {
        path: OperationPath,
    },
    RemoveDirectory {
        path: OperationPath,
    },
    Rename {
        from: OperationPath,
        to: OperationPath,
        mode: RenameMode,
    },
    Write {
        path: OperationPath,
        offset: usize,
        length: usize,
        byte: u8,
    },
    Append {
        path: OperationPath,
        length: usize,
        byte: u8,
    },
    OpenTruncate {
        path: OperationPath,
    },
    Truncate {
        path: OperationPath,
        size: usize,
    },
    Punch {
        path: OperationPath,
        offset: usize,
        length: usize,
    },
    SetMode {
        path: OperationPath,
        mode: u32,
    },
    SetOwner {
        path: OperationPath,
        user: u32,
        group: u32,
    },
    SetModified {
        path: OperationPath,
        seconds: i64,
    },
    SetXattr {
        path: OperationPath,
        name: u8,
        value: u8,
    },
    RemoveXattr {
        path: OperationPath,
        name: u8,
    },
    /// Open the file and keep it open in this place.
    Hold {
        path: OperationPath,
        place: usize,
        write: bool,
    },
    /// Write through the file held there.
    WriteHeld {
        place: usize,
        offset: usize,
        length: usize,
        byte: u8,
    },
    /// Change the mode of the file held there, which may have no name any more.
    SetModeHeld {
        place: usize,
        mode: u32,
    },
    /// Close the file held there.
    Release {
        place: usize,
    },
    /// `fsync(2)` of a file or directory, or `fdatasync(2)` of a file.
    Sync {
        path: OperationPath,
        data_only: bool,
    },
    /// `fsync(2)` of the file held there.
    SyncHeld {
        place: usize,
    },
    /// `syncfs(2)`.
    SyncAll,
    /// Stop and start again.
    Remount,
}

/// How many files may be held open at once.
pub const PLACES: usize = 3;

/// The names of user attributes that operations set.
#[must_use]
pub fn xattr_name(number: u8) -> Vec<u8> {
    [
        &b"user.colour"[..],
        b"user.overlay.opaque",
        b"user.slotfs.inode",
        b"user.overlay.metacopy",
        b"user.containers.override_stat",
    ][usize::from(number) % 5]
        .to_vec()
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(b"a".to_vec()),
        4 => Just(b"b".to_vec()),
        4 => Just(b"c".to_vec()),
        1 => Just(b"\xff d".to_vec()),
    ]
}

/// Returns paths of the small tree on which operations are carried out.
pub fn path() -> impl Strategy<Value = OperationPath> {
    prop_oneof![
        2 => prop::collection::vec(name(), 1),
        4 => prop::collection::vec(name(), 2),
        2 => prop::collection::vec(name(), 3),
    ]
}

fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0o644), Just(0o755), Just(0o600), Just(0o4755), Just(0o2710), Just(0o1777), Just(0)]
}

fn rename_mode() -> impl Strategy<Value = RenameMode> {
    prop_oneof![4 => Just(RenameMode::Replace), 1 => Just(RenameMode::NoReplace), 2 => Just(RenameMode::Exchange)]
}

/// Any one operation.
pub fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let length = 0..9000_usize;
    let names = prop_oneof![
        3 => (path(), mode()).prop_map(|(path, mode)| O::Create { path, mode }),
        3 => (path(), Just(0o755)).prop_map(|(path, mode)| O::MakeDirectory { path, mode }),
        1 => (path(), name()).prop_map(|(path, target)| O::MakeSymlink { path, target }),
        1 => (path(), special()).prop_map(|(path, (kind, device))| O::MakeNode { path, kind, device }),
        2 => (path(), path()).prop_map(|(from, to)| O::Link { from, to }),
        4 => path().prop_map(|path| O::Unlink { path }),
        3 => path().prop_map(|path| O::RemoveDirectory { path }),
        8 => (path(), path(), rename_mode()).prop_map(|(from, to, mode)| O::Rename { from, to, mode }),
    ];
    let content = prop_oneof![
        (path(), 0..9000_usize, length.clone(), any::<u8>())
            .prop_map(|(path, offset, length, byte)| O::Write { path, offset, length, byte }),
        (path(), length.clone(), any::<u8>()).prop_map(|(path, length, byte)| O::Append {
            path,
            length,
            byte
        }),
        path().prop_map(|path| O::OpenTruncate { path }),
        (path(), 0..20_000_usize).prop_map(|(path, size)| O::Truncate { path, size }),
        (path(), 0..9000_usize, 1..9000_usize).prop_map(|(path, offset, length)| O::Punch {
            path,
            offset,
            length
        }),
    ];
    let attributes = prop_oneof![
        (path(), mode()).prop_map(|(path, mode)| O::SetMode { path, mode }),
        (path(), 0..3_u32, 0..3_u32).prop_map(|(path, user, group)| O::SetOwner { path, user, group }),
        (path(), -5..5_000_000_000_i64).prop_map(|(path, seconds)| O::SetModified { path, seconds }),
        (path(), 0..5_u8, any::<u8>()).prop_map(|(path, name, value)| O::SetXattr { path, name, value }),
        (path(), 0..5_u8).prop_map(|(path, name)| O::RemoveXattr { path, name }),
    ];
    let held = prop_oneof![
        3 => (path(), 0..PLACES, any::<bool>())
            .prop_map(|(path, place, write)| O::Hold { path, place, write }),
        2 => (0..PLACES, 0..9000_usize, length, any::<u8>())
            .prop_map(|(place, offset, length, byte)| O::WriteHeld { place, offset, length, byte }),
        1 => (0..PLACES, mode()).prop_map(|(place, mode)| O::SetModeHeld { place, mode }),
        1 => (0..PLACES).prop_map(|place| O::Release { place }),
    ];
    prop_oneof![10 => names, 3 => content, 2 => attributes, 3 => held, 1 => Just(O::Remount)]
}

/// Any one operation, and often one that makes things last.
pub fn durable_operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let sync = prop_oneof![
        6 => (path(), any::<bool>()).prop_map(|(path, data_only)| O::Sync { path, data_only }),
        2 => (0..PLACES).prop_map(|place| O::SyncHeld { place }),
        1 => Just(O::SyncAll),
    ];
    prop_oneof![4 => operation(), 1 => sync]
}

/// What `mknod` makes; 0/0 is what overlays use as whiteout.
fn special() -> impl Strategy<Value = (Kind, u64)> {
    prop_oneof![
        Just((Kind::Fifo, 0)),
        Just((Kind::Socket, 0)),
        Just((Kind::CharacterDevice, 0)),
        Just((Kind::CharacterDevice, 0x103)),
        Just((Kind::BlockDevice, 0)),
    ]
}

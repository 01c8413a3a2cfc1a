//! What we ask of the kernel at the start of a connection, and why.

use fuser::{InitFlags, KernelConfig};

/// Reads and writes come in pieces of at most this many bytes: the most the kernel sends without a raised
/// `fs.fuse.max_pages_limit`.
const LARGEST_REQUEST: u32 = 1024 * 1024;

/// How many read-ahead requests may be under way at once.
const BACKGROUND: u16 = 64;

/// What the kernel and we agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    /// Files can be given to the kernel to read by itself.
    pub(super) passthrough: bool,
    /// `open` may be answered with ENOSYS.
    pub(super) no_open: bool,
    /// `opendir` may be answered with ENOSYS.
    pub(super) no_open_directory: bool,
}

/// Each is asked for where the kernel has it.
const WANTED: &[InitFlags] = &[
    // Several reads of one file at a time, and O_DIRECT without waiting for one another.
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_ASYNC_DIO,
    // Lookups and listings of one directory do not wait for one another.
    InitFlags::FUSE_PARALLEL_DIROPS,
    // A listing brings the attributes along where the kernel expects that they will be wanted.
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    // The target of a symbolic link never changes.
    InitFlags::FUSE_CACHE_SYMLINKS,
    // `open(2)` with O_TRUNC is one request, so that copying up need not copy what is thrown away.
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    // Every change goes through this connection: cached pages are right until we say otherwise. What does
    // change behind our back (a host directory) is opened without keeping the cache.
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    // Else the kernel asks for `security.capability` before every write; see `privileges`.
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_BIG_WRITES,
    InitFlags::FUSE_MAX_PAGES,
];

// Deliberately not asked for:
// * FUSE_WRITEBACK_CACHE: excludes passthrough, and times would be the kernel's instead of the disk's;
// * FUSE_EXPORT_SUPPORT: nodes cannot be found by number once forgotten, so NFS export would break;
// * FUSE_POSIX_LOCKS, FUSE_FLOCK_LOCKS: one machine, and the kernel's own locks are right;
// * FUSE_SETXATTR_EXT, FUSE_SECURITY_CTX, FUSE_CREATE_SUPP_GROUP: fuser does not read the extra fields.

/// For volumes that can be written to: access control lists hold, and a change of one changes the mode that is
/// shown. What new nodes inherit is ours to say then, and so is what the umask takes away. In others the kernel
/// would ask for every file's list, to learn that there is none.
const WANTED_TO_WRITE: &[InitFlags] = &[InitFlags::FUSE_POSIX_ACL, InitFlags::FUSE_DONT_MASK];

/// Asks for what is wanted. `stack_depth` 0 goes without passthrough; 1 lets disks that are not stacked
/// themselves be handed to the kernel, and leaves room for one overlayfs on top of the mount.
pub(super) fn negotiate(config: &mut KernelConfig, passthrough: bool, writable: bool) -> Agreed {
    let to_write = if writable { WANTED_TO_WRITE } else { &[] };
    for &wanted in WANTED.iter().chain(to_write) {
        if config.add_capabilities(wanted).is_err() {
            tracing::debug!(?wanted, "the kernel does not have this");
        }
    }
    let _ = config.set_max_write(LARGEST_REQUEST);
    let _ = config.set_max_background(BACKGROUND);
    let offered = config.capabilities();
    let passthrough = passthrough
        && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
        && config.set_max_stack_depth(1).is_ok();
    Agreed {
        passthrough,
        no_open: offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT),
        no_open_directory: offered.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT),
    }
}

//! Taking mounts away, also those of a server that is dead: as root or owner of the name space by the system call,
//! else through `fusermount3`.

pub use slotfs_fs::driver::{UnmountError, unmount};

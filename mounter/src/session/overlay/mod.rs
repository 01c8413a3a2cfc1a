//! A mount of layers that were given by hand: no work environment, no lifecycles, no leases.
//!
//! Who asks names directories and packages, the upper directory and where to mount ([`request`]); a process of its own
//! serves that ([`serve`]) until somebody unmounts it; [`start`] starts it and waits until it is ready. Nothing about
//! it is written down: the mount table says that it is there, and the lock on the upper directory that it is used.
//!
//! **Invariant:** an upper directory has one mount at a time, and no directory is read through the mount that shows it.

pub mod request;
pub mod serve;
pub mod start;

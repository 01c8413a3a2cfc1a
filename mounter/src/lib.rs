//! slotfs: mounts the slots of a package at its work environment instead of extracting them.
//!
//! The library carries out what `slotfs-policy` decides with the mechanism of `slotfs-fs`. A module uses only
//! those before it in this list:
//!
//! `settings` → `host` → `workenv` → `plan` → `launch` → `extract` → `pack` → `session` → `cleanup` → `cli`
//!
//! **Invariant:** only `cli` prints, only `settings` reads the environment, and only `plan` knows the words of
//! both `slotfs-fs` and `slotfs-policy`.

#[cfg(unix)]
pub mod cleanup;
pub mod cli;
pub mod extract;
pub mod host;
pub mod launch;
pub mod pack;
pub mod plan;
#[cfg(unix)]
pub mod session;
pub mod settings;
pub mod workenv;

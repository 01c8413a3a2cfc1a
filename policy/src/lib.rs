//! Decisions of slotfs: what each lifecycle means, who may write, which slots belong on this machine, whether a
//! package may run, what to keep and what to clean up.
//!
//! **Invariant:** facts in, data out. Nothing here touches a file, a clock, the environment or another crate of
//! ours, so every rule is tested as a table. `slotfs` gathers the facts and carries out the answers.

pub mod access;
pub mod cleanup;
pub mod lifecycle;
pub mod platform;
pub mod retention;
pub mod trust;

//! Making packages: what `slotfs keygen` and `slotfs pack` write is taken by FlavorPack's own programs, and the other
//! way round.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod chunks;
mod fast;
mod index;
mod keys;
mod launchers;
mod manifest;
mod optimize;
mod packages;
mod refused;
mod reproducible;
mod support;

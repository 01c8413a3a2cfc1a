//! The package reader: what it accepts, what it refuses and in which words, and that no input breaks it.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "package/archives.rs"]
mod archives;
#[path = "package/corruption.rs"]
mod corruption;
#[path = "package/damage.rs"]
mod damage;
#[path = "package/harness.rs"]
mod harness;
#[path = "package/hostile.rs"]
mod hostile;
#[path = "package/opening.rs"]
mod opening;
#[path = "package/real.rs"]
mod real;
#[path = "package/support.rs"]
mod support;
#[path = "package/verification.rs"]
mod verification;

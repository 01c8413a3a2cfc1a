//! What is to be done with a package: facts of `slotfs-fs` go to `slotfs-policy`, its answers come back as plans.
//!
//! **Invariant:** only this module knows the words of both crates, and it decides nothing itself.

mod age;
mod facts;
mod keys;
mod pins;
mod policies;
mod slots;
mod trust;

pub use facts::{Examined, facts};
pub use keys::KeyStores;
pub use pins::Pins;
pub use policies::{PolicyError, operator_policy};
pub use slots::{SlotPlan, Wishes, kept_on_upgrade, machine, slots};
pub use trust::{Circumstances, Judgement, judge};

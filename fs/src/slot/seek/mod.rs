//! Reads from the middle of a compressed slot.

pub mod inflate;

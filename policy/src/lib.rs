//! Decisions of slotfs.

//! The session, registry and command layer of slotfs.

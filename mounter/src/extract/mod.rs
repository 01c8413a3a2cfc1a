//! The same tree as plain files, for people who want files and for machines without FUSE.

pub mod progress;

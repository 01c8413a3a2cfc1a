//! The volume's behaviour through the kernel: what a program sees. One module for each group of operations.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod attributes;
mod caching;
mod changing;
mod content;
mod holding;
mod listing;
mod mapping;
mod model;
mod owning;
mod serving;
mod writing;

//! Being told how far long work has come.

use std::fmt::Debug;

/// Told what is happening; the command line draws it, tests record it. Called from many threads.
pub trait Progress: Send + Sync + Debug {
    /// Part `part` (counted from 0), called `name`, begins; it will come to `total` bytes.
    fn begin(&self, part: usize, name: &str, total: u64);

    /// `bytes` more of part `part` are done.
    fn advance(&self, part: usize, bytes: u64);

    /// Part `part` is done.
    fn end(&self, part: usize);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _part: usize, _name: &str, _total: u64) {}

    fn advance(&self, _part: usize, _bytes: u64) {}

    fn end(&self, _part: usize) {}
}

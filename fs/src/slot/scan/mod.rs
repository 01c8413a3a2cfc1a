//! One pass over a slot's decoded bytes: the entries it holds and where their content is.
//!
//! **Invariant:** a scanner reports what the archive says, names as bytes and unchecked; the tree decides where an
//! entry may go. It allocates by what is there, within [`super::Limits::header_bytes`] for one entry.

mod entry;
mod input;
pub mod tar;
pub mod zip;

pub use entry::{Body, Content, DeviceNumber, Entry, Extent, ZipContent};
pub use input::{Input, RangeInput, StreamInput};

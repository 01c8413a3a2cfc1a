//! Reads from the middle of a compressed slot.
//!
//! A slot's decoded bytes are divided into spans: from one point where decoding can start to the next. A read decodes
//! the spans that it touches, as far as it needs them, into a small cache that all slots share.
//!
//! **Invariant:** no lock is held while bytes are decoded but those of the span itself and of the one stream whose long span is being decoded;
//! a byte that does not decode, or comes from a file that changed, never leaves this module.

mod cache;
mod frames;
mod guard;
pub mod inflate;
mod plan;
mod points;
mod stream;
mod unit;
mod xz;

pub use cache::{CacheUse, cache_use, release};
pub use guard::Guard;
pub use plan::Plan;
pub use points::PointLog;
pub use stream::{Points, Stream};

//! Small durable-disk tools with no meaning of their own.
//!
//! **Invariant:** every error that leaves this module names the action and the path.

pub mod ahead;
pub mod atomic;
pub mod checked;
pub mod digest;
pub mod durable;
mod error;
pub mod holes;
pub mod identity;
pub mod kind;
pub mod lock;
pub mod mapped;
pub mod range;
pub mod tree;
#[cfg(unix)]
pub mod unix;
pub mod unnoticed;

pub use error::{Context, DiskError};

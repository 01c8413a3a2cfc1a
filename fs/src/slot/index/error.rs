//! What can be wrong with an index.

use crate::disk::DiskError;

/// Why an index cannot be used. In every case the slot can be indexed anew.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A field, offset or checksum is wrong.
    #[error("the slot index is damaged: {what} {at}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
        /// Which one, or where.
        at: u64,
    },
    /// It is no index, or one of another version.
    #[error("it is not a slot index of this version")]
    OtherVersion,
    /// It describes other stored bytes or another chain.
    #[error("the slot index belongs to another slot")]
    OtherSlot,
    /// The tables are too large for the format.
    #[error("the slot index would be larger than its format allows")]
    TooLarge,
    /// The host refused a file operation.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

//! How the bytes of a slot will be reached once it is indexed; decided before the pass from its chain and structure.

use super::{frames, xz};
use crate::package::{Compression, Container, SlotSource};
use crate::slot::chain::Point;

/// Spans up to this length are decoded whole for any byte in them; a compression whose parts are longer is read from the
/// store.
pub(super) const LONGEST_UNIT: u64 = 4 << 20;

/// How bytes are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// They are not compressed.
    Direct,
    /// From points that the pass finds on its way.
    Points,
    /// From points that are known already, with the length of the decoded bytes.
    Known(Vec<Point>, u64),
    /// From the store, where the pass puts them; without it by decoding from the start.
    Store,
}

impl Plan {
    /// Tells whether the bytes of a slot are not compressed, without looking at any.
    #[must_use]
    pub fn is_direct(source: &SlotSource) -> bool {
        matches!(source.container, Container::Zip | Container::Directory(_)) || source.compressions.is_empty()
    }

    /// Decides for a slot, whose structure may have to be looked at for that.
    #[must_use]
    pub fn of(source: &SlotSource) -> Self {
        match (&source.container, source.compressions.as_slice()) {
            _ if Self::is_direct(source) => Self::Direct,
            (_, [Compression::Gzip | Compression::Bzip2]) => Self::Points,
            (_, [Compression::Zstd]) if frames::are_small(&source.stored) => Self::Points,
            (_, [Compression::Xz]) => match xz::blocks(&source.stored) {
                Some((points, length)) => Self::Known(points, length),
                None => Self::Store,
            },
            _ => Self::Store,
        }
    }
}

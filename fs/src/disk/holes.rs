//! How much of a file is holes, which read as zeros and take no room.

use std::fs::Metadata;

/// Tells whether more than half of a file is holes; `false` where the host does not tell.
#[must_use]
pub fn is_mostly_holes(metadata: &Metadata) -> bool {
    platform::taken(metadata).is_some_and(|taken| taken < metadata.len() / 2)
}

#[cfg(unix)]
mod platform {
    use std::fs::Metadata;
    use std::os::unix::fs::MetadataExt;

    /// In bytes; `st_blocks` counts 512 of them whatever the disk's blocks are (stat(2)).
    pub(super) fn taken(metadata: &Metadata) -> Option<u64> {
        metadata.blocks().checked_mul(512)
    }
}

#[cfg(not(unix))]
mod platform {
    use std::fs::Metadata;

    pub(super) fn taken(_: &Metadata) -> Option<u64> {
        None
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_no_hole() {
        let file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut &file, &[7; 1 << 20]).unwrap();
        assert!(!is_mostly_holes(&file.metadata().unwrap()));
        file.set_len(64 << 20).unwrap();
        assert_eq!(
            is_mostly_holes(&file.metadata().unwrap()),
            platform::taken(&file.metadata().unwrap()).is_some()
        );
    }
}

//! How much one slot may cost. The defaults are generous for real packages and stop bombs.

/// Limits of one slot. Every one can be set by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that any one step of the chain may decode to.
    pub decoded_bytes: u64,
    /// Decoded bytes per stored byte, once more than [`Self::ratio_floor`] bytes were decoded.
    pub ratio: u64,
    /// Decoded bytes below which the ratio does not matter: small files of zeros are harmless.
    pub ratio_floor: u64,
    /// Memory that one xz or zstd decoder may take for its window, in bytes.
    pub decoder_memory: u64,
    /// Entries of one archive.
    pub entries: u32,
    /// Directories one inside the other; deeper entries are refused one by one.
    pub path_depth: u32,
    /// Bytes of extended headers (long names, PAX records, sparse maps) of one entry.
    pub header_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            decoded_bytes: 64 << 30,
            ratio: 1000,
            ratio_floor: 1 << 30,
            // `zstd --long=27` and `xz -9` need 128 MiB and 65 MiB; both tools refuse more by default.
            decoder_memory: 192 << 20,
            entries: 16_000_000,
            path_depth: 2048,
            header_bytes: 4 << 20,
        }
    }
}

impl Limits {
    /// Returns how many bytes `stored` bytes may decode to.
    #[must_use]
    pub fn decoded_from(&self, stored: u64) -> u64 {
        self.decoded_bytes.min(self.ratio_floor.max(stored.saturating_mul(self.ratio)))
    }

    /// Returns the longest window that a zstd decoder accepts, as a power of two: one that the memory holds. The format's
    /// least maximum is 2^23.
    #[must_use]
    pub fn longest_window(&self) -> u32 {
        self.decoder_memory.max(1 << 23).ilog2().min(31)
    }
}

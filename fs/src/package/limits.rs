//! How much a package may make its reader do. Nothing is allocated because a field asks for it.

/// Bounds on what opening a package may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the metadata, compressed and decompressed each.
    pub metadata_size: u64,
    /// Nested arrays and objects in the metadata.
    pub metadata_depth: u32,
    /// Values (numbers, strings, arrays, objects …) in the metadata.
    pub metadata_values: u32,
    /// Bytes that a decoder may take to look into a compressed archive.
    pub decoder_memory: u64,
}

impl Default for Limits {
    /// Far above what any builder makes: 64 MiB, 64 levels and a million values of metadata, 256 MiB for a
    /// decoder.
    fn default() -> Self {
        Self {
            metadata_size: 64 << 20,
            metadata_depth: 64,
            metadata_values: 1_000_000,
            decoder_memory: 256 << 20,
        }
    }
}

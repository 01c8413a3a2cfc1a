//! Slot descriptors, 64 bytes each. Bytes to structs, no I/O. Nothing signs them.

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of one descriptor.
pub const DESCRIPTOR_SIZE: usize = 64;

/// One row of the slot table as stored.
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Descriptor {
    /// Position of the slot; nobody checks it.
    pub id: U64,
    /// First 8 bytes of the SHA-256 of the id or of the target, depending on the builder; nobody checks it.
    pub name_hash: U64,
    /// Where the stored bytes start in the file.
    pub offset: U64,
    /// Number of stored bytes.
    pub size: U64,
    /// Bytes before compression, or the same as `size` from builders that do not know.
    pub original_size: U64,
    /// Packed operation chain.
    pub operations: U64,
    /// First 8 bytes of the SHA-256 of the stored bytes, in digest order.
    pub checksum: [u8; 8],
    /// Differs between builders; the metadata's name decides.
    pub purpose: u8,
    /// Lifecycle code; 11 marks the attestation slot.
    pub lifecycle: u8,
    /// Unused.
    pub priority: u8,
    /// 0 for every platform.
    pub platform: u8,
    /// Unused.
    pub reserved: [u8; 2],
    /// Mode bits; 0 means 0600.
    pub permissions: U16,
}

const _: () = assert!(size_of::<Descriptor>() == DESCRIPTOR_SIZE);

/// Lifecycle code of the slot that holds the build's attestation.
pub const LIFECYCLE_ATTESTATION: u8 = 11;

impl Descriptor {
    /// Reads the descriptors of a slot table; bytes after the last whole one are left over.
    #[must_use]
    pub fn table(bytes: &[u8]) -> &[Self] {
        let count = bytes.len() / DESCRIPTOR_SIZE;
        // The prefix of `count` whole rows is always long enough, and rows have no alignment.
        <[Self]>::ref_from_prefix_with_elems(bytes, count).map_or(&[], |(rows, _)| rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_format_puts_them() {
        let bytes: Vec<u8> = (0..130).collect();
        let rows = Descriptor::table(&bytes);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].offset.get(), u64::from_le_bytes([16, 17, 18, 19, 20, 21, 22, 23]));
        assert_eq!(rows[0].checksum, [48, 49, 50, 51, 52, 53, 54, 55]);
        assert_eq!((rows[0].purpose, rows[0].lifecycle, rows[0].platform), (56, 57, 59));
        assert_eq!(rows[0].permissions.get(), 0x3F3E);
        assert_eq!(rows[1].id.get() & 0xFF, 64);
        assert!(Descriptor::table(&bytes[..63]).is_empty());
    }
}

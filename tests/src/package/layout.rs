//! Where the fields of a package's index and slot descriptors are, written down a second time on purpose: the
//! tests must not take these numbers from the reader they test.

/// Length of start mark, index and end mark together.
pub(super) const TRAILER_SIZE: usize = 8200;
/// First four bytes of the trailer.
pub(super) const START_MARK: [u8; 4] = [0xF0, 0x9F, 0x93, 0xA6];
/// Last four bytes of the file.
pub(super) const END_MARK: [u8; 4] = [0xF0, 0x9F, 0xAA, 0x84];
/// Fields that the Rust builder sets to the same value in every package.
pub(super) const BUILD_CONSTANTS: [(usize, u32); 5] = [
    (index::FORMAT_VERSION, 0x2025_0001),
    (index::PAGE_SIZE, 4096),
    (index::CAPABILITIES, 0x81),
    (index::COMPATIBILITY, 0x2025_0001),
    (index::PROTOCOL_VERSION, 1),
];

/// Offsets inside the index block.
pub mod index {
    #![expect(missing_docs, reason = "the names are those of the format's own table")]
    pub const SIZE: usize = 8192;
    pub const FORMAT_VERSION: usize = 0;
    pub const INDEX_CHECKSUM: usize = 4;
    pub const PACKAGE_SIZE: usize = 8;
    pub const LAUNCHER_SIZE: usize = 16;
    pub const METADATA_OFFSET: usize = 24;
    pub const METADATA_SIZE: usize = 32;
    pub const SLOT_TABLE_OFFSET: usize = 40;
    pub const SLOT_TABLE_SIZE: usize = 48;
    pub const SLOT_COUNT: usize = 56;
    pub const FLAGS: usize = 60;
    pub const PUBLIC_KEY: usize = 64;
    pub const METADATA_CHECKSUM: usize = 96;
    pub const SIGNATURE: usize = 128;
    pub const ACCESS_MODE: usize = 640;
    pub const PAGE_SIZE: usize = 644;
    pub const BUILD_TIMESTAMP: usize = 704;
    pub const CAPABILITIES: usize = 832;
    pub const COMPATIBILITY: usize = 856;
    pub const PROTOCOL_VERSION: usize = 860;
    pub const KEY_FINGERPRINT: usize = 1376;
    pub const ATTESTATION_DIGEST: usize = 1440;
    pub const POLICY_HASH: usize = 1504;
    pub const RESERVED: usize = 1568;
}

/// Offsets inside a slot descriptor.
pub mod descriptor {
    #![expect(missing_docs, reason = "the names are those of the format's own table")]
    pub const SIZE: usize = 64;
    pub const ID: usize = 0;
    pub const NAME_HASH: usize = 8;
    pub const OFFSET: usize = 16;
    pub const STORED_SIZE: usize = 24;
    pub const ORIGINAL_SIZE: usize = 32;
    pub const OPERATIONS: usize = 40;
    pub const CHECKSUM: usize = 48;
    pub const PURPOSE: usize = 56;
    pub const LIFECYCLE: usize = 57;
    pub const PRIORITY: usize = 58;
    pub const PLATFORM: usize = 59;
    pub const PERMISSIONS_LOW: usize = 62;
    pub const PERMISSIONS_HIGH: usize = 63;
}

/// Writes a little-endian number at `offset`.
pub fn put_u32(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

/// Writes a little-endian number at `offset`.
pub fn put_u64(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

/// Makes the index checksum of a whole package right; a file too short to have one is left alone.
pub fn fix_index_checksum(package: &mut [u8]) {
    let Some(start) = package.len().checked_sub(TRAILER_SIZE - START_MARK.len()) else { return };
    let block = &mut package[start..start + index::SIZE];
    put_u32(block, index::INDEX_CHECKSUM, 0);
    let sum = adler32(block);
    put_u32(block, index::INDEX_CHECKSUM, sum);
}

/// Adler-32 as RFC 1950, section 8.2 defines it, one byte at a time.
fn adler32(bytes: &[u8]) -> u32 {
    let (mut first, mut second) = (1_u32, 0_u32);
    for byte in bytes {
        first = (first + u32::from(*byte)) % 65_521;
        second = (second + first) % 65_521;
    }
    second << 16 | first
}

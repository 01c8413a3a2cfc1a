//! The last 8200 bytes of a package: start mark, index block, end mark. Bytes to a struct, no I/O.
//!
//! All numbers are little-endian, all offsets absolute. The index is not signed: nothing here may be believed
//! before it was compared with the file and with the metadata.

use std::fmt;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::error::{Defect, Fault, Unsupported};

/// Bytes of the trailer.
pub const TRAILER_SIZE: usize = 8200;
/// Bytes of the index block.
pub const INDEX_SIZE: usize = 8192;
/// First bytes of the trailer, U+1F4E6.
pub const START_MARK: [u8; 4] = [0xF0, 0x9F, 0x93, 0xA6];
/// Last bytes of a package, U+1FA84.
pub const END_MARK: [u8; 4] = [0xF0, 0x9F, 0xAA, 0x84];
/// The one version of the format.
pub const FORMAT_VERSION: u32 = 0x2025_0001;

/// The index block as stored. Fields that no reader uses are kept for `inspect`.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Index {
    /// [`FORMAT_VERSION`].
    pub format_version: U32,
    /// Adler-32 of the block with this field zero.
    pub index_checksum: U32,
    /// Bytes of the whole file, trailer included.
    pub package_size: U64,
    /// Bytes of the executable in front.
    pub launcher_size: U64,
    /// Where the compressed metadata starts.
    pub metadata_offset: U64,
    /// Bytes of the compressed metadata.
    pub metadata_size: U64,
    /// Where the slot descriptors start.
    pub slot_table_offset: U64,
    /// Bytes of the slot descriptors, 64 each.
    pub slot_table_size: U64,
    /// Number of slot descriptors.
    pub slot_count: U32,
    /// Always 0.
    pub flags: U32,
    /// Ed25519 public key of the signer.
    pub public_key: [u8; 32],
    /// SHA-256 of the compressed metadata.
    pub metadata_checksum: [u8; 32],
    /// Ed25519 signature of the decompressed metadata in the first 64 bytes.
    pub signature: [u8; 512],
    /// Hint: how to read the file.
    pub access_mode: u8,
    /// Hint: what to keep.
    pub cache_strategy: u8,
    /// Unused hints.
    pub reserved_hints: [u8; 2],
    /// Alignment of the slots, or 0.
    pub page_size: U32,
    /// Hint, bytes.
    pub max_memory: U64,
    /// Hint, bytes.
    pub min_memory: U64,
    /// Hint, bits.
    pub cpu_features: U64,
    /// Hint, bits.
    pub gpu_requirements: U64,
    /// Hint, bits.
    pub numa_hints: U64,
    /// Hint, bytes.
    pub stream_chunk_size: U32,
    /// Unused.
    pub padding: [u8; 12],
    /// Seconds since 1970; builders leave 0.
    pub build_timestamp: U64,
    /// Builders leave it empty.
    pub build_machine: [u8; 32],
    /// Builders leave it empty.
    pub source_hash: [u8; 32],
    /// Builders leave it empty.
    pub dependency_hash: [u8; 32],
    /// Builders leave it empty.
    pub license_id: [u8; 16],
    /// Builders leave it empty.
    pub provenance_uri: [u8; 8],
    /// Bits: 1 mmap, 2 page aligned, 4 compressed index, 8 streaming, 16 prefetch, 32 cache aware, 64 encrypted,
    /// 128 signed. No reader acts on them.
    pub capabilities: U64,
    /// Builders leave 0.
    pub requirements: U64,
    /// Builders leave 0.
    pub extensions: U64,
    /// Oldest format version that can read it, or 0.
    pub compatibility: U32,
    /// 1, or 0.
    pub protocol_version: U32,
    /// Unused.
    pub future_crypto: [u8; 512],
    /// SHA-256 of the public key, lowercase hexadecimal ASCII, or zeros.
    pub key_fingerprint: [u8; 64],
    /// SHA-256 of the attestation slot's content, lowercase hexadecimal ASCII, or zeros.
    pub attestation_digest: [u8; 64],
    /// SHA-256 of the policy's canonical JSON, lowercase hexadecimal ASCII, or zeros.
    pub policy_hash: [u8; 64],
    /// Unused.
    pub reserved: [u8; 6624],
}

const _: () = assert!(size_of::<Index>() == INDEX_SIZE);

impl fmt::Debug for Index {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Index")
            .field("index_checksum", &format_args!("{:08x}", self.index_checksum))
            .field("package_size", &self.package_size)
            .field("launcher_size", &self.launcher_size)
            .field("metadata_offset", &self.metadata_offset)
            .field("metadata_size", &self.metadata_size)
            .field("slot_table_offset", &self.slot_table_offset)
            .field("slot_count", &self.slot_count)
            .finish_non_exhaustive()
    }
}

impl Index {
    /// Reads a trailer of exactly [`TRAILER_SIZE`] bytes. Checks the marks, the checksum and the version, in this order.
    ///
    /// # Errors
    /// Names the first of them that is wrong.
    pub fn parse(trailer: &[u8]) -> Result<Box<Self>, Fault> {
        let too_short = || Defect::TooShort { size: trailer.len() as u64 };
        let trailer: &[u8; TRAILER_SIZE] = trailer.try_into().map_err(|_wrong_size| too_short())?;
        let (start_mark, rest) = trailer.split_first_chunk().ok_or_else(too_short)?;
        let (block, end_mark) = rest.split_first_chunk().ok_or_else(too_short)?;
        let index = Self::ref_from_bytes(block).map_err(|_wrong_size| too_short())?;
        if *start_mark != START_MARK {
            return Err(Defect::StartMark.into());
        }
        if end_mark != END_MARK {
            return Err(Defect::EndMark.into());
        }
        let (stated, computed) = (index.index_checksum.get(), checksum_of(block));
        if stated != computed {
            return Err(Defect::IndexChecksum { stated, computed }.into());
        }
        let found = index.format_version.get();
        if found != FORMAT_VERSION {
            return Err(Unsupported::Version { found, known: FORMAT_VERSION }.into());
        }
        Ok(Box::new(index.clone()))
    }

    /// Makes the checksum right for what the other fields hold.
    pub fn seal(&mut self) {
        self.index_checksum = 0.into();
        self.index_checksum = adler32(self.as_bytes()).into();
    }

    /// Returns the index checksum as the launchers write it to disk: 8 lowercase hexadecimal digits.
    #[must_use]
    pub fn checksum_text(&self) -> String {
        format!("{:08x}", self.index_checksum)
    }
}

/// The checksum of an index block: Adler-32, its own field taken as zero.
fn checksum_of(block: &[u8; INDEX_SIZE]) -> u32 {
    let mut block = *block;
    block[4..8].fill(0);
    adler32(&block)
}

/// Adler-32 (RFC 1950, section 8.2).
fn adler32(bytes: &[u8]) -> u32 {
    // The largest number of bytes whose sums cannot overflow 32 bits.
    const RUN: usize = 5552;
    const MODULUS: u32 = 65_521;
    let (mut low, mut high) = (1_u32, 0_u32);
    for run in bytes.chunks(RUN) {
        for byte in run {
            low += u32::from(*byte);
            high += low;
        }
        low %= MODULUS;
        high %= MODULUS;
    }
    high << 16 | low
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_adler_32_without_its_own_field() {
        // python3 -c 'import zlib; print(hex(zlib.adler32(b"Wikipedia")), hex(zlib.adler32(b"\xff" * 8192)))'
        assert_eq!(adler32(b"Wikipedia"), 0x11E6_0398);
        assert_eq!(adler32(&[0xFF; INDEX_SIZE]), 0xF4A3_E1D2);
        let mut block = [0xFF; INDEX_SIZE];
        let with_field = checksum_of(&block);
        block[4..8].fill(0);
        assert_eq!(checksum_of(&block), with_field);
    }

    #[test]
    fn too_few_bytes_are_told_from_a_missing_mark() {
        for length in [0, 4, 8199] {
            assert!(matches!(Index::parse(&vec![0; length]), Err(Fault::Defect(Defect::TooShort { .. }))));
        }
        assert_eq!(Index::parse(&vec![0; 8200]).unwrap_err(), Defect::StartMark.into());
    }
}

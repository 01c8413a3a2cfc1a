//! What a work environment needs to know about the package that it belongs to. Plain values.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use slotfs_fs::disk::digest::Digest;

/// A package's identity: the first 16 hexadecimal digits of SHA-256 of `name:version:checksum`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageId(String);

impl PackageId {
    /// Returns the identity of a package; `checksum` is the index checksum as 8 lowercase hexadecimal digits,
    /// or whatever stands in for it where there is no index.
    #[must_use]
    pub fn of(name: &str, version: &str, checksum: &str) -> Self {
        let mut digits = Digest::of(format!("{name}:{version}:{checksum}").as_bytes()).to_string();
        digits.truncate(16);
        Self(digits)
    }

    /// Reads an identity: 16 lowercase hexadecimal digits, nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 16 && text.bytes().all(digit)).then(|| Self(text.to_owned()))
    }

    /// Returns the digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PackageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What sort of thing is run as a package; decides which part of its file name is its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageKind {
    /// A PSPF/2025 file.
    Package,
    /// A bare archive.
    Archive,
    /// A directory of the host.
    Directory,
}

/// The index block's fields that the launchers write into `index.json`, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexFacts {
    /// `0x2025_0001`.
    pub format_version: u32,
    /// Bytes of the whole file.
    pub package_size: u64,
    /// Bytes of the launcher part.
    pub launcher_size: u64,
    /// Offset of the compressed metadata.
    pub metadata_offset: u64,
    /// Bytes of the compressed metadata.
    pub metadata_size: u64,
    /// Offset of the slot table.
    pub slot_table_offset: u64,
    /// Bytes of the slot table.
    pub slot_table_size: u64,
    /// Slots in the table.
    pub slot_count: u32,
    /// Always 0 so far.
    pub flags: u32,
    /// Adler-32 of the index block.
    pub index_checksum: u32,
    /// SHA-256 of the compressed metadata.
    pub metadata_checksum: [u8; 32],
    /// Seconds since 1970; 0 in every package so far.
    pub build_timestamp: u64,
    /// Alignment of slots, or 0.
    pub page_size: u32,
    /// Capability bits.
    pub capabilities: u64,
    /// Requirement bits.
    pub requirements: u64,
}

impl IndexFacts {
    /// Returns the index checksum as the launchers write it into `package.checksum`.
    #[must_use]
    pub fn checksum_text(&self) -> String {
        format!("{:08x}", self.index_checksum)
    }

    /// Returns `index.json`, byte for byte as the launchers write it.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!(
            "{{\n  \"format_version\": {},\n  \"package_size\": {},\n  \"launcher_size\": {},\n  \
             \"metadata_offset\": {},\n  \"metadata_size\": {},\n  \"slot_table_offset\": {},\n  \
             \"slot_table_size\": {},\n  \"slot_count\": {},\n  \"flags\": {},\n  \
             \"index_checksum\": \"{}\",\n  \"metadata_checksum\": \"{}\",\n  \"build_timestamp\": {},\n  \
             \"page_size\": {},\n  \"capabilities\": {},\n  \"requirements\": {}\n}}",
            self.format_version,
            self.package_size,
            self.launcher_size,
            self.metadata_offset,
            self.metadata_size,
            self.slot_table_offset,
            self.slot_table_size,
            self.slot_count,
            self.flags,
            self.checksum_text(),
            Digest(self.metadata_checksum),
            self.build_timestamp,
            self.page_size,
            self.capabilities,
            self.requirements,
        )
    }
}

/// A package as its work environment sees it.
#[derive(Clone, Debug)]
pub struct PackageFacts {
    /// Sort.
    pub kind: PackageKind,
    /// Absolute path with every link resolved, as the launchers see themselves.
    pub path: PathBuf,
    /// Name in the metadata; for an archive or directory, its name on disk.
    pub name: String,
    /// Version in the metadata, or empty.
    pub version: String,
    /// Identity.
    pub id: PackageId,
    /// Index block. For an archive or directory: its size and a checksum of its identity, otherwise zeros.
    pub index: IndexFacts,
    /// The metadata JSON as signed; for an archive or directory a document with `package.name` and `.version`.
    pub metadata_json: Vec<u8>,
}

impl PackageFacts {
    /// Returns the file's own name; empty for the root directory.
    #[must_use]
    pub fn file_name(&self) -> OsString {
        self.path.file_name().unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_the_documented_hash() {
        // echo -n demoapp:0.3.1:3c9c6793 | sha256sum | cut -c1-16
        assert_eq!(PackageId::of("demoapp", "0.3.1", "3c9c6793").as_str(), "e70a4b62bf3950c5");
        assert!(PackageId::parse("0123456789abcdef").is_some());
        for bad in ["", "0123456789abcde", "0123456789ABCDEF", "0123456789abcdeg", "0123456789abcdef0"] {
            assert!(PackageId::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn index_json_has_the_launchers_bytes() {
        let index = IndexFacts {
            format_version: 539_295_745,
            package_size: 7_917_635,
            slot_count: 1,
            index_checksum: 0x00ac_415e,
            metadata_checksum: [0xab; 32],
            ..IndexFacts::default()
        };
        let json = index.to_json();
        assert!(json.starts_with("{\n  \"format_version\": 539295745,\n  \"package_size\": 7917635,\n"));
        assert!(json.contains("\n  \"index_checksum\": \"00ac415e\",\n"));
        assert!(json.ends_with("\n  \"requirements\": 0\n}"));
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
    }
}

//! Operation chains: what was done to a slot's bytes when the package was built, packed into 64 bits.
//!
//! The first operation is in the lowest byte; a zero byte ends the chain. A chain is undone as FlavorPack's
//! Rust launcher does it: every compression from the last to the first, and if there is a tar anywhere, the
//! result is a tar archive.

use std::fmt;

use super::{Compression, Container, SlotSource};

/// An operation that the format defines and this crate can undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Bundled as a tar archive.
    Tar,
    /// Compressed.
    Compress(Compression),
}

/// A chain that cannot be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// A code that this crate does not know.
    #[error("operation {code:#04x}{} cannot be undone", family(*code))]
    Unknown {
        /// The code.
        code: u8,
    },
    /// An operation behind the end of the chain: readers disagree about what that means.
    #[error("the operation chain {packed:#x} has a gap")]
    Gap {
        /// The chain as stored.
        packed: u64,
    },
}

/// What the format's table keeps in the range of a code, for messages.
fn family(code: u8) -> &'static str {
    match code {
        0x02..=0x0F => " (a kind of archive)",
        0x11..=0x2F => " (a kind of compression)",
        0x30..=0x4F => " (a kind of encryption)",
        0x50..=0x6F => " (a text encoding)",
        0x70..=0x8F => " (a checksum)",
        0x90..=0xAF => " (a signature)",
        0x00 | 0x01 | 0x10 | 0xB0.. => "",
    }
}

/// A slot's operations, in the order in which they were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Chain(Vec<Operation>);

impl Chain {
    /// Reads a packed chain.
    ///
    /// # Errors
    /// Names the operation that is not known.
    pub fn unpack(packed: u64) -> Result<Self, OperationError> {
        let codes = packed.to_le_bytes();
        let used = codes.iter().position(|code| *code == 0).unwrap_or(codes.len());
        let (codes, behind) = codes.split_at(used);
        if behind.iter().any(|code| *code != 0) {
            return Err(OperationError::Gap { packed });
        }
        codes.iter().map(|code| Operation::from_code(*code)).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the compressions in the order in which they are undone.
    #[must_use]
    pub fn compressions(&self) -> Vec<Compression> {
        let compressions = self.0.iter().rev().filter_map(|operation| match operation {
            Operation::Compress(compression) => Some(*compression),
            Operation::Tar => None,
        });
        compressions.collect()
    }

    /// Returns what the bytes are once every compression is undone.
    #[must_use]
    pub fn container(&self) -> Container {
        if self.0.contains(&Operation::Tar) { Container::Tar } else { Container::File }
    }
}

impl Chain {
    /// Reads the name of a chain in a builder's manifest: every spelling that one of FlavorPack's builders understands,
    /// and the ones that slotfs shows. `None` for any other.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        let whole = match name.as_str() {
            "" | "raw" | "none" => "",
            "tgz" => "tar.gz",
            "tbz2" => "tar.bz2",
            "txz" => "tar.xz",
            "tzst" => "tar.zst",
            other => other,
        };
        let parts = whole.split([',', '|', '.']).filter(|part| !part.is_empty());
        let operations = parts.map(|part| {
            Some(match part.trim() {
                "tar" => Operation::Tar,
                "gzip" | "gz" => Operation::Compress(Compression::Gzip),
                "bzip2" | "bz2" => Operation::Compress(Compression::Bzip2),
                "xz" => Operation::Compress(Compression::Xz),
                "zstd" | "zst" => Operation::Compress(Compression::Zstd),
                _ => return None,
            })
        });
        let operations = operations.collect::<Option<Vec<_>>>()?;
        // As many as a descriptor holds.
        (operations.len() <= 8).then_some(Self(operations))
    }

    /// Returns the chain that makes an archive of a tree, or stores one file, with at most one compression.
    #[must_use]
    pub fn new(is_tree: bool, compression: Option<Compression>) -> Self {
        let tar = is_tree.then_some(Operation::Tar);
        Self(tar.into_iter().chain(compression.map(Operation::Compress)).collect())
    }

    /// Returns the chain as a descriptor holds it.
    #[must_use]
    pub fn pack(&self) -> u64 {
        self.0.iter().rev().fold(0, |packed, operation| packed << 8 | u64::from(operation.code()))
    }

    /// Tells whether it is one that every reader undoes alike: at most one archive, first, and one compression.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        matches!(self.0.as_slice(), [] | [_] | [Operation::Tar, Operation::Compress(_)])
    }

    /// Returns the name that FlavorPack's builders write into the metadata.
    #[must_use]
    pub fn manifest_name(&self) -> String {
        match self.to_string().as_str() {
            "tar.gzip" => "tgz".to_owned(),
            "tar.bzip2" => "tar.bz2".to_owned(),
            "tar.zstd" => "tar.zst".to_owned(),
            other => other.to_owned(),
        }
    }
}

impl Operation {
    fn code(self) -> u8 {
        match self {
            Self::Tar => 0x01,
            Self::Compress(Compression::Gzip) => 0x10,
            Self::Compress(Compression::Bzip2) => 0x13,
            Self::Compress(Compression::Xz) => 0x16,
            Self::Compress(Compression::Zstd) => 0x1B,
        }
    }

    fn from_code(code: u8) -> Result<Self, OperationError> {
        Ok(match code {
            0x01 => Self::Tar,
            0x10 => Self::Compress(Compression::Gzip),
            0x13 => Self::Compress(Compression::Bzip2),
            0x16 => Self::Compress(Compression::Xz),
            0x1B => Self::Compress(Compression::Zstd),
            code => return Err(OperationError::Unknown { code }),
        })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tar => formatter.write_str("tar"),
            Self::Compress(compression) => formatter.write_str(compression.name()),
        }
    }
}

impl Compression {
    /// Returns its name in chains.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

impl SlotSource {
    /// Returns what it takes to read the content, in the order of building: `raw`, `tar.gzip`, `zip`. Sources with
    /// the same text and the same stored bytes have the same content.
    #[must_use]
    pub fn chain(&self) -> String {
        let container = match &self.container {
            Container::File => None,
            Container::Tar => Some("tar"),
            Container::Zip => Some("zip"),
            Container::Directory(_) => Some("directory"),
        };
        let compressions = self.compressions.iter().rev().map(|compression| compression.name());
        let names: Vec<&str> = container.into_iter().chain(compressions).collect();
        if names.is_empty() { "raw".to_owned() } else { names.join(".") }
    }
}

/// The order of building with dots between: `tar.gzip`; `raw` when nothing was done.
impl fmt::Display for Chain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(Operation::to_string).collect();
        formatter.write_str(if names.is_empty() { "raw" } else { "" })?;
        formatter.write_str(&names.join("."))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use Compression::{Bzip2, Gzip, Xz, Zstd};

    #[test]
    fn every_chain_that_builders_make_is_read() {
        for (packed, text, compressions, is_tar) in [
            (0, "raw", vec![], false),
            (0x01, "tar", vec![], true),
            (0x10, "gzip", vec![Gzip], false),
            (0x13, "bzip2", vec![Bzip2], false),
            (0x16, "xz", vec![Xz], false),
            (0x1B, "zstd", vec![Zstd], false),
            (0x1001, "tar.gzip", vec![Gzip], true),
            (0x1301, "tar.bzip2", vec![Bzip2], true),
            (0x1601, "tar.xz", vec![Xz], true),
            (0x1B01, "tar.zstd", vec![Zstd], true),
            (0x1010, "gzip.gzip", vec![Gzip, Gzip], false),
            (0x0110, "gzip.tar", vec![Gzip], true),
            (0x1B10, "gzip.zstd", vec![Zstd, Gzip], false),
            (0x1B16_1310_1B16_1301, "tar.bzip2.xz.zstd.gzip.bzip2.xz.zstd", vec![], true),
        ] {
            let chain = Chain::unpack(packed).unwrap();
            assert_eq!(chain.to_string(), text);
            assert_eq!(chain.container() == Container::Tar, is_tar, "{text}");
            if packed < 0x1_0000_0000 {
                assert_eq!(chain.compressions(), compressions, "{text}");
            }
        }
        let long = Chain::unpack(0x1B16_1310_1B16_1301).unwrap();
        assert_eq!(long.compressions(), [Zstd, Xz, Bzip2, Gzip, Zstd, Xz, Bzip2]);
    }

    #[test]
    fn names_of_manifests_become_codes() {
        for (names, packed) in [
            (&["", "raw", "none", "RAW"][..], 0),
            (&["gzip", "GZIP", "gz"], 0x10),
            (&["tar"], 0x01),
            (&["tgz", "tar.gz", "tar,gzip", "tar|gzip", "TAR|GZIP", "tar.gzip"], 0x1001),
            (&["tar.bz2", "tbz2"], 0x1301),
            (&["tar.xz", "txz"], 0x1601),
            (&["tar.zst", "tar|zstd", "tzst"], 0x1B01),
            (&["gzip,gzip"], 0x1010),
        ] {
            for name in names {
                let chain = Chain::from_name(name).unwrap_or_else(|| panic!("{name}"));
                assert_eq!(chain.pack(), packed, "{name}");
                assert_eq!(Chain::from_name(&chain.manifest_name()), Some(chain.clone()), "{name}");
                assert_eq!(Chain::unpack(packed).unwrap(), chain);
            }
        }
        for name in ["lz4", "tar gzip", "tar.7z", "gzip.gzip.gzip.gzip.gzip.gzip.gzip.gzip.gzip"] {
            assert_eq!(Chain::from_name(name), None, "{name}");
        }
        assert!(!Chain::from_name("gzip,tar").unwrap().is_usual());
        assert_eq!(Chain::new(true, Some(Gzip)).pack(), 0x1001);
    }

    #[test]
    fn what_cannot_be_undone_is_named() {
        for (packed, message) in [
            (0xFF, "operation 0xff cannot be undone"),
            (0x1E01, "operation 0x1e (a kind of compression) cannot be undone"),
            (0x31, "operation 0x31 (a kind of encryption) cannot be undone"),
            (0x0010_0001, "the operation chain 0x100001 has a gap"),
            (0x1000, "the operation chain 0x1000 has a gap"),
            (u64::MAX, "operation 0xff cannot be undone"),
        ] {
            assert_eq!(Chain::unpack(packed).unwrap_err().to_string(), message);
        }
    }
}

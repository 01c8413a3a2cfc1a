//! One slot of a package under construction.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{Tree, hex, layout::descriptor, put_u64};

/// What a slot should hold and what its descriptor and metadata should say.
#[derive(Clone, Debug)]
pub struct SlotSpec {
    id: String,
    target: String,
    chain: Vec<u8>,
    stored: Vec<u8>,
    original_size: usize,
    purpose: (String, u8),
    lifecycle: (String, u8),
    permissions: u16,
    keys: Map<String, Value>,
    self_reference: bool,
}

impl SlotSpec {
    /// A slot of one file with `content` before compression. `chain` is as [`codes_of`] takes it.
    #[must_use]
    pub fn file(id: &str, target: &str, chain: &str, content: &[u8]) -> Self {
        let stored = chain.split('.').fold(content.to_vec(), |bytes, name| compress(name, &bytes));
        let mut slot = Self::stored(id, target, &codes_of(chain), &stored);
        slot.original_size = content.len();
        slot
    }

    /// A slot of a tree at the work environment's root; `chain` starts with `tar`.
    #[must_use]
    pub fn tree(id: &str, chain: &str, tree: Tree) -> Self {
        Self::file(id, "{workenv}", chain, &tree.archive())
    }

    /// A slot of exactly these stored bytes and operation codes, whether they fit together or not.
    #[must_use]
    pub fn stored(id: &str, target: &str, codes: &[u8], stored: &[u8]) -> Self {
        Self {
            id: id.to_owned(),
            target: target.to_owned(),
            chain: codes.to_vec(),
            stored: stored.to_vec(),
            original_size: stored.len(),
            purpose: ("data".to_owned(), 0),
            lifecycle: ("runtime".to_owned(), 2),
            permissions: 0o755,
            keys: Map::new(),
            self_reference: false,
        }
    }

    /// A reference to the launcher: no data, an all-zero descriptor but for its number.
    #[must_use]
    pub fn self_reference(id: &str, target: &str) -> Self {
        let mut slot = Self::stored(id, target, &[], &[]);
        slot.permissions = 0;
        slot.self_reference = true;
        slot.key("self_ref", json!(true)).key("checksum", json!("")).key("operations", json!(""))
    }

    /// Sets the lifecycle's name in the metadata and its code in the descriptor.
    #[must_use]
    pub fn lifecycle(mut self, name: &str, code: u8) -> Self {
        self.lifecycle = (name.to_owned(), code);
        self
    }

    /// Sets the purpose's name in the metadata and its code in the descriptor.
    #[must_use]
    pub fn purpose(mut self, name: &str, code: u8) -> Self {
        self.purpose = (name.to_owned(), code);
        self
    }

    /// Sets the mode bits.
    #[must_use]
    pub fn permissions(mut self, mode: u16) -> Self {
        self.permissions = mode;
        self
    }

    /// Sets or replaces a key of the slot's object in the metadata.
    #[must_use]
    pub fn key(mut self, key: &str, value: Value) -> Self {
        self.keys.insert(key.to_owned(), value);
        self
    }

    pub(super) fn stored_bytes(&self) -> Vec<u8> {
        self.stored.clone()
    }

    pub(super) fn json(&self, position: usize, stored: &[u8]) -> Value {
        let mut object = json!({
            "slot": position,
            "id": self.id,
            "source": format!("source/{}", self.id),
            "target": self.target,
            "size": stored.len(),
            "checksum": format!("sha256:{}", hex(&Sha256::digest(stored))),
            "operations": self.chain.iter().map(|code| name_of(*code)).collect::<Vec<_>>().join("|"),
            "purpose": self.purpose.0,
            "lifecycle": self.lifecycle.0,
            "permissions": format!("{:04o}", self.permissions),
        });
        for (key, value) in &self.keys {
            object[key] = value.clone();
        }
        object
    }

    pub(super) fn descriptor(&self, position: usize, offset: usize, stored: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; descriptor::SIZE];
        put_u64(&mut bytes, descriptor::ID, position as u64);
        if self.self_reference {
            return bytes;
        }
        let operations = self.chain.iter().rev().fold(0, |packed, code| packed << 8 | u64::from(*code));
        bytes[descriptor::NAME_HASH..][..8].copy_from_slice(&Sha256::digest(&self.id)[..8]);
        put_u64(&mut bytes, descriptor::OFFSET, offset as u64);
        put_u64(&mut bytes, descriptor::STORED_SIZE, stored.len() as u64);
        put_u64(&mut bytes, descriptor::ORIGINAL_SIZE, self.original_size as u64);
        put_u64(&mut bytes, descriptor::OPERATIONS, operations);
        bytes[descriptor::CHECKSUM..][..8].copy_from_slice(&Sha256::digest(stored)[..8]);
        bytes[descriptor::PURPOSE] = self.purpose.1;
        bytes[descriptor::LIFECYCLE] = self.lifecycle.1;
        bytes[descriptor::PRIORITY] = 1;
        bytes[descriptor::PERMISSIONS_LOW..].copy_from_slice(&self.permissions.to_le_bytes());
        bytes
    }
}

const NAMES: [(&str, u8); 5] = [("tar", 0x01), ("gzip", 0x10), ("bzip2", 0x13), ("xz", 0x16), ("zstd", 0x1B)];

/// Returns the operation codes of a chain such as `raw`, `gzip`, `tar.zstd`, in the order of building.
///
/// # Panics
/// On a name that is none of `raw`, `tar`, `gzip`, `bzip2`, `xz`, `zstd`.
#[must_use]
pub fn codes_of(chain: &str) -> Vec<u8> {
    let code = |name: &str| NAMES.iter().find(|(known, _)| *known == name).map(|(_, code)| *code);
    let codes = chain.split('.').filter(|name| *name != "raw");
    codes.map(|name| code(name).unwrap_or_else(|| panic!("no operation `{name}`"))).collect()
}

fn name_of(code: u8) -> String {
    let known = NAMES.iter().find(|(_, known)| *known == code);
    known.map_or_else(|| format!("{code:#04x}"), |(name, _)| (*name).to_owned())
}

/// Compresses `bytes` with `gzip`, `bzip2`, `xz` or `zstd`; every other name leaves them as they are.
#[must_use]
pub fn compress(name: &str, bytes: &[u8]) -> Vec<u8> {
    let fill = |writer: &mut dyn std::io::Write| writer.write_all(bytes).expect("memory takes everything");
    match name {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            fill(&mut encoder);
            encoder.finish().expect("memory takes everything")
        }
        "bzip2" => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            fill(&mut encoder);
            encoder.finish().expect("memory takes everything")
        }
        "xz" => {
            let mut encoder = xz::write::XzEncoder::new(Vec::new(), 3);
            fill(&mut encoder);
            encoder.finish().expect("memory takes everything")
        }
        "zstd" => zstd::encode_all(bytes, 3).expect("memory takes everything"),
        _ => bytes.to_vec(),
    }
}

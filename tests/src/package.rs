//! Builds PSPF/2025 packages in memory, right ones and broken ones, with nothing of the reader under test.
//!
//! ```
//! use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};
//!
//! let tree = Tree::new().directory("bin", 0o755).file("bin/hello", 0o755, b"#!/bin/sh\n").symlink("hi", "bin/hello");
//! let package = PackageBuilder::new("demo", "1.0")
//!     .command("{workenv}/bin/hello")
//!     .slot(SlotSpec::tree("app", "tar.gzip", tree))
//!     .slot(SlotSpec::file("settings", "etc/settings.toml", "raw", b"a = 1\n").lifecycle("config", 9))
//!     .build();
//! assert!(package.bytes.len() > 8200);
//! ```
//!
//! Order of the `edit_*` hooks: metadata before it is signed and compressed, descriptors before they are
//! placed, the index before its checksum is made. Whatever is damaged after that (`package.bytes` is a plain
//! vector) stays damaged; [`fix_index_checksum`] makes the index checksum right again.
#![expect(clippy::unwrap_used, reason = "a harness that cannot build its input has to stop the test")]

mod layout;
mod slot;
mod tree;

use std::fmt;
use std::ops::Range;
use std::path::Path;

use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

pub use layout::{descriptor, fix_index_checksum, index, put_u32, put_u64};
pub use slot::{SlotSpec, codes_of, compress};
pub use tree::Tree;

use layout::{BUILD_CONSTANTS, END_MARK, START_MARK};

type Hook<T> = Box<dyn FnOnce(&mut T)>;

/// A finished package and where its parts are.
#[derive(Clone, Debug)]
pub struct Built {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// The metadata JSON as signed.
    pub json: Vec<u8>,
    /// The compressed metadata.
    pub metadata: Range<usize>,
    /// The slot table.
    pub table: Range<usize>,
    /// Each slot's stored bytes.
    pub slots: Vec<Range<usize>>,
    /// Start mark, index, end mark.
    pub trailer: Range<usize>,
    /// The 8192 index bytes.
    pub index: Range<usize>,
}

impl Built {
    /// Writes the package to `path`, mode 0700 where there are modes.
    pub fn write(&self, path: &Path) {
        std::fs::write(path, &self.bytes).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
    }

    /// Returns where descriptor `slot` is.
    #[must_use]
    pub fn descriptor(&self, slot: usize) -> Range<usize> {
        let start = self.table.start + slot * descriptor::SIZE;
        start..start + descriptor::SIZE
    }

    /// Changes index bytes and makes the index checksum right again.
    #[must_use]
    pub fn with_index(mut self, edit: impl FnOnce(&mut [u8])) -> Self {
        edit(&mut self.bytes[self.index.clone()]);
        fix_index_checksum(&mut self.bytes);
        self
    }

    /// Changes descriptor `slot`, which no checksum covers.
    #[must_use]
    pub fn with_descriptor(mut self, slot: usize, edit: impl FnOnce(&mut [u8])) -> Self {
        let range = self.descriptor(slot);
        edit(&mut self.bytes[range]);
        self
    }
}

/// Collects what a package should hold; see the module's example.
pub struct PackageBuilder {
    launcher: Vec<u8>,
    gap: usize,
    alignment: usize,
    key: SigningKey,
    metadata: Map<String, Value>,
    slots: Vec<SlotSpec>,
    extra_descriptors: usize,
    json_text: Option<Vec<u8>>,
    compressed: Option<Vec<u8>>,
    edit_metadata: Vec<Hook<Value>>,
    edit_table: Vec<Hook<Vec<u8>>>,
    edit_index: Vec<Hook<Vec<u8>>>,
}

impl fmt::Debug for PackageBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PackageBuilder").field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl PackageBuilder {
    /// Starts a package whose launcher is a two-line shell script and whose command is `/bin/true`.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        let mut metadata = Map::new();
        metadata.insert("format".into(), json!("PSPF/2025"));
        metadata.insert("format_version".into(), json!("1.0.0"));
        metadata.insert("package".into(), json!({ "name": name, "version": version }));
        metadata.insert("slots".into(), Value::Null);
        metadata.insert("execution".into(), json!({ "command": "/bin/true", "env": {} }));
        Self {
            launcher: b"#!/bin/sh\nexit 0\n".to_vec(),
            gap: 0,
            alignment: 8,
            key: key_of("slotfs test key"),
            metadata,
            slots: Vec::new(),
            extra_descriptors: 0,
            json_text: None,
            compressed: None,
            edit_metadata: Vec::new(),
            edit_table: Vec::new(),
            edit_index: Vec::new(),
        }
    }

    /// Sets `execution.command`.
    #[must_use]
    pub fn command(self, command: &str) -> Self {
        let command = command.to_owned();
        self.edit_metadata(move |metadata| metadata["execution"]["command"] = Value::String(command))
    }

    /// Sets a top-level section of the metadata, such as `workenv`.
    #[must_use]
    pub fn section(mut self, key: &str, value: Value) -> Self {
        self.metadata.insert(key.to_owned(), value);
        self
    }

    /// Sets the launcher's bytes.
    #[must_use]
    pub fn launcher(mut self, bytes: &[u8]) -> Self {
        self.launcher = bytes.to_vec();
        self
    }

    /// Leaves `length` zero bytes after the launcher, as one builder does (8192).
    #[must_use]
    pub fn gap(mut self, length: usize) -> Self {
        self.gap = length;
        self
    }

    /// Starts every slot at a multiple of `alignment`, 1 for none.
    #[must_use]
    pub fn alignment(mut self, alignment: usize) -> Self {
        self.alignment = alignment;
        self
    }

    /// Signs with the key that FlavorPack's builders derive from `seed`.
    #[must_use]
    pub fn key_seed(mut self, seed: &str) -> Self {
        self.key = key_of(seed);
        self
    }

    /// Adds a slot.
    #[must_use]
    pub fn slot(mut self, slot: SlotSpec) -> Self {
        self.slots.push(slot);
        self
    }

    /// Adds descriptors of nothing but 0xFF behind those of the slots; the metadata does not list them.
    #[must_use]
    pub fn extra_descriptors(mut self, count: usize) -> Self {
        self.extra_descriptors = count;
        self
    }

    /// Changes the metadata before it becomes text.
    #[must_use]
    pub fn edit_metadata(mut self, edit: impl FnOnce(&mut Value) + 'static) -> Self {
        self.edit_metadata.push(Box::new(edit));
        self
    }

    /// Uses `text` in place of the metadata JSON; it is still signed and compressed.
    #[must_use]
    pub fn json_text(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.json_text = Some(text.into());
        self
    }

    /// Stores `bytes` where the compressed metadata goes; their SHA-256 is right.
    #[must_use]
    pub fn compressed_metadata(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.compressed = Some(bytes.into());
        self
    }

    /// Changes the slot table (64 bytes a slot) after it is filled; it may shrink.
    #[must_use]
    pub fn edit_table(mut self, edit: impl FnOnce(&mut Vec<u8>) + 'static) -> Self {
        self.edit_table.push(Box::new(edit));
        self
    }

    /// Changes descriptor `slot`; fields are at the offsets in [`descriptor`].
    #[must_use]
    pub fn edit_descriptor(self, slot: usize, edit: impl FnOnce(&mut [u8]) + 'static) -> Self {
        self.edit_table(move |table| edit(&mut table[slot * descriptor::SIZE..][..descriptor::SIZE]))
    }

    /// Changes the 8192 index bytes before their checksum is made; fields are at the offsets in [`index`].
    #[must_use]
    pub fn edit_index(mut self, edit: impl FnOnce(&mut [u8]) + 'static) -> Self {
        self.edit_index.push(Box::new(move |bytes| edit(bytes)));
        self
    }

    /// Builds the package.
    #[must_use]
    pub fn build(self) -> Built {
        let stored: Vec<Vec<u8>> = self.slots.iter().map(SlotSpec::stored_bytes).collect();
        let mut metadata = Value::Object(self.metadata);
        metadata["slots"] = self
            .slots
            .iter()
            .zip(&stored)
            .enumerate()
            .map(|(position, (slot, stored))| slot.json(position, stored))
            .collect();
        self.edit_metadata.into_iter().for_each(|edit| edit(&mut metadata));
        let json = self.json_text.unwrap_or_else(|| serde_json::to_vec_pretty(&metadata).unwrap());
        let compressed = self.compressed.unwrap_or_else(|| compress("gzip", &json));

        let mut bytes = self.launcher.clone();
        bytes.resize(bytes.len() + self.gap, 0);
        pad(&mut bytes, 8);
        let metadata = append(&mut bytes, &compressed);
        pad(&mut bytes, 8);

        let mut table = Vec::new();
        let table_start = bytes.len();
        let mut end = table_start + (self.slots.len() + self.extra_descriptors) * descriptor::SIZE;
        let mut places = Vec::new();
        for (position, (slot, stored)) in self.slots.iter().zip(&stored).enumerate() {
            let start = end.next_multiple_of(self.alignment);
            table.extend(slot.descriptor(position, start, stored));
            places.push(start..start + stored.len());
            end = start + stored.len();
        }
        table.resize(table.len() + self.extra_descriptors * descriptor::SIZE, 0xFF);
        self.edit_table.into_iter().for_each(|edit| edit(&mut table));
        let table = append(&mut bytes, &table);
        for (place, stored) in places.iter().zip(&stored) {
            bytes.resize(place.start, 0);
            bytes.extend_from_slice(stored);
        }

        let mut block = vec![0; index::SIZE];
        put_u64(&mut block, index::PACKAGE_SIZE, (bytes.len() + layout::TRAILER_SIZE) as u64);
        put_u64(&mut block, index::LAUNCHER_SIZE, self.launcher.len() as u64);
        put_u64(&mut block, index::METADATA_OFFSET, metadata.start as u64);
        put_u64(&mut block, index::METADATA_SIZE, metadata.len() as u64);
        put_u64(&mut block, index::SLOT_TABLE_OFFSET, table.start as u64);
        put_u64(&mut block, index::SLOT_TABLE_SIZE, table.len() as u64);
        put_u32(&mut block, index::SLOT_COUNT, (table.len() / descriptor::SIZE) as u32);
        for (offset, value) in BUILD_CONSTANTS {
            put_u32(&mut block, offset, value);
        }
        let public = self.key.verifying_key().to_bytes();
        block[index::PUBLIC_KEY..][..32].copy_from_slice(&public);
        block[index::METADATA_CHECKSUM..][..32].copy_from_slice(&Sha256::digest(&compressed));
        block[index::SIGNATURE..][..64].copy_from_slice(&self.key.sign(&json).to_bytes());
        block[index::KEY_FINGERPRINT..][..64].copy_from_slice(hex(&Sha256::digest(public)).as_bytes());
        self.edit_index.into_iter().for_each(|edit| edit(&mut block));

        let start = bytes.len();
        bytes.extend_from_slice(&START_MARK);
        let index = append(&mut bytes, &block);
        bytes.extend_from_slice(&END_MARK);
        let trailer = start..bytes.len();
        fix_index_checksum(&mut bytes);
        Built { bytes, json, metadata, table, slots: places, trailer, index }
    }

    /// Builds the package and writes it to `path`.
    pub fn write(self, path: &Path) -> Built {
        let built = self.build();
        built.write(path);
        built
    }
}

/// Returns `bytes` as lowercase hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key_of(seed: &str) -> SigningKey {
    SigningKey::from_bytes(&Sha256::digest(seed).into())
}

fn pad(bytes: &mut Vec<u8>, alignment: usize) {
    bytes.resize(bytes.len().next_multiple_of(alignment), 0);
}

fn append(bytes: &mut Vec<u8>, part: &[u8]) -> Range<usize> {
    let start = bytes.len();
    bytes.extend_from_slice(part);
    start..bytes.len()
}

//! Packages of format PSPF/2025, written from front to back: launcher, slots, metadata, slot table, trailer.
//!
//! The metadata comes behind the slots, because it holds their digests and no slot is kept in memory; readers go by the
//! offsets in the trailer.
//!
//! **Invariant:** the bytes depend on what is given and on nothing else: no time, no name of a machine or a user.

mod codec;
mod original;
mod pieces;
mod relaunch;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use zerocopy::{FromZeros, IntoBytes};

pub use original::Original;
pub use pieces::PieceStart;
pub use relaunch::{RelaunchError, relaunch};

use self::codec::Codec;
use self::pieces::PieceWriter;
use super::Compression;
use super::descriptor::Descriptor;
use super::keys::KeyPair;
use super::metadata::IndexSection;
use super::operations::Chain;
use super::signature::policy_digest;
use super::trailer::{END_MARK, FORMAT_VERSION, Index, START_MARK};
use crate::disk::digest::Digest;
use crate::disk::range::FileRange;

/// Where slots begin: a whole page, so that they can be mapped.
const PAGE: u64 = 4096;
/// Where everything else begins.
const WORD: u64 = 8;
/// Capability bits: can be mapped, slots on pages, signed.
const CAPABILITIES: u64 = 0x83;
/// The highest level of gzip.
const HARDEST_GZIP: u32 = 9;
/// Length of a chunk of stored bytes that has a digest of its own, in bytes. Measured on gzip slots of this crate: see
/// decision 0015.
pub const CHUNK: u32 = 64 << 10;
/// Bytes that go through at a time.
const BUFFER: usize = 256 << 10;

/// What is said about a slot beside its content.
#[derive(Clone, Debug)]
pub struct SlotDescription {
    /// Identifier.
    pub id: String,
    /// Where its bytes came from, for people.
    pub source: String,
    /// Where it goes, with `{workenv}`.
    pub target: String,
    /// What is done to its content before it is stored.
    pub chain: Chain,
    /// Purpose by name.
    pub purpose: String,
    /// Lifecycle by name.
    pub lifecycle: String,
    /// Lifecycle code of the descriptor.
    pub lifecycle_code: u8,
    /// Mode of a slot that is one file.
    pub permissions: Option<u16>,
    /// Platform it is for, where it is not for all.
    pub platform: Option<String>,
    /// The slot of another package in whose place it comes. It is described as that one is, whatever is said here, but for
    /// what follows from its bytes.
    pub original: Option<Original>,
}

/// A slot as it was written.
#[derive(Clone, Debug)]
pub struct WrittenSlot {
    /// Where its stored bytes begin in the file.
    pub offset: u64,
    /// Number of stored bytes.
    pub size: u64,
    /// Number of bytes before compression.
    pub original_size: u64,
    /// SHA-256 of the stored bytes.
    pub digest: Digest,
    /// Where decoding can start, of a slot with one compression: offsets in its stored bytes.
    pub pieces: Vec<PieceStart>,
    /// SHA-256 of each [`CHUNK`] of the stored bytes.
    pub chunks: Vec<Digest>,
}

/// A package that is being written.
#[derive(Debug)]
pub struct PackageWriter<'a> {
    out: BufWriter<&'a mut File>,
    position: u64,
    launcher_size: u64,
    level: u32,
    slots: Vec<(Described, WrittenSlot)>,
    /// Slot, offset, length and digest of the header of each index.
    indexes: Vec<(u32, u64, u64, Digest)>,
    /// What the index says about the attestation slot.
    attestation: [u8; 64],
}

impl<'a> PackageWriter<'a> {
    /// Starts with the executable in front. `level` of compression is 1 to 9 for gzip, 1 to 19 for zstd.
    ///
    /// # Errors
    /// The launcher cannot be read or the package cannot be written.
    pub fn start(file: &'a mut File, launcher: &mut dyn Read, level: u32) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(BUFFER, file);
        let launcher_size = io::copy(launcher, &mut out)?;
        Ok(Self {
            out,
            position: launcher_size,
            launcher_size,
            level,
            slots: Vec::new(),
            indexes: Vec::new(),
            attestation: [0; 64],
        })
    }

    /// States the digest of the attestation slot, 64 digits, as another package did that has the same one.
    pub fn attest(&mut self, digest: [u8; 64]) {
        self.attestation = digest;
    }

    /// Adds a slot whose content `fill` writes, and returns how it was stored. Where `fill` flushes, a piece may end.
    ///
    /// # Errors
    /// What `fill` fails with, or the package cannot be written; it is of no use then. A chain that [`can_write`] does not
    /// know is `Unsupported`.
    pub fn slot<E: From<io::Error>>(
        &mut self,
        description: SlotDescription,
        fill: &mut dyn FnMut(&mut dyn Write) -> Result<(), E>,
    ) -> Result<&WrittenSlot, E> {
        self.pad(PAGE)?;
        let offset = self.position;
        let mut stored = Hashing::new(&mut self.out);
        let codec = match description.chain.compressions().as_slice() {
            [] => None,
            [Compression::Gzip] => Some(Codec::Gzip { level: self.level.min(HARDEST_GZIP) }),
            [Compression::Zstd] => Some(Codec::Zstd { level: self.level }),
            _ => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        };
        let (original_size, pieces) = match codec {
            None => {
                fill(&mut stored)?;
                (stored.length, Vec::new())
            }
            Some(codec) => {
                let mut pieces = Counting { out: PieceWriter::start(&mut stored, codec)?, length: 0 };
                fill(&mut pieces)?;
                (pieces.length, pieces.out.finish()?)
            }
        };
        let (size, digest, chunks) = stored.finish();
        self.position += size;
        let written = WrittenSlot { offset, size, original_size, digest, pieces, chunks };
        self.slots.push((Described::New(Box::new(description)), written));
        // It was pushed just before.
        self.slots.last().map(|(_, written)| written).ok_or_else(|| io::Error::other("no slot").into())
    }

    /// Adds a slot of another package, its stored bytes as they are, and returns their digest; `told` hears of each piece, in
    /// bytes, and can fail to end it.
    ///
    /// # Errors
    /// The bytes cannot be read, the package cannot be written, or what `told` fails with.
    pub fn keep(
        &mut self,
        original: Original,
        stored: &FileRange,
        told: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> io::Result<Digest> {
        self.pad(PAGE)?;
        let offset = self.position;
        let mut out = Hashing::new(&mut self.out);
        relaunch::copy(stored, (0, stored.len()), &mut out, told)?;
        let (size, digest, chunks) = out.finish();
        self.position += size;
        let original_size = original.descriptor.original_size.get();
        let written = WrittenSlot { offset, size, original_size, digest, pieces: Vec::new(), chunks };
        self.slots.push((Described::Kept(Box::new(original)), written));
        Ok(digest)
    }

    /// Adds an index of the slot written last, in bytes that no other reader looks at. `root` is the digest of its header.
    ///
    /// # Errors
    /// The package cannot be written.
    pub fn index(&mut self, bytes: &[u8], root: Digest) -> io::Result<()> {
        let Some(slot) = self.slots.len().checked_sub(1) else { return Ok(()) };
        let offset = self.append(bytes)?;
        let slot = u32::try_from(slot).map_err(io::Error::other)?;
        self.indexes.push((slot, offset, bytes.len() as u64, root));
        Ok(())
    }

    /// Ends the package with the `sections` of its metadata, signed with `key`, and returns its length. A section `slots`
    /// takes its place from the map and its content from what was written.
    ///
    /// # Errors
    /// The package cannot be written.
    pub fn finish(mut self, mut sections: Map<String, Value>, key: &KeyPair) -> io::Result<u64> {
        let policy = sections.get("policy").filter(|policy| !policy.is_null()).map(policy_digest);
        let slots = self.slots.iter().enumerate();
        let slots = slots.map(|(position, (described, written))| described.section(position, written));
        sections.insert("slots".to_owned(), slots.collect());
        self.pad(WORD)?;
        let metadata_at = self.position;
        let indexes = self.indexes.iter().map(|(slot, offset, size, root)| IndexSection {
            slot: *slot,
            before: metadata_at - offset,
            size: *size,
            root: format!("sha256:{root}"),
        });
        let indexes: Vec<IndexSection> = indexes.collect();
        if !indexes.is_empty() {
            sections.insert("slotfs".to_owned(), json!({ "indexes": indexes }));
        }
        let json = serde_json::to_vec_pretty(&sections)?;
        let mut encoder = GzEncoder::new(Vec::new(), Level::best());
        encoder.write_all(&json)?;
        let metadata = encoder.finish()?;
        let metadata_offset = self.append(&metadata)?;
        let table = (0..).zip(&self.slots);
        let table = table.map(|(position, (described, written))| described.descriptor(position, written));
        let table: Vec<Descriptor> = table.collect();
        let table_offset = self.append(table.as_bytes())?;

        let public_key = key.public_key();
        let mut index = Index::new_zeroed();
        index.format_version = FORMAT_VERSION.into();
        index.package_size = (self.position + super::trailer::TRAILER_SIZE as u64).into();
        index.launcher_size = self.launcher_size.into();
        index.metadata_offset = metadata_offset.into();
        index.metadata_size = (metadata.len() as u64).into();
        index.slot_table_offset = table_offset.into();
        index.slot_table_size = (size_of_val(&table[..]) as u64).into();
        index.slot_count = u32::try_from(table.len()).map_err(io::Error::other)?.into();
        index.public_key = public_key;
        index.metadata_checksum = Digest::of(&metadata).0;
        index.signature[..64].copy_from_slice(&key.sign(&json));
        index.page_size = 4096.into();
        index.capabilities = CAPABILITIES.into();
        index.compatibility = FORMAT_VERSION.into();
        index.protocol_version = 1.into();
        put_hex(&mut index.key_fingerprint, &key.fingerprint());
        index.attestation_digest = self.attestation;
        if let Some(digest) = policy {
            put_hex(&mut index.policy_hash, &digest);
        }
        index.seal();
        for part in [&START_MARK[..], index.as_bytes(), &END_MARK] {
            self.out.write_all(part)?;
        }
        self.out.flush()?;
        Ok(index.package_size.get())
    }

    /// Writes a part at the next word and returns where that is.
    fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        self.pad(WORD)?;
        let offset = self.position;
        self.out.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(offset)
    }

    fn pad(&mut self, alignment: u64) -> io::Result<()> {
        let gap = self.position.next_multiple_of(alignment) - self.position;
        io::copy(&mut io::repeat(0).take(gap), &mut self.out)?;
        self.position += gap;
        Ok(())
    }
}

/// Tells whether a slot of this chain can be made.
#[must_use]
pub fn can_write(chain: &Chain) -> bool {
    let is_known = matches!(chain.compressions().as_slice(), [] | [Compression::Gzip | Compression::Zstd]);
    is_known && chain.is_usual()
}

/// What is said about a slot, and from where.
#[derive(Debug)]
enum Described {
    New(Box<SlotDescription>),
    Kept(Box<Original>),
}

impl Described {
    /// What the metadata says.
    fn section(&self, position: usize, written: &WrittenSlot) -> Value {
        match self {
            Self::Kept(original) => original.section.clone(),
            Self::New(description) => match &description.original {
                Some(original) => original.section_of(&description.chain, written),
                None => section(position, description, written),
            },
        }
    }

    fn descriptor(&self, position: u64, written: &WrittenSlot) -> Descriptor {
        match self {
            // One that refers to the launcher has no place of its own.
            Self::Kept(original) if written.size == 0 => original.descriptor.clone(),
            Self::Kept(original) => {
                Descriptor { offset: written.offset.into(), ..original.descriptor.clone() }
            }
            Self::New(description) => match &description.original {
                Some(original) => original.descriptor_of(&description.chain, written),
                None => descriptor(position, description, written),
            },
        }
    }
}

/// What the metadata says about a slot that was in no package before.
fn section(position: usize, description: &SlotDescription, written: &WrittenSlot) -> Value {
    let mut section = json!({
        "slot": position,
        "id": description.id,
        "source": description.source,
        "target": description.target,
        "size": written.size,
        "checksum": format!("sha256:{}", written.digest),
        "operations": description.chain.manifest_name(),
        "purpose": description.purpose,
        "lifecycle": description.lifecycle,
        "permissions": description.permissions.map(|mode| format!("{mode:04o}")),
    });
    if let Some(platform) = &description.platform {
        section["platform"] = Value::from(platform.as_str());
    }
    section
}

fn descriptor(position: u64, description: &SlotDescription, written: &WrittenSlot) -> Descriptor {
    let name = Digest::of(description.id.as_bytes());
    Descriptor {
        id: position.into(),
        name_hash: first_word(&name).into(),
        offset: written.offset.into(),
        size: written.size.into(),
        original_size: written.original_size.into(),
        operations: description.chain.pack().into(),
        checksum: first_word(&written.digest).to_le_bytes(),
        purpose: purpose_code(&description.purpose),
        lifecycle: description.lifecycle_code,
        priority: 1,
        platform: 0,
        reserved: [0; 2],
        permissions: description.permissions.unwrap_or(0o755).into(),
    }
}

fn first_word(digest: &Digest) -> u64 {
    digest.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Returns the code of a purpose as FlavorPack's Python builder has it; no reader acts on it.
fn purpose_code(name: &str) -> u8 {
    match name {
        "code" => 1,
        "config" => 2,
        "media" => 3,
        _ => 0,
    }
}

fn put_hex(field: &mut [u8; 64], digest: &Digest) {
    field.copy_from_slice(digest.to_string().as_bytes());
}

/// Hashes what passes, all of it and each chunk.
struct Hashing<'a, W> {
    out: &'a mut W,
    hasher: Sha256,
    length: u64,
    chunk: Sha256,
    chunks: Vec<Digest>,
}

impl<'a, W> Hashing<'a, W> {
    fn new(out: &'a mut W) -> Self {
        Self { out, hasher: Sha256::new(), length: 0, chunk: Sha256::new(), chunks: Vec::new() }
    }

    fn hash(&mut self, mut bytes: &[u8]) {
        self.hasher.update(bytes);
        while !bytes.is_empty() {
            let room = u64::from(CHUNK) - self.length % u64::from(CHUNK);
            let count = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            self.chunk.update(&bytes[..count]);
            self.length += count as u64;
            if count as u64 == room {
                self.end_chunk();
            }
            bytes = &bytes[count..];
        }
    }

    fn end_chunk(&mut self) {
        self.chunks.push(Digest(std::mem::take(&mut self.chunk).finalize().into()));
    }

    /// Returns length, digest and digests of chunks.
    fn finish(mut self) -> (u64, Digest, Vec<Digest>) {
        if !self.length.is_multiple_of(u64::from(CHUNK)) {
            self.end_chunk();
        }
        (self.length, Digest(self.hasher.finalize().into()), self.chunks)
    }
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash(&bytes[..count]);
        Ok(count)
    }

    /// Does nothing: a flush is about pieces, not about the disk.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what passes.
struct Counting<W> {
    out: W,
    length: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

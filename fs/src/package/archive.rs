//! Bare archives, compressed files and directories, seen as a package of one slot.
//!
//! What a file is, its first bytes decide; only what the bytes leave open (an archive of nothing) its name does.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use liblzma::stream::Stream;

use super::assemble::read_failed;
use super::error::{Defect, Fault, PackageError, shown};
use super::limits::Limits;
use super::metadata::{Metadata, PackageSection};
use super::{Compression, Container, Package, PackageKind, Slot, SlotSource, StatedChecksum, id_of};
use crate::disk::digest::Digest;
use crate::disk::identity::FileIdentity;
use crate::disk::range::FileRange;
use crate::disk::{Context as _, kind};

/// Bytes of a tar header, and of everything in a tar archive.
const BLOCK: usize = 512;

/// How much of each end of a file goes into its id.
const SAMPLE: u64 = 64 << 10;

/// Opens the regular file `range`, which is no PSPF package.
pub(super) fn open_file(
    range: &FileRange,
    identity: FileIdentity,
    path: &Path,
    limits: &Limits,
) -> Result<Package, PackageError> {
    let name = path.file_name().unwrap_or_default();
    let text = name.to_string_lossy();
    let named_package = [".psp", ".pspf"].iter().any(|suffix| text.ends_with(suffix));
    let not_a_package = || PackageError::NotAPackage { path: path.into(), named_package };
    if named_package {
        return Err(not_a_package());
    }

    let mut head = [0; BLOCK];
    let length = read_up_to(&mut range.reader(0), &mut head).map_err(|error| read_failed(path, error))?;
    let head = &head[..length];
    let (compressions, container) = if let Some(compression) = compression_of(head) {
        let decoded = decoded_head(range, compression, limits).map_err(|error| {
            let format = compression.name();
            Fault::from(Defect::Archive { format, reason: shown(&error.to_string()) }).at(path)
        })?;
        (vec![compression], container_of(&decoded, &text))
    } else if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        (Vec::new(), Container::Zip)
    } else if container_of(head, &text) == Container::Tar {
        (Vec::new(), Container::Tar)
    } else {
        return Err(not_a_package());
    };

    let stem = without_suffixes(&text, &container);
    let is_file = container == Container::File;
    let target =
        if is_file { vec![without_last_suffix(name.as_encoded_bytes()).to_vec()] } else { Vec::new() };
    let metadata = range.file().metadata().context("examine", path)?;
    let timed = compressions.is_empty() && container == Container::Tar;
    let checksum = fingerprint(range, identity, timed).map_err(|error| read_failed(path, error))?;
    let kind = if is_file { PackageKind::CompressedFile } else { PackageKind::Archive };
    let source = SlotSource { stored: range.clone(), compressions, container };
    let permissions = kind::permissions(&metadata) & 0o777;
    let slot = Slot { target, permissions, ..only_slot(stem, source) };
    Ok(Package { file: Some(range.file().clone()), ..package(path, identity, kind, slot, &checksum) })
}

/// Opens the directory at `path`.
pub(super) fn open_directory(path: &Path, metadata: &fs::Metadata) -> Result<Package, PackageError> {
    let whole = fs::canonicalize(path).context("resolve", path)?;
    let stored = FileRange::empty().context("stand in for the bytes of", path)?;
    let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let checksum = Digest::of(whole.as_os_str().as_encoded_bytes()).to_string();
    let source = SlotSource { stored, compressions: Vec::new(), container: Container::Directory(whole) };
    let slot = only_slot(name, source);
    Ok(package(path, FileIdentity::of(metadata), PackageKind::Directory, slot, &checksum))
}

fn package(path: &Path, identity: FileIdentity, kind: PackageKind, slot: Slot, checksum: &str) -> Package {
    let section = PackageSection { name: slot.id.clone(), version: String::new() };
    Package {
        path: path.into(),
        file: None,
        identity,
        kind,
        id: id_of(&section.name, &section.version, checksum),
        index: None,
        metadata: Metadata { package: section, ..Metadata::default() },
        metadata_json: Vec::new(),
        slots: vec![slot],
        evidence: None,
    }
}

fn only_slot(id: String, source: SlotSource) -> Slot {
    Slot {
        position: 0,
        id,
        target: Vec::new(),
        target_text: String::new(),
        chain: source.chain(),
        source,
        digest: None,
        stated_checksum: StatedChecksum::None,
        short_checksum: None,
        lifecycle: "runtime".to_owned(),
        lifecycle_code: 2,
        purpose: String::new(),
        platform: String::new(),
        platform_code: 0,
        permissions: 0o755,
        self_reference: false,
        carried_index: None,
    }
}

/// Returns the compression whose magic bytes `head` starts with.
fn compression_of(head: &[u8]) -> Option<Compression> {
    let block_mark = head.get(4..10);
    // A bzip2 stream goes on with pi (a block) or the square root of it (the end).
    let bzip2 = [&b"\x31\x41\x59\x26\x53\x59"[..], b"\x17\x72\x45\x38\x50\x90"];
    if head.starts_with(b"\x1F\x8B\x08") {
        Some(Compression::Gzip)
    } else if head.starts_with(b"BZh") && block_mark.is_some_and(|mark| bzip2.contains(&mark)) {
        Some(Compression::Bzip2)
    } else if head.starts_with(b"\xFD7zXZ\0") {
        Some(Compression::Xz)
    } else if head.starts_with(b"\x28\xB5\x2F\xFD") || is_skippable_frame(head) {
        Some(Compression::Zstd)
    } else {
        None
    }
}

/// RFC 8878, section 3.1.2: a zstd file may start with frames that hold no data.
fn is_skippable_frame(head: &[u8]) -> bool {
    matches!(head, [first, 0x2A, 0x4D, 0x18, ..] if first & 0xF0 == 0x50)
}

/// Decodes the first block of a compressed file.
fn decoded_head(range: &FileRange, compression: Compression, limits: &Limits) -> io::Result<Vec<u8>> {
    let reader = range.reader(0);
    let mut decoder: Box<dyn Read> = match compression {
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        Compression::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(reader)),
        Compression::Xz => {
            let stream = Stream::new_stream_decoder(limits.decoder_memory, 0)?;
            Box::new(liblzma::read::XzDecoder::new_stream(reader, stream))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(reader)?;
            decoder.window_log_max(limits.decoder_memory.checked_ilog2().unwrap_or(0))?;
            Box::new(decoder)
        }
    };
    let mut head = vec![0; BLOCK];
    let length = read_up_to(&mut *decoder, &mut head)?;
    head.truncate(length);
    Ok(head)
}

fn read_up_to(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Tells a tar archive from another file by its first block. An archive of nothing starts with zeros, as many a
/// file does: there the name decides.
fn container_of(head: &[u8], name: &str) -> Container {
    let Ok(block) = <&[u8; BLOCK]>::try_from(head) else { return Container::File };
    let is_tar = if block.iter().all(|byte| *byte == 0) {
        is_named_tar(name)
    } else {
        block[257..].starts_with(b"ustar") || has_tar_checksum(block)
    };
    if is_tar { Container::Tar } else { Container::File }
}

fn is_named_tar(name: &str) -> bool {
    SUFFIXES.iter().any(|(suffix, is_tar)| *is_tar && name.ends_with(suffix))
}

/// Checks a header's sum as POSIX `pax` defines it: all bytes, the sum's own field taken as spaces.
fn has_tar_checksum(block: &[u8; BLOCK]) -> bool {
    let field = 148..156;
    let digits: String = block[field.clone()].iter().map(|byte| char::from(*byte)).collect();
    let stated = u32::from_str_radix(digits.trim_matches([' ', '\0']), 8);
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(position, byte)| if field.contains(&position) { 32 } else { u32::from(*byte) })
        .sum();
    stated == Ok(sum)
}

/// Suffixes of archives and compressed files, longer ones first, and whether they promise a tar.
const SUFFIXES: [(&str, bool); 18] = [
    (".tar.bz2", true),
    (".tar.zst", true),
    (".tar.gz", true),
    (".tar.xz", true),
    (".tzst", true),
    (".tbz2", true),
    (".tar", true),
    (".tgz", true),
    (".tbz", true),
    (".txz", true),
    (".zip", false),
    (".whl", false),
    (".zst", false),
    (".bz2", false),
    (".gz", false),
    (".xz", false),
    (".jar", false),
    (".egg", false),
];

/// Returns the name without what tells its format, unless nothing would be left.
fn without_suffixes(name: &str, container: &Container) -> String {
    if *container == Container::File {
        return String::from_utf8_lossy(without_last_suffix(name.as_bytes())).into_owned();
    }
    let stem = SUFFIXES.iter().find_map(|(suffix, _)| name.strip_suffix(suffix));
    stem.filter(|stem| !stem.is_empty()).unwrap_or(name).to_owned()
}

/// Returns the name that decompression gives: without `.gz` and the like.
fn without_last_suffix(name: &[u8]) -> &[u8] {
    let suffixes = [&b".gz"[..], b".bz2", b".xz", b".zst"];
    let stem = suffixes.iter().find_map(|suffix| name.strip_suffix(*suffix));
    stem.filter(|stem| !stem.is_empty()).unwrap_or(name)
}

/// Returns what stands for the checksum in an archive's id: a digest of its size and both ends. All compressed
/// formats and ZIP keep checksums of their content in one of the ends; a bare tar does not, so that its
/// modification time has to serve.
fn fingerprint(range: &FileRange, identity: FileIdentity, timed: bool) -> io::Result<String> {
    let sample = SAMPLE.min(range.len());
    let mut bytes = range.len().to_le_bytes().to_vec();
    if timed {
        bytes.extend(identity.modified.to_le_bytes());
    }
    let starts = [0, range.len() - sample];
    for start in starts {
        let mut part = vec![0; usize::try_from(sample).unwrap_or(0)];
        range.read_exact_at(start, &mut part)?;
        bytes.extend(part);
    }
    Ok(Digest::of(&bytes).to_string())
}

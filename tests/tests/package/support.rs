//! Opening packages that are bytes in memory.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use slotfs_fs::package::{Limits, Package, PackageError, Slot};
use slotfs_tests::package::{Built, PackageBuilder, SlotSpec, Tree};

/// Opens `bytes` as if they were the file `app.psp`.
pub(crate) fn open(bytes: &[u8]) -> Result<Package, PackageError> {
    open_as("app.psp", bytes)
}

/// Opens `bytes` as if they were the file `name`.
pub(crate) fn open_as(name: &str, bytes: &[u8]) -> Result<Package, PackageError> {
    Package::read(file_of(bytes), Path::new(name), &Limits::default())
}

/// Returns why `bytes` are refused.
pub(crate) fn refusal(bytes: &[u8]) -> String {
    match open(bytes) {
        Ok(package) => panic!("opened: {package:?}"),
        Err(error) => error.to_string(),
    }
}

/// Returns an unnamed file of these bytes.
pub(crate) fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Writes `bytes` at `offset`.
pub(crate) fn write_at(mut file: &File, bytes: &[u8], offset: usize) {
    file.seek(SeekFrom::Start(offset as u64)).unwrap();
    file.write_all(bytes).unwrap();
}

/// A small package with one slot of each container, compressed and not.
pub(crate) fn sample() -> PackageBuilder {
    let tree = || Tree::new().directory("bin", 0o755).file("bin/tool", 0o755, b"#!/bin/sh\necho hello\n");
    PackageBuilder::new("sample", "1.2.3")
        .slot(SlotSpec::tree("tree", "tar.gzip", tree()))
        .slot(SlotSpec::file("settings", "{workenv}/etc/settings", "raw", b"a = 1\n").permissions(0o644))
        .slot(SlotSpec::file("data", "share/data", "zstd", &[7; 5000]).lifecycle("lazy", 6))
}

/// The sample, built.
pub(crate) fn built() -> Built {
    sample().build()
}

/// Everything about the slots that decides which bytes appear where, and of what kind.
pub(crate) fn slots_shown(package: &Package) -> Vec<String> {
    let shown = package.slots().iter().map(|slot| {
        let Slot { position, id, target, chain, digest, short_checksum, permissions, .. } = slot;
        let Slot { lifecycle, lifecycle_code, purpose, platform, platform_code, self_reference, .. } = slot;
        let (offset, length) = (slot.source.stored.offset(), slot.source.stored.len());
        format!(
            "{position} {id} {target:?} {chain} {digest:?} {short_checksum:?} {permissions:o} {lifecycle} \
             {lifecycle_code} {purpose} {platform} {platform_code} {self_reference} {offset}+{length}"
        )
    });
    shown.collect()
}

//! A package as its work environment sees it.

use std::path::Path;

use slotfs_fs::disk::digest::Digest;
use slotfs_fs::disk::identity::FileIdentity;
use slotfs_fs::disk::{Context, DiskError};
use slotfs_fs::package::trailer::Index;
use slotfs_fs::package::verify::{Checking, Verification, VerifiedSlot};
use slotfs_fs::package::{Package, PackageKind};

use crate::workenv::{self, IndexFacts, PackageFacts, PackageId};

/// A package that was verified and may be used, and what its work environment needs to know about it.
#[derive(Debug)]
pub struct Examined {
    /// The package.
    pub package: Package,
    /// What hashing its slots found, now or earlier.
    pub verification: Verification,
    /// As its work environment sees it.
    pub facts: PackageFacts,
}

impl Examined {
    /// Takes a package whose slots were verified and that may be used.
    ///
    /// # Errors
    /// The package's path cannot be resolved any more.
    pub fn new(package: Package, verification: Verification) -> Result<Self, DiskError> {
        let facts = facts(&package)?;
        Ok(Self { package, verification, facts })
    }

    /// Tells how the stored bytes of the slot at `position` are known to be right.
    #[must_use]
    pub fn checking(&self, position: u32) -> Checking {
        self.verification.slot(position).map(VerifiedSlot::checking).unwrap_or_default()
    }

    /// Returns what the stored bytes of the slot at `position` were found to hash to; `None` for a directory.
    #[must_use]
    pub fn digest(&self, position: u32) -> Option<Digest> {
        self.verification.slot(position)?.digest
    }

    /// Returns which file was verified; `None` for a directory, which may change at any time.
    #[must_use]
    pub fn identity(&self) -> Option<FileIdentity> {
        (self.package.kind() != PackageKind::Directory).then(|| self.package.identity())
    }
}

/// Returns what a work environment needs to know about `package`.
///
/// # Errors
/// The package's path cannot be resolved any more.
pub fn facts(package: &Package) -> Result<PackageFacts, DiskError> {
    let path = package.path().canonicalize().context("resolve", package.path())?;
    let kind = match package.kind() {
        PackageKind::Pspf => workenv::PackageKind::Package,
        PackageKind::Archive | PackageKind::CompressedFile => workenv::PackageKind::Archive,
        PackageKind::Directory => workenv::PackageKind::Directory,
    };
    let id = PackageId::parse(package.id())
        .unwrap_or_else(|| PackageId::of(package.name(), package.version(), package.id()));
    let index = package.index().map_or_else(|| without_index(package), index_facts);
    let metadata_json = match package.metadata_json() {
        [] => described(package, &path)?,
        json => json.to_vec(),
    };
    Ok(PackageFacts {
        kind,
        path,
        name: package.name().to_owned(),
        version: package.version().to_owned(),
        id,
        index,
        metadata_json,
    })
}

fn index_facts(index: &Index) -> IndexFacts {
    IndexFacts {
        format_version: index.format_version.get(),
        package_size: index.package_size.get(),
        launcher_size: index.launcher_size.get(),
        metadata_offset: index.metadata_offset.get(),
        metadata_size: index.metadata_size.get(),
        slot_table_offset: index.slot_table_offset.get(),
        slot_table_size: index.slot_table_size.get(),
        slot_count: index.slot_count.get(),
        flags: index.flags.get(),
        index_checksum: index.index_checksum.get(),
        metadata_checksum: index.metadata_checksum,
        build_timestamp: index.build_timestamp.get(),
        page_size: index.page_size.get(),
        capabilities: index.capabilities.get(),
        requirements: index.requirements.get(),
    }
}

/// An archive or directory has a size and an identity, and the beginning of that in place of a checksum.
fn without_index(package: &Package) -> IndexFacts {
    let digits = package.id().get(..8).unwrap_or_default();
    IndexFacts {
        package_size: package.identity().size,
        slot_count: u32::try_from(package.slots().len()).unwrap_or(u32::MAX),
        index_checksum: u32::from_str_radix(digits, 16).unwrap_or_default(),
        ..IndexFacts::default()
    }
}

fn described(package: &Package, path: &Path) -> Result<Vec<u8>, DiskError> {
    let document = serde_json::json!({ "package": { "name": package.name(), "version": package.version() } });
    serde_json::to_vec_pretty(&document).context("describe", path)
}

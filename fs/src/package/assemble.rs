//! A package of format PSPF/2025 from its bytes: trailer, metadata, slot table, slots, evidence.
//!
//! Which copy of a fact counts is what the package launchers do: order, id, target, lifecycle and full digest
//! come from the (signed) metadata; operations, place, size, mode and short checksum from the descriptor.
//!
//! **Invariant:** a slot that leaves this module lies inside the file and shares no byte with another part.

use std::io::ErrorKind;
use std::path::Path;

use super::checksum::StatedChecksum;
use super::descriptor::{DESCRIPTOR_SIZE, Descriptor, LIFECYCLE_ATTESTATION};
use super::error::{Defect, Fault, PackageError, Part, Unsupported, shown};
use super::layout::{Region, check_disjoint};
use super::limits::Limits;
use super::metadata::{self, IndexSection, Metadata, SlotSection};
use super::operations::Chain;
use super::signature::Evidence;
use super::trailer::{END_MARK, Index, TRAILER_SIZE};
use super::{CarriedIndex, Container, Slot, SlotSource, target};
use crate::disk::DiskError;
use crate::disk::digest::Digest;
use crate::disk::range::FileRange;

/// The mode of a file slot whose descriptor gives none.
const DEFAULT_PERMISSIONS: u32 = 0o600;

/// What the builder of this crate calls itself in the metadata.
const OWN_TOOL: &str = "slotfs";

/// A package's parts, checked against each other.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) index: Box<Index>,
    pub(super) metadata: Metadata,
    pub(super) metadata_json: Vec<u8>,
    pub(super) slots: Vec<Slot>,
    pub(super) evidence: Evidence,
}

/// Tells whether `file` ends as packages do.
pub(super) fn has_end_mark(file: &FileRange, path: &Path) -> Result<bool, PackageError> {
    let Some(start) = file.len().checked_sub(END_MARK.len() as u64) else { return Ok(false) };
    let mut mark = [0; END_MARK.len()];
    file.read_exact_at(start, &mut mark).map_err(|error| read_failed(path, error))?;
    Ok(mark == END_MARK)
}

/// Reads the package in `file`, which is all of the file at `path`.
pub(super) fn assemble(file: &FileRange, path: &Path, limits: &Limits) -> Result<Parts, PackageError> {
    Assembly { file, path, limits }.run()
}

pub(super) fn read_failed(path: &Path, error: std::io::Error) -> PackageError {
    // Every read is of a part that was there when the file was opened.
    if error.kind() == ErrorKind::UnexpectedEof {
        return PackageError::Changed { path: path.into() };
    }
    PackageError::Disk(DiskError::new("read", path, error))
}

struct Assembly<'a> {
    file: &'a FileRange,
    path: &'a Path,
    limits: &'a Limits,
}

impl Assembly<'_> {
    fn run(&self) -> Result<Parts, PackageError> {
        let size = self.file.len();
        let available = size.checked_sub(TRAILER_SIZE as u64);
        let available = available.ok_or_else(|| self.fault(Defect::TooShort { size }))?;
        let index =
            Index::parse(&self.read(available, TRAILER_SIZE as u64)?).map_err(|fault| fault.at(self.path))?;
        check_parts(&index, size, available).map_err(|defect| self.fault(defect))?;

        let metadata_json = self.metadata_json(&index)?;
        let metadata = Metadata::parse(&metadata_json, self.limits).map_err(|fault| fault.at(self.path))?;
        let (slots, attestation) = self.slots(&index, &metadata, available)?;
        let evidence = Evidence::gather(&index, &metadata_json, attestation, metadata.policy.as_ref());
        Ok(Parts { index, metadata, metadata_json, slots, evidence })
    }

    fn metadata_json(&self, index: &Index) -> Result<Vec<u8>, PackageError> {
        let size = index.metadata_size.get();
        if size > self.limits.metadata_size {
            let reason = Unsupported::MetadataSize { limit: self.limits.metadata_size };
            return Err(Fault::from(reason).at(self.path));
        }
        let compressed = self.read(index.metadata_offset.get(), size)?;
        if Digest::of(&compressed).0 != index.metadata_checksum {
            return Err(self.fault(Defect::MetadataChecksum));
        }
        metadata::decompress(&compressed, self.limits).map_err(|fault| fault.at(self.path))
    }

    /// Returns the slots that the metadata lists, and the digest of the attestation if the index states one.
    /// Descriptors beyond those are ignored, as the launchers ignore them.
    fn slots(
        &self,
        index: &Index,
        metadata: &Metadata,
        available: u64,
    ) -> Result<(Vec<Slot>, Option<Digest>), PackageError> {
        // The metadata's parser lets no more than 65,536 through.
        let count = u32::try_from(metadata.slots.len()).unwrap_or(u32::MAX);
        let descriptors = index.slot_count.get();
        if descriptors < count {
            return Err(self.fault(Defect::TooFewDescriptors { slots: count, descriptors }));
        }
        let table = self.read(index.slot_table_offset.get(), u64::from(count) * DESCRIPTOR_SIZE as u64)?;
        let table = Descriptor::table(&table);
        self.check_slots(index, table, available).map_err(|defect| self.fault(defect))?;

        let tool = metadata.build.as_ref().and_then(|build| build.get("tool"));
        let is_own = tool.and_then(|tool| tool.as_str()) == Some(OWN_TOOL);
        let mut slots = Vec::with_capacity(table.len());
        let mut attestation = None;
        for (position, (section, descriptor)) in (0..).zip(metadata.slots.iter().zip(table)) {
            let slot =
                self.slot(position, section, descriptor, index).map_err(|fault| fault.at(self.path))?;
            if is_own {
                check_descriptor(&slot, section, descriptor).map_err(|defect| self.fault(defect))?;
            }
            if descriptor.lifecycle == LIFECYCLE_ATTESTATION && attestation.is_none() {
                attestation = self.attestation(&slot, index)?;
            }
            slots.push(slot);
        }
        for section in &metadata.slotfs.indexes {
            if let Some(slot) = slots.get_mut(section.slot as usize) {
                slot.carried_index = self.carried_index(section, index);
            }
        }
        Ok((slots, attestation))
    }

    fn check_slots(&self, index: &Index, table: &[Descriptor], available: u64) -> Result<(), Defect> {
        let mut regions = own_regions(index);
        for (position, descriptor) in (0..).zip(table) {
            let (offset, size) = (descriptor.offset.get(), descriptor.size.get());
            let region = Region { part: Part::Slot(position), offset, size };
            region.check_inside(available)?;
            regions.push(region);
        }
        check_disjoint(regions)
    }

    fn slot(
        &self,
        position: u32,
        section: &SlotSection,
        descriptor: &Descriptor,
        index: &Index,
    ) -> Result<Slot, Fault> {
        let unsupported = |reason| Unsupported::Operation { position, id: shown(&section.id), reason };
        let chain = Chain::unpack(descriptor.operations.get()).map_err(unsupported)?;
        let container = chain.container();
        let self_reference = section.self_ref && descriptor.size.get() == 0;
        let (offset, size) = if self_reference {
            (0, index.launcher_size.get())
        } else {
            (descriptor.offset.get(), descriptor.size.get())
        };
        let outside =
            || Defect::Outside { part: Part::Slot(position), offset, size, available: self.file.len() };
        let stored = if size == 0 { self.file.part(0, 0) } else { self.file.part(offset, size) };
        let stated = StatedChecksum::parse(&section.checksum);
        Ok(Slot {
            position,
            id: section.id.clone(),
            target: place(position, section, &container)?,
            digest: stated.digest(),
            stated_checksum: stated,
            short_checksum: (!self_reference).then_some(descriptor.checksum),
            lifecycle: section.lifecycle.clone(),
            lifecycle_code: descriptor.lifecycle,
            purpose: section.purpose.clone(),
            platform: section.platform.clone().unwrap_or_default(),
            platform_code: descriptor.platform,
            permissions: permissions(section, descriptor, self_reference),
            chain: chain.to_string(),
            self_reference,
            carried_index: None,
            target_text: section.target.clone(),
            source: SlotSource {
                stored: stored.ok_or_else(outside)?,
                compressions: chain.compressions(),
                container,
            },
        })
    }

    /// Finds the index that a slot brings along. One that cannot be there is as good as none.
    fn carried_index(&self, section: &IndexSection, index: &Index) -> Option<CarriedIndex> {
        let metadata = index.metadata_offset.get();
        let inside = section.size > 0 && section.size <= section.before;
        let offset = metadata.checked_sub(section.before).filter(|_| inside)?;
        let root = StatedChecksum::parse(&section.root).digest()?;
        Some(CarriedIndex { stored: self.file.part(offset, section.size)?, root })
    }

    /// Hashes the attestation slot's content, if the index states a digest to compare with. One that is
    /// compressed, or larger than metadata may be, confirms nothing.
    fn attestation(&self, slot: &Slot, index: &Index) -> Result<Option<Digest>, PackageError> {
        let stored = &slot.source.stored;
        let stated = index.attestation_digest.iter().any(|byte| *byte != 0);
        if !stated || !slot.source.compressions.is_empty() || stored.len() > self.limits.metadata_size {
            return Ok(None);
        }
        Digest::of_range(stored).map(Some).map_err(|error| read_failed(self.path, error))
    }

    /// Reads a part that was checked to be inside the file.
    fn read(&self, offset: u64, size: u64) -> Result<Vec<u8>, PackageError> {
        let too_large = || PackageError::Changed { path: self.path.into() };
        let part = self.file.part(offset, size).ok_or_else(too_large)?;
        let mut bytes = vec![0; usize::try_from(size).map_err(|_too_large| too_large())?];
        part.read_exact_at(0, &mut bytes).map_err(|error| read_failed(self.path, error))?;
        Ok(bytes)
    }

    fn fault(&self, defect: Defect) -> PackageError {
        Fault::from(defect).at(self.path)
    }
}

/// Checks that the descriptor, which nobody signs, says how to read the slot as the metadata do. Other builders write them
/// differently, and launchers go by the descriptor.
fn check_descriptor(slot: &Slot, section: &SlotSection, descriptor: &Descriptor) -> Result<(), Defect> {
    let chain = Chain::from_name(&section.operations);
    let mode = section.permissions.as_deref().and_then(|text| u16::from_str_radix(text, 8).ok());
    let is_file = slot.source.container == Container::File;
    let what = if chain.is_none_or(|chain| chain.pack() != descriptor.operations.get()) {
        "operations"
    } else if is_file && mode.is_some_and(|mode| mode != descriptor.permissions.get()) {
        "permissions"
    } else {
        return Ok(());
    };
    Err(Defect::Descriptor { position: slot.position, id: shown(&slot.id), what })
}

/// Checks everything in the index that can be compared with the file alone.
fn check_parts(index: &Index, size: u64, available: u64) -> Result<(), Defect> {
    let stated = index.package_size.get();
    if stated != size {
        return Err(Defect::PackageSize { stated, actual: size });
    }
    let launcher = Region { part: Part::Launcher, offset: 0, size: index.launcher_size.get() };
    let [metadata, table] = own_regions(index)[..] else { return Ok(()) };
    for region in [launcher, metadata, table] {
        region.check_inside(available)?;
    }
    let (size, count) = (index.slot_table_size.get(), index.slot_count.get());
    if size != u64::from(count) * DESCRIPTOR_SIZE as u64 {
        return Err(Defect::TableSize { size, count });
    }
    check_disjoint(vec![metadata, table])
}

fn own_regions(index: &Index) -> Vec<Region> {
    vec![
        Region { part: Part::Metadata, offset: index.metadata_offset.get(), size: index.metadata_size.get() },
        Region {
            part: Part::SlotTable,
            offset: index.slot_table_offset.get(),
            size: index.slot_table_size.get(),
        },
    ]
}

/// Archives are always placed at the root of the work environment: no launcher looks at their target.
fn place(position: u32, section: &SlotSection, container: &Container) -> Result<Vec<Vec<u8>>, Defect> {
    if *container != Container::File {
        return Ok(Vec::new());
    }
    let wrong =
        |reason| Defect::Target { position, id: shown(&section.id), target: shown(&section.target), reason };
    let components = target::components(&section.target).map_err(wrong)?;
    if components.is_empty() {
        return Ok(vec![target::fallback_name(position, &section.id)]);
    }
    Ok(components)
}

/// Mode bits of a file slot. A reference to the launcher has no descriptor to speak of with some builders; then
/// the metadata's text counts.
fn permissions(section: &SlotSection, descriptor: &Descriptor, self_reference: bool) -> u32 {
    let stored = u32::from(descriptor.permissions.get()) & 0o7777;
    let written = section.permissions.as_deref().filter(|_| self_reference);
    let written = written.and_then(|text| u32::from_str_radix(text, 8).ok()).unwrap_or(0) & 0o7777;
    [stored, written].into_iter().find(|mode| *mode != 0).unwrap_or(DEFAULT_PERMISSIONS)
}

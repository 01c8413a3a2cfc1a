//! What a finished package says about one of its slots, for a package that is made from it.
//!
//! **Invariant:** whatever a builder wrote about a slot stays as it is, but for what follows from its bytes.

use std::io;

use serde_json::Value;

use super::WrittenSlot;
use crate::disk::range::FileRange;
use crate::package::Package;
use crate::package::descriptor::{DESCRIPTOR_SIZE, Descriptor};
use crate::package::operations::Chain;

/// A slot as a package describes it.
#[derive(Clone, Debug)]
pub struct Original {
    /// Its part of the metadata.
    pub(super) section: Value,
    /// Its row of the slot table.
    pub(super) descriptor: Descriptor,
}

impl Original {
    /// Returns what `package` says about its slots, in order; nothing for an archive or a directory.
    ///
    /// # Errors
    /// The package cannot be read any more.
    pub fn all(package: &Package) -> io::Result<Vec<Self>> {
        let (Some(index), Some(file)) = (package.index(), &package.file) else { return Ok(Vec::new()) };
        let metadata: Value = serde_json::from_slice(package.metadata_json())?;
        let sections = metadata.get("slots").and_then(Value::as_array).cloned().unwrap_or_default();
        // As many as were found in the file when it was opened.
        let mut table = vec![0; sections.len() * DESCRIPTOR_SIZE];
        let (offset, size) = (index.slot_table_offset.get(), index.slot_table_size.get());
        let range = FileRange::new(file.clone(), offset, size);
        range.ok_or(io::ErrorKind::FileTooLarge)?.read_exact_at(0, &mut table)?;
        let table = Descriptor::table(&table).iter().cloned();
        Ok(sections
            .into_iter()
            .zip(table)
            .map(|(section, descriptor)| Self { section, descriptor })
            .collect())
    }

    /// Returns how many bytes its content has, as far as its builder knew.
    #[must_use]
    pub fn original_size(&self) -> u64 {
        self.descriptor.original_size.get()
    }

    /// Returns what the metadata says about a slot with other bytes.
    pub(super) fn section_of(&self, chain: &Chain, written: &WrittenSlot) -> Value {
        let mut section = self.section.clone();
        if let Some(section) = section.as_object_mut() {
            section.insert("size".into(), written.size.into());
            section.insert("checksum".into(), format!("sha256:{}", written.digest).into());
            section.insert("operations".into(), chain.manifest_name().into());
        }
        section
    }

    /// Returns the row of a slot with other bytes.
    pub(super) fn descriptor_of(&self, chain: &Chain, written: &WrittenSlot) -> Descriptor {
        Descriptor {
            offset: written.offset.into(),
            size: written.size.into(),
            original_size: written.original_size.into(),
            operations: chain.pack().into(),
            checksum: super::first_word(&written.digest).to_le_bytes(),
            ..self.descriptor.clone()
        }
    }
}

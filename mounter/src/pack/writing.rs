//! One slot of a package: its content to the compressor, and beside it to whoever makes its index.
//!
//! **Invariant:** an index is written only behind the slot that it was made of.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use slotfs_fs::disk::digest::Digest;
use slotfs_fs::disk::{Context as _, DiskError};
use slotfs_fs::layer::archive::{Difference, TreeError, TreeOptions, TreeReport, TreeSurvey};
use slotfs_fs::package::write::{CHUNK, PackageWriter, SlotDescription, WrittenSlot};

use super::error::PackError;
use super::source::{Archives, Source};
use super::surveyor::Surveyor;
use crate::extract::progress::Progress;

/// One slot of what was made.
#[derive(Clone, Debug)]
pub struct SlotReport {
    /// Its id.
    pub id: String,
    /// Its operations, in the order of building.
    pub chain: String,
    /// Stored bytes.
    pub stored: u64,
    /// Bytes before compression.
    pub original: u64,
    /// SHA-256 of the stored bytes.
    pub digest: Digest,
    /// Files and directories.
    pub entries: u64,
    /// Links in whose place is now what they lead to.
    pub followed: u64,
    /// The first of those.
    pub first_followed: Option<String>,
    /// What is otherwise not as in the source.
    pub differences: Vec<Difference>,
}

/// What every slot of a package is written with.
#[derive(Clone, Copy)]
pub(super) struct Writing<'a> {
    pub(super) archives: &'a Archives,
    pub(super) stop: &'a AtomicBool,
    pub(super) progress: &'a dyn Progress,
    /// The package, for messages.
    pub(super) out: &'a Path,
}

/// A slot that is to be written.
pub(super) struct NewSlot<'a> {
    pub(super) description: SlotDescription,
    pub(super) source: &'a Source,
    pub(super) options: TreeOptions,
    /// Where the content is from, for messages.
    pub(super) path: &'a Path,
}

impl Writing<'_> {
    /// Writes a slot and its index, as part `part` of the work; returns with the report the time of its youngest entry.
    pub(super) fn slot(
        &self,
        writer: &mut PackageWriter<'_>,
        part: usize,
        slot: NewSlot<'_>,
    ) -> Result<(SlotReport, i64), PackError> {
        let (id, chain) = (slot.description.id.clone(), slot.description.chain.to_string());
        let survey = slot.source.survey(&slot.options);
        let survey = survey.map_err(|source| PackError::Tree { path: slot.path.into(), source })?;
        self.progress.begin(part, &id, survey.bytes);
        let source = slot.source;
        let mut told = |bytes| self.progress.advance(part, bytes);
        let (written, mut tree) = self.content(writer, slot, &survey, &mut told)?;
        self.progress.end(part);
        let notices = source.notices().into_iter().map(|notice| Difference {
            path: String::from_utf8_lossy(&notice.path).into_owned(),
            what: notice.what.text(),
        });
        let mut differences: Vec<Difference> = notices.collect();
        differences.append(&mut tree.differences);
        let report = SlotReport {
            id,
            chain,
            stored: written.size,
            original: written.original_size,
            digest: written.digest,
            entries: tree.entries,
            followed: tree.followed,
            first_followed: tree.first_followed,
            differences,
        };
        Ok((report, tree.newest))
    }

    /// Writes a slot's content, and its index behind it.
    fn content(
        &self,
        writer: &mut PackageWriter<'_>,
        slot: NewSlot<'_>,
        survey: &TreeSurvey,
        told: &mut dyn FnMut(u64),
    ) -> Result<(WrittenSlot, TreeReport), PackError> {
        let NewSlot { description, source, options, path } = slot;
        let chain = description.chain.clone();
        let mut tree = TreeReport::default();
        // A file that is stored as it is needs no index but for the digests of its chunks. One chunk is hashed as a whole.
        let in_tree = |source| PackError::Tree { path: path.into(), source };
        let is_indexed = chain.pack() != 0 || survey.bytes > u64::from(CHUNK);
        let start = || Surveyor::start(&chain, self.archives.limits).context("index", path);
        let mut surveyor = is_indexed.then(start).transpose()?;
        let written = writer.slot(description, &mut |out| {
            let mut out = Stoppable { out, stop: self.stop };
            tree = match &mut surveyor {
                Some(surveyor) => source.write(&options, survey, &mut surveyor.beside(&mut out), told)?,
                None => source.write(&options, survey, &mut out, told)?,
            };
            Ok::<(), TreeError>(())
        });
        let written = written.cloned();
        let in_index = |source| PackError::Index { path: path.into(), source };
        let index = surveyor.map(|surveyor| surveyor.finish(&chain, written.as_ref().ok()));
        let (written, index) = match (written, index) {
            (Ok(written), index) => (written, index.transpose().map_err(in_index)?.flatten()),
            // The thread that makes the index has given up, and takes nothing any more.
            (Err(TreeError::Write(error)), Some(Err(source)))
                if error.kind() == io::ErrorKind::BrokenPipe =>
            {
                return Err(in_index(source));
            }
            (Err(TreeError::Write(error)), _) => return Err(DiskError::new("write", self.out, error).into()),
            (Err(source), _) => return Err(in_tree(source)),
        };
        if let Some(index) = index {
            writer.index(index.as_bytes(), index.root()).context("write", self.out)?;
        }
        Ok((written, tree))
    }
}

/// Fails to write as soon as the user wants it to stop.
struct Stoppable<'a> {
    out: &'a mut dyn Write,
    stop: &'a AtomicBool,
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            // Not the kind `Interrupted`, after which everybody tries again.
            return Err(io::Error::other("interrupted"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

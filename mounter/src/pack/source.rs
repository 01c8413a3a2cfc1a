//! What a slot's content is made of: a tree of files, or the bytes of one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use slotfs_fs::disk::range::FileRange;
use slotfs_fs::disk::{Context as _, DiskError, kind};
use slotfs_fs::layer::archive::{self, TreeError, TreeOptions, TreeReport, TreeSurvey};
use slotfs_fs::layer::directory::DirectoryLayer;
use slotfs_fs::layer::slot::{SlotHome, SlotOptions};
use slotfs_fs::layer::{Layer, LayerError};
use slotfs_fs::package::operations::Chain;
use slotfs_fs::package::verify::{self, Verification};
use slotfs_fs::package::{self, Compression, Container, Package, PackageError, PackageKind, Slot};
use slotfs_fs::slot::{Limits, Notice, SlotError, chain};

use super::error::PackError;
use super::request::{OPERATIONS, Profile, SlotRequest};
use crate::extract::layers::OpenSlot;

/// What archives as sources are opened with.
#[derive(Clone, Debug)]
pub struct Archives {
    /// Where their indexes and contents are kept.
    pub home: SlotHome,
    /// What they may cost.
    pub limits: Limits,
}

/// A slot's content.
#[derive(Debug)]
pub(super) enum Content {
    /// A tree; of an archive, with the slot that it is as a package.
    Tree(Arc<dyn Layer>, Option<OpenSlot>),
    /// The bytes of a file, less these compressions.
    File(FileRange, Vec<Compression>),
}

/// A source that was opened.
#[derive(Debug)]
pub(super) struct Source {
    /// The slot's id.
    id: String,
    pub(super) content: Content,
    /// What is done to the content.
    pub(super) chain: Chain,
    /// When a file was modified, in seconds since 1970.
    modified: i64,
    /// A file's mode for those who say none: whether it can be run is all that is kept.
    pub(super) permissions: u16,
}

impl Source {
    /// Takes content that was opened already.
    pub(super) fn of(id: &str, content: Content, chain: Chain) -> Self {
        Self { id: id.to_owned(), content, chain, modified: 0, permissions: 0o644 }
    }

    pub(super) fn open(slot: &SlotRequest, profile: Profile, archives: &Archives) -> Result<Self, PackError> {
        let path = &slot.path;
        let metadata = std::fs::metadata(path).context("examine", path)?;
        let permissions = if kind::permissions(&metadata) & 0o111 == 0 { 0o644 } else { 0o755 };
        let id = slot.id.clone();
        let source = |content, chain| Self { id, content, chain, modified: modified(&metadata), permissions };
        let wants_tree = slot.chain.as_ref().map(|chain| chain.container() == Container::Tar);
        if metadata.is_dir() {
            if wants_tree == Some(false) {
                let reason = format!(
                    "slot `{}`: the directory `{}` has to become an archive",
                    slot.id,
                    path.display()
                );
                return Err(PackError::hinted(reason, OPERATIONS));
            }
            let layer = Arc::new(DirectoryLayer::open_once(path)?);
            return Ok(source(
                Content::Tree(layer, None),
                slot.chain.clone().unwrap_or_else(|| Chain::new(true, Some(profile.compression()))),
            ));
        }
        if !metadata.is_file() {
            return Err(PackageError::NotAFile { path: path.clone(), kind: kind::describe(&metadata) }.into());
        }
        let is_plain = slot.chain.as_ref().is_some_and(|chain| chain.compressions().is_empty());
        let opened = if is_plain && wants_tree == Some(false) { None } else { opened(path)? };
        let is_archive = opened.as_ref().is_some_and(|package| package.kind() == PackageKind::Archive);
        if let (Some(package), true) = (&opened, is_archive && wants_tree != Some(false)) {
            let open = open_archive(package, archives)?;
            let Some(slot_of_archive) = package.slots().first() else {
                return Err(PackError::request(format!("`{}` holds nothing", path.display())));
            };
            let layer = open.placed(slot_of_archive, false).layer;
            let chain = slot.chain.clone().unwrap_or_else(|| Chain::new(true, Some(profile.compression())));
            return Ok(source(Content::Tree(layer, Some(open)), chain));
        }
        if wants_tree == Some(true) {
            let reason =
                format!("slot `{}`: `{}` is neither a directory nor an archive", slot.id, path.display());
            return Err(PackError::hinted(reason, OPERATIONS));
        }
        let chain = slot.chain.clone().unwrap_or_else(|| Chain::new(false, Some(profile.compression())));
        // What is compressed as wanted already is compressed again in a form that can be read at random.
        let found =
            opened.as_ref().and_then(|package| package.slots().first()).map(|slot| &slot.source.compressions);
        let peeled = found.filter(|found| **found == chain.compressions()).cloned().unwrap_or_default();
        let file = Arc::new(File::open(path).context("open", path)?);
        let too_large = || DiskError::new("read", path, io::ErrorKind::FileTooLarge);
        let range = FileRange::new(file, 0, metadata.len()).ok_or_else(too_large)?;
        Ok(source(Content::File(range, peeled), chain))
    }

    /// Finds out how much content there is, as far as that can be told.
    pub(super) fn survey(&self, options: &TreeOptions) -> Result<TreeSurvey, TreeError> {
        match &self.content {
            Content::Tree(layer, _) => archive::survey_tree(&**layer, options),
            Content::File(range, _) => Ok(TreeSurvey::of_file(range.len())),
        }
    }

    /// Writes the content, which was surveyed, to `out`.
    pub(super) fn write(
        &self,
        options: &TreeOptions,
        survey: &TreeSurvey,
        out: &mut dyn Write,
        told: &mut dyn FnMut(u64),
    ) -> Result<TreeReport, TreeError> {
        let (range, compressions) = match &self.content {
            Content::Tree(layer, _) => return archive::write_tree(&**layer, options, survey, out, told),
            Content::File(range, compressions) => (range, compressions),
        };
        let modified = options.latest.map_or(self.modified, |latest| self.modified.min(latest));
        let mut report = TreeReport { entries: 1, newest: modified, ..TreeReport::default() };
        let mut content = chain::open(range, compressions, &Limits::default(), None);
        let mut piece = vec![0; 256 << 10];
        loop {
            let count = match content.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(TreeError::Layer(self.unreadable(error))),
            };
            out.write_all(&piece[..count])?;
            report.bytes += count as u64;
            told(count as u64);
        }
        if compressions.is_empty() && report.bytes != range.len() {
            return Err(TreeError::Changed { path: self.id.clone() });
        }
        Ok(report)
    }

    fn unreadable(&self, error: io::Error) -> LayerError {
        let error = SlotError::from_read(error);
        if let SlotError::Disk(error) = error {
            return LayerError::Disk(error);
        }
        LayerError::Corrupt { slot: self.id.clone(), path: String::new(), reason: error.to_string() }
    }

    /// Waits until the index and the contents of an archive, which the next command can use, are where they stay.
    pub(super) fn finish(&self) {
        if let Content::Tree(layer, _) = &self.content {
            layer.finish();
        }
    }

    /// Returns what of an archive could not be shown as it has it.
    pub(super) fn notices(&self) -> Vec<Notice> {
        match &self.content {
            Content::Tree(_, Some(OpenSlot::Stored(layer))) => layer.notices().unwrap_or_default(),
            Content::Tree(..) | Content::File(..) => Vec::new(),
        }
    }
}

fn modified(metadata: &std::fs::Metadata) -> i64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or_default()
}

/// Opens what is an archive or a compressed file; `None` for any other file.
fn opened(path: &Path) -> Result<Option<Package>, PackError> {
    match Package::open(path, &package::Limits::default()) {
        Ok(package) => Ok(Some(package)),
        Err(PackageError::NotAPackage { .. } | PackageError::Empty { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn open_archive(package: &Package, archives: &Archives) -> Result<OpenSlot, PackError> {
    let verification: Verification = verify::verify(package, &|_| {})?;
    let slots: &[Slot] = package.slots();
    let Some(slot) = slots.first() else {
        return Err(PackError::request(format!("`{}` holds nothing", package.path().display())));
    };
    let options = SlotOptions { limits: archives.limits, ..SlotOptions::default() };
    Ok(OpenSlot::open(slot, &verification, &archives.home, &options)?)
}

//! Large contents that share most of their bytes with others of the store: found when they are published, and kept in
//! parts.
//!
//! What is gained is room on the disk. What it costs is that the kernel cannot map such a file of the store: so the first
//! version of a content stays whole, and so does what shares less than half with those that are.
//!
//! **Invariant:** bytes are taken from another, whole object only, and only after they were compared.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chunks::{self, Chunk, LARGEST};
use super::layout;
use super::parts::{self, MOST_PARTS, MOST_SOURCES, Part};
use super::writer::Temporary;
use crate::disk::digest::Digest;
use crate::disk::holes::is_mostly_holes;
use crate::disk::range::FileRange;
use crate::disk::{Context, DiskError};

/// How many bytes of lists are looked at, the latest first: those of some 7 GiB of contents.
const LISTS: u64 = 4 << 20;

/// The chunks of the large whole objects that are here.
#[derive(Debug)]
pub(super) struct Similar {
    /// Whose chunks they are, and where each one's file is at the moment.
    sources: Vec<(Digest, PathBuf)>,
    /// Which source has a chunk, and where in its file.
    chunks: HashMap<Digest, (u32, u64)>,
}

/// How a large content is kept.
#[derive(Debug)]
pub(super) enum Kept {
    /// As it is; others may take these chunks of it.
    Whole(Vec<Chunk>),
    /// This is the file.
    InParts(Temporary),
}

impl Similar {
    /// Learns what there is. Lists of objects that are gone go, too.
    pub(super) fn load(root: &Path) -> Self {
        let mut similar = Self { sources: Vec::new(), chunks: HashMap::new() };
        let mut lists: Vec<_> = fs::read_dir(layout::chunk_lists(root))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let digest = Digest::parse(entry.file_name().to_str()?)?;
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), digest))
            })
            .collect();
        lists.sort_unstable_by_key(|(modified, ..)| std::cmp::Reverse(*modified));
        let mut left = LISTS;
        for (_, length, digest) in lists {
            let Some(rest) = left.checked_sub(length) else { continue };
            let (path, file) = (layout::chunk_list(root, &digest), layout::object(root, &digest));
            match chunks::read_list(&path, LISTS).filter(|_| file.exists()) {
                Some(chunks) => similar.learn(&digest, &chunks, file),
                None => {
                    let _ = fs::remove_file(&path);
                }
            }
            left = rest;
        }
        similar
    }

    /// Lets what comes take chunks of this object, whose file is `file` at the moment.
    pub(super) fn learn(&mut self, digest: &Digest, chunks: &[Chunk], file: PathBuf) {
        let source = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        self.sources.push((*digest, file));
        let mut offset = 0;
        for (chunk, length) in chunks {
            self.chunks.entry(*chunk).or_insert((source, offset));
            offset += u64::from(*length);
        }
    }

    /// Decides how the content in `staged` is kept, and writes it to `path` if that is in parts.
    pub(super) fn share(&self, staged: &Path, digest: &Digest, path: PathBuf) -> Result<Kept, DiskError> {
        let file = File::open(staged).context("open", staged)?;
        let metadata = file.metadata().context("stat", staged)?;
        // Holes take no room as it is.
        if metadata.len() > LARGEST || is_mostly_holes(&metadata) {
            return Ok(Kept::Whole(Vec::new()));
        }
        let chunks = chunks::cut(file).context("read", staged)?;
        let sources = self.best_sources(&chunks, digest);
        let shared: u64 = sources.values().sum();
        if shared < metadata.len() / 2 {
            return Ok(Kept::Whole(chunks));
        }
        let file = File::open(staged).context("open", staged)?;
        let mut sharing = Sharing::begin(self, sources.into_keys().collect(), path)?;
        sharing.take_all(file, &chunks).context("share", staged)?;
        if sharing.parts.len() > MOST_PARTS || sharing.own > metadata.len() / 2 {
            return Ok(Kept::Whole(chunks));
        }
        Ok(Kept::InParts(sharing.finish(digest)?))
    }

    /// Returns the sources that have most of the chunks of the content with this digest, with how many bytes each has.
    fn best_sources(&self, chunks: &[Chunk], content: &Digest) -> HashMap<u32, u64> {
        let mut found: HashMap<u32, u64> = HashMap::new();
        for (digest, length) in chunks {
            // Somebody else may have published this very content meanwhile.
            let source =
                self.chunks.get(digest).filter(|(source, _)| self.sources[*source as usize].0 != *content);
            if let Some((source, _)) = source {
                *found.entry(*source).or_default() += u64::from(*length);
            }
        }
        let mut best: Vec<(u32, u64)> = found.into_iter().collect();
        best.sort_unstable_by_key(|(source, bytes)| (std::cmp::Reverse(*bytes), *source));
        best.truncate(MOST_SOURCES);
        best.into_iter().collect()
    }
}

/// A content on its way into parts.
struct Sharing<'a> {
    similar: &'a Similar,
    sources: Vec<u32>,
    /// Those of the sources that were opened; `None` for one that is gone.
    open: HashMap<u32, Option<Arc<File>>>,
    temporary: Temporary,
    file: File,
    /// How many bytes nobody else has.
    own: u64,
    /// Where those that came before are.
    own_offsets: HashMap<Digest, u64>,
    parts: Vec<Part>,
}

impl<'a> Sharing<'a> {
    fn begin(similar: &'a Similar, sources: Vec<u32>, path: PathBuf) -> Result<Self, DiskError> {
        let (temporary, file) = Temporary::create(path)?;
        Ok(Self {
            similar,
            sources,
            open: HashMap::new(),
            temporary,
            file,
            own: 0,
            own_offsets: HashMap::new(),
            parts: Vec::new(),
        })
    }

    fn take_all(&mut self, mut from: File, chunks: &[Chunk]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (digest, length) in chunks {
            bytes.resize(*length as usize, 0);
            from.read_exact(&mut bytes)?;
            let part = match self.elsewhere(digest, &bytes) {
                Some(part) => part,
                None => self.keep(digest, &bytes)?,
            };
            parts::push(&mut self.parts, part);
        }
        Ok(())
    }

    /// Finds a chunk in another object, and compares it.
    fn elsewhere(&mut self, digest: &Digest, bytes: &[u8]) -> Option<Part> {
        let (number, offset) = *self.similar.chunks.get(digest)?;
        if !self.sources.contains(&number) {
            return None;
        }
        let (source, path) = &self.similar.sources[number as usize];
        let open = || parts::open_sealed(path, source).ok().flatten();
        let open = self.open.entry(number).or_insert_with(open);
        let range = FileRange::new(Arc::clone(open.as_ref()?), offset, bytes.len() as u64)?;
        let mut found = vec![0; bytes.len()];
        let is_same = range.read_exact_at(0, &mut found).is_ok() && found == bytes;
        is_same.then_some(Part { source: Some(*source), offset, length: bytes.len() as u64 })
    }

    /// Keeps a chunk that nobody else has, once.
    fn keep(&mut self, digest: &Digest, bytes: &[u8]) -> io::Result<Part> {
        let length = bytes.len() as u64;
        let offset = match self.own_offsets.entry(*digest) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                self.file.write_all(bytes)?;
                let offset = *place.insert(self.own);
                self.own += length;
                offset
            }
        };
        Ok(Part { source: None, offset, length })
    }

    fn finish(mut self, digest: &Digest) -> Result<Temporary, DiskError> {
        let ending = parts::ending(&self.parts, self.own);
        self.file.write_all(&ending).context("write", &self.temporary.path)?;
        self.temporary.seal(&self.file, digest)?;
        Ok(self.temporary)
    }
}

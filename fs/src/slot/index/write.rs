//! Writing an index: windows while the pass runs, everything else at its end, published by sync and rename.
//!
//! **Invariant:** a file under the index's name is complete. Where no file can be written, the same bytes are kept in
//! memory and nothing is published.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use zerocopy::{FromZeros, IntoBytes};

use super::format::{
    ALIGNMENT, BLOCK, CHAIN_LENGTH, Header, MAGIC, PointRecord, SECTIONS, Section, Span, TOP_SUMS,
};
use super::{Identity, Index, IndexError};
use crate::disk::digest::Digest;
use crate::disk::lock::{FileLock, Mode};
use crate::disk::range::FileRange;
use crate::disk::{Context, DiskError, atomic};
use crate::slot::Notice;
use crate::slot::tree::Table;
use crate::slot::tree::nodes::Nodes;

/// A temporary file's name ends in this.
const TEMPORARY: &str = ".tmp";

/// An index that is being made. Windows can be read back at any time.
#[derive(Debug)]
pub struct IndexWriter {
    /// `None` until there is something to write: passes that wait for their turn hold no file open.
    state: Mutex<Option<State>>,
    /// Where the index will be; `None` for one that stays in memory.
    path: Option<PathBuf>,
}

#[derive(Debug)]
struct State {
    target: Target,
    /// Bytes behind the header so far.
    length: u64,
    sums: Sums,
}

#[derive(Debug)]
enum Target {
    File {
        file: Arc<File>,
        temporary: PathBuf,
    },
    /// Shared with the index once that is made: windows may still be asked for.
    Memory(Arc<Vec<u8>>),
}

/// SHA-256 of each block of what passes by.
#[derive(Debug, Default)]
struct Sums {
    done: Vec<[u8; 32]>,
    hasher: Sha256,
    filled: u64,
}

/// What an index is to hold beside its tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'a> {
    /// Where decoding can start.
    pub points: &'a [PointRecord],
    /// Length of the decoded bytes.
    pub decoded: u64,
    /// Length of a chunk of the stored bytes, and SHA-256 of each; 0 and none where they are not known.
    pub chunks: (u32, &'a [Digest]),
}

impl Sums {
    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK - self.filled).unwrap_or(usize::MAX).min(bytes.len());
            self.hasher.update(&bytes[..room]);
            self.filled += room as u64;
            bytes = &bytes[room..];
            if self.filled == BLOCK {
                self.end_block();
            }
        }
    }

    fn end_block(&mut self) {
        self.done.push(std::mem::take(&mut self.hasher).finalize().into());
        self.filled = 0;
    }
}

impl IndexWriter {
    /// Starts an index that is to be published at `path`; where no file can be made there, it is made in memory.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { state: Mutex::default(), path: Some(path.into()) }
    }

    /// Starts an index that nobody publishes.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { state: Mutex::default(), path: None }
    }

    /// Tells whether what was written so far is in a file that is still there.
    #[cfg(test)]
    pub(super) fn is_on_disk(&self) -> bool {
        self.with(|state| match &state.target {
            Target::File { temporary, .. } => temporary.exists(),
            Target::Memory(_) => false,
        })
    }

    /// Runs `action` on what was written so far.
    fn with<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        action(state.get_or_insert_with(|| {
            let created = self.path.as_deref().map(Self::create).transpose().unwrap_or_else(|error| {
                tracing::warn!("the slot index is kept in memory only: {error}");
                None
            });
            let in_memory = || Target::Memory(Arc::new(vec![0; usize::try_from(BLOCK).unwrap_or(0)]));
            let target = created.unwrap_or_else(in_memory);
            State { target, length: 0, sums: Sums::default() }
        }))
    }

    fn create(path: &Path) -> Result<Target, DiskError> {
        let (mut file, temporary) = create_locked(path)?;
        file.write_all(&[0; BLOCK as usize]).context("write", &temporary)?;
        Ok(Target::File { file: Arc::new(file), temporary })
    }

    /// Appends a window and returns where it is.
    ///
    /// # Errors
    /// The file cannot be written and nothing can be kept in memory either.
    pub fn add_window(&self, bytes: &[u8]) -> Result<u64, IndexError> {
        self.with(|state| {
            let at = state.length;
            state.append(bytes)?;
            Ok(at)
        })
    }

    /// Reads a window back.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn window(&self, at: u64, length: u64) -> Result<Vec<u8>, IndexError> {
        self.with(|state| state.read(BLOCK + at, length))
    }

    /// Writes the tables and publishes the index.
    ///
    /// # Errors
    /// The tables are too large. A file that cannot be published is not an error: the index is kept in memory.
    pub fn finish(
        &self,
        identity: &Identity,
        nodes: &Nodes,
        points: &[PointRecord],
        decoded: u64,
    ) -> Result<Index, IndexError> {
        self.finish_with(identity, nodes, &Extras { points, decoded, ..Extras::default() })
    }

    /// As [`Self::finish`], with everything that an index can hold.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn finish_with(
        &self,
        identity: &Identity,
        nodes: &Nodes,
        extras: &Extras<'_>,
    ) -> Result<Index, IndexError> {
        self.with(|state| {
            let windows = state.length;
            match state.write_sections(identity, nodes, extras) {
                Ok(()) => {}
                Err(IndexError::Disk(error)) => {
                    tracing::warn!("the slot index is kept in memory only: {error}");
                    state.move_to_memory(windows)?;
                    state.write_sections(identity, nodes, extras)?;
                }
                Err(other) => return Err(other),
            }
            state.publish(self.path.as_deref(), identity)
        })
    }
}

impl Drop for IndexWriter {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(State { target: Target::File { temporary, .. }, .. }) = state {
            // After publishing there is nothing of this name.
            let _ = fs::remove_file(temporary);
        }
    }
}

impl State {
    fn append(&mut self, bytes: &[u8]) -> Result<(), IndexError> {
        match &mut self.target {
            Target::File { file, temporary } => {
                (&**file).write_all(bytes).context("write", &*temporary)?;
            }
            Target::Memory(memory) => Arc::make_mut(memory).extend_from_slice(bytes),
        }
        self.sums.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn read(&self, at: u64, length: u64) -> Result<Vec<u8>, IndexError> {
        let damaged = IndexError::Damaged { what: "window", at };
        let count = usize::try_from(length).unwrap_or(usize::MAX);
        match &self.target {
            Target::File { file, temporary } => {
                let Some(range) = FileRange::new(Arc::clone(file), at, length) else { return Err(damaged) };
                let mut bytes = vec![0; count];
                range.read_exact_at(0, &mut bytes).context("read", temporary)?;
                Ok(bytes)
            }
            Target::Memory(memory) => {
                let start = usize::try_from(at).unwrap_or(usize::MAX);
                let end = start.saturating_add(count);
                memory.get(start..end).map(<[u8]>::to_vec).ok_or(damaged)
            }
        }
    }

    /// Takes the windows into memory after writing failed; what else was written is written again.
    fn move_to_memory(&mut self, windows: u64) -> Result<(), IndexError> {
        let kept = self.read(BLOCK, windows)?;
        if let Target::File { temporary, .. } = &self.target {
            let _ = fs::remove_file(temporary);
        }
        self.target = Target::Memory(Arc::new(vec![0; usize::try_from(BLOCK).unwrap_or(0)]));
        (self.length, self.sums) = (0, Sums::default());
        self.append(&kept)
    }

    fn write_sections(
        &mut self,
        identity: &Identity,
        nodes: &Nodes,
        extras: &Extras<'_>,
    ) -> Result<(), IndexError> {
        let windows = self.length;
        let (records, entries) = nodes.finished();
        let notices = pack_notices(nodes.notices());
        let chunks: Vec<u8> = extras.chunks.1.iter().flat_map(|digest| digest.0).collect();
        let mut spans = [Span::default(); SECTIONS];
        spans[Section::Windows.place()] = Span { offset: BLOCK.into(), length: windows.into() };
        let mut out = Appender { state: self, buffer: Vec::with_capacity(1 << 20) };
        for section in &Section::ALL[1..SECTIONS - 2] {
            let bytes = match section {
                Section::Table(Table::Nodes) => records.as_bytes(),
                Section::Table(table) => nodes.table(*table),
                Section::Entries => entries.as_bytes(),
                Section::Notices => &notices,
                Section::Points => extras.points.as_bytes(),
                Section::Chunks => &chunks,
                Section::Windows | Section::Sums | Section::UpperSums => &[],
            };
            spans[section.place()] = out.section(bytes)?;
        }
        out.section(&[])?;
        out.flush()?;
        self.seal(identity, spans, extras)
    }

    /// Appends the sums and writes the header.
    fn seal(
        &mut self,
        identity: &Identity,
        mut spans: [Span; SECTIONS],
        extras: &Extras<'_>,
    ) -> Result<(), IndexError> {
        if self.sums.filled > 0 {
            self.sums.end_block();
        }
        let sums = self.sums.done.concat();
        let upper = sums_of(&sums).concat();
        let top = sums_of(&upper);
        if top.len() > TOP_SUMS || identity.chain.len() > CHAIN_LENGTH {
            return Err(IndexError::TooLarge);
        }
        for (section, bytes) in [(Section::Sums, &sums), (Section::UpperSums, &upper)] {
            let (offset, length) = (BLOCK + self.length, bytes.len() as u64);
            spans[section.place()] = Span { offset: offset.into(), length: length.into() };
            self.append(bytes)?;
        }
        let mut header = Header::new_zeroed();
        header.magic = MAGIC;
        header.slot = identity.digest.0;
        header.stored = identity.stored.into();
        header.decoded = extras.decoded.into();
        header.length = (BLOCK + self.length).into();
        header.chain[..identity.chain.len()].copy_from_slice(identity.chain.as_bytes());
        header.sections = spans;
        header.top_sums = u32::try_from(top.len()).unwrap_or(0).into();
        header.chunk = extras.chunks.0.into();
        let mut block = header_block(&header, &top);
        header.sum = Sha256::digest(&block).into();
        block = header_block(&header, &top);
        self.write_header(&block)
    }

    fn write_header(&mut self, block: &[u8]) -> Result<(), IndexError> {
        match &mut self.target {
            Target::Memory(memory) => Arc::make_mut(memory)[..block.len()].copy_from_slice(block),
            Target::File { file, temporary } => {
                let mut file = &**file;
                let result = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(block));
                result.context("write", &*temporary)?;
            }
        }
        Ok(())
    }

    fn publish(&mut self, path: Option<&Path>, identity: &Identity) -> Result<Index, IndexError> {
        if let (Target::File { file, temporary }, Some(path)) = (&self.target, path) {
            match publish_file(file, temporary, path) {
                Ok(()) => return Index::open_file(file, identity),
                Err(error) => {
                    tracing::warn!("the slot index is kept in memory only: {error}");
                    let whole = self.read(0, BLOCK + self.length)?;
                    let _ = fs::remove_file(temporary);
                    self.target = Target::Memory(Arc::new(whole));
                }
            }
        }
        match &self.target {
            Target::Memory(bytes) => Index::in_memory(Arc::clone(bytes), identity),
            Target::File { .. } => Err(IndexError::Damaged { what: "writer", at: 0 }),
        }
    }
}

/// Makes a temporary file for the index at `path`, and its folder. The file is locked as long as it is open, which tells
/// a sweep that somebody is at work.
pub(super) fn create_locked(path: &Path) -> Result<(File, PathBuf), DiskError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).context("create the directory", folder)?;
    // What a killed pass left behind is as large as an index; whoever makes one clears it away.
    if let Err(error) = sweep(folder) {
        tracing::warn!("{error}");
    }
    let temporary = atomic::temporary_beside(path);
    // A sweep that came between making the file and locking it is waited for, and the file made again if it took it away.
    let lock = FileLock::wait(&temporary, Mode::Exclusive)?;
    // The lock belongs to the open file, and goes with the last one who has it.
    let file = lock.file().try_clone().context("open", &temporary)?;
    Ok((file, temporary))
}

fn publish_file(file: &File, temporary: &Path, path: &Path) -> Result<(), DiskError> {
    let mut permissions = file.metadata().context("stat", temporary)?.permissions();
    permissions.set_readonly(true);
    file.set_permissions(permissions).context("set the permissions of", temporary)?;
    file.sync_all().context("sync", temporary)?;
    fs::rename(temporary, path).context("rename into place", path)?;
    atomic::sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Joins small writes.
struct Appender<'a> {
    state: &'a mut State,
    buffer: Vec<u8>,
}

impl Appender<'_> {
    /// Pads to the alignment, then appends a section.
    fn section(&mut self, bytes: &[u8]) -> Result<Span, IndexError> {
        let at = self.state.length + self.buffer.len() as u64;
        let padding = usize::try_from(at.wrapping_neg() % ALIGNMENT).unwrap_or(0);
        self.buffer.resize(self.buffer.len() + padding, 0);
        let offset = BLOCK + at + padding as u64;
        if bytes.len() < 1 << 16 {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.flush()?;
            self.state.append(bytes)?;
        }
        if self.buffer.len() > 1 << 20 {
            self.flush()?;
        }
        Ok(Span { offset: offset.into(), length: (bytes.len() as u64).into() })
    }

    fn flush(&mut self) -> Result<(), IndexError> {
        let bytes = std::mem::take(&mut self.buffer);
        self.state.append(&bytes)
    }
}

/// Returns SHA-256 of each block of `bytes`.
pub(super) fn sums_of(bytes: &[u8]) -> Vec<[u8; 32]> {
    bytes.chunks(BLOCK as usize).map(|block| Sha256::digest(block).into()).collect()
}

pub(super) fn header_block(header: &Header, top: &[[u8; 32]]) -> Vec<u8> {
    let mut block = header.as_bytes().to_vec();
    block.extend_from_slice(top.as_flattened());
    block.resize(BLOCK as usize, 0);
    block
}

fn pack_notices(notices: &[Notice]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for notice in notices {
        bytes.push(notice.what as u8);
        bytes.extend(u32::try_from(notice.path.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&notice.path);
    }
    bytes
}

/// Removes temporary files in `folder` whose writer is gone.
///
/// # Errors
/// Names the folder that cannot be listed; a missing one is fine.
pub fn sweep(folder: &Path) -> Result<u64, DiskError> {
    let mut removed = 0;
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(DiskError::new("list the directory", folder, error)),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().ends_with(TEMPORARY) {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        // Held while it goes: whoever has just made it and waits for the lock finds it gone then.
        if file.try_lock().is_ok() && fs::remove_file(&path).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

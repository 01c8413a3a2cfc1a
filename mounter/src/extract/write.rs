//! Writing the files of a plan, on several threads; then links, and the modes and times of directories.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use slotfs_fs::disk::Context;
use slotfs_fs::layer::stack::Stack;
use slotfs_fs::node::Attributes;
use slotfs_fs::worker;

use super::ExtractError;
use super::plan::{Leaf, LinkTo, Plan, failed};
use super::progress::Progress;
use super::report::Report;
use crate::host::{files, plain};

/// Read and written at once.
const PIECE: usize = 1 << 20;
/// A worker takes neighbouring files of about this many bytes, so that it decodes them in one go.
const UNIT_BYTES: u64 = 8 << 20;
/// ... or this many of them.
const UNIT_FILES: usize = 512;
/// Blocks of zeros of this size become holes in files that have holes.
const HOLE: usize = 4096;

/// What the workers share.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    /// The tree.
    pub(super) stack: &'a Stack,
    /// What to write.
    pub(super) plan: &'a Plan,
    /// Where to.
    pub(super) root: &'a Path,
    /// Who is told.
    pub(super) progress: &'a dyn Progress,
    /// Set when the user wants it to stop.
    pub(super) stop: &'a AtomicBool,
    /// Set when the disk cannot share content between files.
    pub(super) cannot_share: AtomicBool,
    /// Whether each file must be synced by itself.
    pub(super) sync_each: bool,
    /// What was made.
    pub(super) report: Mutex<Report>,
}

impl Writer<'_> {
    /// Makes every directory, closed to others until the end.
    pub(super) fn make_directories(&self) -> Result<(), ExtractError> {
        for directory in &self.plan.directories[1..] {
            let path = self.root.join(&directory.path);
            files::create_private_directories(&path).context("create the directory", &path)?;
        }
        self.count(|report| report.directories += self.plan.directories.len() as u64);
        Ok(())
    }

    /// Writes all files on `threads` threads.
    pub(super) fn write_files(&self, threads: usize) -> Result<(), ExtractError> {
        let units = units(&self.plan.files);
        let left: Vec<AtomicU64> = self.files_by_layer().into_iter().map(AtomicU64::new).collect();
        for (layer, placed) in self.stack.layers().iter().enumerate() {
            self.progress.begin(layer, &placed.name, self.plan.layer_bytes[layer]);
            if left[layer].load(Ordering::Relaxed) == 0 {
                self.progress.end(layer);
            }
        }
        let next = AtomicUsize::new(0);
        let first_error: Mutex<Option<ExtractError>> = Mutex::new(None);
        let failed = AtomicBool::new(false);
        let work = || {
            let mut buffer = vec![0; PIECE];
            while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                for file in &self.plan.files[unit.clone()] {
                    if failed.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Err(error) = self.write_file(file, &self.plan.path(file), &mut buffer) {
                        failed.store(true, Ordering::Relaxed);
                        lock(&first_error).get_or_insert(error);
                        return;
                    }
                    if left[file.layer as usize].fetch_sub(1, Ordering::Relaxed) == 1 {
                        self.progress.end(file.layer as usize);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(units.len()) {
                // Those that there are do it all.
                let _ = worker::spawn_scoped(scope, "extract", work);
            }
            work();
        });
        lock(&first_error).take().map_or(Ok(()), Err)
    }

    fn files_by_layer(&self) -> Vec<u64> {
        let mut counts = vec![0; self.stack.layers().len()];
        for file in &self.plan.files {
            counts[file.layer as usize] += 1;
        }
        counts
    }

    fn write_file(&self, file: &Leaf, relative: &Path, buffer: &mut [u8]) -> Result<(), ExtractError> {
        let layer = &self.stack.layer(file.layer).layer;
        let content = |source| failed(relative, source);
        let attributes = layer.attributes(file.node).map_err(content)?;
        let path = self.root.join(relative);
        let mut target = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(target) => target,
            // Only a file system that does not tell `A` from `a` can have it already.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.count(|report| {
                    report.skip(relative, "its name is taken by one that differs only in case")
                });
                return Ok(());
            }
            Err(error) => return Err(error).context("create", &path).map_err(ExtractError::from),
        };
        if !self.share(file, &target) {
            self.copy(file, relative, &attributes, &mut target, buffer)?;
        }
        for (name, value) in layer.extended_attributes(file.node).map_err(content)? {
            if let Err(error) = plain::set_extended_attribute(&target, &name, &value) {
                self.attribute_lost(relative, &name, &error);
            }
        }
        if let Some(time) = plain::system_time(attributes.modified.seconds, attributes.modified.nanoseconds) {
            let times = FileTimes::new().set_modified(time).set_accessed(time);
            target.set_times(times).context("set the times of", &path)?;
        }
        plain::set_mode(&target, attributes.mode).context("set the mode of", &path)?;
        if self.sync_each {
            target.sync_all().context("sync", &path)?;
        }
        self.count(|report| {
            report.files += 1;
            report.bytes += attributes.size;
        });
        Ok(())
    }

    /// Lets the file share the content of one that the store has, where the disk can do that.
    fn share(&self, file: &Leaf, target: &File) -> bool {
        if self.cannot_share.load(Ordering::Relaxed) || file.bytes == 0 {
            return false;
        }
        let host_file = self.stack.layer(file.layer).layer.host_file(file.node);
        let Ok(Some(source)) = host_file else { return false };
        if plain::share_content(&source, target) {
            self.progress.advance(file.layer as usize, file.bytes);
            return true;
        }
        self.cannot_share.store(true, Ordering::Relaxed);
        false
    }

    fn copy(
        &self,
        file: &Leaf,
        relative: &Path,
        attributes: &Attributes,
        target: &mut File,
        buffer: &mut [u8],
    ) -> Result<(), ExtractError> {
        let layer = &self.stack.layer(file.layer).layer;
        let has_holes = attributes.blocks.saturating_mul(512) < attributes.size;
        let mut offset = 0;
        while offset < attributes.size {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ExtractError::Interrupted { path: self.root.to_owned() });
            }
            let wanted = usize::try_from(attributes.size - offset).unwrap_or(usize::MAX).min(buffer.len());
            let count = layer
                .read(file.node, offset, &mut buffer[..wanted])
                .map_err(|source| failed(relative, source))?;
            if count == 0 {
                let path = relative.display().to_string();
                return Err(ExtractError::Short { path, found: offset, expected: attributes.size });
            }
            let written = if has_holes {
                write_sparse(target, &buffer[..count])
            } else {
                target.write_all(&buffer[..count])
            };
            written.context("write", self.root.join(relative))?;
            offset += count as u64;
            self.progress.advance(file.layer as usize, count as u64);
        }
        if has_holes {
            // The file may end in a hole.
            target.set_len(attributes.size).context("write", self.root.join(relative))?;
        }
        Ok(())
    }

    /// Makes named pipes, hard links, and last symbolic links: nothing is written once they are there.
    pub(super) fn make_links(&self) -> Result<(), ExtractError> {
        for fifo in &self.plan.fifos {
            let relative = self.plan.path(fifo);
            let attributes = self.attributes(fifo, &relative)?;
            match plain::make_fifo(&self.root.join(&relative), attributes.mode) {
                Ok(()) => self.count(|report| report.links += 1),
                Err(error) => self.count(|report| report.skip(&relative, error.to_string())),
            }
        }
        for (leaf, LinkTo(first)) in &self.plan.links {
            let relative = self.plan.path(leaf);
            let path = self.root.join(&relative);
            match fs::hard_link(self.root.join(first), &path) {
                Ok(()) => self.count(|report| report.links += 1),
                // A disk without hard links, or too many of them: the content is what matters.
                Err(_) => self.write_file(leaf, &relative, &mut vec![0; PIECE])?,
            }
        }
        for symlink in &self.plan.symlinks {
            self.make_symlink(symlink)?;
        }
        Ok(())
    }

    fn make_symlink(&self, symlink: &Leaf) -> Result<(), ExtractError> {
        let relative = self.plan.path(symlink);
        let path = self.root.join(&relative);
        let layer = &self.stack.layer(symlink.layer).layer;
        let target = layer.read_link(symlink.node).map_err(|source| failed(&relative, source))?;
        let absolute = path.parent().unwrap_or(self.root).join(files::path_from_bytes(target.clone()));
        match plain::make_symlink(&target, &path, absolute.is_dir()) {
            Ok(()) => {
                let modified = self.attributes(symlink, &relative)?.modified;
                plain::set_modified(&path, modified.seconds, modified.nanoseconds)
                    .context("set the times of", &path)?;
                self.count(|report| report.links += 1);
                Ok(())
            }
            // The rest of the tree is of use without.
            Err(error) if plain::lacks_link_privilege(&error) => {
                self.count(|report| report.skip(&relative, format!("the symbolic link: {error}")));
                Ok(())
            }
            Err(error) => Err(error).context("make the symbolic link", &path).map_err(ExtractError::from),
        }
    }

    /// Gives directories their attributes, children before parents: a mode may forbid writing. The root's mode is
    /// `root_mode` where that is given.
    pub(super) fn finish_directories(&self, root_mode: Option<u32>) -> Result<(), ExtractError> {
        for (position, directory) in self.plan.directories.iter().enumerate().rev() {
            let path = self.root.join(&directory.path);
            if let Some((layer, node)) = directory.source {
                let attributes = self.stack.layer(layer).layer.extended_attributes(node);
                let attributes = attributes.map_err(|source| failed(&directory.path, source))?;
                for (name, value) in attributes {
                    let set = plain::open_directory(&path)
                        .and_then(|opened| plain::set_extended_attribute(&opened, &name, &value));
                    if let Err(error) = set {
                        self.attribute_lost(&directory.path, &name, &error);
                    }
                }
            }
            let modified = directory.attributes.modified;
            plain::set_modified(&path, modified.seconds, modified.nanoseconds)
                .context("set the times of", &path)?;
            let mode = match root_mode {
                Some(mode) if position == 0 => mode,
                _ => directory.attributes.mode,
            };
            files::set_mode(&path, mode).context("set the mode of", &path)?;
        }
        Ok(())
    }

    fn attributes(&self, leaf: &Leaf, relative: &Path) -> Result<Attributes, ExtractError> {
        let layer = &self.stack.layer(leaf.layer).layer;
        layer.attributes(leaf.node).map_err(|source| failed(relative, source))
    }

    fn attribute_lost(&self, relative: &Path, name: &[u8], error: &io::Error) {
        let reason = format!("the extended attribute `{}`: {error}", String::from_utf8_lossy(name));
        self.count(|report| report.skip(relative, reason));
    }

    fn count(&self, change: impl FnOnce(&mut Report)) {
        change(&mut lock(&self.report));
    }
}

/// Cuts the files into runs of neighbours in one layer, and deals the runs out layer by layer in turn.
fn units(files: &[Leaf]) -> Vec<Range<usize>> {
    let mut by_layer: Vec<Vec<Range<usize>>> = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (position, file) in files.iter().enumerate() {
        bytes += file.bytes;
        let next = files.get(position + 1);
        let ends_layer = next.is_none_or(|next| next.layer != file.layer);
        if ends_layer || bytes >= UNIT_BYTES || position + 1 - start >= UNIT_FILES {
            let layer = file.layer as usize;
            if by_layer.len() <= layer {
                by_layer.resize_with(layer + 1, Vec::new);
            }
            by_layer[layer].push(start..position + 1);
            (start, bytes) = (position + 1, 0);
        }
    }
    let longest = by_layer.iter().map(Vec::len).max().unwrap_or(0);
    let round = |turn: usize| by_layer.iter().filter_map(move |units| units.get(turn).cloned());
    (0..longest).flat_map(round).collect()
}

/// Writes `bytes` at the file's cursor, leaving holes where whole blocks are zero.
fn write_sparse(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let is_hole = |block: &[u8]| block.len() == HOLE && block.iter().all(|byte| *byte == 0);
    for block in bytes.chunks(HOLE) {
        if is_hole(block) {
            file.seek(SeekFrom::Current(HOLE as i64))?;
        } else {
            file.write_all(block)?;
        }
    }
    Ok(())
}

/// A thread that panicked while counting leaves numbers that are good enough to show.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_take_turns_and_every_file_is_written_once() {
        let leaf = |layer, bytes| Leaf::for_test(layer, bytes);
        let files: Vec<Leaf> =
            (0..3).flat_map(|layer| (0..1500).map(move |_| (layer, 10))).map(|(l, b)| leaf(l, b)).collect();
        let units = units(&files);
        let layers: Vec<u32> = units.iter().map(|unit| files[unit.start].layer).collect();
        assert_eq!(layers, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        let mut covered: Vec<usize> = units.into_iter().flatten().collect();
        covered.sort_unstable();
        assert_eq!(covered, (0..files.len()).collect::<Vec<_>>());
    }

    #[test]
    fn a_large_file_is_a_unit_of_its_own() {
        let files = [1, UNIT_BYTES, 1].map(|bytes| Leaf::for_test(0, bytes));
        assert_eq!(units(&files), [0..2, 2..3]);
        assert!(units(&[]).is_empty());
    }
}

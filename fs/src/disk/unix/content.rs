//! Content of the host's files: cloning, copying, holes, allocation, and the disk they are on.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::disk::{Context, DiskError};

/// Room on a disk, as `statvfs(3)` tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSpace {
    /// Size of a block in bytes.
    pub block_size: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Blocks free to ordinary users.
    pub blocks_available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Longest name in bytes.
    pub name_max: u64,
}

/// Makes `target` share all blocks of `source` (`FICLONE`); `false` when the disk cannot.
///
/// # Errors
/// What the host reports about a disk that can.
#[cfg(target_os = "linux")]
pub fn clone_file(source: &File, target: &File) -> Result<bool, DiskError> {
    match rustix::fs::ioctl_ficlone(target, source) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS | Errno::PERM) => {
            Ok(false)
        }
        Err(error) => Err(error).context("clone into", "a new file"),
    }
}

/// Makes `target` share all blocks of `source`: no call for two open files on this host.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn clone_file(source: &File, target: &File) -> Result<bool, DiskError> {
    let _ = (source, target);
    Ok(false)
}

/// `copy_file_range(2)` without its cursors; may copy less than asked.
///
/// # Errors
/// What the host reports.
#[cfg(target_os = "linux")]
pub fn copy_range(
    source: &File,
    mut from: u64,
    target: &File,
    mut to: u64,
    length: u64,
) -> Result<u64, DiskError> {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(1 << 30);
    let copied = rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), length);
    Ok(copied.context("copy a range into", "a file")? as u64)
}

/// `copy_file_range(2)`, which this host does not have.
///
/// # Errors
/// Always: not supported.
#[cfg(not(target_os = "linux"))]
pub fn copy_range(source: &File, from: u64, target: &File, to: u64, length: u64) -> Result<u64, DiskError> {
    let _ = (source, from, target, to, length);
    Err(DiskError::new("copy a range into", "a file", super::unsupported()))
}

/// `fallocate(2)`; `mode` holds the Linux flag bits.
///
/// # Errors
/// What the host reports.
#[cfg(target_os = "linux")]
pub fn allocate(file: &File, mode: i32, offset: u64, length: u64) -> Result<(), DiskError> {
    let flags = rustix::fs::FallocateFlags::from_bits_retain(mode.cast_unsigned());
    rustix::fs::fallocate(file, flags, offset, length).context("allocate space in", "a file")
}

/// `fallocate(2)`, which this host does not have.
///
/// # Errors
/// Always: not supported.
#[cfg(not(target_os = "linux"))]
pub fn allocate(file: &File, mode: i32, offset: u64, length: u64) -> Result<(), DiskError> {
    let _ = (file, mode, offset, length);
    Err(DiskError::new("allocate space in", "a file", super::unsupported()))
}

/// Returns the first offset at or after `offset` that holds data; `None` when only a hole is left.
///
/// # Errors
/// What `lseek(2)` reports.
pub fn data_from(file: &File, offset: u64) -> Result<Option<u64>, DiskError> {
    seek(file, SeekFrom::Data(offset))
}

/// Returns the first hole at or after `offset`, the end of the file being one; `None` beyond the end.
///
/// # Errors
/// What `lseek(2)` reports.
pub fn hole_from(file: &File, offset: u64) -> Result<Option<u64>, DiskError> {
    seek(file, SeekFrom::Hole(offset))
}

/// Moves the file's own cursor, which nothing here reads.
fn seek(file: &File, to: SeekFrom) -> Result<Option<u64>, DiskError> {
    match rustix::fs::seek(file, to) {
        Ok(offset) => Ok(Some(offset)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error).context("look for data in", "a file"),
    }
}

/// `ftruncate(2)`.
///
/// # Errors
/// What the host reports.
pub fn set_length(file: &File, length: u64) -> Result<(), DiskError> {
    rustix::fs::ftruncate(file, length).context("set the length of", "a file")
}

/// Writes `bytes` at `offset`, leaving a hole for every whole 4 KiB of zeros. The caller sets the length.
///
/// # Errors
/// What `pwrite(2)` reports.
pub fn write_sparse(file: &File, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
    const BLOCK: usize = 4096;
    let mut start = 0;
    while start < bytes.len() {
        let zeros = bytes[start..].chunks(BLOCK).take_while(|block| block.iter().all(|byte| *byte == 0));
        start = bytes.len().min(start + zeros.count() * BLOCK);
        let data = bytes[start..].chunks(BLOCK).take_while(|block| block.iter().any(|byte| *byte != 0));
        let end = bytes.len().min(start + data.count() * BLOCK);
        file.write_all_at(&bytes[start..end], offset + start as u64).context("write", "a new file")?;
        start = end;
    }
    Ok(())
}

/// Lets the disk begin with what was just written, so that there is less to wait for when it is synced.
pub fn begin_to_sync(file: &File, offset: u64, length: u64) {
    // Linux starts to write what is dirty in the range and forgets what is not (`generic_fadvise` in `mm/fadvise.c`).
    #[cfg(target_os = "linux")]
    if let Some(length) = std::num::NonZeroU64::new(length) {
        // A hint, and without it nothing is lost.
        let _ = rustix::fs::fadvise(file, offset, Some(length), rustix::fs::Advice::DontNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, length);
}

/// Copies the first `length` bytes of `source` to where they are in `target`, an empty file, without bringing them here; holes
/// stay holes. `false` when the host cannot, or not all of it: then some may be copied, and whoever reads and writes them
/// finds out why.
///
/// # Errors
/// What the host reports about holes.
pub fn copy_inside(source: &File, target: &File, length: u64) -> Result<bool, DiskError> {
    const STEP: u64 = 8 << 20;
    let mut at = 0;
    while let Some(start) = data_from(source, at)?.filter(|start| *start < length) {
        let end = hole_from(source, start)?.unwrap_or(length).min(length);
        at = start;
        while at < end {
            match copy_range(source, at, target, at, STEP.min(end - at)) {
                Ok(0) | Err(_) => return Ok(false),
                Ok(count) => {
                    begin_to_sync(target, at, count);
                    at += count;
                }
            }
        }
    }
    Ok(source.metadata().context("examine", "a file")?.len() >= length)
}

/// `statvfs(3)` of the disk that `file` is on.
///
/// # Errors
/// What the host reports.
pub fn space(file: impl AsFd) -> Result<DiskSpace, DiskError> {
    let found = rustix::fs::fstatvfs(file).context("ask for free space on", "the disk")?;
    Ok(DiskSpace {
        block_size: found.f_frsize,
        blocks: found.f_blocks,
        blocks_free: found.f_bfree,
        blocks_available: found.f_bavail,
        files: found.f_files,
        files_free: found.f_ffree,
        name_max: found.f_namemax,
    })
}

/// `syncfs(2)` of the disk that `file` is on.
///
/// # Errors
/// What the host reports.
pub fn sync_file_system(file: impl AsFd) -> Result<(), DiskError> {
    #[cfg(target_os = "linux")]
    return rustix::fs::syncfs(file).context("sync", "the disk");
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        rustix::fs::sync();
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn zeros_become_holes_and_everything_reads_back() {
        let file = tempfile::tempfile().unwrap();
        let mut bytes = vec![0; 100_000];
        bytes[40_000] = 1;
        bytes[99_999] = 2;
        write_sparse(&file, 0, &bytes).unwrap();
        let mut back = vec![9; bytes.len()];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(back, bytes);
        assert_eq!(data_from(&file, 0).unwrap(), Some(36_864));
    }
}

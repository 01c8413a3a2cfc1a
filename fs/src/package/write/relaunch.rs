//! Another launcher for a finished package. Nothing that was signed changes: the signature covers the metadata, and where
//! things are stands in the index and the slot table, which nobody signs.
//!
//! **Invariant:** slots, metadata and everything between them are copied byte for byte, at the same places relative to
//! each other and to pages.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};

use zerocopy::IntoBytes;

use super::{BUFFER, PAGE};
use crate::disk::range::FileRange;
use crate::package::Package;
use crate::package::descriptor::Descriptor;
use crate::package::trailer::{END_MARK, START_MARK, TRAILER_SIZE};

/// Why a package cannot have another launcher.
#[derive(Debug, thiserror::Error)]
pub enum RelaunchError {
    /// It is an archive or a directory.
    #[error("it has no launcher: it is not a package of format PSPF/2025")]
    NoPackage,
    /// A slot or the metadata shares bytes with the launcher.
    #[error("its parts lie in its launcher")]
    InLauncher,
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes `old` to `file` with another `launcher` in front and returns its length; `told` hears of each piece, in
/// bytes, and can fail to end it.
///
/// # Errors
/// It is no package, or one whose parts cannot be told from its launcher; reading or writing fails.
pub fn relaunch(
    old: &Package,
    launcher: &mut dyn Read,
    file: &mut File,
    told: &mut dyn FnMut(u64) -> io::Result<()>,
) -> Result<u64, RelaunchError> {
    let (Some(index), Some(package)) = (old.index(), &old.file) else { return Err(RelaunchError::NoPackage) };
    let size = index.package_size.get();
    let whole = FileRange::new(package.clone(), 0, size)
        .ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let end =
        size.checked_sub(TRAILER_SIZE as u64).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let (table_at, table_size) = (index.slot_table_offset.get(), index.slot_table_size.get());
    let mut table = vec![0; usize::try_from(table_size).map_err(io::Error::other)?];
    whole.read_exact_at(table_at, &mut table)?;
    let mut table = Descriptor::table(&table).to_vec();
    // Only what the metadata list was checked to lie in the file; other rows may say anything.
    let stored = table.iter().take(old.slots().len()).filter(|row| row.size.get() > 0);
    let offsets = stored.map(|row| row.offset.get());
    let start = offsets.chain([index.metadata_offset.get(), table_at]).min().unwrap_or(table_at);
    if start < index.launcher_size.get() {
        return Err(RelaunchError::InLauncher);
    }

    let mut out = BufWriter::with_capacity(BUFFER, file);
    let launcher_size = io::copy(launcher, &mut out)?;
    let same_in_page = start % PAGE;
    let first = (launcher_size.saturating_sub(same_in_page)).next_multiple_of(PAGE) + same_in_page;
    io::copy(&mut io::repeat(0).take(first - launcher_size), &mut out)?;
    let moved = |offset: u64| first + (offset - start);
    copy(&whole, (start, table_at), &mut out, told)?;
    for row in &mut table {
        let offset = row.offset.get();
        if (start..=end).contains(&offset) {
            row.offset = moved(offset).into();
        }
    }
    out.write_all(table.as_bytes())?;
    copy(&whole, (table_at + table_size, end), &mut out, told)?;

    let mut index = index.clone();
    index.launcher_size = launcher_size.into();
    index.metadata_offset = moved(index.metadata_offset.get()).into();
    index.slot_table_offset = moved(table_at).into();
    index.package_size = (moved(end) + TRAILER_SIZE as u64).into();
    index.seal();
    for part in [&START_MARK[..], index.as_bytes(), &END_MARK] {
        out.write_all(part)?;
    }
    out.flush()?;
    Ok(index.package_size.get())
}

/// Copies the bytes of `whole` from `start` to `end`.
pub(super) fn copy(
    whole: &FileRange,
    (start, end): (u64, u64),
    out: &mut dyn Write,
    told: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut piece = vec![0; BUFFER];
    let mut at = start;
    while at < end {
        let count = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
        whole.read_exact_at(at, &mut piece[..count])?;
        out.write_all(&piece[..count])?;
        told(count as u64)?;
        at += count as u64;
    }
    Ok(())
}

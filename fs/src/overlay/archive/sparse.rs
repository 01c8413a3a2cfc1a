//! What only changes need of a tar archive: files of the host without their holes, in GNU tar's sparse format 1.0, which
//! is a pax extension.
//!
//! **Invariant:** an entry's content has exactly the length that its header says, whatever becomes of the file meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use tar::EntryType;

use crate::disk::unix::{data_from, hole_from};
use crate::layer::tar::{BLOCK, Entry, Stretch, TarWriter};

impl TarWriter<'_> {
    /// Writes a file of the host, without its holes.
    pub(super) fn file(&mut self, entry: &Entry, file: &File) -> io::Result<()> {
        let size = entry.node.size;
        let stretches = stretches(file, size)?;
        let data = stretches.iter().map(|stretch| stretch.1).sum::<u64>();
        let mut read = |offset, buffer: &mut [u8]| file.read_at(buffer, offset);
        if data == size {
            return self.content(entry, &mut read);
        }
        let map = sparse_map(&stretches, size);
        let length = map.len() as u64 + data;
        let records = vec![
            (b"GNU.sparse.major".to_vec(), b"1".to_vec()),
            (b"GNU.sparse.minor".to_vec(), b"0".to_vec()),
            (b"GNU.sparse.name".to_vec(), entry.path.clone()),
            (b"GNU.sparse.realsize".to_vec(), size.to_string().into_bytes()),
        ];
        // Who does not know the form unpacks it under this name and can be helped.
        let (above, name) = match entry.path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => entry.path.split_at(slash + 1),
            None => (&b""[..], &entry.path[..]),
        };
        let stored = Entry { path: [above, b"GNUSparseFile.0/", name].concat(), ..entry.clone() };
        self.header(&stored, EntryType::Regular, length, records)?;
        self.bytes(&map)?;
        for stretch in stretches {
            self.stretch(stretch, &mut read)?;
        }
        self.pad(length)
    }
}

/// Finds where a file of `size` bytes has data. A disk that does not tell of holes has one stretch.
fn stretches(file: &File, size: u64) -> io::Result<Vec<Stretch>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let Some(start) = data_from(file, at).map_err(|error| error.source)?.filter(|start| *start < size)
        else {
            break;
        };
        let end = hole_from(file, start).map_err(|error| error.source)?.unwrap_or(size).min(size);
        // A file that is cut off meanwhile has no end after its beginning.
        if end <= start {
            break;
        }
        found.push((start, end - start));
        at = end;
    }
    Ok(found)
}

/// Returns the map of a sparse file, filled up to whole blocks.
fn sparse_map(stretches: &[Stretch], size: u64) -> Vec<u8> {
    // An empty stretch at the end says how long the file is.
    let end = (size, 0);
    let mut text = format!("{}\n", stretches.len() + 1);
    for (offset, length) in stretches.iter().chain([&end]) {
        text.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = text.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_ends_with_the_length_and_fills_blocks() {
        let map = sparse_map(&[(0, 4096), (1 << 20, 10)], 1 << 30);
        assert_eq!(map.len(), 512);
        assert!(map.starts_with(b"3\n0\n4096\n1048576\n10\n1073741824\n0\n\0"));
    }
}

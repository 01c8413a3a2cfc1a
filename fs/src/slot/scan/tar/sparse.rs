//! Maps of sparse files: old GNU, PAX 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files").

use super::number;
use super::pax::Records;
use crate::slot::scan::Extent;

/// Offset and length of each run of data.
pub(super) type Map = Vec<(u64, u64)>;

/// What PAX records say about a sparse file.
pub(super) struct Layout {
    /// The map, or `None` where it begins the content (1.0).
    pub(super) map: Option<Map>,
    /// The file's length with its holes.
    pub(super) size: u64,
}

impl Layout {
    /// Returns the layout when the records describe a sparse file.
    pub(super) fn of(records: &Records) -> Option<Result<Self, &'static str>> {
        let major = records.number(b"GNU.sparse.major");
        let size = records.number(b"GNU.sparse.realsize").or_else(|| records.number(b"GNU.sparse.size"));
        let map = match (major, records.value(b"GNU.sparse.map"), records.sparse_pairs()) {
            (Some(1), _, _) => None,
            (_, Some(text), _) => Some(parse_list(&text)),
            (_, None, pairs) if !pairs.is_empty() => Some(pair_up(pairs)),
            _ if size.is_some() => Some(Ok(Map::new())),
            _ => return None,
        };
        let Some(size) = size else { return Some(Err("a sparse file has no length")) };
        Some(map.transpose().map(|map| Self { map, size }))
    }
}

fn parse_list(text: &[u8]) -> Result<Map, &'static str> {
    let numbers: Option<Vec<u64>> = text.split(|byte| *byte == b',').map(number::decimal).collect();
    pair_up(&numbers.ok_or("a sparse map holds no numbers")?)
}

fn pair_up(numbers: &[u64]) -> Result<Map, &'static str> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("a sparse map ends too early");
    }
    Ok(pairs.iter().map(|[offset, length]| (*offset, *length)).collect())
}

/// Reads pairs of 12-byte fields up to the first empty one; tells whether there was none.
pub(super) fn old_pairs(fields: &[u8], map: &mut Map) -> Result<bool, &'static str> {
    for pair in fields.chunks_exact(24) {
        if pair[0] == 0 || pair[12] == 0 {
            return Ok(false);
        }
        match (number::unsigned(&pair[..12]), number::unsigned(&pair[12..])) {
            (Some(offset), Some(length)) => map.push((offset, length)),
            _ => return Err("a sparse map holds no numbers"),
        }
    }
    Ok(true)
}

/// Decimal lines: how many pairs, then the pairs.
#[derive(Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    wanted: Option<u64>,
    numbers: Vec<u64>,
}

impl Lines {
    pub(super) fn is_complete(&self) -> bool {
        self.wanted.is_some_and(|wanted| self.numbers.len() as u64 >= wanted)
    }

    pub(super) fn feed(&mut self, block: &[u8]) -> Result<(), &'static str> {
        for byte in block {
            if self.is_complete() {
                break;
            }
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let number = number::decimal(&self.line).ok_or("a sparse map holds no numbers")?;
            self.line.clear();
            match self.wanted {
                None => self.wanted = Some(number.checked_mul(2).ok_or("a sparse map is too long")?),
                Some(_) => self.numbers.push(number),
            }
        }
        Ok(())
    }

    pub(super) fn into_map(self) -> Map {
        self.numbers.as_chunks::<2>().0.iter().map(|[offset, length]| (*offset, *length)).collect()
    }
}

/// Lays the runs of `map` out over the `stored` bytes at `data`. They must be in order, end within `size`, and use the
/// stored bytes up.
pub(super) fn extents(
    map: &[(u64, u64)],
    data: u64,
    stored: u64,
    size: u64,
) -> Result<Vec<Extent>, &'static str> {
    let mut extents = Vec::new();
    let (mut end, mut used) = (0, 0);
    for &(offset, length) in map {
        let next = offset.checked_add(length).filter(|next| offset >= end && *next <= size);
        let Some(next) = next else { return Err("a sparse map is out of order or beyond the file's end") };
        if length > 0 {
            extents.push(Extent { offset, decoded: data.saturating_add(used), length });
        }
        end = next;
        used += length;
    }
    if used > stored {
        return Err("a sparse map names more bytes than are stored");
    }
    Ok(extents)
}

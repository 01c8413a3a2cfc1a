//! PAX extended headers: lines of length, keyword and value (POSIX.1-2017, `pax`, "pax Header Block").

use std::collections::BTreeMap;

use super::number;
use crate::node::Timestamp;

/// Keyword to value. GNU's sparse format 0.0 repeats keywords, so those are kept in order beside.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// `GNU.sparse.offset` and `GNU.sparse.numbytes`, in turn.
    sparse_pairs: Vec<u64>,
}

impl Records {
    /// Reads the content of one extended header; later records replace earlier ones of the same keyword.
    pub(super) fn parse(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        // Some writers pad with NULs.
        while !bytes.is_empty() && bytes[0] != 0 {
            let space = bytes
                .iter()
                .take(20)
                .position(|byte| *byte == b' ')
                .ok_or("an extended header has no length")?;
            let length = number::decimal(&bytes[..space])
                .and_then(|length| usize::try_from(length).ok())
                .filter(|length| *length > space + 1 && *length <= bytes.len())
                .ok_or("an extended header has a wrong length")?;
            let (record, rest) = bytes.split_at(length);
            let line =
                record[space + 1..].strip_suffix(b"\n").ok_or("an extended header does not end its line")?;
            let equals = line.iter().position(|byte| *byte == b'=').ok_or("an extended header has no `=`")?;
            self.put(&line[..equals], &line[equals + 1..])?;
            bytes = rest;
        }
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes" {
            let turn = usize::from(key == b"GNU.sparse.numbytes");
            let number = number::decimal(value).ok_or("a sparse map holds no numbers")?;
            if self.sparse_pairs.len() % 2 != turn {
                return Err("a sparse map is out of order");
            }
            self.sparse_pairs.push(number);
        } else {
            self.values.insert(key.to_vec(), value.to_vec());
        }
        Ok(())
    }

    /// Lets `other` replace what is here.
    pub(super) fn add(&mut self, other: Self) {
        self.values.extend(other.values);
        if !other.sparse_pairs.is_empty() {
            self.sparse_pairs = other.sparse_pairs;
        }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> u64 {
        let texts: usize = self.values.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
        (texts + self.sparse_pairs.len() * 8) as u64
    }

    /// Returns a value; an empty one means that the header block's field counts.
    pub(super) fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.values.get(key).filter(|value| !value.is_empty()).cloned()
    }

    /// The entry's path: a sparse file's real name stands aside from the placeholder.
    pub(super) fn path(&self) -> Option<Vec<u8>> {
        self.value(b"GNU.sparse.name").or_else(|| self.value(b"path"))
    }

    pub(super) fn number(&self, key: &[u8]) -> Option<u64> {
        number::decimal(self.values.get(key)?)
    }

    pub(super) fn sparse_pairs(&self) -> &[u64] {
        &self.sparse_pairs
    }

    /// A time as decimal seconds with a fraction, perhaps negative.
    pub(super) fn time(&self, key: &[u8]) -> Option<Timestamp> {
        let text = self.values.get(key)?;
        let (negative, text) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, &text[..]),
        };
        let dot = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
        let seconds = i64::try_from(number::decimal(&text[..dot])?).ok()?;
        let mut nanoseconds = 0;
        let mut unit = 100_000_000;
        for digit in text.iter().skip(dot + 1) {
            if !digit.is_ascii_digit() {
                return None;
            }
            nanoseconds += u32::from(digit - b'0') * unit;
            unit /= 10;
        }
        Some(match (negative, nanoseconds) {
            (false, _) => Timestamp { seconds, nanoseconds },
            (true, 0) => Timestamp { seconds: -seconds, nanoseconds },
            // -1.25 s is 0.75 s after -2 s.
            (true, _) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
        })
    }

    /// Extended attributes: star's and GNU's `SCHILY.xattr.NAME` (raw) and libarchive's `LIBARCHIVE.xattr.NAME` (name
    /// in percent code, value in base64); libarchive writes both.
    pub(super) fn attributes(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = BTreeMap::new();
        for (key, value) in &self.values {
            if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                if let (Some(name), Some(value)) = (percent(name), base64(value)) {
                    found.entry(name).or_insert(value);
                }
            } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                found.insert(name.to_vec(), value.clone());
            }
        }
        found.into_iter().filter(|(name, _)| !name.is_empty()).collect()
    }
}

fn percent(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            out.push(first);
        }
    }
    Some(out)
}

/// Base64 without line breaks, with or without padding (RFC 4648, section 4).
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.iter().take_while(|byte| **byte != b'=') {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(((bits >> count) & 0xff).to_le_bytes()[0]);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

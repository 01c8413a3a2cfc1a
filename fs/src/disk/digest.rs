//! SHA-256 digests as a type, and hashing of a file range.

use std::fmt;
use std::io;

use sha2::{Digest as _, Sha256};

use super::range::FileRange;

/// A SHA-256 digest (FIPS 180-4), shown as 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Returns the digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the digest of every byte of `range`, read in pieces of 1 MiB.
    ///
    /// # Errors
    /// Fails when the file cannot be read or ends before the range does.
    pub fn of_range(range: &FileRange) -> io::Result<Self> {
        let mut end = 0;
        let digest = Self::of_pieces(|offset, buffer| {
            let count = range.read_at(offset, buffer)?;
            end = offset + count as u64;
            Ok::<_, io::Error>(count)
        })?;
        if end < range.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(digest)
    }

    /// Returns the digest of everything that `read` gives, which is asked for up to 1 MiB at each offset until it
    /// gives nothing.
    ///
    /// # Errors
    /// What `read` reports.
    pub fn of_pieces<E>(mut read: impl FnMut(u64, &mut [u8]) -> Result<usize, E>) -> Result<Self, E> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut offset = 0;
        loop {
            let count = read(offset, &mut buffer)?;
            if count == 0 {
                return Ok(Self(hasher.finalize().into()));
            }
            hasher.update(&buffer[..count]);
            offset += count as u64;
        }
    }

    /// Parses 64 hexadecimal digits of either case; anything else is `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_the_same_digits() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::parse("+a"), None);
        assert_eq!(Digest::parse(&"+1".repeat(32)), None);
    }
}

//! The checksum of a slot as the metadata writes it.

use crate::disk::digest::Digest;

/// What the metadata says a slot's stored bytes hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatedChecksum {
    /// Nothing.
    None,
    /// The full SHA-256.
    Full(Digest),
    /// Its first 8 bytes (the Python builder's attestation slot).
    Short([u8; 8]),
    /// Something this reader cannot compare with.
    Unknown,
}

impl StatedChecksum {
    /// Reads `sha256:` and 64 hexadecimal digits, 64 bare digits, or 16 bare digits.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let digits = text.trim();
        let digits = digits.strip_prefix("sha256:").unwrap_or(digits);
        if digits.is_empty() {
            return Self::None;
        }
        if let Some(digest) = Digest::parse(digits) {
            return Self::Full(digest);
        }
        let short = (digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| u64::from_str_radix(digits, 16).ok())
            .flatten();
        short.map_or(Self::Unknown, |number| Self::Short(number.to_be_bytes()))
    }

    /// Returns the full digest, if it is stated.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Full(digest) => Some(*digest),
            Self::None | Self::Short(_) | Self::Unknown => None,
        }
    }

    /// Tells whether bytes with this digest are what was stated; `true` where nothing comparable is.
    #[must_use]
    pub fn agrees_with(&self, found: &Digest) -> bool {
        match self {
            Self::Full(digest) => digest == found,
            Self::Short(bytes) => found.0.starts_with(bytes),
            Self::None | Self::Unknown => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_read_in_every_spelling() {
        let digest = Digest::of(b"abc");
        let short = [0xBA, 0x78, 0x16, 0xBF, 0x8F, 0x01, 0xCF, 0xEA];
        for (text, stated) in [
            (format!("sha256:{digest}"), StatedChecksum::Full(digest)),
            (digest.to_string().to_uppercase(), StatedChecksum::Full(digest)),
            ("ba7816bf8f01cfea".to_owned(), StatedChecksum::Short(short)),
            (String::new(), StatedChecksum::None),
            ("sha256:".to_owned(), StatedChecksum::None),
            ("sha256:abc".to_owned(), StatedChecksum::Unknown),
            ("+a7816bf8f01cfea".to_owned(), StatedChecksum::Unknown),
            (format!("md5:{digest}"), StatedChecksum::Unknown),
        ] {
            assert_eq!(StatedChecksum::parse(&text), stated, "{text}");
        }
        assert!(StatedChecksum::Short(short).agrees_with(&digest));
        assert!(!StatedChecksum::Short(short).agrees_with(&Digest::of(b"abd")));
        assert!(!StatedChecksum::Full(digest).agrees_with(&Digest::of(b"abd")));
    }
}

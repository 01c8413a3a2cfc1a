//! Bounds against packages that unfold without end, and how sizes are written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::SettingsError;

/// A number of bytes, written as a number or as `64GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number of bytes or a size such as \"64GiB\"")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<Size, E> {
        Ok(Size(bytes))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(E::custom)
    }
}

impl std::str::FromStr for Size {
    type Err = SettingsError;

    /// Reads `4096`, `64K`, `64KiB` and other binary multiples up to `T`; decimal ones are `kB`, `MB`, `GB`, `TB`.
    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        let factor: Option<u64> = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => Some(1),
            "k" | "kib" => Some(1 << 10),
            "m" | "mib" => Some(1 << 20),
            "g" | "gib" => Some(1 << 30),
            "t" | "tib" => Some(1 << 40),
            "kb" => Some(1_000),
            "mb" => Some(1_000_000),
            "gb" => Some(1_000_000_000),
            "tb" => Some(1_000_000_000_000),
            _ => None,
        };
        number
            .parse::<u64>()
            .ok()
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| SettingsError::BadSize { found: text.to_owned() })
    }
}

/// The bounds of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that one slot may decode to.
    pub decoded: Size,
    /// Files, directories and links that one slot may hold.
    pub entries: u64,
    /// Bytes of memory that decoding may take at once, all slots together.
    pub memory: Option<Size>,
}

impl Default for Limits {
    /// 256 GiB and 16 million entries: far above real packages, far below what fills a disk unseen.
    fn default() -> Self {
        Self { decoded: Size(256 << 30), entries: 16_000_000, memory: None }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_every_spelling_and_nothing_else_is() {
        let good = [
            ("0", 0),
            ("4096", 4096),
            ("64K", 65536),
            ("2 GiB", 2 << 30),
            ("3MB", 3_000_000),
            ("1t", 1 << 40),
        ];
        for (text, bytes) in good {
            assert_eq!(text.parse::<Size>().unwrap(), Size(bytes), "{text}");
        }
        for bad in ["", "GiB", "-1", "1.5G", "12X", "99999999999999999999", "20000000T", "1 0"] {
            let error = bad.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
    }
}

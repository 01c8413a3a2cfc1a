//! One 512-byte header block and its fields.

use super::number;

/// Everything in a tar archive is padded to this.
pub(super) const BLOCK: usize = 512;

/// A header whose checksum is right.
pub(super) struct Header([u8; BLOCK]);

impl Header {
    pub(super) fn parse(block: [u8; BLOCK]) -> Result<Self, &'static str> {
        let recorded = number::field(&block[148..156]).ok_or("no tar header where one must be")?;
        // The checksum counts its own field as spaces. Some old writers summed signed bytes.
        let blank = 8 * i64::from(b' ');
        let outside = || block[..148].iter().chain(&block[156..]);
        let unsigned = blank + outside().map(|byte| i64::from(*byte)).sum::<i64>();
        let signed = blank + outside().map(|byte| i64::from(byte.cast_signed())).sum::<i64>();
        if recorded == unsigned || recorded == signed {
            Ok(Self(block))
        } else {
            Err("the checksum of a header is wrong")
        }
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[156]
    }

    /// POSIX: the magic is `ustar`, NUL, `00`. GNU writes `ustar` and two spaces, and has no prefix.
    fn is_posix(&self) -> bool {
        &self.0[257..263] == b"ustar\0"
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = text(&self.0[345..500]);
        if self.is_posix() && !prefix.is_empty() { [prefix, b"/", name].concat() } else { name.to_vec() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub(super) fn mode(&self) -> Option<u64> {
        number::unsigned(&self.0[100..108])
    }

    pub(super) fn user(&self) -> Option<u64> {
        number::unsigned(&self.0[108..116])
    }

    pub(super) fn group(&self) -> Option<u64> {
        number::unsigned(&self.0[116..124])
    }

    pub(super) fn size(&self) -> Option<u64> {
        number::unsigned(&self.0[124..136])
    }

    pub(super) fn modified(&self) -> Option<i64> {
        number::field(&self.0[136..148])
    }

    pub(super) fn device(&self) -> (Option<u64>, Option<u64>) {
        (number::unsigned(&self.0[329..337]), number::unsigned(&self.0[337..345]))
    }

    /// Old GNU sparse format: four pairs of offset and length.
    pub(super) fn sparse_pairs(&self) -> &[u8] {
        &self.0[386..482]
    }

    /// Old GNU sparse format: whether a block with more pairs follows.
    pub(super) fn has_more_pairs(&self) -> bool {
        self.0[482] != 0
    }

    /// Old GNU sparse format: the file's length with its holes.
    pub(super) fn sparse_size(&self) -> Option<u64> {
        number::unsigned(&self.0[483..495])
    }
}

/// The bytes before the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

//! Numbers of tar headers: octal text, or GNU's base 256.

/// Parses a header field: spaces and NULs around octal digits (an empty field is 0), or, where the first bit is set,
/// a big-endian two's-complement number.
pub(super) fn field(bytes: &[u8]) -> Option<i64> {
    let (&first, rest) = bytes.split_first()?;
    if first & 0x80 != 0 {
        // Bit 6 is the sign; every byte that does not fit in 64 bits must repeat it.
        let mut value = i128::from(first & 0x7f) - if first & 0x40 != 0 { 0x80 } else { 0 };
        for byte in rest {
            value = (value << 8) | i128::from(*byte);
            i64::try_from(value).ok()?;
        }
        return i64::try_from(value).ok();
    }
    let text = bytes.trim_ascii_start();
    let end = text.iter().position(|byte| !(b'0'..=b'7').contains(byte)).unwrap_or(text.len());
    let (digits, tail) = text.split_at(end);
    if !tail.first().is_none_or(|byte| matches!(byte, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0_i64, |value, digit| {
        value.checked_mul(8).and_then(|value| value.checked_add(i64::from(digit - b'0')))
    })
}

/// As [`field`], not negative.
pub(super) fn unsigned(bytes: &[u8]) -> Option<u64> {
    u64::try_from(field(bytes)?).ok()
}

/// Parses a decimal number that fills `text` and fits in 63 bits.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = text.iter().try_fold(0_u64, |value, digit| {
        value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit - b'0')))
    })?;
    i64::try_from(value).is_ok().then_some(value)
}

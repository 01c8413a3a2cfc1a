//! Names of ZIP entries as bytes of a Unix path.

use super::Central;
use super::directory::u32_at;

/// The upper half of code page 437, in which DOS archivers write names.
const CODE_PAGE_437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// Returns the path of an entry: UTF-8 where flagged (bit 11) or given beside (extra field 0x7075), bytes as they are
/// from Unix, else code page 437.
pub(super) fn path(central: &Central) -> Vec<u8> {
    if central.flags & 0x800 != 0 || central.name.is_ascii() {
        return separators(central, central.name.clone());
    }
    if let Some((_, field)) = central.fields().find(|(id, field)| *id == 0x7075 && field.len() > 5) {
        // Version 1, CRC-32 of the name that it replaces, name.
        let mut crc = flate2::Crc::new();
        crc.update(&central.name);
        if field[0] == 1 && u32_at(field, 1) == crc.sum() {
            return separators(central, field[5..].to_vec());
        }
    }
    if central.is_from_unix() {
        return central.name.clone();
    }
    let table: Vec<char> = CODE_PAGE_437.chars().collect();
    let translated: String = central
        .name
        .iter()
        .map(|byte| match byte.checked_sub(128) {
            Some(upper) => table.get(usize::from(upper)).copied().unwrap_or('?'),
            None => char::from(*byte),
        })
        .collect();
    separators(central, translated.into_bytes())
}

/// Some DOS archivers write `\` between directories; `unzip` turns them where there is no `/`.
fn separators(central: &Central, mut path: Vec<u8>) -> Vec<u8> {
    if central.host == 0 && !path.contains(&b'/') {
        for byte in &mut path {
            if *byte == b'\\' {
                *byte = b'/';
            }
        }
    }
    path
}

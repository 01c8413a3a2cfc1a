//! Rust source as the rules look at it: comments and the inside of literals blanked out, test code cut away. Lines and
//! columns stay where they are.

/// Returns `text` with every comment, and everything inside string and character literals, replaced by blanks.
pub(crate) fn without_words(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end > at {
            blank(&mut code, at, end);
            at = end;
        } else {
            at += 1;
        }
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn blank(code: &mut [u8], start: usize, end: usize) {
    for byte in &mut code[start..end] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Returns where the comment or literal that starts at `at` ends, or `at` when none does.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let before = at.checked_sub(1).map_or(b' ', |before| bytes[before]);
    let in_name = before.is_ascii_alphanumeric() || before == b'_';
    if rest.starts_with(b"//") {
        return find(bytes, at, b"\n");
    }
    if rest.starts_with(b"/*") {
        return block_comment_end(bytes, at);
    }
    if rest[0] == b'"' {
        return quoted_end(bytes, at + 1, b'"');
    }
    if !in_name {
        let raw = rest.strip_prefix(b"b").unwrap_or(rest);
        if let Some(after) = raw.strip_prefix(b"r") {
            let hashes = after.iter().take_while(|&&byte| byte == b'#').count();
            if after.get(hashes) == Some(&b'"') {
                let open = at + (rest.len() - after.len()) + hashes + 1;
                let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
                return (find(bytes, open, &close) + close.len()).min(bytes.len());
            }
        }
    }
    if rest[0] == b'\'' && is_character(rest) {
        return quoted_end(bytes, at + 1, b'\'');
    }
    at
}

/// Tells a character literal from a lifetime.
fn is_character(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(_) => {
            let width = std::str::from_utf8(&rest[1..rest.len().min(5)])
                .or_else(|error| std::str::from_utf8(&rest[1..1 + error.valid_up_to()]))
                .ok()
                .and_then(|text| text.chars().next())
                .map_or(1, char::len_utf8);
            rest.get(1 + width) == Some(&b'\'')
        }
        None => false,
    }
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    bytes[from..]
        .windows(what.len())
        .position(|window| window == what)
        .map_or(bytes.len(), |offset| from + offset)
}

fn quoted_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// Returns blanked code with every item under a `cfg` that needs `test` blanked too.
pub(crate) fn without_tests(code: &str) -> String {
    let mut bytes = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(offset) = code[from..].find("#[cfg(") {
        let start = from + offset;
        let end = start + code[start..].find(']').map_or(code.len() - start, |end| end + 1);
        let condition = &code[start..end];
        from = end;
        if !is_word(condition, "test") || condition.contains("not(test") {
            continue;
        }
        let item = item_end(code, end);
        blank(&mut bytes, start, item);
        from = item;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns where the item that starts after `from` ends: at its closing brace or its semicolon.
fn item_end(code: &str, from: usize) -> usize {
    let bytes = code.as_bytes();
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b';' => return at + 1,
            b'{' => return block_end(code, at),
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Returns where the block that opens at `open` ends, its closing brace included.
pub(crate) fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in code.as_bytes()[open..].iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return open + offset + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Returns where `word` stands in `code` as a word of its own.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_name = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let starts_name = word.as_bytes().first().is_some_and(|byte| is_name(Some(byte)));
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        let ends_name = word.as_bytes().last().is_some_and(|byte| is_name(Some(byte)));
        !(starts_name && is_name(before) || ends_name && is_name(bytes.get(at + word.len())))
    })
}

/// Tells whether `word` stands in `code` as a word of its own.
pub(crate) fn is_word(code: &str, word: &str) -> bool {
    words(code, word).next().is_some()
}

/// Returns the number of the line that `at` lies in, counted from 1.
pub(crate) fn line_of(code: &str, at: usize) -> usize {
    code.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let table = [
            ("a // unsafe\nb", "a          \nb"),
            ("a /* x /* y */ z */ b", "a                   b"),
            ("f(\"un\\\"safe\", b\"x\")", "f(          , b   )"),
            ("r#\"a\"b\"# c", "         c"),
            ("br\"a\" c", "      c"),
            ("'x' '\\'' 'é' &'a str", "              &'a str"),
            ("for_r\"s\"", "for_r   "),
        ];
        for (text, expected) in table {
            assert_eq!(without_words(text).trim_end(), expected.trim_end(), "{text}");
            assert_eq!(without_words(text).len(), text.len(), "{text}");
        }
    }

    #[test]
    fn test_code_is_cut_away() {
        let code =
            "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { {} } }\nfn c() {}\n#[cfg(not(test))]\nfn d() {}";
        let left = without_tests(code);
        assert!(left.contains("fn a") && left.contains("fn c") && left.contains("fn d"));
        assert!(!left.contains("fn b"));
        assert_eq!(line_of(&left, left.find("fn c").unwrap_or(0)), 4);
        let gated = without_tests("#[cfg(all(test, unix))]\nmod tests;\nfn e() {}");
        assert!(gated.contains("fn e") && !gated.contains("mod tests"));
    }

    #[test]
    fn words_stand_alone() {
        assert_eq!(words("unsafe unsafe_code not_unsafe (unsafe)", "unsafe").count(), 2);
        assert!(is_word("std::env::var", "std::env"));
        assert!(!is_word("std::environment", "std::env"));
    }
}

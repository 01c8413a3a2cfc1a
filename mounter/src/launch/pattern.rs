//! Wildcards: in names of variables, and in paths below the work environment.

use std::path::{Path, PathBuf};

use slotfs_fs::disk::{Context, DiskError};

/// Tells whether `text` matches a pattern of `*` (anything) and `?` (one character); nothing else is special.
#[must_use]
pub fn matches_name(pattern: &str, text: &str) -> bool {
    let literal = pattern.chars().map(|character| match character {
        '*' => Token::Any,
        '?' => Token::One,
        other => Token::Literal(other),
    });
    matches(&literal.collect::<Vec<_>>(), text)
}

/// Tells whether a file name matches a pattern with `*`, `?` and sets such as `[ab]`, `[a-z]`, `[!x]`.
#[must_use]
pub fn matches_file(pattern: &str, name: &str) -> bool {
    matches(&tokens(pattern), name)
}

enum Token {
    Any,
    One,
    Literal(char),
    Set { ranges: Vec<(char, char)>, negated: bool },
}

impl Token {
    fn accepts(&self, character: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Literal(literal) => *literal == character,
            Self::Set { ranges, negated } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != *negated
            }
        }
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let characters: Vec<char> = pattern.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(character) = characters.get(at) {
        at += 1;
        match character {
            '*' => tokens.push(Token::Any),
            '?' => tokens.push(Token::One),
            '[' => match set(&characters[at..]) {
                Some((token, length)) => {
                    tokens.push(token);
                    at += length;
                }
                // Without its end it is an ordinary character.
                None => tokens.push(Token::Literal('[')),
            },
            other => tokens.push(Token::Literal(*other)),
        }
    }
    tokens
}

/// Reads a set after its `[`; also returns how many characters it took.
fn set(characters: &[char]) -> Option<(Token, usize)> {
    let negated = matches!(characters.first(), Some('!' | '^'));
    let start = usize::from(negated);
    // A `]` right at the start is a member.
    let end = start + 1 + characters.get(start + 1..)?.iter().position(|character| *character == ']')?;
    let members = characters.get(start..end)?;
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(low) = members.get(at) {
        match (members.get(at + 1), members.get(at + 2)) {
            (Some('-'), Some(high)) => {
                ranges.push((*low, *high));
                at += 3;
            }
            _ => {
                ranges.push((*low, *low));
                at += 1;
            }
        }
    }
    Some((Token::Set { ranges, negated }, end + 1))
}

/// Matches without recursion: on a mismatch the latest `*` takes one more character. Time is at most the
/// product of both lengths.
fn matches(tokens: &[Token], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut token, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match tokens.get(token) {
            Some(Token::Any) => {
                star = Some((token, at));
                token += 1;
            }
            Some(one) if one.accepts(text[at]) => {
                token += 1;
                at += 1;
            }
            _ => {
                let Some((starred, taken)) = star else { return false };
                star = Some((starred, taken + 1));
                token = starred + 1;
                at = taken + 1;
            }
        }
    }
    tokens[token..].iter().all(|rest| matches!(rest, Token::Any))
}

/// Returns every path below `base` that matches `pattern`, sorted: `*`, `?` and sets within a component, `**`
/// for any number of directories. Names that start with a dot match as others do. Links to directories are not
/// descended into by `**`. A `base` that does not exist gives none.
///
/// # Errors
/// A directory that cannot be listed.
pub fn paths(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, DiskError> {
    let mut found = vec![base.to_owned()];
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    for (position, part) in parts.iter().enumerate() {
        let is_last = position + 1 == parts.len();
        let mut next = Vec::new();
        for path in found {
            match *part {
                // A final `**` means everything below, as `**/*` does.
                "**" => descend(&path, is_last, &mut next)?,
                part if part.contains(['*', '?', '[']) => {
                    for name in names(&path)? {
                        if matches_file(part, &name.to_string_lossy()) {
                            next.push(path.join(name));
                        }
                    }
                }
                part => next.extend(Some(path.join(part)).filter(|path| path.symlink_metadata().is_ok())),
            }
        }
        found = next;
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Adds `path` and all directories below it, or, at the end of a pattern, everything below it.
fn descend(path: &Path, everything: bool, found: &mut Vec<PathBuf>) -> Result<(), DiskError> {
    let mut waiting = vec![path.to_owned()];
    while let Some(directory) = waiting.pop() {
        for name in names(&directory)? {
            let below = directory.join(name);
            let is_directory = below.symlink_metadata().is_ok_and(|known| known.is_dir());
            if everything {
                found.push(below.clone());
            }
            if is_directory {
                waiting.push(below);
            }
        }
        if !everything {
            found.push(directory);
        }
    }
    Ok(())
}

fn names(directory: &Path) -> Result<Vec<std::ffi::OsString>, DiskError> {
    use std::io::ErrorKind;
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry.context("list", directory)?.file_name())).collect(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(DiskError::new("list", directory, error)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn names_match_by_star_and_question_mark_alone() {
        for (pattern, text, wanted) in [
            ("*", "", true),
            ("S_*", "S_", true),
            ("S_*", "S", false),
            ("Q?", "Q1", true),
            ("Q?", "Q12", false),
            ("*A*B*", "xAyBz", true),
            ("*A*B*", "xByAz", false),
            ("L[ab]", "La", false),
            ("L[ab]", "L[ab]", true),
            ("?", "é", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches_name(pattern, text), wanted, "{pattern} {text}");
        }
        // Would take for ever with backtracking into every star.
        assert!(!matches_name(&"*a".repeat(200), &"a".repeat(199)));
    }

    #[test]
    fn file_names_also_match_by_sets() {
        for (pattern, name, wanted) in [
            ("*.whl", "a.whl", true),
            ("*.whl", ".whl", true),
            ("*.whl", "a.whl.txt", false),
            ("[ab]?t", "a.t", true),
            ("[!ab]*", "a", false),
            ("[a-cx]", "x", true),
            ("[]]", "]", true),
            ("[", "[", true),
            ("[]", "[]", true),
            ("{a,b}", "a", false),
        ] {
            assert_eq!(matches_file(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn paths_are_found_sorted_at_every_depth() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["b c.t", "a.t", ".h.t", "B.t", "x.no", "d/n.t", "d/e/m.t"] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        let found = |pattern: &str| {
            let paths = paths(folder.path(), pattern).unwrap();
            let relative = |path: PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
            paths.into_iter().map(relative).collect::<Vec<_>>().join("|")
        };
        assert_eq!(found("*.t"), ".h.t|B.t|a.t|b c.t");
        assert_eq!(found("**/*.t"), ".h.t|B.t|a.t|b c.t|d/e/m.t|d/n.t");
        assert_eq!(found("d/*"), "d/e|d/n.t");
        assert_eq!(found("*/n.t"), "d/n.t");
        assert_eq!(found("d/**"), "d/e|d/e/m.t|d/n.t");
        assert_eq!(found("a.t"), "a.t");
        assert_eq!(found("nope/*"), "");
        assert_eq!(found("a.t/*"), "");
    }
}

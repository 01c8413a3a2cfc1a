//! Splitting a package's command into words, as a POSIX shell quotes and as nothing else of a shell.
//!
//! POSIX.1-2024, Shell Command Language, 2.2: a single quote keeps everything up to the next one; a double
//! quote keeps everything but a backslash before `"`, `\`, `$` and `` ` ``; elsewhere a backslash keeps the next
//! character. No variable, `~`, `*`, `#` or operator has a meaning. Words are split before placeholders are
//! replaced, so that a work environment with a space in its path is one word.

use super::LaunchError;

/// Splits a command into words; white space alone gives none.
///
/// # Errors
/// A quote or final backslash without what belongs to it.
pub fn split(command: &str) -> Result<Vec<String>, LaunchError> {
    let unclosed = |quote| LaunchError::UnclosedQuote { command: command.to_owned(), quote };
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or_else(|| unclosed("single quote"))? {
                        '\'' => break,
                        kept => word.push(kept),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or_else(|| unclosed("double quote"))? {
                        '"' => break,
                        '\\' => {
                            let kept = characters.next().ok_or_else(|| unclosed("double quote"))?;
                            if !matches!(kept, '"' | '\\' | '$' | '`') {
                                word.push('\\');
                            }
                            word.push(kept);
                        }
                        kept => word.push(kept),
                    }
                }
            }
            '\\' => {
                let kept = characters.next().ok_or_else(|| unclosed("backslash"))?;
                word.get_or_insert_default().push(kept);
            }
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Writes words as one line that [`split`] would read back, for messages.
#[must_use]
pub fn join<'a>(words: impl IntoIterator<Item = &'a std::ffi::OsStr>) -> String {
    let quoted = words.into_iter().map(|word| {
        let word = word.to_string_lossy();
        let plain = |character: char| character.is_alphanumeric() || "-_./:=+,@%{}*?[]~".contains(character);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_posix_quotes() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            (" \t\n ", &[]),
            ("a  b\tc\nd", &["a", "b", "c", "d"]),
            ("'a b' \"c d\"", &["a b", "c d"]),
            ("'' \"\" x", &["", "", "x"]),
            ("a'b'c\"d\"", &["abcd"]),
            ("\"x'y\" 'x\"y'", &["x'y", "x\"y"]),
            (r"a\ b \\n \'", &["a b", r"\n", "'"]),
            (r#""q\"r" "\n" "\$" '\n'"#, &["q\"r", r"\n", "$", r"\n"]),
            ("$HOME ~ * a # b | c; d", &["$HOME", "~", "*", "a", "#", "b", "|", "c;", "d"]),
            ("é 'ü x'", &["é", "ü x"]),
        ];
        for (command, words) in table {
            assert_eq!(split(command).unwrap(), *words, "{command}");
        }
        for (command, quote) in
            [("'a", "single"), ("x \"a", "double"), ("\"a\\", "double"), ("a\\", "backslash")]
        {
            let error = split(command).unwrap_err().to_string();
            assert!(error.contains(quote) && error.contains(command), "{error}");
        }
    }

    #[test]
    fn a_joined_line_reads_back_as_its_words() {
        for words in [&["a", "b c", "", "it's", "x\"y\\"][..], &["/w/bin/x", "--a=b", "$x", "*", "é"]] {
            let line = join(words.iter().map(std::ffi::OsStr::new));
            assert_eq!(split(&line).unwrap(), words, "{line}");
        }
    }
}

//! What holds for every text that a package may write.

use std::ffi::OsStr;
use std::path::Path;

use proptest::prelude::*;
use slotfs::launch::command_line;
use slotfs::launch::pattern::{matches_file, matches_name};
use slotfs::launch::placeholders::{Placeholders, Scope};
use slotfs_fs::package::metadata::Metadata;

/// Matches by definition: a star is nothing, or one character and the star again.
fn matches_by_definition(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], _) => text.is_empty(),
        (['*', rest @ ..], _) => {
            matches_by_definition(rest, text)
                || text.split_first().is_some_and(|(_, text)| matches_by_definition(pattern, text))
        }
        (['?', rest @ ..], [_, text @ ..]) => matches_by_definition(rest, text),
        ([one, rest @ ..], [other, text @ ..]) => one == other && matches_by_definition(rest, text),
        (_, []) => false,
    }
}

proptest! {
    #[test]
    fn words_survive_being_joined_and_split(words in prop::collection::vec("[ab '\"\\\\$é\n\t]{0,6}", 0..6)) {
        let line = command_line::join(words.iter().map(OsStr::new));
        prop_assert_eq!(command_line::split(&line).unwrap(), words);
    }

    #[test]
    fn splitting_never_panics_and_agrees_with_a_shell_on_plain_words(text in "\\PC{0,40}") {
        if let Ok(words) = command_line::split(&text) && !text.contains(['\'', '"', '\\']) {
            let blank = [' ', '\t', '\n', '\r'];
            prop_assert_eq!(words, text.split(blank).filter(|word| !word.is_empty()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn text_without_placeholders_is_left_as_it_is(text in "[a-z{}:0-9é]{0,30}") {
        let metadata: Metadata = serde_json::from_str(r#"{"package": {"name": "n", "version": "v"}}"#).unwrap();
        let placeholders = Placeholders::new(&metadata, Path::new("/w"));
        let known = ["{workenv}", "{package_name}", "{version}"].iter().any(|name| text.contains(name));
        if !known {
            prop_assert_eq!(placeholders.fill(&text, Scope::Program), text.as_str());
        }
    }

    #[test]
    fn patterns_match_as_defined(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
        let (pattern_characters, characters): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
        let wanted = matches_by_definition(&pattern_characters, &characters);
        prop_assert_eq!(matches_name(&pattern, &text), wanted);
        prop_assert_eq!(matches_file(&pattern, &text), wanted);
    }

    #[test]
    fn no_pattern_panics(pattern in "[ab*?!^\\[\\]é-]{0,12}", text in "\\PC{0,8}") {
        // `*` takes what either of them takes.
        prop_assert!(matches_file("*", &text) && matches_name("*", &text));
        let _ = (matches_file(&pattern, &text), matches_name(&pattern, &text));
    }
}

//! The settings that are one word out of a few, with their spelling in flags, variables and the file.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::SettingsError;

/// Reads a word. A visitor of its own, because only an error raised inside one carries the right line.
pub(super) struct Word<T>(pub(super) PhantomData<T>);

impl<T: FromStr<Err = SettingsError>> Visitor<'_> for Word<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a word")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Defines an enum of words: one spelling each, parsed case-insensitively, listed in the error.
macro_rules! words {
    ($(#[$about:meta])* $name:ident ($setting:literal) { $($(#[$word_about:meta])* $word:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$word_about])* $word,)+ }

        impl $name {
            /// Every spelling, in order.
            pub const ALL: &'static [&'static str] = &[$($text),+];

            /// Returns the spelling.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$word => $text,)+ }
            }
        }

        impl FromStr for $name {
            type Err = SettingsError;

            fn from_str(text: &str) -> Result<Self, SettingsError> {
                match text.to_ascii_lowercase().as_str() {
                    $($text => Ok(Self::$word),)+
                    _ => Err(SettingsError::UnknownWord {
                        setting: $setting, found: text.to_owned(), allowed: Self::ALL,
                    }),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Word(PhantomData))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// How the tree of a package becomes visible.
    Mode("mode") {
        /// Mounted where FUSE works, else extracted.
        Auto = "auto",
        /// Mounted, or an error.
        Mount = "mount",
        /// Extracted.
        Extract = "extract",
    }
}

words! {
    /// What is kept after a run.
    Strategy("strategy") {
        /// Everything, for ever.
        Aggressive = "aggressive",
        /// What was used within 30 days.
        Balanced = "balanced",
        /// Nothing after the run but what lifecycles keep.
        Conservative = "conservative",
        /// Nothing, not even indexes.
        Minimal = "minimal",
    }
}

words! {
    /// How much a package must prove before it is used.
    Validation("level of verification") {
        /// Everything must be right.
        Strict = "strict",
        /// A signature may be missing, not wrong.
        Standard = "standard",
        /// A wrong signature is only warned about.
        Relaxed = "relaxed",
        /// A missing signature is not mentioned either.
        Minimal = "minimal",
        /// The signature is not looked at; slot digests are.
        None = "none",
    }
}

words! {
    /// Whose signatures count.
    TrustRule("rule of trust") {
        /// Anybody's, as far as policy files go.
        Any = "any",
        /// Those made with a key of a `trusted-keys` directory.
        Known = "known",
        /// Those made with the key of the package's first use.
        Pinned = "pinned",
    }
}

words! {
    /// When a package must have proved that.
    VerifyTime("time of verification") {
        /// Before anything of it is served.
        BeforeServing = "before-serving",
        /// Slots of other builders are hashed while they are served; on a mismatch the mount goes.
        WhileServing = "while-serving",
    }
}

words! {
    /// How the launchers would start the program; slotfs waits for a child in both cases.
    ExecMode("exec mode") {
        /// In place of the launcher.
        Exec = "exec",
        /// As its child.
        Spawn = "spawn",
    }
}

//! What `--verify` says: how strictly, when, or both.

use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};

use super::SettingsError;
use super::words::{Validation, VerifyTime, Word};

/// A level of verification, a time of it, or both with a comma between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verify {
    /// How strictly the package's own evidence is taken.
    pub level: Option<Validation>,
    /// When its slots are hashed.
    pub time: Option<VerifyTime>,
}

/// Every word.
const WORDS: &[&str] =
    &["strict", "standard", "relaxed", "minimal", "none", "before-serving", "while-serving"];

impl FromStr for Verify {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let mut verify = Self::default();
        for word in text.split(',') {
            let is_new = match (word.parse::<Validation>(), word.parse::<VerifyTime>()) {
                (Ok(level), _) => verify.level.replace(level).is_none(),
                (_, Ok(time)) => verify.time.replace(time).is_none(),
                (Err(_), Err(_)) => false,
            };
            if !is_new {
                let found = text.to_owned();
                return Err(SettingsError::UnknownWord {
                    setting: "level or time of verification",
                    found,
                    allowed: WORDS,
                });
            }
        }
        Ok(verify)
    }
}

impl<'de> Deserialize<'de> for Verify {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Word(PhantomData))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn level_and_time_are_told_apart_and_each_is_said_once() {
        let parsed = |text: &str| text.parse::<Verify>();
        let beside = Some(VerifyTime::WhileServing);
        assert_eq!(parsed("While-Serving").unwrap(), Verify { level: None, time: beside });
        assert_eq!(
            parsed("while-serving,standard").unwrap(),
            Verify { level: Some(Validation::Standard), time: beside }
        );
        for wrong in ["", "strict,", "strict,none", "while-serving,before-serving", "later"] {
            assert!(parsed(wrong).unwrap_err().to_string().contains("use `strict`, "), "{wrong}");
        }
        assert_eq!(WORDS, [Validation::ALL, VerifyTime::ALL].concat());
    }
}

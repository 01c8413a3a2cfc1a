//! Which slots may be written over: `ro` or `rw`, by default and slot by slot.

use std::fmt;
use std::str::FromStr;

/// Whether a slot's place in the work environment accepts writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// `ro`: writing gives EROFS.
    ReadOnly,
    /// `rw`: writes go to the upper directory.
    ReadWrite,
}

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ReadOnly => "ro",
            Self::ReadWrite => "rw",
        })
    }
}

/// One `--slot NAME=ro|rw`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotAccess {
    /// The slot's id, or its position.
    pub slot: String,
    /// What was asked for.
    pub access: Access,
}

/// Why a wish for access cannot be met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Not of the form `NAME=ro` or `NAME=rw`.
    #[error("`{text}` is not of the form `NAME=ro` or `NAME=rw`")]
    Malformed {
        /// What was given.
        text: String,
    },
    /// The package has no such slot.
    #[error("there is no slot `{slot}`; the package has {}", list(.known))]
    Unknown {
        /// What was named.
        slot: String,
        /// The ids of all slots.
        known: Vec<String>,
    },
    /// One slot was given both modes.
    #[error("slot `{slot}` is asked for as `ro` and as `rw`")]
    Contradiction {
        /// The slot's id.
        slot: String,
    },
    /// The slot's lifecycle does not allow writes.
    #[error("slot `{slot}` can only be read: its lifecycle is `attestation`")]
    AlwaysReadOnly {
        /// The slot's id.
        slot: String,
    },
}

impl FromStr for SlotAccess {
    type Err = AccessError;

    /// Reads `NAME=ro` or `NAME=rw`; the name may hold further `=`.
    fn from_str(text: &str) -> Result<Self, AccessError> {
        let malformed = || AccessError::Malformed { text: text.into() };
        let (slot, access) = text.rsplit_once('=').ok_or_else(malformed)?;
        let access = match access {
            "ro" => Access::ReadOnly,
            "rw" => Access::ReadWrite,
            _ => return Err(malformed()),
        };
        if slot.is_empty() {
            return Err(malformed());
        }
        Ok(Self { slot: slot.into(), access })
    }
}

/// What matters about a slot here.
#[derive(Clone, Copy, Debug)]
pub struct SlotFacts<'a> {
    /// The slot's id.
    pub id: &'a str,
    /// [`crate::lifecycle::Rules::writable`].
    pub writable: bool,
}

/// Decides the access of each slot, in the order given: the wish for that slot, else `default`, else what its
/// lifecycle allows.
///
/// # Errors
/// A wish names no slot, contradicts another one, or asks to write what can only be read.
pub fn decide(
    slots: &[SlotFacts<'_>],
    default: Option<Access>,
    wishes: &[SlotAccess],
) -> Result<Vec<Access>, AccessError> {
    let mut wished: Vec<Option<Access>> = vec![None; slots.len()];
    for wish in wishes {
        let position = position(slots, &wish.slot).ok_or_else(|| AccessError::Unknown {
            slot: wish.slot.clone(),
            known: slots.iter().map(|slot| slot.id.to_owned()).collect(),
        })?;
        let id = slots[position].id.to_owned();
        if wish.access == Access::ReadWrite && !slots[position].writable {
            return Err(AccessError::AlwaysReadOnly { slot: id });
        }
        match wished[position] {
            Some(earlier) if earlier != wish.access => return Err(AccessError::Contradiction { slot: id }),
            _ => wished[position] = Some(wish.access),
        }
    }
    Ok(slots
        .iter()
        .zip(wished)
        .map(|(slot, wish)| match wish.or(default).unwrap_or(Access::ReadWrite) {
            Access::ReadWrite if slot.writable => Access::ReadWrite,
            Access::ReadWrite | Access::ReadOnly => Access::ReadOnly,
        })
        .collect())
}

/// Finds the slot that `name` means: its id, else its position. Ids come first, because an id may be a number.
#[must_use]
pub fn position(slots: &[SlotFacts<'_>], name: &str) -> Option<usize> {
    let by_number = || name.parse::<usize>().ok().filter(|position| *position < slots.len());
    slots.iter().position(|slot| slot.id == name).or_else(by_number)
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::Access::{ReadOnly, ReadWrite};
    use super::*;

    const SLOTS: [SlotFacts<'_>; 3] = [
        SlotFacts { id: "python", writable: true },
        SlotFacts { id: "a=b", writable: true },
        SlotFacts { id: "_attestation", writable: false },
    ];

    fn decided(default: Option<Access>, wishes: &[&str]) -> Result<Vec<Access>, AccessError> {
        let wishes: Vec<SlotAccess> = wishes.iter().map(|wish| wish.parse().unwrap()).collect();
        decide(&SLOTS, default, &wishes)
    }

    #[test]
    fn wishes_win_over_the_default_and_lifecycles_over_both() {
        let table: [(Option<Access>, &[&str], [Access; 3]); 6] = [
            (None, &[], [ReadWrite, ReadWrite, ReadOnly]),
            (Some(ReadOnly), &[], [ReadOnly, ReadOnly, ReadOnly]),
            (Some(ReadWrite), &[], [ReadWrite, ReadWrite, ReadOnly]),
            (Some(ReadOnly), &["python=rw"], [ReadWrite, ReadOnly, ReadOnly]),
            (None, &["a=b=ro", "1=ro", "_attestation=ro"], [ReadWrite, ReadOnly, ReadOnly]),
            (None, &["0=ro"], [ReadOnly, ReadWrite, ReadOnly]),
        ];
        for (default, wishes, expected) in table {
            assert_eq!(decided(default, wishes), Ok(expected.to_vec()), "{default:?} {wishes:?}");
        }
    }

    #[test]
    fn wishes_that_cannot_be_met_say_why() {
        let table = [
            (vec!["pyhton=ro"], "there is no slot `pyhton`; the package has `python`, `a=b`, `_attestation`"),
            (vec!["3=ro"], "there is no slot `3`; the package has `python`, `a=b`, `_attestation`"),
            (vec!["python=ro", "0=rw"], "slot `python` is asked for as `ro` and as `rw`"),
            (vec!["_attestation=rw"], "slot `_attestation` can only be read: its lifecycle is `attestation`"),
        ];
        for (wishes, message) in table {
            assert_eq!(decided(None, &wishes).unwrap_err().to_string(), message);
        }
        for text in ["python", "python=", "python=RW", "=ro", "python=wo"] {
            let error = text.parse::<SlotAccess>().unwrap_err();
            assert_eq!(error.to_string(), format!("`{text}` is not of the form `NAME=ro` or `NAME=rw`"));
        }
    }
}

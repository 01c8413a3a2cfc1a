//! How strictly a package's own evidence is taken, and what each kind of damage means at each level.

use std::fmt;

/// How strictly a package is checked: `FLAVOR_VALIDATION`, `--verify`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Everything must be right.
    #[default]
    Strict,
    /// A signature may be missing, not wrong.
    Standard,
    /// A wrong signature is only warned about.
    Relaxed,
    /// As relaxed, and a missing signature is not mentioned.
    Minimal,
    /// The signature is not looked at. Slot digests still are, always.
    None,
}

impl Level {
    /// Every level, strictest first.
    pub const ALL: [Self; 5] = [Self::Strict, Self::Standard, Self::Relaxed, Self::Minimal, Self::None];

    /// Reads a name, in any case; `None` for an unknown one, which launchers take for `strict`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }

    /// Returns the name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Standard => "standard",
            Self::Relaxed => "relaxed",
            Self::Minimal => "minimal",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What checking the signature gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signature {
    /// It is right.
    Valid,
    /// It is there and wrong.
    Invalid,
    /// There is none: the field holds zeros.
    Absent,
    /// A bare archive or a directory has no place for one.
    NotApplicable,
}

/// A check that came out negative.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Damage {
    /// The index block's own checksum (Adler-32).
    IndexChecksum,
    /// The recorded package size.
    PackageSize,
    /// The SHA-256 of the compressed metadata.
    MetadataChecksum,
    /// The recorded fingerprint is not that of the key.
    KeyFingerprint,
    /// The recorded digest of the attestation slot.
    AttestationDigest,
    /// The recorded digest of the package's policy.
    PolicyHash,
    /// A slot against the full SHA-256 in the metadata.
    SlotDigest {
        /// The slot's id.
        slot: String,
    },
    /// A slot against the eight bytes in its descriptor.
    SlotChecksum {
        /// The slot's id.
        slot: String,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IndexChecksum => formatter.write_str("the checksum of its index is wrong"),
            Self::PackageSize => formatter.write_str("it is not as long as its index says"),
            Self::MetadataChecksum => formatter.write_str("the checksum of its metadata is wrong"),
            Self::KeyFingerprint => {
                formatter.write_str("the key fingerprint in its index is not that of its public key")
            }
            Self::AttestationDigest => {
                formatter.write_str("its attestation is not the one that its index names")
            }
            Self::PolicyHash => formatter.write_str("its policy is not the one that its index names"),
            Self::SlotDigest { slot } => {
                write!(formatter, "the content of slot `{slot}` is not what the metadata promises (SHA-256)")
            }
            Self::SlotChecksum { slot } => {
                write!(formatter, "the content of slot `{slot}` is not what its descriptor promises")
            }
        }
    }
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Fine,
    Warn,
    Refuse,
}

/// Decides how bad a damage is. Only a wrong package size is ever tolerated: it loses no content.
pub(super) fn of_damage(damage: &Damage, level: Level) -> Severity {
    match damage {
        Damage::PackageSize => match level {
            Level::Strict => Severity::Refuse,
            Level::Standard | Level::Relaxed => Severity::Warn,
            Level::Minimal | Level::None => Severity::Fine,
        },
        Damage::IndexChecksum
        | Damage::MetadataChecksum
        | Damage::KeyFingerprint
        | Damage::AttestationDigest
        | Damage::PolicyHash
        | Damage::SlotDigest { .. }
        | Damage::SlotChecksum { .. } => Severity::Refuse,
    }
}

/// Decides how bad the state of the signature is.
pub(super) fn of_signature(signature: Signature, level: Level) -> Severity {
    match (signature, level) {
        (Signature::Valid | Signature::NotApplicable, _) => Severity::Fine,
        (Signature::Invalid, Level::Strict | Level::Standard) => Severity::Refuse,
        (Signature::Absent, Level::Strict) => Severity::Refuse,
        (Signature::Invalid, Level::Relaxed | Level::Minimal | Level::None) => Severity::Warn,
        (Signature::Absent, Level::Standard | Level::Relaxed) => Severity::Warn,
        (Signature::Absent, Level::Minimal | Level::None) => Severity::Fine,
    }
}

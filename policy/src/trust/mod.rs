//! May this package run? The package's evidence, the operator's rules and the author's rules give one verdict.
//!
//! **Invariant:** a slot whose bytes are not those that the metadata promises is refused at every level, and
//! policies hold at every level.

mod level;
mod policies;

pub use level::{Damage, Level, Signature};
pub use policies::{
    AttestationSection, EnforcementSection, ExecutionSection, Mode, OperatorPolicy, PackagePolicy,
    TrustSection,
};

use crate::platform::{self, Platform};
use level::Severity;

/// Whose signatures count, as the user wants it: `--trust`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Anybody's, as far as the operator's policy goes.
    #[default]
    Any,
    /// Those made with a key of a key store.
    Known,
    /// Those made with the key with which the package was signed when it was first used.
    Pinned,
}

impl Trust {
    /// Every word.
    pub const ALL: [Self; 3] = [Self::Any, Self::Known, Self::Pinned];

    /// Reads a word, in any case; `None` for an unknown one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trust| trust.name().eq_ignore_ascii_case(name))
    }

    /// Returns the word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Known => "known",
            Self::Pinned => "pinned",
        }
    }
}

/// What is known about a package and the circumstances.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What checking the signature gave.
    pub signature: Signature,
    /// Lowercase hexadecimal SHA-256 of the public key; `None` where there is no key.
    pub key: Option<&'a str>,
    /// What the key stores know about that key.
    pub key_store: KeyStore<'a>,
    /// Whose signatures count.
    pub trust: Trust,
    /// SHA-256 of the key that is pinned for a package of this name.
    pub pinned: Option<&'a str>,
    /// The checks that came out negative.
    pub damages: &'a [Damage],
    /// Whether the attestation holds a bill of materials.
    pub has_bill_of_materials: bool,
    /// Days since the package was built; `None` where it does not say.
    pub age_days: Option<u64>,
    /// Whether the user is root (an administrator).
    pub is_root: bool,
    /// This machine.
    pub machine: Platform,
    /// Those of [`PackagePolicy::require_env`] that are not set.
    pub missing_variables: &'a [String],
}

/// What the key stores know about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStore<'a> {
    /// There is no key store.
    Missing,
    /// There is one, without this key.
    Stranger,
    /// The key is there, under this name.
    Known(&'a str),
}

/// Whether a package may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Proceed,
    /// It may; these sentences are for the user.
    Warn(Vec<String>),
    /// It may not.
    Refuse {
        /// Why.
        reason: String,
        /// What to do about it.
        hint: String,
    },
}

/// Judges a package.
#[must_use]
pub fn judge(facts: &Facts<'_>, level: Level, package: &PackagePolicy, operator: &OperatorPolicy) -> Verdict {
    let mut findings = evidence(facts, level);
    findings.extend(key(facts, operator));
    findings.extend(trusted(facts));
    findings.extend(rules(facts, package, operator));
    if let Some(worst) = findings.iter().find(|finding| finding.severity == Severity::Refuse) {
        return Verdict::Refuse { reason: worst.reason.clone(), hint: worst.hint.clone() };
    }
    let warnings: Vec<String> = findings
        .into_iter()
        .filter(|finding| finding.severity == Severity::Warn)
        .map(|finding| finding.reason)
        .collect();
    if warnings.is_empty() { Verdict::Proceed } else { Verdict::Warn(warnings) }
}

/// One thing to say about a package.
struct Finding {
    severity: Severity,
    reason: String,
    hint: String,
}

impl Finding {
    fn new(severity: Severity, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { severity, reason: reason.into(), hint: hint.into() }
    }
}

fn evidence(facts: &Facts<'_>, level: Level) -> Vec<Finding> {
    let damaged = |damage: &Damage| {
        let hint = match damage {
            Damage::PackageSize => "get the package again, or pass `--verify standard`",
            Damage::IndexChecksum
            | Damage::MetadataChecksum
            | Damage::KeyFingerprint
            | Damage::AttestationDigest
            | Damage::PolicyHash
            | Damage::SlotDigest { .. }
            | Damage::SlotChecksum { .. } => {
                "it was damaged or changed after it was signed: get it again from where it was published"
            }
        };
        Finding::new(level::of_damage(damage, level), damage.to_string(), hint)
    };
    let (reason, hint) = match facts.signature {
        Signature::Invalid => (
            "its signature is wrong",
            "its metadata was changed after it was signed: get it again, or pass `--verify relaxed` if you \
             trust it all the same",
        ),
        Signature::Absent => ("it is not signed", "pass `--verify standard` if you trust it all the same"),
        Signature::Valid | Signature::NotApplicable => ("", ""),
    };
    let mut findings: Vec<Finding> = facts.damages.iter().map(damaged).collect();
    findings.push(Finding::new(level::of_signature(facts.signature, level), reason, hint));
    findings
}

fn key(facts: &Facts<'_>, operator: &OperatorPolicy) -> Option<Finding> {
    if matches!(facts.key_store, KeyStore::Known(_)) && facts.signature == Signature::Valid {
        return None;
    }
    let enforcement = &operator.enforcement;
    let name = facts.key.map_or_else(|| "no key".to_owned(), |key| format!("the key {}", shortened(key)));
    if operator.trust.require_trusted_key != Some(true) {
        // A machine without a key store has not been set up to tell keys apart: nothing to say about one.
        let told = facts.key_store == KeyStore::Stranger && facts.key.is_some();
        return told.then(|| {
            let reason = format!("it is signed with {name}, which is not among the trusted keys");
            Finding::new(Severity::Warn, reason, "")
        });
    }
    if operator.trust.use_os_keychain == Some(true) {
        let reason = format!(
            "it is signed with {name}, which is not in a `trusted-keys` directory, and the policy wants the \
             keychain asked, which slotfs cannot do"
        );
        let hint =
            "add the key to a `trusted-keys` directory, or set `enforcement.os_keychain` in `policy.json`";
        return Some(Finding::new(severity(enforcement.os_keychain, enforcement), reason, hint));
    }
    let reason = format!("it is signed with {name}, and the policy wants a trusted one");
    let hint = "add the key to a `trusted-keys` directory if you trust its owner";
    Some(Finding::new(severity(enforcement.untrusted_key, enforcement), reason, hint))
}

/// What the user's own rule about keys says. It holds at every level, and no operator's file takes it back.
fn trusted(facts: &Facts<'_>) -> Option<Finding> {
    let is_signed = facts.signature == Signature::Valid;
    let now = match (is_signed, facts.key) {
        (true, Some(key)) => format!("signed with the key {}", shortened(key)),
        _ => "not signed by anybody".to_owned(),
    };
    match (facts.trust, facts.pinned) {
        (Trust::Any, _) | (Trust::Pinned, None) => None,
        (Trust::Known, _) => {
            let is_known = is_signed && matches!(facts.key_store, KeyStore::Known(_));
            let reason = format!("it is {now}, and only known keys are trusted");
            let hint =
                "add the key to a `trusted-keys` directory if you trust its owner, or pass `--trust any`";
            (!is_known).then(|| Finding::new(Severity::Refuse, reason, hint))
        }
        (Trust::Pinned, Some(pinned)) if is_signed && facts.key == Some(pinned) => None,
        (Trust::Pinned, Some(pinned)) => {
            let before = shortened(pinned);
            let reason =
                format!("it was signed with the key {before} when it was first used, and is now {now}");
            let hint = if is_signed {
                "somebody else may have made it; if its owner tells you of the new key, pass `--accept-key` once"
            } else {
                "somebody else may have made it: get it from where the first one came from"
            };
            Some(Finding::new(Severity::Refuse, reason, hint))
        }
    }
}

fn rules(facts: &Facts<'_>, package: &PackagePolicy, operator: &OperatorPolicy) -> Vec<Finding> {
    let enforcement = &operator.enforcement;
    let mut findings = Vec::new();
    let mut found = |mode: Option<Mode>, reason: String, hint: &str| {
        findings.push(Finding::new(severity(mode, enforcement), reason, hint));
    };
    let machine = facts.machine;
    if !platform::accepts(&package.platforms, &machine) {
        let reason = format!("it is made for {}, this machine is {machine}", package.platforms.join(", "));
        found(enforcement.platform_mismatch, reason, "get the package for this machine");
    }
    let allowed = operator.execution.allow_platforms.as_deref().unwrap_or_default();
    if !platform::accepts(allowed, &machine) {
        let reason =
            format!("the policy allows packages on {}, this machine is {machine}", allowed.join(", "));
        found(enforcement.platform_mismatch, reason, "see `execution.allow_platforms` in `policy.json`");
    }
    if facts.is_root && (package.refuse_root || operator.execution.refuse_root == Some(true)) {
        let who = if package.refuse_root { "the package" } else { "the policy" };
        found(enforcement.root_execution, format!("{who} forbids running as root"), "run it as another user");
    }
    let limits = [
        (package.max_age_days, "the package's own limit"),
        (operator.execution.max_age_days, "the policy's limit"),
    ];
    for (limit, whose) in limits {
        match (limit, facts.age_days) {
            (Some(limit), Some(age)) if age > limit => {
                let reason = format!("it was built {age} days ago, {whose} is {limit} days");
                found(enforcement.expired_package, reason, "get a newer version of the package");
            }
            _ => {}
        }
    }
    for variable in facts.missing_variables {
        let reason = format!("it needs the environment variable `{variable}`, which is not set");
        found(enforcement.missing_env, reason, "set the variable, then run it again");
    }
    if operator.attestation.require_sbom == Some(true) && !facts.has_bill_of_materials {
        let reason = "it carries no bill of materials (SBOM), and the policy wants one".to_owned();
        found(enforcement.missing_sbom, reason, "ask its author for a package with an attestation");
    }
    findings
}

fn severity(mode: Option<Mode>, enforcement: &EnforcementSection) -> Severity {
    match mode.or(enforcement.default).unwrap_or(Mode::Deny) {
        Mode::Deny => Severity::Refuse,
        Mode::Warn => Severity::Warn,
        Mode::Allow => Severity::Fine,
    }
}

/// The first 16 digits of a fingerprint tell keys apart well enough for a person.
fn shortened(fingerprint: &str) -> &str {
    fingerprint.get(..16).unwrap_or(fingerprint)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests;

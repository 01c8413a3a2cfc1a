//! Whether a package may be used: its evidence, as found, put before `slotfs-policy`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use slotfs_fs::package::signature::{Claim, SignatureState};
use slotfs_fs::package::verify::{Outcome, Verification};
use slotfs_fs::package::{Package, Slot};
use slotfs_policy::lifecycle::Lifecycle;
use slotfs_policy::platform::Platform;
use slotfs_policy::trust::{self, Damage, Facts, KeyStore, Level, OperatorPolicy, Signature, Trust, Verdict};

use super::age;
use super::keys::KeyStores;
use super::pins::Pins;
use super::policies;

/// Everything but the package that matters for trust.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    /// How strictly evidence is taken.
    pub level: Level,
    /// Whose signatures count.
    pub trust: Trust,
    /// The keys with which packages were signed when they were first used.
    pub pins: &'a Pins,
    /// The trusted keys.
    pub keys: &'a KeyStores,
    /// The operator's policy.
    pub operator: &'a OperatorPolicy,
    /// Whether the user is root.
    pub is_root: bool,
    /// This machine.
    pub machine: Platform,
    /// Seconds since 1970.
    pub now: u64,
    /// The names of the environment variables that are set.
    pub variables: &'a BTreeMap<OsString, OsString>,
}

/// A verdict and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether the package may be used.
    pub verdict: Verdict,
    /// The checks that came out negative.
    pub damages: Vec<Damage>,
    /// The name of the signing key, where it is a trusted one.
    pub signer: Option<String>,
}

/// Judges `package`, whose slots were hashed with the result `verification`.
///
/// # Errors
/// The package's own policy cannot be understood.
pub fn judge(
    package: &Package,
    verification: &Verification,
    circumstances: &Circumstances<'_>,
) -> Result<Judgement, policies::PolicyError> {
    let author = policies::package_policy(package)?;
    let damages = damages(package, verification);
    let fingerprint = package.evidence().map(|evidence| evidence.key_fingerprint.to_string());
    let signer = package
        .evidence()
        .filter(|evidence| evidence.signature == SignatureState::Valid)
        .and_then(|evidence| circumstances.keys.name_of(&evidence.public_key));
    let key_store = match (signer, circumstances.keys.is_empty()) {
        (Some(name), _) => KeyStore::Known(name),
        (None, true) => KeyStore::Missing,
        (None, false) => KeyStore::Stranger,
    };
    let is_set = |name: &str| circumstances.variables.contains_key(OsStr::new(name));
    let missing: Vec<String> = author.require_env.iter().filter(|name| !is_set(name)).cloned().collect();
    let facts = Facts {
        signature: signature(package),
        key: fingerprint.as_deref(),
        key_store,
        trust: circumstances.trust,
        pinned: circumstances.pins.key_of(package.name()),
        damages: &damages,
        has_bill_of_materials: package.slots().iter().any(is_attestation),
        age_days: age::in_days(package, circumstances.now),
        is_root: circumstances.is_root,
        machine: circumstances.machine,
        missing_variables: &missing,
    };
    let verdict = trust::judge(&facts, circumstances.level, &author, circumstances.operator);
    let signer = signer.map(str::to_owned);
    Ok(Judgement { verdict, damages, signer })
}

fn signature(package: &Package) -> Signature {
    match package.evidence().map(|evidence| evidence.signature) {
        None => Signature::NotApplicable,
        Some(SignatureState::Valid) => Signature::Valid,
        Some(SignatureState::Invalid) => Signature::Invalid,
        Some(SignatureState::Absent) => Signature::Absent,
    }
}

fn damages(package: &Package, verification: &Verification) -> Vec<Damage> {
    let claims = package.evidence().map(|evidence| {
        [
            (evidence.fingerprint_claim, Damage::KeyFingerprint),
            (evidence.attestation_claim, Damage::AttestationDigest),
            (evidence.policy_claim, Damage::PolicyHash),
        ]
    });
    let claimed = claims.into_iter().flatten().filter(|(claim, _)| *claim == Claim::False);
    let slots = verification.slots.iter().filter_map(|slot| match slot.outcome {
        Outcome::Wrong { metadata: true, .. } => Some(Damage::SlotDigest { slot: slot.id.clone() }),
        Outcome::Wrong { metadata: false, .. } => Some(Damage::SlotChecksum { slot: slot.id.clone() }),
        Outcome::Full
        | Outcome::Short
        | Outcome::DescriptorOnly
        | Outcome::InChunks
        | Outcome::Beside
        | Outcome::Unstated => None,
    });
    claimed.map(|(_, damage)| damage).chain(slots).collect()
}

fn is_attestation(slot: &Slot) -> bool {
    Lifecycle::from_code(slot.lifecycle_code) == Some(Lifecycle::Attestation)
        || Lifecycle::from_name(&slot.lifecycle).lifecycle == Lifecycle::Attestation
}

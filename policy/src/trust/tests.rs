//! Verdicts as tables.

use super::*;
use crate::platform::{Architecture, System};

const KEY: &str = "21fe31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9";

fn sound() -> Facts<'static> {
    Facts {
        signature: Signature::Valid,
        key: Some(KEY),
        key_store: KeyStore::Missing,
        trust: Trust::Any,
        pinned: None,
        damages: &[],
        has_bill_of_materials: false,
        age_days: Some(40),
        is_root: false,
        machine: Platform { system: Some(System::Linux), architecture: Some(Architecture::X86_64) },
        missing_variables: &[],
    }
}

fn plain(facts: &Facts<'_>, level: Level) -> Verdict {
    judge(facts, level, &PackagePolicy::default(), &OperatorPolicy::open())
}

/// `R`efuse, `W`arn or `P`roceed at strict, standard, relaxed, minimal, none.
fn letters(facts: &Facts<'_>) -> String {
    let letter = |level| match plain(facts, level) {
        Verdict::Proceed => 'P',
        Verdict::Warn(_) => 'W',
        Verdict::Refuse { .. } => 'R',
    };
    Level::ALL.into_iter().map(letter).collect()
}

#[test]
fn each_evidence_at_each_level() {
    assert_eq!(letters(&sound()), "PPPPP");
    let signatures = [
        (Signature::Valid, "PPPPP"),
        (Signature::NotApplicable, "PPPPP"),
        (Signature::Absent, "RWWPP"),
        (Signature::Invalid, "RRWWW"),
    ];
    for (signature, expected) in signatures {
        assert_eq!(letters(&Facts { signature, ..sound() }), expected, "{signature:?}");
    }
    let slot = || "python".to_owned();
    let damages = [
        (Damage::PackageSize, "RWWPP"),
        (Damage::IndexChecksum, "RRRRR"),
        (Damage::MetadataChecksum, "RRRRR"),
        (Damage::KeyFingerprint, "RRRRR"),
        (Damage::AttestationDigest, "RRRRR"),
        (Damage::PolicyHash, "RRRRR"),
        (Damage::SlotDigest { slot: slot() }, "RRRRR"),
        (Damage::SlotChecksum { slot: slot() }, "RRRRR"),
    ];
    for (damage, expected) in damages {
        let damages = [damage];
        assert_eq!(letters(&Facts { damages: &damages, ..sound() }), expected, "{damages:?}");
    }
}

#[test]
fn a_changed_slot_is_named() {
    let damages = [Damage::SlotDigest { slot: "wheels".into() }];
    let Verdict::Refuse { reason, hint } = plain(&Facts { damages: &damages, ..sound() }, Level::None) else {
        panic!("not refused");
    };
    assert_eq!(reason, "the content of slot `wheels` is not what the metadata promises (SHA-256)");
    assert!(hint.starts_with("it was damaged or changed"), "{hint}");
}

#[test]
fn keys_matter_as_far_as_the_operator_says() {
    let wanted = |json: &str| -> OperatorPolicy { serde_json::from_str(json).unwrap() };
    let open = OperatorPolicy::open();
    let deny = wanted(r#"{"version": 1, "trust": {"require_trusted_key": true}}"#);
    let warn = wanted(
        r#"{"version": 1, "trust": {"require_trusted_key": true}, "enforcement": {"untrusted_key": "warn"}}"#,
    );
    let keychain =
        wanted(r#"{"version": 1, "trust": {"require_trusted_key": true, "use_os_keychain": true}}"#);
    let table = [
        (&open, KeyStore::Missing, 'P'),
        (&open, KeyStore::Stranger, 'W'),
        (&open, KeyStore::Known("ci"), 'P'),
        (&deny, KeyStore::Missing, 'R'),
        (&deny, KeyStore::Stranger, 'R'),
        (&deny, KeyStore::Known("ci"), 'P'),
        (&warn, KeyStore::Stranger, 'W'),
        (&keychain, KeyStore::Stranger, 'R'),
        (&keychain, KeyStore::Known("ci"), 'P'),
    ];
    for (operator, key_store, expected) in table {
        // A policy holds at every level.
        let facts = Facts { key_store, ..sound() };
        let verdict = judge(&facts, Level::None, &PackagePolicy::default(), operator);
        let letter = match verdict {
            Verdict::Proceed => 'P',
            Verdict::Warn(_) => 'W',
            Verdict::Refuse { .. } => 'R',
        };
        assert_eq!(letter, expected, "{operator:?} {key_store:?}");
    }
    let forged = Facts { signature: Signature::Invalid, key_store: KeyStore::Known("ci"), ..sound() };
    let verdict = judge(&forged, Level::None, &PackagePolicy::default(), &deny);
    assert!(matches!(verdict, Verdict::Refuse { .. }), "a known key with a wrong signature: {verdict:?}");
}

#[test]
fn policies_of_author_and_operator_are_enforced() {
    let package = PackagePolicy {
        platforms: vec!["darwin_arm64".into()],
        refuse_root: true,
        max_age_days: Some(30),
        require_env: vec!["TOKEN".into()],
    };
    let missing = ["TOKEN".to_owned()];
    let facts = Facts { is_root: true, missing_variables: &missing, ..sound() };
    let mode = |mode| EnforcementSection { default: Some(mode), ..EnforcementSection::default() };
    let operator = |enforcement| OperatorPolicy {
        execution: ExecutionSection {
            refuse_root: Some(true),
            max_age_days: Some(10),
            allow_platforms: Some(vec!["linux_arm64".into()]),
        },
        attestation: AttestationSection { require_sbom: Some(true) },
        enforcement,
        ..OperatorPolicy::open()
    };
    let warned = judge(&facts, Level::Strict, &package, &operator(mode(Mode::Warn)));
    let reasons = [
        "it is made for darwin_arm64, this machine is linux_amd64",
        "the policy allows packages on linux_arm64, this machine is linux_amd64",
        "the package forbids running as root",
        "it was built 40 days ago, the package's own limit is 30 days",
        "it was built 40 days ago, the policy's limit is 10 days",
        "it needs the environment variable `TOKEN`, which is not set",
        "it carries no bill of materials (SBOM), and the policy wants one",
    ];
    assert_eq!(warned, Verdict::Warn(reasons.map(String::from).to_vec()));
    let allowed = judge(&facts, Level::Strict, &package, &operator(mode(Mode::Allow)));
    assert_eq!(allowed, Verdict::Proceed);
    let denied = judge(&facts, Level::None, &package, &operator(EnforcementSection::default()));
    assert!(matches!(denied, Verdict::Refuse { ref reason, .. } if reason == reasons[0]), "{denied:?}");
    let one = EnforcementSection { missing_env: Some(Mode::Deny), ..mode(Mode::Allow) };
    let denied = judge(&facts, Level::None, &package, &operator(one));
    assert!(matches!(denied, Verdict::Refuse { ref reason, .. } if reason == reasons[5]), "{denied:?}");
}

#[test]
fn a_package_that_does_not_tell_its_age_does_not_expire() {
    let package = PackagePolicy { max_age_days: Some(1), ..PackagePolicy::default() };
    let facts = Facts { age_days: None, ..sound() };
    assert_eq!(judge(&facts, Level::Strict, &package, &OperatorPolicy::open()), Verdict::Proceed);
}

#[test]
fn the_users_file_lies_over_the_machines() {
    let machine: OperatorPolicy = serde_json::from_str(
        r#"{"version": 1, "execution": {"refuse_root": true, "max_age_days": 9},
            "enforcement": {"default": "warn", "missing_env": "allow"}, "unknown": 1}"#,
    )
    .unwrap();
    let user: OperatorPolicy = serde_json::from_str(
        r#"{"version": 1, "execution": {"refuse_root": false}, "enforcement": {"default": "deny"}}"#,
    )
    .unwrap();
    let both = machine.overridden_by(user);
    assert_eq!(both.execution.refuse_root, Some(false));
    assert_eq!(both.execution.max_age_days, Some(9));
    assert_eq!(both.enforcement.default, Some(Mode::Deny));
    assert_eq!(both.enforcement.missing_env, Some(Mode::Allow));
    assert!(serde_json::from_str::<OperatorPolicy>("{}").is_err(), "a file without a version");
    assert!(
        serde_json::from_str::<OperatorPolicy>(r#"{"version":1,"enforcement":{"default":"no"}}"#).is_err()
    );
}

#[test]
fn levels_are_read_in_any_case() {
    for level in Level::ALL {
        assert_eq!(Level::from_name(&level.name().to_uppercase()), Some(level));
    }
    assert_eq!(Level::from_name("lenient"), None);
    assert_eq!(Level::default(), Level::Strict);
}

#[test]
fn keys_count_as_the_user_wants_it_at_every_level() {
    const OTHER: &str = "ffff31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9";
    let known = KeyStore::Known("ci");
    let (valid, wrong, archive) = (Signature::Valid, Signature::Invalid, Signature::NotApplicable);
    let table = [
        (Trust::Any, valid, KeyStore::Missing, Some(OTHER), "PPPPP"),
        (Trust::Known, valid, known, None, "PPPPP"),
        (Trust::Known, valid, KeyStore::Missing, None, "RRRRR"),
        (Trust::Known, valid, KeyStore::Stranger, None, "RRRRR"),
        (Trust::Known, wrong, known, None, "RRRRR"),
        (Trust::Known, archive, KeyStore::Missing, None, "RRRRR"),
        (Trust::Pinned, valid, KeyStore::Missing, None, "PPPPP"),
        (Trust::Pinned, valid, KeyStore::Missing, Some(KEY), "PPPPP"),
        (Trust::Pinned, valid, known, Some(OTHER), "RRRRR"),
        (Trust::Pinned, wrong, KeyStore::Missing, Some(KEY), "RRRRR"),
        (Trust::Pinned, archive, KeyStore::Missing, Some(KEY), "RRRRR"),
        (Trust::Pinned, archive, KeyStore::Missing, None, "PPPPP"),
    ];
    for (trust, signature, key_store, pinned, expected) in table {
        let facts = Facts { trust, signature, key_store, pinned, ..sound() };
        assert_eq!(letters(&facts), expected, "{trust:?} {signature:?} {key_store:?} {pinned:?}");
    }
    let changed = Facts { trust: Trust::Pinned, pinned: Some(OTHER), ..sound() };
    let Verdict::Refuse { reason, hint } = plain(&changed, Level::None) else { panic!("accepted") };
    assert!(reason.contains("ffff31dfa154a261") && reason.contains("21fe31dfa154a261"), "{reason}");
    assert!(hint.contains("--accept-key"), "{hint}");
    for trust in Trust::ALL {
        assert_eq!(Trust::from_name(&trust.name().to_uppercase()), Some(trust));
    }
}

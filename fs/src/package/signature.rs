//! Who signed a package, and whether what the index claims about signed things is true: evidence, not judgement.
//!
//! The signature covers the decompressed metadata JSON and nothing else. Everything here that is not derived
//! from those bytes and the public key is a claim of the unsigned index, and is shown as such.

use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::Value;

use super::trailer::Index;
use crate::disk::digest::Digest;

/// The state of the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureState {
    /// Made by the holder of the public key over exactly this metadata.
    Valid,
    /// Not made by the holder of the public key, or over something else.
    Invalid,
    /// All zero: nobody signed.
    Absent,
}

/// A digest that the index states, against the one computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// The index states none.
    Absent,
    /// The index states the computed one.
    True,
    /// The index states another one, or one of something that is not there.
    False,
}

impl Claim {
    /// Compares the 64 bytes of an index field with digests that would make it true.
    fn of(stated: &[u8; 64], computed: &[Digest]) -> Self {
        if stated.iter().all(|byte| *byte == 0) {
            Self::Absent
        } else if computed.iter().any(|digest| digest.to_string().as_bytes() == stated) {
            Self::True
        } else {
            Self::False
        }
    }
}

/// Everything that tells who made a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The signature over the metadata.
    pub signature: SignatureState,
    /// The Ed25519 public key that the package names.
    pub public_key: [u8; 32],
    /// SHA-256 of the public key.
    pub key_fingerprint: Digest,
    /// Whether the index states that fingerprint.
    pub fingerprint_claim: Claim,
    /// Whether the index states the digest of the attestation slot.
    pub attestation_claim: Claim,
    /// Whether the index states the hash of the metadata's policy.
    pub policy_claim: Claim,
}

impl Evidence {
    /// Gathers the evidence. `attestation` is the digest of the attestation slot's content, if there is such a
    /// slot; `policy` is the metadata's section of that name.
    #[must_use]
    pub fn gather(index: &Index, json: &[u8], attestation: Option<Digest>, policy: Option<&Value>) -> Self {
        let key_fingerprint = Digest::of(&index.public_key);
        Self {
            signature: check(index, json),
            public_key: index.public_key,
            key_fingerprint,
            fingerprint_claim: Claim::of(&index.key_fingerprint, &[key_fingerprint]),
            attestation_claim: Claim::of(&index.attestation_digest, attestation.as_slice()),
            policy_claim: Claim::of(&index.policy_hash, &policy.map_or(Vec::new(), policy_hashes)),
        }
    }
}

fn check(index: &Index, json: &[u8]) -> SignatureState {
    let Some(signature) = index.signature.first_chunk::<64>() else { return SignatureState::Absent };
    if signature.iter().all(|byte| *byte == 0) {
        return SignatureState::Absent;
    }
    // `verify_strict` also refuses keys of small order, for which anybody can make signatures.
    let verified = VerifyingKey::from_bytes(&index.public_key)
        .and_then(|key| key.verify_strict(json, &Signature::from_bytes(signature)));
    if verified.is_ok() { SignatureState::Valid } else { SignatureState::Invalid }
}

/// Returns the hashes that builders make of a policy, none of one that is null.
fn policy_hashes(policy: &Value) -> Vec<Digest> {
    if policy.is_null() {
        return Vec::new();
    }
    let mut canonical = String::new();
    write_canonical(policy, &mut canonical);
    vec![policy_digest(policy), Digest::of(canonical.as_bytes())]
}

/// Returns the hash of a policy as FlavorPack's Python builder states it: of its JSON with sorted keys and no spaces,
/// text beyond ASCII escaped.
#[must_use]
pub fn policy_digest(policy: &Value) -> Digest {
    let mut canonical = String::new();
    write_canonical(policy, &mut canonical);
    let mut units = [0; 2];
    let escaped: String = canonical.chars().fold(String::new(), |mut text, character| {
        if character.is_ascii() {
            text.push(character);
        } else {
            let units = character.encode_utf16(&mut units).iter();
            text.extend(units.map(|unit| format!("\\u{unit:04x}")));
        }
        text
    });
    Digest::of(escaped.as_bytes())
}

/// Writes `value` with sorted keys and no spaces. Recursion is bounded: the metadata's nesting was checked.
fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (number, (key, value)) in entries.into_iter().enumerate() {
                text.push_str(if number > 0 { "," } else { "" });
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(value, text);
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for (number, value) in values.iter().enumerate() {
                text.push_str(if number > 0 { "," } else { "" });
                write_canonical(value, text);
            }
            text.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_hashed_as_python_writes_it() {
        let policy =
            serde_json::json!({"z": [1, {"b": true, "a": null}], "a": "é\n𝄞\"", "refuse_root": false});
        let mut canonical = String::new();
        write_canonical(&policy, &mut canonical);
        assert_eq!(
            canonical,
            "{\"a\":\"é\\n𝄞\\\"\",\"refuse_root\":false,\"z\":[1,{\"a\":null,\"b\":true}]}"
        );
        // python3 -c 'import json,hashlib; print(hashlib.sha256(json.dumps({"z": [1, {"b": True, "a": None}],
        //   "a": "é\n𝄞\"", "refuse_root": False}, sort_keys=True, separators=(",", ":")).encode()).hexdigest())'
        assert_eq!(
            policy_hashes(&policy)[0].to_string(),
            "c95d18f533dcdda7b2ef9e05eb4a5c01c150c859bc113ab2d68493717ae254d4"
        );
        assert!(policy_hashes(&Value::Null).is_empty());
    }

    #[test]
    fn a_claim_is_absent_true_or_false() {
        let digest = Digest::of(b"x");
        let mut stated = [0; 64];
        assert_eq!(Claim::of(&stated, &[digest]), Claim::Absent);
        stated.copy_from_slice(digest.to_string().as_bytes());
        assert_eq!(Claim::of(&stated, &[digest]), Claim::True);
        assert_eq!(Claim::of(&stated, &[]), Claim::False);
        stated[63] ^= 1;
        assert_eq!(Claim::of(&stated, &[digest]), Claim::False);
    }
}

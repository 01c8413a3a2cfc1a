//! The keys that sign packages, and their files: the same that FlavorPack's own key tool makes and its builders read.
//!
//! **Invariant:** the secret half leaves memory only into a file that nobody but its owner may read, and never through
//! a message.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, KeypairBytes,
};
use ed25519_dalek::{Signer as _, SigningKey};

use crate::disk::atomic::{self, WriteOptions};
use crate::disk::digest::Digest;
use crate::disk::{Context as _, DiskError};

/// Name of the file with the secret half.
pub const PRIVATE_FILE: &str = "flavor-private.key";
/// Name of the file with the public half.
pub const PUBLIC_FILE: &str = "flavor-public.key";

/// The largest file that is looked at; a real one has 119 bytes.
const LARGEST_FILE: u64 = 64 << 10;
/// Bytes of an Ed25519 secret (RFC 8032, section 5.1.5).
const SECRET_SIZE: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file holds no key that can sign a package.
    #[error("`{}` holds no Ed25519 private key: {reason}", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        reason: String,
    },
    /// The operating system gave no random bytes.
    #[error("cannot make a key: the system gives no random bytes: {0}")]
    NoRandomness(String),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A key that signs packages.
pub struct KeyPair(SigningKey);

impl fmt::Debug for KeyPair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("KeyPair").field(&self.fingerprint()).finish()
    }
}

impl KeyPair {
    /// Makes a new one that nobody can guess.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate() -> Result<Self, KeyError> {
        let mut secret = [0; SECRET_SIZE];
        getrandom::fill(&mut secret).map_err(|error| KeyError::NoRandomness(error.to_string()))?;
        Ok(Self(SigningKey::from_bytes(&secret)))
    }

    /// Returns the one that FlavorPack's builders make of `seed`: its SHA-256 is the secret. Whoever knows the seed can
    /// sign.
    #[must_use]
    pub fn from_seed(seed: &str) -> Self {
        Self(SigningKey::from_bytes(&Digest::of(seed.as_bytes()).0))
    }

    /// Reads the secret half from a file: PKCS#8 in PEM, or the 32 bytes as they are.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let mut content = Vec::new();
        let file = std::fs::File::open(path).context("open", path)?;
        file.take(LARGEST_FILE).read_to_end(&mut content).context("read", path)?;
        if let Ok(secret) = <[u8; SECRET_SIZE]>::try_from(content.as_slice()) {
            return Ok(Self(SigningKey::from_bytes(&secret)));
        }
        let wrong = |reason: String| KeyError::NotAKey { path: path.into(), reason };
        let text = str::from_utf8(&content).map_err(|error| wrong(error.to_string()))?;
        let start = text.find("-----BEGIN").ok_or_else(|| wrong("it holds no PEM block".into()))?;
        if text[start..].starts_with("-----BEGIN PUBLIC") {
            return Err(wrong("it holds the public half".into()));
        }
        let key =
            SigningKey::from_pkcs8_pem(text[start..].trim()).map_err(|error| wrong(error.to_string()))?;
        Ok(Self(key))
    }

    /// Writes both halves into `folder`, which is made when missing, and returns where they are: private, public. The
    /// public half goes first, so that an old secret is replaced last.
    ///
    /// # Errors
    /// The disk refuses; with `replace` unset also when one of the files is there.
    pub fn write(&self, folder: &Path, replace: bool) -> Result<(PathBuf, PathBuf), KeyError> {
        atomic::create_private_directory(folder)?;
        let (private, public) = (folder.join(PRIVATE_FILE), folder.join(PUBLIC_FILE));
        // As FlavorPack writes it: without the public half, which some readers do not expect there.
        let secret = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        let not_encoded = |path: &Path, error: &dyn fmt::Display| {
            KeyError::Disk(DiskError::new(
                "encode the key for",
                path,
                std::io::Error::other(error.to_string()),
            ))
        };
        let secret = secret.to_pkcs8_pem(LineEnding::LF).map_err(|error| not_encoded(&private, &error))?;
        let open = self.0.verifying_key().to_public_key_pem(LineEnding::LF);
        let open = open.map_err(|error| not_encoded(&public, &error))?;
        for (path, mode, text) in [(&public, 0o666, open.as_bytes()), (&private, 0o600, secret.as_bytes())] {
            let options = WriteOptions { mode, replace };
            atomic::write_as(path, &options, |file| file.write_all(text).context("write", path))?;
        }
        Ok((private, public))
    }

    /// Returns the public half.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Returns SHA-256 of the public half.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.public_key())
    }

    /// Signs `bytes` (Ed25519, RFC 8032).
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_replaced_only_on_demand() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("a/keys");
        let key = KeyPair::generate().unwrap();
        let (private, public) = key.write(&folder, false).unwrap();
        assert_eq!(KeyPair::read(&private).unwrap().public_key(), key.public_key());
        assert!(
            std::fs::read_to_string(&private).unwrap().starts_with("-----BEGIN PRIVATE KEY-----\nMC4CAQAw")
        );
        assert!(
            std::fs::read_to_string(&public).unwrap().starts_with("-----BEGIN PUBLIC KEY-----\nMCowBQYD")
        );

        let other = KeyPair::generate().unwrap();
        assert_ne!(other.public_key(), key.public_key());
        assert!(other.write(&folder, false).is_err());
        assert_eq!(KeyPair::read(&private).unwrap().public_key(), key.public_key());
        other.write(&folder, true).unwrap();
        assert_eq!(KeyPair::read(&private).unwrap().public_key(), other.public_key());
    }

    #[test]
    fn files_that_hold_no_key_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let error = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            KeyPair::read(&path).unwrap_err().to_string()
        };
        assert!(error(b"hello").contains("no PEM block"));
        assert!(error(b"-----BEGIN PUBLIC KEY-----\n").contains("the public half"));
        assert!(
            error(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").contains("no Ed25519")
        );
        assert!(KeyPair::read(folder.path()).is_err());
        std::fs::write(&path, [7; 32]).unwrap();
        KeyPair::read(&path).unwrap();
    }

    #[test]
    fn messages_do_not_hold_the_secret() {
        let key = KeyPair::from_seed("seed");
        assert_eq!(format!("{key:?}"), format!("KeyPair({:?})", key.fingerprint()));
        // Made by FlavorPack's builders of the seed `test123`.
        assert!(KeyPair::from_seed("test123").public_key().starts_with(&[0xd2, 0x73, 0x67, 0xba, 0x3d]));
    }
}

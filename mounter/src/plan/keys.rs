//! The trusted keys: `*.pub` files with an Ed25519 public key in PEM, an optional first line giving it a name.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePublicKey;

/// The largest key file that is looked at; a real one has 113 bytes and a name.
const LARGEST_FILE: u64 = 64 << 10;

/// The keys that this machine trusts.
#[derive(Clone, Debug, Default)]
pub struct KeyStores {
    keys: Vec<([u8; 32], String)>,
    /// Files that should hold a key and do not, with the reason.
    problems: Vec<(PathBuf, String)>,
}

impl KeyStores {
    /// Reads every key in `folders`. A folder that is missing holds none; a file that is no key is a problem to
    /// tell of, and trusts nobody.
    #[must_use]
    pub fn read(folders: &[PathBuf]) -> Self {
        let mut stores = Self::default();
        for folder in folders {
            let entries = match std::fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => {
                    stores.problems.push((folder.clone(), error.to_string()));
                    continue;
                }
            };
            let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            files.retain(|path| path.extension().is_some_and(|ending| ending == "pub"));
            files.sort();
            for path in files {
                match read_key(&path) {
                    Ok(key) => stores.keys.push(key),
                    Err(reason) => stores.problems.push((path, reason)),
                }
            }
        }
        stores
    }

    /// Tells whether no key is trusted by name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the name under which `key` is trusted.
    #[must_use]
    pub fn name_of(&self, key: &[u8; 32]) -> Option<&str> {
        self.keys.iter().find(|(known, _)| known == key).map(|(_, name)| name.as_str())
    }

    /// Returns the files that should hold a key and do not, with the reason.
    #[must_use]
    pub fn problems(&self) -> &[(PathBuf, String)] {
        &self.problems
    }
}

fn read_key(path: &Path) -> Result<([u8; 32], String), String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !size.is_file() || size.len() > LARGEST_FILE {
        return Err("it is not a small file".into());
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let start = text.find("-----BEGIN").ok_or("it holds no PEM block")?;
    let (head, block) = text.split_at(start);
    let key = VerifyingKey::from_public_key_pem(block.trim()).map_err(|error| error.to_string())?;
    let named = head.lines().find_map(|line| line.trim().strip_prefix("# Name:")).map(str::trim);
    let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok((key.to_bytes(), named.filter(|name| !name.is_empty()).map_or_else(stem, str::to_owned)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    /// `flavor keygen` writes exactly this form.
    const PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
        -----END PUBLIC KEY-----\n";

    #[test]
    fn keys_are_read_with_their_names_and_others_are_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        file("plain.pub", PEM);
        file("readme.txt", "not a key");
        file("bad.pub", "hello");
        let missing = folder.path().join("none");
        let stores = KeyStores::read(&[missing, folder.path().into()]);
        let key = VerifyingKey::from_public_key_pem(PEM.trim()).unwrap().to_bytes();
        assert_eq!(stores.name_of(&key), Some("plain"));
        assert_eq!(stores.name_of(&[0; 32]), None);
        assert_eq!(stores.problems().len(), 1);
        assert!(stores.problems()[0].0.ends_with("bad.pub"));

        file("plain.pub", &format!("# Name: The Publisher\n{PEM}"));
        assert_eq!(KeyStores::read(&[folder.path().into()]).name_of(&key), Some("The Publisher"));
    }
}

//! Which package owns an environment: slotfs's own note, and what can be concluded where a launcher made it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use slotfs_fs::disk::{Context, DiskError, atomic};

use super::Workenv;
use super::facts::{PackageFacts, PackageId};
use crate::host::files;

/// Version of the note; another one is not read.
const VERSION: u32 = 1;
/// Bytes of a foreign JSON file that are looked at; `psp.json` of real packages has a few kilobytes.
const LARGEST_JSON: u64 = 4 << 20;

/// The owner of an environment, as noted by slotfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The package's identity.
    pub id: PackageId,
    /// Name in the package's metadata.
    pub name: String,
    /// Version in the package's metadata.
    pub version: String,
    /// Where the package was.
    pub path: PathBuf,
    /// The name its launcher uses; the environment's own name may have the identity behind it.
    pub usual_name: String,
    /// When slotfs first prepared it, seconds since 1970.
    pub created: u64,
}

/// The note's form on disk.
#[derive(Serialize, Deserialize)]
struct Form {
    version: u32,
    id: String,
    package: PackageForm,
    usual_name: String,
    created: u64,
}

#[derive(Serialize, Deserialize)]
struct PackageForm {
    name: String,
    version: String,
    /// The path where it is UTF-8, for people; `path_hex` always has its exact bytes.
    path: String,
    path_hex: String,
}

impl Record {
    /// Returns the note for a package.
    #[must_use]
    pub fn of(facts: &PackageFacts, created: u64) -> Self {
        Self {
            id: facts.id.clone(),
            name: facts.name.clone(),
            version: facts.version.clone(),
            path: facts.path.clone(),
            usual_name: super::WorkenvName::of(facts).to_string(),
            created,
        }
    }

    /// Reads an environment's note. `None` when there is none, or a damaged one: it is only a note, and the
    /// launchers' files still tell whose environment it is.
    #[must_use]
    pub fn read(workenv: &Workenv) -> Option<Self> {
        let path = workenv.record();
        let form: Form = match read_json(&path) {
            Ok(Some(form)) => form,
            Ok(None) => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "ignoring a damaged note");
                return None;
            }
        };
        if form.version != VERSION {
            tracing::warn!(path = %path.display(), version = form.version, "ignoring a note of another version");
            return None;
        }
        Some(Self {
            id: PackageId::parse(&form.id)?,
            name: form.package.name,
            version: form.package.version,
            path: files::path_from_bytes(from_hex(&form.package.path_hex)?),
            usual_name: form.usual_name,
            created: form.created,
        })
    }

    /// Writes the note, and waits until the disk has it.
    ///
    /// # Errors
    /// The disk's, with the path.
    pub fn write(&self, workenv: &Workenv) -> Result<(), DiskError> {
        self.write_with(workenv, atomic::write)
    }

    /// Writes the note, and waits for nothing.
    ///
    /// # Errors
    /// The disk's, with the path.
    pub(super) fn write_unsynced(&self, workenv: &Workenv) -> Result<(), DiskError> {
        self.write_with(workenv, atomic::write_unsynced)
    }

    fn write_with(
        &self,
        workenv: &Workenv,
        write: impl FnOnce(&Path, &[u8]) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let form = Form {
            version: VERSION,
            id: self.id.to_string(),
            package: PackageForm {
                name: self.name.clone(),
                version: self.version.clone(),
                path: self.path.display().to_string(),
                path_hex: to_hex(&files::path_bytes(&self.path)),
            },
            usual_name: self.usual_name.clone(),
            created: self.created,
        };
        let directory = workenv.own_directory();
        files::create_private_directories(&directory).context("create the directory", &directory)?;
        let path = workenv.record();
        let bytes = serde_json::to_vec_pretty(&form).context("describe the package in", &path)?;
        write(&path, &bytes)
    }
}

/// Name and version in `package/psp.json`, whoever wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NameAndVersion {
    /// `package.name`.
    pub name: String,
    /// `package.version`.
    pub version: String,
}

impl NameAndVersion {
    /// Reads them; `None` where the file is missing, too large or not such JSON.
    #[must_use]
    pub fn read(workenv: &Workenv) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document {
            package: NameAndVersion,
        }
        read_json::<Document>(&workenv.package_json()).ok().flatten().map(|document| document.package)
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, DiskError> {
    let Some(bytes) = read_small(path, LARGEST_JSON)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).context("understand", path)
}

/// Reads a regular file of at most `limit` bytes; a missing file is `None`.
pub(super) fn read_small(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, DiskError> {
    use std::io::{Error, ErrorKind, Read};
    // Looked at before it is opened: opening a fifo would wait for a writer.
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(DiskError::new("read", path, Error::other("it is not a regular file"))),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DiskError::new("read", path, error)),
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).context("open", path)?;
    file.take(limit + 1).read_to_end(&mut bytes).context("read", path)?;
    if bytes.len() as u64 > limit {
        return Err(DiskError::new("read", path, Error::from(ErrorKind::FileTooLarge)));
    }
    Ok(Some(bytes))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

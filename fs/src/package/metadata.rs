//! The metadata JSON of a package, as its builders really write it. Parsing only; every field is hostile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The signed JSON document. Unknown keys are ignored; missing sections are empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// `PSPF/2025`.
    pub format: String,
    /// Name and version.
    pub package: PackageSection,
    /// The slots, in order.
    pub slots: Vec<SlotSection>,
    /// What to run.
    pub execution: Option<ExecutionSection>,
    /// What to run once after unpacking. Objects with a `type`; a bare string is kept as it is.
    pub setup_commands: Vec<serde_json::Value>,
    /// Changes to the inherited environment.
    pub runtime: Option<RuntimeSection>,
    /// Directories and variables of the work environment.
    pub workenv: Option<WorkenvSection>,
    /// A file that must hold a text for a prepared environment to count as prepared.
    pub cache_validation: Option<CacheValidation>,
    /// The package author's execution policy.
    pub policy: Option<serde_json::Value>,
    /// Who built it, when and where.
    pub build: Option<serde_json::Value>,
    /// Which launcher it carries.
    pub launcher: Option<serde_json::Value>,
}

/// `package`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PackageSection {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
}

/// One of `slots`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotSection {
    /// Position, where given.
    pub slot: Option<u64>,
    /// Identifier.
    pub id: String,
    /// Where it goes, with `{workenv}`.
    pub target: String,
    /// `sha256:` and 64 digits, or 16 bare digits, or empty.
    pub checksum: String,
    /// Wished-for chain; the descriptor decides.
    pub operations: String,
    /// Purpose by name.
    pub purpose: String,
    /// Lifecycle by name.
    pub lifecycle: String,
    /// Octal mode, where given.
    pub permissions: Option<String>,
    /// A reference to the launcher itself, without data.
    pub self_ref: bool,
}

/// `execution`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecutionSection {
    /// Command line with placeholders.
    pub command: String,
    /// Variables for the program, in the order written.
    #[serde(alias = "environment")]
    pub env: serde_json::Map<String, serde_json::Value>,
}

/// `runtime`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeSection {
    /// Rules for the inherited environment.
    pub env: RuntimeEnvironment,
}

/// `runtime.env`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeEnvironment {
    /// Names or globs to remove.
    pub unset: Vec<String>,
    /// Names or globs to keep in spite of `unset`.
    pub pass: Vec<String>,
    /// Renames, old to new.
    pub map: BTreeMap<String, String>,
    /// Values to set.
    pub set: BTreeMap<String, String>,
}

/// `workenv`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkenvSection {
    /// Directories to make at every start.
    pub directories: Vec<WorkenvDirectory>,
    /// Variables with placeholders.
    pub env: serde_json::Map<String, serde_json::Value>,
}

/// One of `workenv.directories`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkenvDirectory {
    /// Path with `{workenv}`.
    pub path: String,
    /// Octal mode.
    pub mode: Option<String>,
}

/// `cache_validation`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheValidation {
    /// Path with placeholders.
    pub check_file: String,
    /// Text with placeholders, compared after trimming.
    pub expected_content: String,
}

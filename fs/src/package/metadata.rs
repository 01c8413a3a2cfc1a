//! The metadata JSON of a package, as its builders really write it. Parsing only; every field is hostile.
//!
//! **Invariant:** nesting and number of values are bounded before a parser that recurses or allocates sees them.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::bufread::GzDecoder;
use serde::{Deserialize, Serialize};

use super::error::{Defect, Fault, Unsupported, shown};
use super::lenient::{bounded_list, or_default, position, text_or_none, value_or_default};
use super::limits::Limits;

/// The signed JSON document. Unknown keys are ignored; missing sections are empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// `PSPF/2025`.
    #[serde(deserialize_with = "or_default")]
    pub format: String,
    /// Name and version.
    #[serde(deserialize_with = "or_default")]
    pub package: PackageSection,
    /// The slots, in order.
    #[serde(deserialize_with = "bounded_list")]
    pub slots: Vec<SlotSection>,
    /// What to run.
    pub execution: Option<ExecutionSection>,
    /// What to run once after unpacking. Objects with a `type`; a bare string is kept as it is.
    #[serde(deserialize_with = "bounded_list")]
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
    /// What slotfs adds; no other reader knows it.
    #[serde(deserialize_with = "value_or_default", skip_serializing_if = "SlotfsSection::is_empty")]
    pub slotfs: SlotfsSection,
}

/// `slotfs`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotfsSection {
    /// Indexes of slots in bytes that nobody else looks at.
    #[serde(deserialize_with = "bounded_list")]
    pub indexes: Vec<IndexSection>,
}

impl SlotfsSection {
    fn is_empty(&self) -> bool {
        self.indexes.is_empty()
    }
}

/// One of `slotfs.indexes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexSection {
    /// Position of the slot.
    pub slot: u32,
    /// How many bytes before the metadata it begins: an offset that stays right when the package gets another launcher.
    pub before: u64,
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256 of its header, from which all of it follows: `sha256:` and 64 digits.
    #[serde(alias = "digest")]
    pub root: String,
}

/// `package`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PackageSection {
    /// Name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Version.
    #[serde(deserialize_with = "or_default")]
    pub version: String,
}

/// One of `slots`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotSection {
    /// Position, where given.
    #[serde(deserialize_with = "position")]
    pub slot: Option<u64>,
    /// Identifier.
    #[serde(deserialize_with = "or_default")]
    pub id: String,
    /// Where its bytes came from when it was built; `$SELF` for the launcher.
    #[serde(deserialize_with = "or_default")]
    pub source: String,
    /// Where it goes, with `{workenv}`.
    #[serde(deserialize_with = "or_default")]
    pub target: String,
    /// `sha256:` and 64 digits, or 16 bare digits, or empty.
    #[serde(deserialize_with = "or_default")]
    pub checksum: String,
    /// Wished-for chain; the descriptor decides.
    #[serde(deserialize_with = "or_default")]
    pub operations: String,
    /// Purpose by name.
    #[serde(deserialize_with = "or_default")]
    pub purpose: String,
    /// Lifecycle by name.
    #[serde(deserialize_with = "or_default")]
    pub lifecycle: String,
    /// Octal mode, where given.
    pub permissions: Option<String>,
    /// Platform it is for, where given: `linux_amd64`, `linux`.
    #[serde(deserialize_with = "text_or_none")]
    pub platform: Option<String>,
    /// A reference to the launcher itself, without data.
    #[serde(deserialize_with = "or_default")]
    pub self_ref: bool,
}

/// `execution`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, from = "ExecutionAsWritten")]
pub struct ExecutionSection {
    /// Command line with placeholders.
    #[serde(deserialize_with = "or_default")]
    pub command: String,
    /// Variables for the program, in the order written.
    #[serde(deserialize_with = "or_default")]
    pub env: serde_json::Map<String, serde_json::Value>,
}

/// `execution` with both spellings of its variables; `env` wins.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ExecutionAsWritten {
    #[serde(deserialize_with = "or_default")]
    command: String,
    env: Option<serde_json::Map<String, serde_json::Value>>,
    environment: Option<serde_json::Map<String, serde_json::Value>>,
}

impl From<ExecutionAsWritten> for ExecutionSection {
    fn from(written: ExecutionAsWritten) -> Self {
        Self { command: written.command, env: written.env.or(written.environment).unwrap_or_default() }
    }
}

/// `runtime`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeSection {
    /// Rules for the inherited environment.
    #[serde(deserialize_with = "or_default")]
    pub env: RuntimeEnvironment,
}

/// `runtime.env`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeEnvironment {
    /// Names or globs to remove.
    #[serde(deserialize_with = "or_default")]
    pub unset: Vec<String>,
    /// Names or globs to keep in spite of `unset`.
    #[serde(deserialize_with = "or_default")]
    pub pass: Vec<String>,
    /// Renames, old to new.
    #[serde(deserialize_with = "or_default")]
    pub map: BTreeMap<String, String>,
    /// Values to set.
    #[serde(deserialize_with = "or_default")]
    pub set: BTreeMap<String, String>,
}

/// `workenv`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkenvSection {
    /// Directories to make at every start.
    #[serde(deserialize_with = "or_default")]
    pub directories: Vec<WorkenvDirectory>,
    /// Variables with placeholders.
    #[serde(deserialize_with = "or_default")]
    pub env: serde_json::Map<String, serde_json::Value>,
}

/// One of `workenv.directories`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkenvDirectory {
    /// Path with `{workenv}`.
    #[serde(deserialize_with = "or_default")]
    pub path: String,
    /// Octal mode.
    pub mode: Option<String>,
}

/// `cache_validation`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheValidation {
    /// Path with placeholders.
    #[serde(deserialize_with = "or_default")]
    pub check_file: String,
    /// Text with placeholders, compared after trimming.
    #[serde(deserialize_with = "or_default")]
    pub expected_content: String,
}

impl Metadata {
    /// Reads the metadata from its JSON text.
    ///
    /// # Errors
    /// The text is not JSON, is larger or deeper than `limits` allow, or a field has the wrong type; says where.
    pub fn parse(json: &[u8], limits: &Limits) -> Result<Self, Fault> {
        check_shape(json, limits)?;
        let text = std::str::from_utf8(json).map_err(|error| invalid(&error.to_string()))?;
        serde_json::from_str(text).map_err(|error| invalid(&error.to_string()).into())
    }
}

/// Undoes the compression of the metadata: exactly one gzip member and nothing behind it, because readers
/// disagree about what would follow.
///
/// # Errors
/// It is something else, or larger than `limits` allow.
pub fn decompress(compressed: &[u8], limits: &Limits) -> Result<Vec<u8>, Fault> {
    let gzip = |reason: String| Defect::MetadataGzip { reason };
    let mut decoder = GzDecoder::new(compressed);
    let mut json = Vec::new();
    let taken = (&mut decoder).take(limits.metadata_size.saturating_add(1)).read_to_end(&mut json);
    taken.map_err(|error| gzip(error.to_string()))?;
    if json.len() as u64 > limits.metadata_size {
        return Err(Unsupported::MetadataSize { limit: limits.metadata_size }.into());
    }
    let behind = decoder.into_inner().len();
    if behind > 0 {
        return Err(gzip(format!("{behind} bytes follow its end")).into());
    }
    Ok(json)
}

fn invalid(reason: &str) -> Defect {
    Defect::MetadataJson { reason: shown(reason) }
}

/// Counts levels and values without recursion or memory. Text that is not JSON passes; the parser refuses it.
fn check_shape(json: &[u8], limits: &Limits) -> Result<(), Fault> {
    if json.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(invalid("it is not a JSON object").into());
    }
    let (mut depth, mut values) = (0_u32, 1_u32);
    let (mut in_text, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => (depth, values) = (depth.saturating_add(1), values.saturating_add(1)),
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => values = values.saturating_add(1),
            _ => {}
        }
        if depth > limits.metadata_depth {
            return Err(Unsupported::MetadataDepth { limit: limits.metadata_depth }.into());
        }
        if values > limits.metadata_values {
            return Err(Unsupported::MetadataValues { limit: limits.metadata_values }.into());
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use crate::package::metadata::Metadata;

    fn parse(json: &str) -> Result<Metadata, String> {
        Metadata::parse(json.as_bytes(), &Limits::default()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_builders_write_for_nothing_is_nothing() {
        let metadata = parse(
            r#"{"package": {"name": "n", "version": null, "x": [1, {}]}, "build": null, "setup_commands": null,
                "slots": [{"slot": -1, "id": "a", "permissions": null, "target": null, "self_ref": null,
                           "platform": {"os": "linux"}}],
                "execution": {"command": "c", "env": null, "environment": {"B": "2", "A": 1}},
                "runtime": {"env": {"unset": null, "set": {"x": "y"}}}, "workenv": null}"#,
        )
        .unwrap();
        assert_eq!((metadata.package.name.as_str(), metadata.package.version.as_str()), ("n", ""));
        assert_eq!((metadata.slots[0].slot, metadata.slots[0].permissions.as_deref()), (None, None));
        let execution = metadata.execution.unwrap();
        assert_eq!(execution.env.keys().collect::<Vec<_>>(), ["B", "A"]);
        assert!(metadata.workenv.is_none() && metadata.setup_commands.is_empty());
        assert_eq!(parse("{}").unwrap().slots.len(), 0);
    }

    #[test]
    fn indexes_are_named_by_their_root_and_earlier_by_their_digest() {
        for key in ["root", "digest"] {
            let json = format!(
                r#"{{"slotfs": {{"indexes": [{{"slot": 1, "before": 9, "size": 4, "{key}": "x"}}]}}}}"#
            );
            let metadata = parse(&json).unwrap();
            assert_eq!(metadata.slotfs.indexes[0].root, "x", "{key}");
        }
    }

    #[test]
    fn env_wins_over_environment() {
        let json = r#"{"execution": {"environment": {"A": "1"}, "command": "c", "env": {"A": "2"}}}"#;
        assert_eq!(parse(json).unwrap().execution.unwrap().env["A"], "2");
    }

    #[test]
    fn wrong_types_are_named_with_their_place() {
        for (json, part) in [
            ("", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("{", "EOF while parsing"),
            ("{} x", "trailing characters"),
            (r#"{"execution": {"command": ["a"]}}"#, "expected a string at line 1"),
            (r#"{"slots": {}}"#, "a list of at most 65536"),
            (r#"{"slots": [{"id": 7}]}"#, "expected a string"),
            ("{\"package\": {\"name\": \"\u{1}\"}}", "control character"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
        assert!(Metadata::parse(b"{\"a\": \"\xFF\"}", &Limits::default()).is_err());
        let long = parse(&format!(r#"{{"slots": "{}"}}"#, "\u{202e}".repeat(10_000))).unwrap_err();
        assert!(long.len() < 2000 && !long.contains('\u{202e}'), "{}", long.len());
    }

    #[test]
    fn deep_and_wide_documents_end_in_an_error() {
        let nested = |levels: usize| format!(r#"{{"x": {}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        parse(&nested(63)).unwrap();
        for levels in [64, 100, 1_000_000] {
            assert!(parse(&nested(levels)).unwrap_err().contains("nested deeper than the limit of 64"));
        }
        let slots = |count: usize| format!(r#"{{"slots": [{}{{}}]}}"#, "{},".repeat(count - 1));
        assert_eq!(parse(&slots(65_536)).unwrap().slots.len(), 65_536);
        assert!(parse(&slots(65_537)).unwrap_err().contains("at most 65536"));
        assert!(parse(&slots(600_000)).unwrap_err().contains("more than the limit of 1000000 values"));
        parse(
            r#"{"x": "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"["}"#,
        )
        .unwrap();
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        use std::io::Write as _;
        let limits = Limits { metadata_size: 100_000, ..Limits::default() };
        let gzip = |size: usize| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(&vec![b' '; size]).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(decompress(&gzip(100_000), &limits).unwrap().len(), 100_000);
        let error = decompress(&gzip(10_000_000), &limits).unwrap_err().to_string();
        assert_eq!(error, "its metadata is larger than the limit of 100000 bytes");
    }

    #[test]
    fn one_gzip_member_and_nothing_else_is_accepted() {
        let limits = Limits::default();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, b"{}").unwrap();
        let member = encoder.finish().unwrap();
        assert_eq!(decompress(&member, &limits).unwrap(), b"{}");
        for wrong in
            [&b""[..], b"{}", &member[..member.len() - 1], &[member.clone(), member.clone()].concat()]
        {
            let error = decompress(wrong, &limits).unwrap_err().to_string();
            assert!(error.starts_with("its metadata is not one gzip stream: "), "{error}");
        }
    }
}

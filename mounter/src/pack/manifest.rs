//! FlavorPack's JSON manifest: what its builders take, read as they read it.
//!
//! A source may also be a directory, or not yet be in the form that its operations say; it is brought into that form.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::PackError;
use super::request::{self, SlotRequest};

/// The largest manifest that is read.
const LARGEST: u64 = 16 << 20;

/// The kinds of setup commands that every launcher knows.
const SETUP_KINDS: [&str; 4] = ["execute", "enumerate_and_execute", "write_file", "chmod"];

/// Sections that go into the metadata as they are.
const KEPT: [&str; 5] = ["cache_validation", "setup_commands", "runtime", "workenv", "policy"];

/// What a manifest says.
#[derive(Debug, Default)]
pub struct Manifest {
    /// `package`, `execution` and the sections that are kept.
    pub sections: Map<String, Value>,
    /// The slots in order.
    pub slots: Vec<SlotRequest>,
    /// Sections that no builder puts into a package.
    pub unknown: Vec<String>,
}

/// One slot as written.
#[derive(Debug, Deserialize)]
struct WrittenSlot {
    slot: Option<u64>,
    id: String,
    source: String,
    target: String,
    operations: Option<String>,
    purpose: Option<String>,
    lifecycle: Option<String>,
    permissions: Option<String>,
    platform: Option<String>,
}

impl Manifest {
    /// Reads the manifest at `path`. Sources are relative to `folder`, which also stands for `{workenv}` in them.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub fn read(path: &Path, folder: &Path) -> Result<Self, PackError> {
        use slotfs_fs::disk::Context as _;
        let wrong = |reason: String| PackError::Manifest { path: path.into(), reason };
        let size = std::fs::metadata(path).context("examine", path)?;
        if !size.is_file() || size.len() > LARGEST {
            return Err(wrong("it is not a small file".into()));
        }
        let text = std::fs::read_to_string(path).context("read", path)?;
        let value: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let Value::Object(written) = value else { return Err(wrong("it is not a JSON object".into())) };
        Self::understand(written, folder).map_err(|error| wrong(error.to_string()))
    }

    fn understand(mut written: Map<String, Value>, folder: &Path) -> Result<Self, PackError> {
        let mut manifest = Self::default();
        if let Some(package) = written.remove("package") {
            manifest.sections.insert("package".into(), package);
        }
        if let Some(execution) = written.remove("execution") {
            manifest.sections.insert("execution".into(), understood_execution(execution)?);
        }
        let slots = written.remove("slots").unwrap_or_else(|| json!([]));
        let slots: Vec<WrittenSlot> =
            serde_json::from_value(slots).map_err(|error| PackError::request(format!("slots: {error}")))?;
        for (position, slot) in (0..).zip(slots) {
            manifest.slots.push(understood_slot(position, slot, folder)?);
        }
        for key in KEPT {
            if let Some(section) = written.remove(key).filter(|section| !section.is_null()) {
                check_section(key, &section)?;
                manifest.sections.insert(key.to_owned(), section);
            }
        }
        // Every builder makes these itself.
        for key in ["format", "format_version", "verification", "build", "launcher", "compatibility"] {
            written.remove(key);
        }
        manifest.unknown = written.into_iter().map(|(key, _)| key).collect();
        Ok(manifest)
    }
}

fn understood_slot(position: u64, slot: WrittenSlot, folder: &Path) -> Result<SlotRequest, PackError> {
    let wrong = |reason: String| PackError::request(format!("slot `{}`: {reason}", slot.id));
    if slot.slot.is_some_and(|stated| stated != position) {
        return Err(wrong(format!("`slot` is not its position, {position}")));
    }
    if slot.source == "$SELF" {
        return Err(wrong("no launcher starts a package with a reference to itself".into()));
    }
    let chain = request::chain(slot.operations.as_deref().unwrap_or("raw"))
        .map_err(|error| wrong(error.to_string()))?;
    let text = slot.permissions.as_deref().filter(|text| !text.is_empty());
    let permissions = text.map(request::permissions).transpose().map_err(|error| wrong(error.to_string()))?;
    let given = |text: Option<String>, default: &str| {
        text.filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned())
    };
    Ok(SlotRequest {
        path: folder.join(source_path(&slot.source)),
        chain: Some(chain),
        source: slot.source,
        target: slot.target,
        moves_tree: false,
        purpose: given(slot.purpose, "data"),
        lifecycle: given(slot.lifecycle, "runtime"),
        permissions,
        platform: slot.platform,
        id: slot.id,
    })
}

fn source_path(source: &str) -> PathBuf {
    let inside = source.strip_prefix("{workenv}").map(|rest| rest.trim_start_matches('/'));
    PathBuf::from(inside.unwrap_or(source))
}

/// Returns the command and its variables, whichever spelling they have; no builder keeps more.
fn understood_execution(execution: Value) -> Result<Value, PackError> {
    let Value::Object(mut written) = execution else {
        return Err(PackError::request("`execution` is not an object"));
    };
    let command = match written.remove("command") {
        None | Some(Value::Null) => return Ok(Value::Null),
        Some(Value::String(command)) => command,
        Some(_) => return Err(PackError::request("`execution.command` is not a text")),
    };
    let variables = written.remove("env").or_else(|| written.remove("environment"));
    let variables = variables.filter(|variables| !variables.is_null()).unwrap_or_else(|| json!({}));
    let is_text = variables.as_object().is_some_and(|map| map.values().all(Value::is_string));
    if !is_text {
        return Err(PackError::request("`execution.env` is not an object of texts"));
    }
    Ok(json!({ "command": command, "env": variables }))
}

/// Checks what one of the launchers would stumble over and slotfs would not.
fn check_section(key: &str, section: &Value) -> Result<(), PackError> {
    match key {
        "cache_validation" => {
            let complete = ["check_file", "expected_content"].iter().all(|name| section[name].is_string());
            if complete {
                Ok(())
            } else {
                Err(PackError::request(
                    "`cache_validation` needs the texts `check_file` and `expected_content`",
                ))
            }
        }
        "setup_commands" => {
            let commands =
                section.as_array().ok_or_else(|| PackError::request("`setup_commands` is not a list"))?;
            let known =
                |command: &Value| command["type"].as_str().is_some_and(|kind| SETUP_KINDS.contains(&kind));
            match commands.iter().position(|command| !known(command)) {
                None => Ok(()),
                Some(position) => Err(PackError::request(format!(
                    "setup command {position} has none of the types {}",
                    SETUP_KINDS.join(", ")
                ))),
            }
        }
        "policy" if !is_hashed_alike(section) => Err(PackError::request(
            "`policy` holds text beyond ASCII, or one of `<>&`, of which builders and launchers make different hashes",
        )),
        _ if section.is_object() => Ok(()),
        _ => Err(PackError::request(format!("`{key}` is not an object"))),
    }
}

/// Tells whether Python and Go write a value alike: each escapes what the other does not.
fn is_hashed_alike(value: &Value) -> bool {
    let text = value.to_string();
    text.is_ascii() && !text.contains(['<', '>', '&'])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    fn understood(value: Value) -> Result<Manifest, String> {
        let Value::Object(map) = value else { panic!("not an object") };
        Manifest::understand(map, Path::new("/folder")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_manifest_is_read_as_the_builders_read_it() {
        let manifest = understood(json!({
            "package": { "name": "n", "version": "1" },
            "execution": { "command": "c", "environment": { "A": "1" }, "args": ["dropped"] },
            "slots": [
                { "slot": 0, "id": "a", "source": "{workenv}/a.tgz", "target": "x", "operations": "tar|gzip",
                  "lifecycle": "cache", "permissions": "" },
                { "id": "b", "source": "/abs", "target": "b", "permissions": "0755", "resolution": "build" },
            ],
            "workenv": { "env": {} }, "policy": null, "extra": 1, "verification": {}
        }))
        .unwrap();
        assert_eq!(manifest.sections["execution"], json!({ "command": "c", "env": { "A": "1" } }));
        assert_eq!(manifest.slots[0].path, Path::new("/folder/a.tgz"));
        assert_eq!((manifest.slots[0].permissions, manifest.slots[1].permissions), (None, Some(0o755)));
        assert_eq!(manifest.slots[1].path, Path::new("/abs"));
        assert_eq!(manifest.slots[1].chain.as_ref().unwrap().pack(), 0);
        assert!(!manifest.sections.contains_key("policy") && manifest.sections.contains_key("workenv"));
        assert_eq!(manifest.unknown, ["extra"]);
    }

    #[test]
    fn what_no_launcher_would_take_is_refused() {
        for (part, reason) in [
            (json!({ "execution": { "command": ["a"] } }), "`execution.command` is not a text"),
            (json!({ "execution": { "command": "a", "env": { "A": 1 } } }), "not an object of texts"),
            (json!({ "slots": [{ "id": "a", "source": "a" }] }), "missing field `target`"),
            (
                json!({ "slots": [{ "slot": 1, "id": "a", "source": "a", "target": "a" }] }),
                "not its position",
            ),
            (json!({ "slots": [{ "id": "a", "source": "$SELF", "target": "a" }] }), "reference to itself"),
            (
                json!({ "slots": [{ "id": "a", "source": "a", "target": "a", "permissions": "0888" }] }),
                "`0888` is no mode",
            ),
            (json!({ "cache_validation": { "check_file": "a" } }), "`expected_content`"),
            (json!({ "setup_commands": ["bare"] }), "setup command 0"),
            (json!({ "workenv": [] }), "`workenv` is not an object"),
            (json!({ "policy": { "require_env": ["Ä"] } }), "different hashes"),
        ] {
            let error = understood(part.clone()).unwrap_err();
            assert!(error.contains(reason), "{part}: {error}");
        }
    }
}

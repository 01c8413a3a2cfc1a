//! What a package shall hold, however it was asked for: by arguments or by a manifest.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use slotfs_fs::layer::archive::Links;
use slotfs_fs::package::keys::KeyPair;
use slotfs_fs::package::operations::Chain;
use slotfs_fs::package::{Compression, target};
use slotfs_policy::lifecycle::Lifecycle;

use super::error::PackError;
use super::launcher::Launcher;

/// For whom a package is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// For FlavorPack's launchers and slotfs: gzip
    #[default]
    Compatible,
    /// For slotfs alone: zstd in frames that can be read at random, links kept
    Fast,
}

impl Profile {
    /// Returns how slots are compressed that say nothing else.
    #[must_use]
    pub fn compression(self) -> Compression {
        match self {
            Self::Compatible => Compression::Gzip,
            Self::Fast => Compression::Zstd,
        }
    }

    /// Tells whether programs that the profile is for undo `chain`.
    #[must_use]
    pub fn allows(self, chain: &Chain) -> bool {
        self == Self::Fast || !chain.compressions().contains(&Compression::Zstd)
    }
}

/// What a package shall hold.
#[derive(Debug)]
pub struct Request {
    /// For whom it is made.
    pub profile: Profile,
    /// Sections of the metadata, without those that follow from the rest.
    pub sections: Map<String, Value>,
    /// The slots in order.
    pub slots: Vec<SlotRequest>,
    /// The executable in front.
    pub launcher: Launcher,
    /// What signs it.
    pub key: KeyPair,
    /// No time in it is later than this, in seconds since 1970.
    pub latest: Option<i64>,
    /// How hard to compress: 1 to 9, with zstd to 19.
    pub level: u32,
    /// What becomes of symbolic links.
    pub links: Links,
    /// Files that come first in their slots, as paths from the root of the work environment.
    pub first: Arc<[Vec<u8>]>,
}

/// What a slot shall hold.
#[derive(Clone, Debug)]
pub struct SlotRequest {
    /// Identifier.
    pub id: String,
    /// A directory, an archive or a file.
    pub path: PathBuf,
    /// What the metadata says about where it came from.
    pub source: String,
    /// Where it goes.
    pub target: String,
    /// Whether a tree goes to the target, too. Launchers unpack every tree at the root, so it is put into directories
    /// then; a manifest's archives are meant to have these already.
    pub moves_tree: bool,
    /// What is done to its content; by what it is where `None`.
    pub chain: Option<Chain>,
    /// Purpose by name.
    pub purpose: String,
    /// Lifecycle by name.
    pub lifecycle: String,
    /// Mode of a slot that is one file; by that of the source where `None`.
    pub permissions: Option<u16>,
    /// Platform it is for, where it is not for all.
    pub platform: Option<String>,
}

/// What can be done to a slot's content.
pub const OPERATIONS: &str =
    "operations are raw, gzip, tar and tar.gzip, and for slotfs alone (`--profile fast`) zstd and tar.zstd";

/// What can be said of a slot on the command line.
const KEYS: &str = "id, target, operations, lifecycle, purpose, mode, platform";

impl SlotRequest {
    /// Returns a slot of `path` of which nothing else is said.
    fn of(path: &Path) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_else(|| "root".to_owned());
        let stem = name.trim_start_matches('.').split('.').next().unwrap_or_default();
        Self {
            id: if stem.is_empty() { name.clone() } else { stem.to_owned() },
            path: path.to_path_buf(),
            target: String::new(),
            source: name,
            moves_tree: true,
            chain: None,
            purpose: "data".to_owned(),
            lifecycle: "runtime".to_owned(),
            permissions: None,
            platform: None,
        }
    }

    /// Reads `PATH[,KEY=VALUE]…`. What ends like a pair and is a path that exists is a path.
    ///
    /// # Errors
    /// Says what cannot be understood.
    pub fn parse(text: &OsStr) -> Result<Self, PackError> {
        // What is no text has nothing behind it.
        let Some(text) = text.to_str() else {
            let path = Path::new(text);
            let missing = || PackError::request(format!("there is no `{}` to pack", path.display()));
            return if path.exists() { Ok(Self::of(path)) } else { Err(missing()) };
        };
        let mut path = text;
        let mut pairs = Vec::new();
        while !Path::new(path).exists() {
            let Some((before, pair)) = path.rsplit_once(',') else { break };
            let Some(pair) = pair.split_once('=') else { break };
            pairs.push(pair);
            path = before;
        }
        // What is not there is told with all that might be part of its name.
        if !Path::new(path).exists() {
            let missing = text.split(',').next().unwrap_or(text);
            return Err(PackError::hinted(
                format!("there is no `{missing}` to pack"),
                format!("a source is a path, and behind it after commas: {KEYS}"),
            ));
        }
        let mut slot = Self::of(Path::new(path));
        for (key, value) in pairs.into_iter().rev() {
            match key {
                "id" => value.clone_into(&mut slot.id),
                "target" => value.clone_into(&mut slot.target),
                "operations" => slot.chain = Some(chain(value)?),
                "lifecycle" => value.clone_into(&mut slot.lifecycle),
                "purpose" => value.clone_into(&mut slot.purpose),
                "mode" => slot.permissions = Some(permissions(value)?),
                "platform" => slot.platform = Some(value.to_owned()),
                _ => {
                    return Err(PackError::hinted(
                        format!("`{key}` cannot be said of the source `{path}`"),
                        format!("what can be: {KEYS}"),
                    ));
                }
            }
        }
        Ok(slot)
    }

    /// Returns the directories that a tree is put into, and the target for the metadata.
    ///
    /// # Errors
    /// The target leads out of the work environment.
    pub fn place(&self, is_tree: bool) -> Result<(Vec<Vec<u8>>, String), PackError> {
        let names = target::components(&self.target).map_err(|error| {
            PackError::request(format!("slot `{}` cannot go to `{}`: {error}", self.id, self.target))
        })?;
        Ok(match (is_tree, self.moves_tree) {
            (true, true) => (names, "{workenv}".to_owned()),
            (false, _) if names.is_empty() => (Vec::new(), self.source.clone()),
            _ => (Vec::new(), self.target.clone()),
        })
    }

    /// Returns the code of the lifecycle for the descriptor, that of `runtime` where its name has none.
    ///
    /// # Errors
    /// Nobody knows the name.
    pub fn lifecycle_code(&self) -> Result<u8, PackError> {
        let reading = Lifecycle::from_name(&self.lifecycle);
        if !reading.known || reading.lifecycle == Lifecycle::Attestation {
            let known: Vec<&str> = Lifecycle::ALL.iter().map(|lifecycle| lifecycle.name()).collect();
            return Err(PackError::hinted(
                format!(
                    "slot `{}`: a slot of one's own cannot have the lifecycle `{}`",
                    self.id, self.lifecycle
                ),
                format!("lifecycles are {}", known.join(", ").replace("attestation, ", "")),
            ));
        }
        Ok(reading.lifecycle.code().or(Lifecycle::Runtime.code()).unwrap_or_default())
    }
}

/// Reads a chain's name.
///
/// # Errors
/// No builder knows it.
pub fn chain(name: &str) -> Result<Chain, PackError> {
    Chain::from_name(name).ok_or_else(|| PackError::hinted(format!("`{name}` is no operation"), OPERATIONS))
}

/// Reads a file's mode: octal digits.
///
/// # Errors
/// It is something else, or has more than permission bits.
pub fn permissions(text: &str) -> Result<u16, PackError> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = u16::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777 && !digits.starts_with('+'));
    mode.ok_or_else(|| {
        PackError::hinted(format!("`{text}` is no mode"), "a mode is three octal digits, such as 755")
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_with_what_is_said_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let parsed = |text: &str| SlotRequest::parse(OsStr::new(text));
        std::fs::write(at("app.tar.gz"), "").unwrap();
        std::fs::write(at("odd,target=name"), "").unwrap();
        let plain = parsed(&at("app.tar.gz")).unwrap();
        assert_eq!((plain.id.as_str(), plain.source.as_str(), plain.chain), ("app", "app.tar.gz", None));
        let line = at("app.tar.gz,target=opt/x,operations=tgz,mode=0640,lifecycle=config,id=a=b");
        let slot = parsed(&line).unwrap();
        assert_eq!((slot.id.as_str(), slot.target.as_str(), slot.permissions), ("a=b", "opt/x", Some(0o640)));
        assert_eq!(slot.chain.unwrap().pack(), 0x1001);
        assert_eq!(parsed(&at("odd,target=name")).unwrap().source, "odd,target=name");
        assert_eq!(parsed(&at("odd,target=name,id=x")).unwrap().id, "x");
        for (name, reason) in [
            ("none", "there is no"),
            ("none,id=x", "there is no"),
            ("app.tar.gz,targt=x", "`targt` cannot be said"),
            ("app.tar.gz,mode=999", "`999` is no mode"),
            ("app.tar.gz,mode=4755", "`4755` is no mode"),
            ("app.tar.gz,operations=lz4", "`lz4` is no operation"),
        ] {
            let error = parsed(&at(name)).unwrap_err().to_string();
            assert!(error.contains(reason), "{name}: {error}");
        }
    }

    #[test]
    fn lifecycles_have_the_codes_of_the_builders() {
        let code = |name: &str| {
            let slot = SlotRequest { lifecycle: name.into(), ..SlotRequest::of(Path::new("x")) };
            slot.lifecycle_code().ok()
        };
        for (name, expected) in [
            ("init", Some(0)),
            ("cache", Some(4)),
            ("volatile", Some(2)),
            ("attestation", None),
            ("wrong", None),
        ] {
            assert_eq!(code(name), expected, "{name}");
        }
    }
}

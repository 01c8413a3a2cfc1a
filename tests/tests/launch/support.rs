//! FlavorPack's own builders and launchers as peers: packages built, run, and taken apart for slotfs's plan.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use slotfs::workenv::{IndexFacts, PackageFacts, PackageId, PackageKind};
use slotfs_fs::package::metadata::Metadata;

/// An installed FlavorPack.
pub(crate) struct Peer {
    /// Its command.
    pub(crate) flavor: PathBuf,
    helpers: PathBuf,
}

/// Returns the FlavorPack that `SLOTFS_TEST_FLAVOR` names: its command, or the virtual environment it is in.
/// `None` after saying that the test is skipped; with `SLOTFS_TEST_STRICT` that is a failure.
pub(crate) fn peer() -> Option<Peer> {
    let Some(named) = std::env::var_os("SLOTFS_TEST_FLAVOR").map(PathBuf::from) else {
        let reason = "SLOTFS_TEST_FLAVOR does not name an installed `flavor`";
        assert!(std::env::var_os("SLOTFS_TEST_STRICT").is_none(), "cannot be tested: {reason}");
        eprintln!("skipped: {reason}");
        return None;
    };
    let folder = if named.is_dir() { named } else { named.parent().unwrap().parent().unwrap().to_owned() };
    let pythons = fs::read_dir(folder.join("lib")).unwrap();
    let helpers = pythons
        .map(|python| python.unwrap().path().join("site-packages/flavor/helpers/bin"))
        .find(|helpers| helpers.is_dir())
        .expect("the virtual environment has FlavorPack's helpers");
    Some(Peer { flavor: folder.join("bin/flavor"), helpers })
}

impl Peer {
    fn helper(&self, prefix: &str) -> PathBuf {
        let mut files = fs::read_dir(&self.helpers).unwrap().map(|file| file.unwrap().path());
        let wanted = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(prefix);
        files.find(wanted).unwrap_or_else(|| panic!("no {prefix} in `{}`", self.helpers.display()))
    }

    /// Builds a package with the Rust builder, which writes every section, and the launcher of `language`.
    pub(crate) fn build(&self, language: &str, place: &Place, name: &str, manifest: &Value) -> PathBuf {
        let package = place.folder.path().join(format!("{name}.psp"));
        let written = place.sources().join(format!("{name}.json"));
        fs::write(&written, manifest.to_string()).unwrap();
        let built = Command::new(self.helper("flavor-rs-builder-"))
            .arg("--manifest")
            .arg(&written)
            .arg("--output")
            .arg(&package)
            .arg("--launcher-bin")
            .arg(self.helper(&format!("flavor-{language}-launcher-")))
            .args(["--key-seed", "test"])
            .current_dir(place.sources())
            .env_clear()
            .env("FLAVOR_LOG_LEVEL", "error")
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        package
    }
}

/// A folder with a home, slot sources and a place for what the probe found out.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "sources", "found", "somewhere", "tools"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let place = Self { folder };
        let found = place.found().display().to_string();
        // Read from the kernel, not from the shell, which would tidy up.
        let probe = format!(
            "#!/bin/sh\nfor what in cmdline environ; do /bin/cat /proc/$$/$what > '{found}'/$what; done\n\
             /usr/bin/readlink -n /proc/$$/cwd > '{found}'/cwd\nexit 42\n"
        );
        fs::write(place.sources().join("probe.sh"), probe).unwrap();
        place
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn sources(&self) -> PathBuf {
        self.folder.path().join("sources")
    }

    pub(crate) fn found(&self) -> PathBuf {
        self.folder.path().join("found")
    }

    /// The directory that programs are started in.
    pub(crate) fn somewhere(&self) -> PathBuf {
        self.folder.path().join("somewhere")
    }

    /// A directory on the caller's `PATH`.
    pub(crate) fn tools(&self) -> PathBuf {
        self.folder.path().join("tools")
    }

    /// Takes what the probe wrote.
    pub(crate) fn take_found(&self) -> Found {
        let read = |name: &str| {
            let path = self.found().join(name);
            let bytes =
                fs::read(&path).unwrap_or_else(|error| panic!("the probe did not run: {name}: {error}"));
            fs::remove_file(path).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let list = |text: String| text.split_terminator('\0').map(str::to_owned).collect::<Vec<_>>();
        let environment = list(read("environ"));
        let pairs = environment.iter().map(|line| line.split_once('=').unwrap_or((line, "")));
        Found {
            arguments: list(read("cmdline")),
            directory: read("cwd"),
            environment: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }
    }
}

/// What a program was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) arguments: Vec<String>,
    pub(crate) directory: String,
    pub(crate) environment: BTreeMap<String, String>,
}

/// Runs a program with exactly these variables.
pub(crate) fn run(
    program: &Path,
    arguments: &[OsString],
    variables: &[(String, OsString)],
    directory: &Path,
) -> Output {
    Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Reads a package's metadata and facts straight from the format: trailer, index block, compressed JSON.
pub(crate) fn take_apart(package: &Path) -> (Metadata, PackageFacts) {
    let bytes = fs::read(package).unwrap();
    let index = &bytes[bytes.len() - 8196..bytes.len() - 4];
    let short = |at: usize| u32::from_le_bytes(index[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_le_bytes(index[at..at + 8].try_into().unwrap());
    let index = IndexFacts {
        format_version: short(0),
        index_checksum: short(4),
        package_size: long(8),
        launcher_size: long(16),
        metadata_offset: long(24),
        metadata_size: long(32),
        slot_table_offset: long(40),
        slot_table_size: long(48),
        slot_count: short(56),
        flags: short(60),
        metadata_checksum: index[96..128].try_into().unwrap(),
        page_size: short(644),
        build_timestamp: long(704),
        capabilities: long(832),
        requirements: long(840),
    };
    let start = usize::try_from(index.metadata_offset).unwrap();
    let length = usize::try_from(index.metadata_size).unwrap();
    let mut metadata_json = Vec::new();
    flate2::read::GzDecoder::new(&bytes[start..start + length]).read_to_end(&mut metadata_json).unwrap();
    let metadata: Metadata = serde_json::from_slice(&metadata_json).unwrap();
    let (name, version) = (metadata.package.name.clone(), metadata.package.version.clone());
    let facts = PackageFacts {
        kind: PackageKind::Package,
        path: package.canonicalize().unwrap(),
        id: PackageId::of(&name, &version, &index.checksum_text()),
        name,
        version,
        index,
        metadata_json,
    };
    (metadata, facts)
}

/// A slot that is one file.
pub(crate) fn file_slot(source: &str, target: &str, mode: &str) -> Value {
    serde_json::json!({ "id": target, "source": source, "target": target, "operations": "raw", "permissions": mode })
}

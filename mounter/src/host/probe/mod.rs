//! What this machine lets slotfs do, found out by trying it as the user who asks: the facts of `slotfs doctor`.
//!
//! Every finding says what was found, what that means for slotfs, why it is so, and the least that helps.
//!
//! **Invariant:** nothing is left behind: what a probe makes it removes, what it mounts it unmounts.

#[cfg(unix)]
mod backed;
mod disk;
#[cfg(unix)]
mod mounting;
#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
mod waking;

use std::path::{Path, PathBuf};

/// How well something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should.
    Ok,
    /// slotfs works without, but less well.
    Limited,
    /// Something that slotfs can do is not possible here.
    Missing,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// A stable name for scripts.
    pub name: &'static str,
    /// How well it works.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What that means for slotfs.
    pub meaning: &'static str,
    /// Why it does not work, where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The least that helps, a command where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>, meaning: &'static str) -> Self {
        Self { name, state: State::Ok, found: found.into(), meaning, cause: None, fix: None }
    }

    fn limited(name: &'static str, found: impl Into<String>, meaning: &'static str) -> Self {
        Self { state: State::Limited, ..Self::ok(name, found, meaning) }
    }

    fn missing(name: &'static str, found: impl Into<String>, meaning: &'static str) -> Self {
        Self { state: State::Missing, ..Self::ok(name, found, meaning) }
    }

    fn cause(self, cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

/// Where to try.
#[derive(Clone, Debug)]
pub struct Places {
    /// The directory of work environments.
    pub cache: PathBuf,
    /// The directory for temporary files.
    pub temporary: PathBuf,
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// System and processor, as Rust names them.
    pub system: String,
    /// Version of the kernel, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Whether `--mode auto` mounts; else it extracts.
    pub can_mount: bool,
    /// One for each thing that was tried.
    pub findings: Vec<Finding>,
}

/// The name of the finding that decides whether slotfs mounts.
const MOUNT: &str = "mount";

/// Tries everything. Takes a fraction of a second; a disk or server that hangs can hold it up.
#[must_use]
pub fn run(places: &Places) -> Report {
    let mut findings = Vec::new();
    #[cfg(unix)]
    findings.extend(mounting::findings(&places.temporary));
    #[cfg(not(unix))]
    findings.push(
        Finding::limited(MOUNT, "not on this system", "packages are extracted instead of mounted")
            .cause("slotfs mounts through FUSE, which this system does not have"),
    );
    #[cfg(target_os = "linux")]
    findings.extend([namespaces::finding(), waking::finding()]);
    findings.extend(disk::findings("cache", &places.cache));
    findings.extend(disk::temporary(&places.temporary));
    let can_mount = findings.iter().any(|finding| finding.name == MOUNT && finding.state == State::Ok);
    Report {
        system: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        kernel: kernel(),
        can_mount,
        findings,
    }
}

fn kernel() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned())
}

/// Returns the nearest directory above `path`, or `path` itself, that exists.
fn existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|place| place.is_dir())
}

/// Tells whether this looks like a container, where the answer lies with whoever started it.
#[cfg(unix)]
fn in_container() -> bool {
    ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists())
        || std::fs::read("/run/systemd/container").is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_whole_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let places =
            Places { cache: folder.path().join("not/made/yet"), temporary: folder.path().to_path_buf() };
        let report = run(&places);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let names: Vec<&str> = report.findings.iter().map(|finding| finding.name).collect();
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len(), "{names:?}");
        for finding in &report.findings {
            assert!(!finding.found.is_empty() && !finding.meaning.is_empty(), "{finding:?}");
            let unexplained = finding.state != State::Ok && finding.cause.is_none();
            assert!(!unexplained, "{finding:?}");
        }
        assert!(serde_json::to_string(&report).unwrap().contains("\"state\":"));
    }
}

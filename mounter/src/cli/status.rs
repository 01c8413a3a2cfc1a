//! How a work environment is right now: what `list` and `inspect` show. Gathered from its files and from the mount
//! table; what is mounted is asked nothing that could hang.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::host::health::{self, Health};
use crate::host::mount_table::{self, Mount};
use crate::workenv::{Listed, MadeBy, Workenv};

/// How long a mount may take to show whether anybody serves it.
const PATIENCE: Duration = Duration::from_secs(1);

/// One environment, as shown.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The package's identity.
    pub id: Option<String>,
    /// Name of the package.
    pub package: Option<String>,
    /// Version of the package.
    pub version: Option<String>,
    /// The package's file, as far as slotfs noted it.
    pub package_file: Option<String>,
    /// Where the content is seen.
    pub content: String,
    /// `slotfs` or `launcher`.
    pub made_by: &'static str,
    /// What state it is in.
    pub state: State,
    /// The mount, if there is one.
    pub mount: Option<MountStatus>,
    /// Where what was written is; `None` where nothing was.
    pub upper: Option<String>,
    /// Bytes that were written; `None` for a launcher's environment, whose own files are mixed with the package's.
    pub written_bytes: Option<u64>,
    /// Seconds since 1970.
    pub last_used: Option<u64>,
}

/// What state an environment is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Mounted and served.
    Mounted,
    /// Mounted, and nobody serves it; the next command that needs it clears it.
    Dead,
    /// Mounted, and its server does not answer.
    Hung,
    /// Prepared: the next start mounts it and runs the program.
    Ready,
    /// Its files are there, unpacked.
    Extracted,
    /// It was begun and never finished, or somebody prepares it right now.
    Unfinished,
}

impl State {
    /// Returns the word shown.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Mounted => "mounted",
            Self::Dead => "dead mount",
            Self::Hung => "hung mount",
            Self::Ready => "ready",
            Self::Extracted => "extracted",
            Self::Unfinished => "unfinished",
        }
    }
}

/// A mount of an environment.
#[derive(Clone, Debug, Serialize)]
pub struct MountStatus {
    /// Where.
    pub mountpoint: String,
    /// The serving process.
    pub pid: Option<i64>,
    /// When it began, seconds since 1970.
    pub since: Option<u64>,
    /// Kind of file system; slotfs's own is `fuse.slotfs`.
    pub file_system: String,
    /// Whether nothing can be written.
    pub read_only: bool,
}

/// A mount of slotfs that is of no work environment of this cache: layers given by hand, or another cache's.
#[derive(Clone, Debug, Serialize)]
pub struct OtherMount {
    /// Where.
    pub mountpoint: String,
    /// What is mounted, as the one who mounted it called it.
    pub source: String,
    /// `mounted`, `dead` or `hung`.
    pub state: State,
    /// Kind of file system.
    pub file_system: String,
    /// Whether nothing can be written.
    pub read_only: bool,
}

/// Returns slotfs's mounts that none of `known` has, in the order of their places. A mount that another one hides is
/// left out, and so are further places at which a mount is seen.
#[must_use]
pub fn others(known: &[Status], table: &[Mount]) -> Vec<OtherMount> {
    let text = |path: &Path| path.display().to_string();
    let is_known = |mount: &Mount| {
        let place = text(&mount.mountpoint);
        known.iter().filter_map(|status| status.mount.as_ref()).any(|known| known.mountpoint == place)
    };
    let is_on_top = |mount: &Mount| {
        mount_table::at(table, &mount.mountpoint).is_some_and(|topmost| topmost.id == mount.id)
    };
    let is_whole = |mount: &Mount| mount.root == Path::new("/");
    let ours = table.iter().filter(|mount| mount.is_ours() && is_whole(mount));
    let mut others: Vec<&Mount> = ours.filter(|mount| is_on_top(mount) && !is_known(mount)).collect();
    others.sort_by(|left, right| left.mountpoint.cmp(&right.mountpoint));
    others
        .into_iter()
        .map(|mount| OtherMount {
            mountpoint: text(&mount.mountpoint),
            source: text(&mount.source),
            state: served(mount),
            file_system: String::from_utf8_lossy(&mount.kind).into_owned(),
            read_only: mount.has_option("ro"),
        })
        .collect()
}

/// Tells whether a mount of slotfs answers.
fn served(mount: &Mount) -> State {
    match health::health(&mount.mountpoint, PATIENCE) {
        Ok(Health::Dead) => State::Dead,
        Ok(Health::Hung) => State::Hung,
        Ok(Health::Alive) | Err(_) => State::Mounted,
    }
}

/// Returns the status of an environment, given the mount table.
#[must_use]
pub fn of(listed: &Listed, table: &[Mount]) -> Status {
    let workenv = &listed.workenv;
    let note = SessionNote::read(workenv);
    let mounted = find_mount(workenv, note.as_ref(), table);
    let state = match mounted {
        Some(mount) if mount.is_ours() => served(mount),
        Some(_) => State::Mounted,
        None => resting(listed),
    };
    let text = |path: &Path| path.display().to_string();
    let upper = workenv.upper();
    let own = listed.made_by == MadeBy::Slotfs;
    Status {
        name: workenv.name().to_string(),
        id: listed.id.as_ref().map(ToString::to_string),
        package: listed.package.as_ref().map(|package| package.name.clone()),
        version: listed.package.as_ref().map(|package| package.version.clone()),
        package_file: listed.path.as_deref().map(text),
        content: text(&workenv.content()),
        made_by: match listed.made_by {
            MadeBy::Slotfs => "slotfs",
            MadeBy::Launcher => "launcher",
        },
        state,
        mount: mounted.map(|mount| MountStatus {
            mountpoint: text(&mount.mountpoint),
            pid: note.as_ref().map(|note| note.pid).filter(|_| mount.is_ours()),
            since: note.as_ref().map(|note| note.started).filter(|_| mount.is_ours()),
            file_system: String::from_utf8_lossy(&mount.kind).into_owned(),
            read_only: mount.has_option("ro"),
        }),
        written_bytes: own.then(|| size_of(&upper)),
        upper: upper.is_dir().then(|| text(&upper)),
        last_used: listed.last_used().and_then(|time| Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())),
    }
}

/// Returns how long ago `seconds` (since 1970) was.
#[must_use]
pub fn ago(seconds: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(seconds))
}

/// What the session record says, whichever version of slotfs wrote it.
#[derive(Deserialize)]
struct SessionNote {
    pid: i64,
    started: u64,
    request: Noted,
}

#[derive(Deserialize)]
struct Noted {
    mountpoint: PathBuf,
}

impl SessionNote {
    fn read(workenv: &Workenv) -> Option<Self> {
        let text = std::fs::read(workenv.session_record()).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// Finds the mount at the environment's own place, or where its session was asked to mount it.
fn find_mount<'a>(workenv: &Workenv, note: Option<&SessionNote>, table: &'a [Mount]) -> Option<&'a Mount> {
    let content = workenv.content();
    // The table has paths as the kernel knows them; the place itself may be dead, its parent is not.
    let parent = content.parent().and_then(|parent| parent.canonicalize().ok());
    let place = parent.zip(content.file_name()).map(|(parent, name)| parent.join(name));
    let usual = place.and_then(|place| mount_table::at(table, &place));
    let elsewhere = || mount_table::at(table, &note?.request.mountpoint).filter(|mount| mount.is_ours());
    usual.or_else(elsewhere)
}

/// The state of an environment that is not mounted.
fn resting(listed: &Listed) -> State {
    let holds_files =
        std::fs::read_dir(listed.workenv.content()).is_ok_and(|mut entries| entries.next().is_some());
    match (listed.state.complete, holds_files) {
        (true, true) => State::Extracted,
        (true, false) if listed.made_by == MadeBy::Slotfs => State::Ready,
        (true | false, _) => State::Unfinished,
    }
}

/// Returns the bytes of all files below `directory`; what cannot be looked at counts nothing.
pub(in crate::cli) fn size_of(directory: &Path) -> u64 {
    let mut bytes = 0_u64;
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            // Not followed: the size of a link is its own.
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => open.push(entry.path()),
                Ok(metadata) => bytes = bytes.saturating_add(metadata.len()),
                Err(_) => {}
            }
        }
    }
    bytes
}

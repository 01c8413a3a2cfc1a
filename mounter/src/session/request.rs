//! What the serving process is asked to do, and what it answers. Plain data.
//!
//! **Invariant:** a request holds every decision; the serving process decides nothing, reads no setting and no
//! environment variable. The session record keeps the request, so that a later command can finish what a killed
//! server could not.

use std::io::ErrorKind;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use slotfs_fs::disk::DiskError;
use slotfs_fs::disk::identity::FileIdentity;
use slotfs_fs::disk::unix::Erasure;
use slotfs_fs::package::verify::Checking;
use slotfs_fs::slot;

use super::wire::{self, path};
use crate::settings;
use crate::workenv::{Cache, Workenv, WorkenvName};

/// The version of the request and of the session record; another one is not understood.
pub const VERSION: u32 = 1;

/// Files of at least so many bytes are copied up without content where that will do. Below it, a copy costs hardly more
/// than the sync that both need, and whoever reads the upper directory without slotfs finds the content in it.
pub const BARE_COPIES: u64 = 1 << 20;

/// What the mounted tree is for; it decides which slots are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The slots that setup commands see, some of which the program does not.
    Setup,
    /// The slots that the program sees.
    Run,
}

/// One slot as it is to be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServedSlot {
    /// Its position in the package.
    pub position: u32,
    /// Its id, to name it in logs and to be sure that the package is the one that was planned for.
    pub id: String,
    /// SHA-256 of its stored bytes as they were found (stated, if nobody has hashed them), in hexadecimal digits; `None` for a directory of the host.
    pub digest: Option<String>,
    /// How its stored bytes are known to be right.
    #[serde(default)]
    pub checking: Checking,
    /// Whether the overlay may change it.
    pub writable: bool,
    /// Whether what was written over it earlier goes before the mount is made.
    pub drop_at_start: bool,
    /// Whether what is written over it goes when the mount is gone.
    pub drop_at_end: bool,
    /// Whether what is written over it goes when the user cleans up.
    #[serde(default)]
    pub drop_at_clean: bool,
    /// Whether its decoded content may stay in the shared store.
    pub keep_in_store: bool,
    /// Whether its content is fetched before anything asks for it.
    pub prefetch: bool,
}

/// Where what is written goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spill {
    /// The upper directory.
    #[serde(with = "path")]
    pub upper: PathBuf,
    /// Its work directory, on the same file system.
    #[serde(with = "path")]
    pub work: PathBuf,
    /// How many bytes the files in it may take; `None` leaves that to the disk.
    pub limit: Option<u64>,
}

/// How the kernel is asked to mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountWishes {
    /// Whether other users may enter.
    pub allow_other: bool,
    /// Whether files may be handed to the kernel directly.
    pub passthrough: bool,
    /// Threads that answer the kernel; `None` leaves it to the driver.
    pub threads: Option<usize>,
}

/// How much decoding may produce before it counts as a bomb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodeLimits {
    /// Bytes that one slot may decode to.
    pub decoded: u64,
    /// Entries that one slot may hold.
    pub entries: u64,
    /// Bytes that decoding may take at once, all slots together; `None` leaves that to what the slots need.
    #[serde(default)]
    pub memory: Option<u64>,
}

impl DecodeLimits {
    /// Returns what the settings say.
    #[must_use]
    pub fn of(settings: settings::Limits) -> Self {
        let memory = settings.memory.map(|memory| memory.0);
        Self { decoded: settings.decoded.0, entries: settings.entries, memory }
    }

    /// Returns the bounds of one slot, and bounds what decoding takes in this process.
    #[must_use]
    pub fn apply(&self) -> slot::Limits {
        let usual = slot::Limits::default();
        slot::Limits {
            decoded_bytes: self.decoded,
            entries: u32::try_from(self.entries).unwrap_or(u32::MAX),
            decoder_memory: self.memory.map_or(usual.decoder_memory, slot::memory::bound),
            ..usual
        }
    }
}

/// What one serving process serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeRequest {
    /// [`VERSION`].
    pub version: u32,
    /// The directory that holds work environments.
    #[serde(with = "path")]
    pub cache: PathBuf,
    /// Name of the work environment in it.
    #[serde(with = "path")]
    pub workenv: PathBuf,
    /// The package, absolute.
    #[serde(with = "path")]
    pub package: PathBuf,
    /// Which state of the file was verified; any other is refused. `None` for a directory, which is never settled.
    pub identity: Option<FileIdentity>,
    /// What tells this package's content from every other's.
    pub content: String,
    /// Where to mount.
    #[serde(with = "path")]
    pub mountpoint: PathBuf,
    /// Whether the mountpoint was made for this mount and goes with it.
    pub mountpoint_made: bool,
    /// Whether launchers were told that they may start from the mount, and must hear that it is gone.
    pub published: bool,
    /// What the tree is for.
    pub purpose: Purpose,
    /// Whether the same tree serves setup and program.
    pub serves_both: bool,
    /// The slots to serve, bottom first.
    pub slots: Vec<ServedSlot>,
    /// Where writes go; `None` shows the slots alone, as they are.
    pub spill: Option<Spill>,
    /// From how many bytes on files are copied up without content where that will do; `None`: never. Missing in the
    /// records of earlier versions.
    #[serde(default)]
    pub bare_copies: Option<u64>,
    /// Whether what goes with the mount is overwritten first.
    #[serde(default)]
    pub erase: bool,
    /// Whether the kernel refuses every change.
    pub read_only: bool,
    /// Whether everything is indexed before the answer, rather than while the mount answers already.
    pub settled: bool,
    /// Whether what launches touch is recorded, and asked for ahead of the next one.
    #[serde(default)]
    pub prefetch: bool,
    /// How to mount.
    pub mount: MountWishes,
    /// Decompression limits.
    pub limits: DecodeLimits,
    /// What to log, in the syntax of `tracing-subscriber`'s `EnvFilter`.
    pub log: String,
}

/// The kind of a failure, as it crosses the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCause {
    /// The package cannot be read as one.
    Format,
    /// The package is not the one that was verified.
    Verification,
    /// The kernel refused the mount.
    Mount,
    /// This machine has no usable FUSE.
    Unavailable,
    /// The disk refused.
    Disk,
    /// The disk is full, or the user's share of it.
    DiskFull,
    /// The disk can only be read.
    DiskReadOnly,
    /// Another server has this work environment.
    Busy,
}

impl FailureCause {
    /// Tells apart what a user can do something about.
    #[must_use]
    pub fn of_disk(error: &DiskError) -> Self {
        let kind = error.kind();
        if matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            Self::DiskFull
        } else if kind == ErrorKind::ReadOnlyFilesystem {
            Self::DiskReadOnly
        } else {
            Self::Disk
        }
    }
}

/// What the serving process answers, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ServeReply {
    /// The mount answers.
    Ready {
        /// The serving process.
        pid: i32,
    },
    /// There is no mount and there will be none.
    Failed {
        /// What kind of failure.
        cause: FailureCause,
        /// What failed, on which path, and why.
        message: String,
        /// What to do next.
        hints: Vec<String>,
    },
}

impl ServeRequest {
    /// Returns what happens to content that goes with the mount.
    #[must_use]
    pub fn erasure(&self) -> Erasure {
        if self.erase { Erasure::Overwrite } else { Erasure::None }
    }

    /// Returns the work environment that is served; `None` when its name cannot be one.
    #[must_use]
    pub fn workenv(&self) -> Option<Workenv> {
        let name = WorkenvName::new(self.workenv.as_os_str())?;
        Some(Cache::new(&self.cache).workenv(name))
    }

    /// Reads a request from the caller's pipe.
    ///
    /// # Errors
    /// It does not arrive whole, or is of another version of slotfs.
    pub fn receive(pipe: &mut impl std::io::Read) -> Result<Self, wire::WireError> {
        let request: Self = wire::receive(pipe, "caller")?;
        if request.version == VERSION {
            return Ok(request);
        }
        let reason = format!("it has version {}, this program knows {VERSION}", request.version);
        Err(wire::WireError::Garbled { from: "caller", reason })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
pub(crate) mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    /// A request with something in every field.
    pub(crate) fn sample() -> ServeRequest {
        ServeRequest {
            version: VERSION,
            cache: "/cache".into(),
            workenv: PathBuf::from(OsString::from_vec(b"\xff".to_vec())),
            package: "/srv/app.psp".into(),
            identity: Some(FileIdentity {
                device: 1,
                inode: u64::MAX,
                size: 3,
                modified: 1_700_000_000_123_456_789,
                changed: -5,
            }),
            content: "ab12".into(),
            mountpoint: PathBuf::from(OsString::from_vec(b"/cache/\xff".to_vec())),
            mountpoint_made: true,
            published: true,
            purpose: Purpose::Setup,
            serves_both: false,
            slots: vec![ServedSlot {
                position: 0,
                id: "python".into(),
                digest: Some("ab".repeat(32)),
                checking: Checking::Chunks,
                writable: true,
                drop_at_start: false,
                drop_at_end: true,
                drop_at_clean: true,
                keep_in_store: true,
                prefetch: true,
            }],
            spill: Some(Spill { upper: "/u".into(), work: "/w".into(), limit: Some(1 << 30) }),
            bare_copies: Some(BARE_COPIES),
            erase: false,
            read_only: false,
            settled: true,
            prefetch: true,
            mount: MountWishes { allow_other: false, passthrough: true, threads: Some(4) },
            limits: DecodeLimits { decoded: 1 << 40, entries: 1 << 20, memory: Some(1 << 30) },
            log: "warn".into(),
        }
    }

    #[test]
    fn a_request_arrives_as_sent_and_every_cut_of_it_is_refused() {
        let request = sample();
        let mut pipe = Vec::new();
        wire::send(&mut pipe, "server", &request).unwrap();
        assert_eq!(ServeRequest::receive(&mut &pipe[..]).unwrap(), request);
        for length in 0..pipe.len() {
            assert!(ServeRequest::receive(&mut &pipe[..length]).is_err(), "{length} bytes were understood");
        }
    }

    #[test]
    fn another_version_is_refused() {
        let request = ServeRequest { version: VERSION + 1, ..sample() };
        let mut pipe = Vec::new();
        wire::send(&mut pipe, "server", &request).unwrap();
        let error = ServeRequest::receive(&mut &pipe[..]).unwrap_err().to_string();
        assert!(error.contains("version 2"), "{error}");
    }
}

//! What the process that serves given layers is asked to do. Plain data.
//!
//! **Invariant:** as of every request: it holds every decision, and the serving process decides nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use slotfs_fs::disk::identity::FileIdentity;

use crate::session::request::{DecodeLimits, ServedSlot, Spill, VERSION};
use crate::session::wire::{self, path};

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GivenLayer {
    /// A directory of the host, which may have been the upper directory of an overlay.
    Directory {
        /// Where it is, absolute.
        #[serde(with = "path")]
        path: PathBuf,
    },
    /// A package that was verified.
    Package {
        /// Where it is, absolute.
        #[serde(with = "path")]
        path: PathBuf,
        /// Which state of the file was verified.
        identity: Option<FileIdentity>,
        /// Its slots, bottom first.
        slots: Vec<ServedSlot>,
    },
}

/// How the kernel is asked to mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenOptions {
    /// Every change is refused.
    pub read_only: bool,
    /// Set-id bits work.
    pub set_id: bool,
    /// Devices work as such.
    pub devices: bool,
    /// Nothing may be executed.
    pub no_execution: bool,
    /// Times of last access are kept.
    pub access_times: bool,
    /// Whether other users may enter; `None`: where that can be had.
    pub allow_other: Option<bool>,
    /// The kernel reads and writes no file of the upper directory by itself.
    #[serde(default)]
    pub no_passthrough: bool,
    /// Others may change lower directories meanwhile, and what they change is to be seen.
    #[serde(default)]
    pub layers_change: bool,
    /// What else the kernel is told, by the names of mount(8).
    pub flags: Vec<String>,
}

/// What one serving process serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlayRequest {
    /// [`VERSION`].
    pub version: u32,
    /// The directory whose shared part keeps indexes and contents of packages.
    #[serde(with = "path")]
    pub cache: PathBuf,
    /// What the mount table is to show as the source.
    #[serde(with = "path")]
    pub source: PathBuf,
    /// Where to mount.
    #[serde(with = "path")]
    pub mountpoint: PathBuf,
    /// What is shown, bottom first.
    pub layers: Vec<GivenLayer>,
    /// Where writes go; `None` shows the layers as they are.
    pub spill: Option<Spill>,
    /// From how many bytes on files are copied up without content where that will do; `None`: never.
    pub bare_copies: Option<u64>,
    /// Whether those of earlier mounts get their content before this one is made.
    pub fill: bool,
    /// How to mount.
    pub options: GivenOptions,
    /// Decompression limits.
    pub limits: DecodeLimits,
    /// The process with which the mount ends, which is the one that asks; `None`: it stays.
    pub caller: Option<i32>,
    /// What to log, in the syntax of `tracing-subscriber`'s `EnvFilter`.
    pub log: String,
}

impl OverlayRequest {
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

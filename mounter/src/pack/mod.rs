//! Making a package: sources to slots, sections to signed metadata, a launcher in front.
//!
//! Unless something else is asked for, the package runs under FlavorPack's own launchers: one gzip member a slot, no
//! symbolic links, no operation, lifecycle or setup command that a launcher does not know.
//!
//! **Invariant:** the file appears under its name whole and readable, or not at all; two packages of the same sources, key
//! and options are the same byte for byte.

mod error;
mod launcher;
pub mod manifest;
pub mod optimize;
pub mod rebuild;
pub mod request;
mod source;
mod surveyor;
mod time;
mod writing;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value, json};
use slotfs_fs::disk::Context as _;
use slotfs_fs::disk::atomic::{self, WriteOptions};
use slotfs_fs::layer::archive::{Detail, Order, TreeOptions};
use slotfs_fs::package::write::{self, PackageWriter, SlotDescription};
use slotfs_fs::package::{Compression, Limits, Package, PackageError};

pub use error::PackError;
pub use launcher::Launcher;
pub use request::{Profile, Request, SlotRequest};
pub use source::Archives;
pub use writing::SlotReport;

use self::source::{Content, Source};
use self::writing::{NewSlot, Writing};
use crate::extract::progress::Progress;

/// As a linker makes a program: the umask decides who may run it.
const PROGRAM: WriteOptions = WriteOptions { mode: 0o777, replace: true };

/// What was made.
#[derive(Clone, Debug)]
pub struct Report {
    /// Length of the package in bytes.
    pub size: u64,
    /// The slots in order.
    pub slots: Vec<SlotReport>,
}

/// Makes the package that `request` describes at `out`, in the place of one that is there.
///
/// # Errors
/// There is no new package then, and an old one is still there.
pub fn pack(
    request: &Request,
    out: &Path,
    archives: &Archives,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Report, PackError> {
    check_names(&request.slots)?;
    let mut sources = Vec::new();
    for slot in &request.slots {
        check_outside(&slot.path, out)?;
        let source = Source::open(slot, request.profile, archives)?;
        if !write::can_write(&source.chain) || !request.profile.allows(&source.chain) {
            let reason =
                format!("slot `{}`: the operations `{}` are not for everybody", slot.id, source.chain);
            return Err(PackError::hinted(reason, request::OPERATIONS));
        }
        sources.push(source);
    }
    let packed = atomic::write_as(out, &PROGRAM, |file| {
        let packing = Packing { request, writing: Writing { archives, stop, progress, out } };
        let report = packing.write(file, &sources)?;
        check(file, out)?;
        Ok(report)
    });
    let report = packed.map_err(|error| stopped(stop, error))?;
    sources.iter().for_each(Source::finish);
    Ok(report)
}

/// Writes the package at `old` to `out` with another launcher in front, and returns its length. Its slots, metadata and
/// signature stay what they are.
///
/// # Errors
/// There is no new package then, and an old one is still there.
pub fn relaunch(
    old: &Path,
    launcher: &Launcher,
    out: &Path,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<u64, PackError> {
    let package = Package::open(old, &Limits::default())?;
    let mut launcher = launcher.open()?;
    let written = atomic::write_as(out, &PROGRAM, |file| {
        progress.begin(0, &out.file_name().unwrap_or_default().to_string_lossy(), package.identity().size);
        let mut told = |bytes| {
            progress.advance(0, bytes);
            if stop.load(Ordering::Relaxed) { Err(io::Error::other("interrupted")) } else { Ok(()) }
        };
        let size = write::relaunch(&package, &mut *launcher, file, &mut told);
        let size = size.map_err(|source| PackError::Relaunch { path: old.into(), source })?;
        progress.end(0);
        if !package.unchanged()? {
            return Err(PackageError::Changed { path: old.into() }.into());
        }
        check(file, out)?;
        Ok(size)
    });
    written.map_err(|error| stopped(stop, error))
}

/// Returns what an error is about: whatever fails after the user wants it to stop, fails because of that.
fn stopped(stop: &AtomicBool, error: PackError) -> PackError {
    if stop.load(Ordering::Relaxed) { PackError::Interrupted } else { error }
}

/// Makes sure that what was written is a package, before it gets its name.
fn check(file: &File, out: &Path) -> Result<(), PackError> {
    let copy = file.try_clone().context("open", out)?;
    let opened = Package::read(copy, out, &Limits::default());
    opened.map(drop).map_err(|error| PackError::Useless { reason: error.to_string() })
}

struct Packing<'a> {
    request: &'a Request,
    writing: Writing<'a>,
}

impl Packing<'_> {
    fn write(&self, file: &mut File, sources: &[Source]) -> Result<Report, PackError> {
        let mut launcher = self.request.launcher.open()?;
        let out = self.writing.out;
        let mut writer =
            PackageWriter::start(file, &mut *launcher, self.request.level).context("write", out)?;
        let mut slots = Vec::new();
        let mut newest = 0;
        for (part, (slot, source)) in self.request.slots.iter().zip(sources).enumerate() {
            let (report, youngest) = self.slot(&mut writer, part, slot, source)?;
            newest = newest.max(youngest);
            slots.push(report);
        }
        let sections = new_sections(&self.request.sections, self.request.latest.unwrap_or(newest));
        let size = writer.finish(sections, &self.request.key).context("write", out)?;
        Ok(Report { size, slots })
    }

    fn slot(
        &self,
        writer: &mut PackageWriter<'_>,
        part: usize,
        slot: &SlotRequest,
        source: &Source,
    ) -> Result<(SlotReport, i64), PackError> {
        let is_file = matches!(source.content, Content::File(..));
        let (prefix, target) = slot.place(!is_file)?;
        let is_fast = source.chain.compressions().contains(&Compression::Zstd);
        let options = TreeOptions {
            prefix,
            links: self.request.links,
            latest: self.request.latest,
            entries: self.writing.archives.limits.entries,
            detail: Detail::Plain,
            order: Order { first: Arc::clone(&self.request.first), by_kind: is_fast },
            once: is_fast,
        };
        let description = SlotDescription {
            id: slot.id.clone(),
            source: slot.source.clone(),
            target,
            chain: source.chain.clone(),
            purpose: slot.purpose.clone(),
            lifecycle: slot.lifecycle.clone(),
            lifecycle_code: slot.lifecycle_code()?,
            permissions: is_file.then(|| slot.permissions.unwrap_or(source.permissions)),
            platform: slot.platform.clone(),
            original: None,
        };
        self.writing.slot(writer, part, NewSlot { description, source, options, path: &slot.path })
    }
}

/// Returns the metadata in the order in which FlavorPack's builders have it, with the sections that were `given`; nothing in
/// the package is younger than `time`. There is no section about the launcher: it is optional, and it would be wrong as soon
/// as the package gets another one.
fn new_sections(given: &Map<String, Value>, time: i64) -> Map<String, Value> {
    let mut sections = Map::new();
    sections.insert("format".into(), json!("PSPF/2025"));
    sections.insert("format_version".into(), json!("1.0.0"));
    let keep = |sections: &mut Map<String, Value>, name: &str| {
        if let Some(section) = given.get(name).filter(|section| !section.is_null()) {
            sections.insert(name.to_owned(), section.clone());
        }
    };
    keep(&mut sections, "package");
    sections.insert("slots".into(), Value::Null);
    keep(&mut sections, "execution");
    sections.insert(
        "verification".into(),
        json!({
            "integrity_seal": { "required": true, "algorithm": "ed25519" },
            "signed": true, "require_verification": true
        }),
    );
    sections.insert(
        "build".into(),
        json!({
            "tool": "slotfs", "tool_version": env!("CARGO_PKG_VERSION"), "timestamp": time::rfc3339(time),
            "deterministic": true,
            "platform": { "os": std::env::consts::OS, "arch": std::env::consts::ARCH }
        }),
    );
    sections.insert("compatibility".into(), json!({ "min_format_version": "1.0.0", "features": [] }));
    for name in ["cache_validation", "runtime", "workenv", "policy"] {
        keep(&mut sections, name);
    }
    let setup = given.get("setup_commands").cloned().unwrap_or_else(|| json!([]));
    sections.insert("setup_commands".into(), setup);
    sections
}

fn check_names(slots: &[SlotRequest]) -> Result<(), PackError> {
    let mut seen = std::collections::HashSet::new();
    for slot in slots {
        check_name(&slot.id)?;
        if !seen.insert(&slot.id) {
            return Err(PackError::hinted(
                format!("two slots are called `{}`", slot.id),
                "give one another name: `PATH,id=NAME`",
            ));
        }
    }
    Ok(())
}

/// Checks that a slot can be called `id`.
///
/// # Errors
/// It cannot.
pub fn check_name(id: &str) -> Result<(), PackError> {
    if id.is_empty() || id.chars().any(char::is_control) {
        return Err(PackError::request(format!("`{}` is no name for a slot", id.escape_debug())));
    }
    Ok(())
}

/// The package must not be packed into itself.
fn check_outside(source: &Path, out: &Path) -> Result<(), PackError> {
    let folder = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let whole = |path: &Path| -> Option<PathBuf> { path.canonicalize().ok() };
    let inside = whole(source).zip(whole(folder)).is_some_and(|(source, folder)| folder.starts_with(source));
    if inside {
        let reason = format!("`{}` would lie in `{}`, which goes into it", out.display(), source.display());
        return Err(PackError::hinted(reason, "write the package somewhere else"));
    }
    Ok(())
}

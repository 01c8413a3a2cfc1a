//! A package made from another one: slots that stay byte for byte, slots with other content, slots that come to them.
//!
//! The metadata is the old package's but for what it says about slots, so it is signed anew.
//!
//! **Invariant:** stored bytes get into the new package only if they are those that were verified; the file appears under
//! its name whole, or not at all.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value, json};
use slotfs_fs::disk::atomic;
use slotfs_fs::disk::{Context as _, DiskError};
use slotfs_fs::layer::Layer;
use slotfs_fs::layer::archive::{Detail, Links, Order, TreeOptions};
use slotfs_fs::package::keys::KeyPair;
use slotfs_fs::package::operations::Chain;
use slotfs_fs::package::verify::Verification;
use slotfs_fs::package::write::{Original, PackageWriter, SlotDescription};
use slotfs_fs::package::{Compression, Container, Package, PackageError, Slot};
use slotfs_fs::slot::index::{Identity, Index};

use super::error::PackError;
use super::launcher::Launcher;
use super::source::{Archives, Content, Source};
use super::writing::{NewSlot, SlotReport, Writing};
use super::{PROGRAM, check, new_sections, stopped};
use crate::extract::progress::Progress;

/// What the new package shall be.
#[derive(Debug)]
pub struct Rebuild<'a> {
    /// The package that it is made from.
    pub old: &'a Package,
    /// What hashing its slots found.
    pub verification: &'a Verification,
    /// The executable in front; that of the old package where `None`, or for what has none a script.
    pub launcher: Option<Launcher>,
    /// The program and its arguments; those of the old package where `None`.
    pub command: Option<&'a str>,
    /// What signs it.
    pub key: &'a KeyPair,
    /// How hard to compress: 1 to 9, with zstd to 19.
    pub level: u32,
    /// What becomes of the old slots, in order, and what comes to them.
    pub slots: Vec<Part>,
}

/// One slot of the new package.
#[derive(Debug)]
pub enum Part {
    /// The old slot, byte for byte, with the index that it brings along.
    Kept,
    /// The old slot with other bytes.
    Rewritten(Matter),
    /// One that was not there, or only one of an archive or a directory, which says nothing about its slots.
    Added(Box<SlotDescription>, Matter),
}

/// A slot's content.
#[derive(Debug)]
pub struct Matter {
    /// What is done to it.
    pub chain: Chain,
    /// The tree that becomes an archive; the old slot's one file where `None`.
    pub tree: Option<Tree>,
}

/// A tree, and how it becomes an archive.
pub type Tree = (Arc<dyn Layer>, TreeOptions);

/// What became of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Its stored bytes are the same.
    Kept,
    /// It has other content, or the same in another form.
    Rewritten,
    /// It was not there.
    Added,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// Length of the package in bytes.
    pub size: u64,
    /// Its slots, in order.
    pub slots: Vec<(Fate, SlotReport)>,
}

/// Returns how a tree becomes an archive that shows all of it again and is stored by `chain`: links stay what they are, and
/// with `hard_links` so do further names of a file. `owner` is to whom everything should belong, if somebody asks.
#[must_use]
pub fn whole_tree(chain: &Chain, hard_links: bool, owner: Option<(u32, u32)>, entries: u32) -> TreeOptions {
    // Only slotfs reads zstd.
    let is_fast = chain.compressions().contains(&Compression::Zstd);
    let order = Order { by_kind: is_fast, ..Order::default() };
    let detail = Detail::Whole { hard_links, owner };
    TreeOptions {
        prefix: Vec::new(),
        links: Links::Keep,
        latest: None,
        entries,
        detail,
        order,
        once: is_fast,
    }
}

/// Makes the package at `out`, in the place of one that is there.
///
/// # Errors
/// There is no new package then, and an old one is still there.
pub fn rebuild(
    wanted: &Rebuild<'_>,
    out: &Path,
    archives: &Archives,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Rebuilt, PackError> {
    let writing = Writing { archives, stop, progress, out };
    let made = atomic::write_as(out, &PROGRAM, |file| {
        let rebuilt = write(wanted, writing, file)?;
        check(file, out)?;
        Ok(rebuilt)
    });
    made.map_err(|error| stopped(stop, error))
}

fn write(wanted: &Rebuild<'_>, writing: Writing<'_>, file: &mut File) -> Result<Rebuilt, PackError> {
    let old = wanted.old;
    let own = if old.index().is_some() { Launcher::File(old.path().into()) } else { Launcher::Script };
    let mut launcher = wanted.launcher.as_ref().unwrap_or(&own).open()?;
    let mut writer =
        PackageWriter::start(file, &mut *launcher, wanted.level).context("write", writing.out)?;
    if let Some(index) = old.index() {
        writer.attest(index.attestation_digest);
    }
    let originals = Original::all(old).context("read", old.path())?;
    let (mut slots, mut newest) = (Vec::new(), 0);
    for (part, slot) in wanted.slots.iter().enumerate() {
        let (before, original) = (old.slots().get(part), originals.get(part));
        let (fate, filled) = match (slot, before, original) {
            (Part::Kept, Some(slot), Some(original)) => {
                slots.push((Fate::Kept, keep(&mut writer, wanted, writing, (part, slot, original))?));
                continue;
            }
            (Part::Rewritten(matter), Some(slot), Some(original)) => {
                let description = rewritten(slot, original.clone(), matter);
                (Fate::Rewritten, fill(&mut writer, writing, part, (description, matter, before))?)
            }
            (Part::Added(description, matter), ..) => {
                let fate = if before.is_some() { Fate::Rewritten } else { Fate::Added };
                (fate, fill(&mut writer, writing, part, ((**description).clone(), matter, before))?)
            }
            (Part::Kept | Part::Rewritten(_), ..) => continue,
        };
        newest = filled.1.max(newest);
        slots.push((fate, filled.0));
    }
    let sections = sections(wanted, newest).context("read", old.path())?;
    if !old.unchanged()? {
        return Err(PackageError::Changed { path: old.path().into() }.into());
    }
    let size = writer.finish(sections, wanted.key).context("write", writing.out)?;
    Ok(Rebuilt { size, slots })
}

/// Returns the metadata of the old package, or for what has none those of a new one; what they say about slots follows from
/// what was written.
fn sections(wanted: &Rebuild<'_>, newest: i64) -> io::Result<Map<String, Value>> {
    let old = wanted.old;
    let mut sections: Map<String, Value> = if old.index().is_some() {
        serde_json::from_slice(old.metadata_json())?
    } else {
        let version = if old.version().is_empty() { "0.0.0" } else { old.version() };
        let package = json!({ "name": old.name(), "version": version });
        new_sections(
            &Map::from_iter([("package".to_owned(), package), ("execution".to_owned(), Value::Null)]),
            newest,
        )
    };
    sections.remove("slotfs");
    if wanted.launcher.is_some() {
        // It says which launcher the builder took.
        sections.remove("launcher");
    }
    if let Some(command) = wanted.command {
        let execution = sections.entry("execution").or_insert(Value::Null);
        if !execution.is_object() {
            *execution = json!({ "command": "", "env": {} });
        }
        execution["command"] = command.into();
    }
    Ok(sections)
}

/// Copies a slot, and the index that it brings along.
fn keep(
    writer: &mut PackageWriter<'_>,
    wanted: &Rebuild<'_>,
    writing: Writing<'_>,
    (part, slot, original): (usize, &Slot, &Original),
) -> Result<SlotReport, PackError> {
    let stored = &slot.source.stored;
    // The launcher is in front already.
    let stored = if slot.self_reference { stored.part(0, 0) } else { Some(stored.clone()) };
    let stored =
        stored.ok_or_else(|| DiskError::new("read", wanted.old.path(), io::ErrorKind::UnexpectedEof))?;
    writing.progress.begin(part, &slot.id, stored.len());
    let mut told = |bytes| {
        writing.progress.advance(part, bytes);
        if writing.stop.load(Ordering::Relaxed) { Err(io::Error::other("interrupted")) } else { Ok(()) }
    };
    let digest = writer.keep(original.clone(), &stored, &mut told).context("copy a slot to", writing.out)?;
    let verified = wanted.verification.slot(slot.position).and_then(|verified| verified.digest);
    if !slot.self_reference && verified != Some(digest) {
        return Err(PackageError::Changed { path: wanted.old.path().into() }.into());
    }
    if let Some(carried) = &slot.carried_index {
        let opened = Index::open_in_package(&Identity::of(&slot.source, digest), carried);
        // One that is damaged is used by nobody.
        if let Ok(index) = opened.and_then(|index| index.check().map(|()| index)) {
            writer.index(index.as_bytes(), index.root()).context("write", writing.out)?;
        }
    }
    writing.progress.end(part);
    Ok(SlotReport {
        id: slot.id.clone(),
        chain: slot.chain.clone(),
        stored: stored.len(),
        original: original.original_size(),
        digest,
        entries: 0,
        followed: 0,
        first_followed: None,
        differences: Vec::new(),
    })
}

/// Describes a slot with other bytes as the old one is described.
fn rewritten(slot: &Slot, original: Original, matter: &Matter) -> SlotDescription {
    SlotDescription {
        id: slot.id.clone(),
        source: String::new(),
        target: slot.target_text.clone(),
        chain: matter.chain.clone(),
        purpose: slot.purpose.clone(),
        lifecycle: slot.lifecycle.clone(),
        lifecycle_code: slot.lifecycle_code,
        permissions: None,
        platform: None,
        original: Some(original),
    }
}

/// Writes a slot with content of its own.
fn fill(
    writer: &mut PackageWriter<'_>,
    writing: Writing<'_>,
    part: usize,
    (description, matter, before): (SlotDescription, &Matter, Option<&Slot>),
) -> Result<(SlotReport, i64), PackError> {
    let (content, options) = match (&matter.tree, before) {
        (Some((layer, options)), _) => (Content::Tree(Arc::clone(layer), None), options.clone()),
        (None, Some(slot)) if slot.source.container == Container::File => {
            let file = Content::File(slot.source.stored.clone(), slot.source.compressions.clone());
            (file, whole_tree(&matter.chain, false, None, writing.archives.limits.entries))
        }
        (None, _) => return Err(PackError::request(format!("slot `{}` has no content", description.id))),
    };
    let id = description.id.clone();
    let source = Source::of(&id, content, matter.chain.clone());
    let slot = NewSlot { description, source: &source, options, path: Path::new(&id) };
    writing.slot(writer, part, slot)
}

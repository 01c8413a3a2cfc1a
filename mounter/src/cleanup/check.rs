//! Reading the whole shared store: what in it is damaged, whose that is, and making it anew from packages.
//!
//! **Invariant:** a check changes nothing. A repair removes nothing but what it found damaged and the indexes that name it,
//! all of which is made again from a package; whoever has it open keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use slotfs_fs::disk::DiskError;
use slotfs_fs::disk::digest::Digest;
use slotfs_fs::layer::slot::SlotOptions;
use slotfs_fs::package::Package;
use slotfs_fs::package::verify::Verification;
use slotfs_fs::slot::Limits;
use slotfs_fs::slot::index::{self, Stored};
use slotfs_fs::store::Usage;

use super::{CleanupError, contents};
use crate::extract::layers::{self, OpenSlot};
use crate::extract::progress::Progress;
use crate::session::served::Served;
use crate::workenv::{Cache, Listed};

/// What can be damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// Decoded content, by its name.
    Content(Digest),
    /// A slot's index.
    Index(PathBuf),
}

/// Something that is damaged.
#[derive(Clone, Debug)]
pub struct Damage {
    /// What.
    pub what: Damaged,
    /// What is wrong with it.
    pub reason: String,
    /// The slots that it is from, where that is known.
    pub slots: BTreeSet<Digest>,
    /// The names of the environments that it is for.
    pub environments: BTreeSet<String>,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// How many contents there are.
    pub contents: u64,
    /// How many indexes there are.
    pub indexes: u64,
    /// How many bytes were read.
    pub bytes: u64,
    /// What is damaged.
    pub damaged: Vec<Damage>,
}

/// What a repair did.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    /// Slots whose index was made anew, with the contents that are kept with it.
    pub rebuilt: BTreeSet<Digest>,
    /// Slots of which no package was found; they are made anew when one is used again.
    pub left: BTreeSet<Digest>,
}

/// Reads everything in the store of `cache`. `told` hears how many bytes were read.
///
/// # Errors
/// The cache cannot be listed, or something in it cannot be read.
pub fn check(cache: &Cache, told: &dyn Progress) -> Result<Checked, CleanupError> {
    let mut checked = Checked::default();
    told.begin(0, "Checking", contents::size(cache)?.total());
    let mut slots_of: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
    for stored in contents::indexes(cache)? {
        checked.indexes += 1;
        checked.bytes += stored.length;
        let slots = BTreeSet::from([stored.slot]);
        let found = index::check(&stored.path).and_then(|_| index::contents(&stored.path));
        match found {
            Ok(named) => named.into_iter().flatten().for_each(|content| {
                slots_of.entry(content).or_default().insert(stored.slot);
            }),
            Err(error) => {
                let what = Damaged::Index(stored.path);
                let reason = error.to_string();
                checked.damaged.push(Damage { what, reason, slots, environments: BTreeSet::new() });
            }
        }
        told.advance(0, stored.length);
    }
    if let Some(store) = contents::existing_store(cache) {
        let mut objects: Vec<Usage> = Vec::new();
        store.visit(&mut |usage| {
            objects.push(usage);
            ControlFlow::Continue(())
        })?;
        for object in objects {
            checked.contents += 1;
            checked.bytes += object.length;
            // One that is gone by now was removed by a clean.
            if store.is_intact(&object.digest)? == Some(false) {
                checked.damaged.push(Damage {
                    what: Damaged::Content(object.digest),
                    reason: "it does not hold what its name says".to_owned(),
                    slots: slots_of.remove(&object.digest).unwrap_or_default(),
                    environments: BTreeSet::new(),
                });
            }
            told.advance(0, object.length);
        }
    }
    told.end(0);
    name_environments(cache, &mut checked.damaged)?;
    Ok(checked)
}

fn name_environments(cache: &Cache, damaged: &mut [Damage]) -> Result<(), CleanupError> {
    if damaged.is_empty() {
        return Ok(());
    }
    let environments = environments(cache)?;
    for damage in damaged {
        for (listed, slots) in &environments {
            if !slots.is_disjoint(&damage.slots) {
                damage.environments.insert(listed.workenv.name().to_string());
            }
        }
    }
    Ok(())
}

/// Every environment, with the slots that it was last made from.
fn environments(cache: &Cache) -> Result<Vec<(Listed, BTreeSet<Digest>)>, CleanupError> {
    let with_slots = |listed: Listed| {
        let slots = Served::read(&listed.workenv).map(|served| served.slots).unwrap_or_default();
        (listed, slots.iter().filter_map(|digest| Digest::parse(digest)).collect())
    };
    Ok(cache.all()?.into_iter().map(with_slots).collect())
}

/// Removes what `checked` names, and makes it anew where a package is there to make it from. `open` opens and hashes the
/// package at a path; `None` where that cannot be done, of which it has told.
///
/// # Errors
/// The disk refused, or a slot cannot be decoded.
pub fn repair(
    cache: &Cache,
    checked: &Checked,
    limits: Limits,
    open: &mut dyn FnMut(&Path) -> Option<(Package, Verification)>,
) -> Result<Repaired, CleanupError> {
    let store = contents::existing_store(cache);
    let mut waiting: BTreeSet<Digest> = BTreeSet::new();
    let mut gone: BTreeSet<Digest> = BTreeSet::new();
    for damage in &checked.damaged {
        match (&damage.what, &store) {
            (Damaged::Content(digest), Some(store)) => {
                store.remove(digest)?;
                gone.insert(*digest);
            }
            (Damaged::Content(_), None) => {}
            (Damaged::Index(path), _) => remove(path)?,
        }
        waiting.extend(&damage.slots);
    }
    // A pass makes contents and index together, and only where there is no index.
    for Stored { path, .. } in
        contents::indexes(cache)?.iter().filter(|stored| waiting.contains(&stored.slot))
    {
        remove(path)?;
    }
    let mut repaired = Repaired::default();
    let home = layers::home(&cache.shared())?;
    let options = SlotOptions { limits, ..SlotOptions::default() };
    for (listed, slots) in environments(cache)? {
        let wanted = slots.iter().any(|slot| waiting.contains(slot));
        let Some((package, verification)) = listed.path.filter(|_| wanted).and_then(|path| open(&path))
        else {
            continue;
        };
        for slot in package.slots() {
            let digest = verification.slot(slot.position).and_then(|verified| verified.digest);
            let Some(digest) = digest.filter(|digest| waiting.contains(digest)) else { continue };
            if let OpenSlot::Stored(layer) = OpenSlot::open(slot, &verification, &home, &options)? {
                layer.wait_until_settled()?;
                // The pass makes what it must; what was only read once is decoded for it.
                layer.keep(&gone)?;
            }
            waiting.remove(&digest);
            repaired.rebuilt.insert(digest);
        }
    }
    repaired.left = waiting;
    Ok(repaired)
}

fn remove(path: &Path) -> Result<(), DiskError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(DiskError::new("remove", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

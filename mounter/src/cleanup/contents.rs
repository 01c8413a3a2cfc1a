//! What the shared store holds, and which environments it was made from.
//!
//! An environment's note says which slots it has; an index is of one slot, and names the contents of its files. So an
//! object belongs to every environment whose slots' indexes name it or one that takes bytes from it, or one of whose slots
//! it is, whole. Objects of which nothing tells that (files that were read from ZIP archives and plain tar archives, whose
//! indexes know no digests) may be anybody's: their age decides. So it does for the records of verified packages, unless an
//! environment has the package's identity.
//!
//! **Invariant:** an object goes before the indexes that name it, so that an interrupted clean leaves nothing of
//! which it could not be told any more whose it was.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use slotfs_fs::disk::DiskError;
use slotfs_fs::disk::digest::Digest;
use slotfs_fs::slot::index;
use slotfs_fs::store::{self, Store};
use slotfs_policy::cleanup::{ContentFacts, Referrers};
use slotfs_policy::retention;

use super::environment::Environment;
use crate::extract::layers;
use crate::session::served::Served;
use crate::workenv::{Cache, Workenv};

const SECONDS_A_DAY: u64 = 86_400;

/// What the shared store takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSize {
    /// Decoded contents.
    pub contents: u64,
    /// Slot indexes.
    pub indexes: u64,
    /// Records of verified packages.
    pub records: u64,
}

impl StoreSize {
    /// Returns the sum.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.contents.saturating_add(self.indexes).saturating_add(self.records)
    }
}

/// One thing in the store.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Object(Digest),
    /// An index, or a record of a verified package.
    File(PathBuf),
}

/// Things that go or stay together: from the same environments, unused for as many days.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) items: Vec<Item>,
    pub(super) bytes: u64,
    /// The slots that it is from, where that is known.
    pub(super) slots: BTreeSet<Digest>,
}

/// What makes things a group. Objects come before files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    is_file: bool,
    /// Positions of environments; `None` where nothing tells.
    environments: Option<BTreeSet<usize>>,
    days: u64,
}

/// The content of the store in groups.
pub(super) type Groups = BTreeMap<Key, Group>;

impl Key {
    /// Returns what `slotfs-policy` needs to know, with `name` for the group and positions for environments.
    pub(super) fn facts(&self, name: String, group: &Group) -> ContentFacts {
        let referrers = match &self.environments {
            Some(environments) => Referrers::Known(environments.iter().map(ToString::to_string).collect()),
            None => Referrers::Unknown,
        };
        // Whoever reads it keeps it open, and its environment stays.
        let in_use = false;
        ContentFacts { name, bytes: group.bytes, idle: retention::days(self.days), in_use, referrers }
    }
}

/// Returns the store, which is not made for that; `None` where it is missing, or a link out of the cache.
pub(super) fn existing_store(cache: &Cache) -> Option<Store> {
    is_inside(cache, store::FOLDER).then(|| Store::existing(&cache.shared())).flatten()
}

/// Tells whether a folder of the shared one leads nowhere else.
fn is_inside(cache: &Cache, folder: &str) -> bool {
    let is_own = |path: PathBuf| std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    is_own(cache.shared()) && is_own(cache.shared().join(folder))
}

/// Lists the slot indexes.
pub(super) fn indexes(cache: &Cache) -> Result<Vec<index::Stored>, DiskError> {
    if is_inside(cache, index::FOLDER) { index::list(&cache.shared()) } else { Ok(Vec::new()) }
}

/// Returns what the store takes.
pub(super) fn size(cache: &Cache) -> Result<StoreSize, DiskError> {
    let mut size = StoreSize::default();
    if let Some(store) = existing_store(cache) {
        store.visit(&mut |usage| {
            size.contents = size.contents.saturating_add(usage.length);
            ControlFlow::Continue(())
        })?;
    }
    size.indexes = indexes(cache)?.iter().map(|stored| stored.length).sum();
    if is_inside(cache, "verified-v1") {
        size.records = layers::ledger(&cache.shared()).list()?.iter().map(|record| record.length).sum();
    }
    Ok(size)
}

/// Gathers the content of the store, with the environments that it is from.
pub(super) fn gather(
    cache: &Cache,
    environments: &[Environment],
    now: SystemTime,
) -> Result<Groups, DiskError> {
    let mut groups = Groups::new();
    let days = |used: Option<SystemTime>| {
        let idle = used.and_then(|used| now.duration_since(used).ok()).unwrap_or(Duration::ZERO);
        idle.as_secs() / SECONDS_A_DAY
    };
    let mut add = |key: Key, item: Item, bytes: u64, slots: &BTreeSet<Digest>| {
        let group = groups.entry(key).or_default();
        group.items.push(item);
        group.bytes = group.bytes.saturating_add(bytes);
        group.slots.extend(slots);
    };
    let users = users_of_slots(environments);
    let environments_of = |slots: &BTreeSet<Digest>| {
        slots.iter().flat_map(|slot| users.get(slot)).flatten().copied().collect::<BTreeSet<usize>>()
    };
    let indexes = indexes(cache)?;
    if let Some(store) = existing_store(cache) {
        for (digest, object) in objects(&store, &users, &indexes, &days)? {
            let known = (!object.slots.is_empty()).then(|| environments_of(&object.slots));
            let environments = known.filter(|known| !known.is_empty() || !object.is_of_unknown);
            let key = Key { is_file: false, environments, days: object.days };
            add(key, Item::Object(digest), object.length, &object.slots);
        }
    }
    for stored in indexes {
        let slots = BTreeSet::from([stored.slot]);
        let key = Key { is_file: true, environments: Some(environments_of(&slots)), days: days(stored.used) };
        add(key, Item::File(stored.path), stored.length, &slots);
    }
    if is_inside(cache, "verified-v1") {
        for record in layers::ledger(&cache.shared()).list()? {
            let of_package = |environment: &Environment| {
                let id = environment.listed.id.as_ref().map(|id| id.as_str());
                id.is_some() && id == record.id.as_deref()
            };
            let found = environments.iter().enumerate().filter(|(_, environment)| of_package(environment));
            let found: BTreeSet<usize> = found.map(|(position, _)| position).collect();
            let environments = (!found.is_empty()).then_some(found);
            let key = Key { is_file: true, environments, days: days(record.used) };
            add(key, Item::File(record.path), record.length, &BTreeSet::new());
        }
    }
    Ok(groups)
}

/// What is known of an object.
#[derive(Clone, Debug, Default)]
struct Object {
    length: u64,
    days: u64,
    slots: BTreeSet<Digest>,
    /// Whether one takes bytes from it of which nobody knows whose it is.
    is_of_unknown: bool,
}

/// Lists the objects of the store, with the slots that they are from.
fn objects(
    store: &Store,
    users: &HashMap<Digest, BTreeSet<usize>>,
    indexes: &[index::Stored],
    days: &dyn Fn(Option<SystemTime>) -> u64,
) -> Result<HashMap<Digest, Object>, DiskError> {
    let mut objects: HashMap<Digest, Object> = HashMap::new();
    let mut in_parts: Vec<(Digest, Vec<Digest>)> = Vec::new();
    store.visit(&mut |usage| {
        let idle = days(usage.used);
        let object =
            objects.entry(usage.digest).or_insert_with(|| Object { days: idle, ..Object::default() });
        object.length += usage.length;
        object.days = object.days.min(idle);
        // A slot that is one program, stored as it is, has no index; its content has the slot's own digest.
        object.slots.extend(users.contains_key(&usage.digest).then_some(usage.digest));
        if !usage.sources.is_empty() {
            in_parts.push((usage.digest, usage.sources));
        }
        ControlFlow::Continue(())
    })?;
    for stored in indexes {
        match index::contents(&stored.path) {
            Ok(named) => named.into_iter().flatten().for_each(|digest| {
                if let Some(object) = objects.get_mut(&digest) {
                    object.slots.insert(stored.slot);
                }
            }),
            // Made anew when it is needed; until then nothing tells which contents it named.
            Err(error) => tracing::debug!("`{}`: {error}", stored.path.display()),
        }
    }
    for (digest, sources) in in_parts {
        let Some(user) = objects.get(&digest).cloned() else { continue };
        // What others take bytes from is used with them, and by whom they are used.
        for source in sources {
            if let Some(object) = objects.get_mut(&source) {
                object.days = object.days.min(user.days);
                object.slots.extend(&user.slots);
                object.is_of_unknown |= user.slots.is_empty();
            }
        }
    }
    Ok(objects)
}

fn slots_of(workenv: &Workenv) -> impl Iterator<Item = Digest> {
    let slots = Served::read(workenv).map(|served| served.slots).unwrap_or_default();
    slots.into_iter().filter_map(|digest| Digest::parse(&digest))
}

fn users_of_slots(environments: &[Environment]) -> HashMap<Digest, BTreeSet<usize>> {
    let mut users: HashMap<Digest, BTreeSet<usize>> = HashMap::new();
    for (position, environment) in environments.iter().enumerate() {
        for slot in slots_of(&environment.listed.workenv) {
            users.entry(slot).or_default().insert(position);
        }
    }
    users
}

/// Returns every slot that an environment refers to now.
pub(super) fn referred_to(cache: &Cache) -> Result<BTreeSet<Digest>, super::CleanupError> {
    Ok(cache.all()?.iter().flat_map(|listed| slots_of(&listed.workenv)).collect())
}

/// Removes what is in `group`.
pub(super) fn remove(cache: &Cache, group: &Group) -> Result<(), DiskError> {
    let store = existing_store(cache);
    for item in &group.items {
        match item {
            Item::Object(digest) => {
                if let Some(store) = &store {
                    store.remove(digest)?;
                }
            }
            Item::File(path) => match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(DiskError::new("remove", path, error));
                }
                Ok(()) | Err(_) => {}
            },
        }
    }
    Ok(())
}

/// Removes what killed processes left half made in the store.
pub(super) fn sweep(cache: &Cache) -> Result<(), DiskError> {
    if let Some(store) = existing_store(cache) {
        store::sweep(&store)?;
    }
    if is_inside(cache, index::FOLDER) {
        index::sweep(&cache.shared().join(index::FOLDER))?;
    }
    Ok(())
}

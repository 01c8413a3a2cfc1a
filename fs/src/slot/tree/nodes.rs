//! The tables of a tree while it grows, and the look-up of a name in a directory.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::OnceLock;

use zerocopy::IntoBytes;

use super::record::{EntryRecord, ExtentRecord, NodeRecord, ZipRecord, join, kind_code};
use super::tables::{Table, Tables};
use crate::node::Kind;
use crate::slot::index::{IndexError, Visit};
use crate::slot::{Notice, NoticeKind};

/// No entry.
const NONE: u32 = u32::MAX;
/// Notices kept of one kind: an archive of a million set-id files needs no million lines.
const NOTICES_OF_A_KIND: usize = 100;

/// A tree in memory.
#[derive(Clone, Debug)]
pub struct Nodes {
    pub(super) records: Vec<NodeRecord>,
    pub(super) names: Vec<u8>,
    pub(super) extents: Vec<ExtentRecord>,
    pub(super) zips: Vec<ZipRecord>,
    pub(super) digests: Vec<[u8; 32]>,
    pub(super) blob: Vec<u8>,
    pub(super) attributes: Vec<u8>,
    pub(super) notices: Vec<Notice>,
    /// Names in directories; the place of a removed one is [`NONE`] in `node`.
    entries: Vec<Named>,
    /// The entries that are left, by directory and name; made when it is first asked for after a change.
    order: OnceLock<Vec<u32>>,
    /// Hash of parent and name to the first of a list of entries.
    table: HashMap<u64, u32, BuildHasherDefault<Ready>>,
    random: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Named {
    parent: u32,
    node: u32,
    name: u32,
    /// The next entry of the same hash.
    next: u32,
    length: u16,
}

/// A hasher for keys that are hashes.
#[derive(Debug, Default)]
pub(super) struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// The tree has as many names, nodes or bytes of names as its tables can number.
#[derive(Debug)]
pub(super) struct Full;

impl Nodes {
    pub(super) fn new(root: NodeRecord) -> Self {
        Self {
            records: vec![root],
            names: Vec::new(),
            extents: Vec::new(),
            zips: Vec::new(),
            digests: Vec::new(),
            blob: Vec::new(),
            attributes: Vec::new(),
            notices: Vec::new(),
            entries: Vec::new(),
            order: OnceLock::new(),
            table: HashMap::default(),
            random: RandomState::new(),
        }
    }

    /// Number of nodes.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }

    /// What was noticed so far.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    pub(super) fn get(&self, node: u32) -> NodeRecord {
        self.records.get(node as usize).copied().unwrap_or_default()
    }

    pub(super) fn change(&mut self, node: u32, change: impl FnOnce(&mut NodeRecord)) {
        if let Some(record) = self.records.get_mut(node as usize) {
            change(record);
        }
    }

    fn key(&self, parent: u32, name: &[u8]) -> u64 {
        self.random.hash_one((parent, name))
    }

    fn name_of(&self, entry: &Named) -> &[u8] {
        let start = entry.name as usize;
        self.names.get(start..start + usize::from(entry.length)).unwrap_or_default()
    }

    fn find(&self, parent: u32, name: &[u8]) -> Option<usize> {
        let mut at = *self.table.get(&self.key(parent, name))?;
        while at != NONE {
            let entry = &self.entries[at as usize];
            if entry.parent == parent && entry.node != NONE && self.name_of(entry) == name {
                return Some(at as usize);
            }
            at = entry.next;
        }
        None
    }

    /// Finds `name` in the directory `parent`.
    #[must_use]
    pub fn child(&self, parent: u32, name: &[u8]) -> Option<u32> {
        self.find(parent, name).map(|at| self.entries[at].node)
    }

    /// Appends a node without a name.
    pub(super) fn add(&mut self, record: NodeRecord) -> Result<u32, Full> {
        let number = u32::try_from(self.records.len()).ok().filter(|number| *number < NONE).ok_or(Full)?;
        self.records.push(record);
        Ok(number)
    }

    /// Gives `node` the name `name` in `parent`, where no such name may be.
    pub(super) fn link(&mut self, parent: u32, name: &[u8], node: u32) -> Result<(), Full> {
        let number = u32::try_from(self.entries.len()).ok().filter(|number| *number < NONE).ok_or(Full)?;
        let start = u32::try_from(self.names.len()).map_err(|_| Full)?;
        let length = u16::try_from(name.len()).map_err(|_| Full)?;
        self.names.extend_from_slice(name);
        let next = match self.table.entry(self.random.hash_one((parent, name))) {
            Place::Occupied(mut place) => place.insert(number),
            Place::Vacant(place) => {
                place.insert(number);
                NONE
            }
        };
        self.entries.push(Named { parent, node, name: start, next, length });
        self.order.take();
        let is_directory = self.get(node).kind() == Some(Kind::Directory);
        self.change(node, |record| {
            if record.name_length.get() == 0 {
                (record.parent, record.name, record.name_length) =
                    (parent.into(), start.into(), length.into());
            }
            record.links += if is_directory { 2 } else { 1 };
        });
        self.change(parent, |record| {
            let (_, count) = record.rows();
            record.content = join(0, count + 1);
            record.links += u32::from(is_directory);
        });
        Ok(())
    }

    /// Removes a name; its node stays, perhaps without a name.
    pub(super) fn unlink(&mut self, parent: u32, name: &[u8]) {
        let Some(at) = self.find(parent, name) else { return };
        let node = std::mem::replace(&mut self.entries[at].node, NONE);
        self.order.take();
        let is_directory = self.get(node).kind() == Some(Kind::Directory);
        self.change(node, |record| {
            record.links = record.links.get().saturating_sub(if is_directory { 2 } else { 1 }).into();
        });
        self.change(parent, |record| {
            let (_, count) = record.rows();
            record.content = join(0, count.saturating_sub(1));
            record.links = record.links.get().saturating_sub(u32::from(is_directory)).into();
        });
    }

    /// How many names a directory holds.
    pub(super) fn entries_in(&self, directory: u32) -> u32 {
        self.get(directory).rows().1
    }

    pub(super) fn notice(&mut self, path: &[u8], what: NoticeKind) {
        if self.notices.iter().filter(|notice| notice.what == what).count() < NOTICES_OF_A_KIND {
            self.notices.push(Notice { path: path.to_vec(), what });
        }
    }

    fn order(&self) -> impl Iterator<Item = &Named> {
        self.sorted().iter().map(|at| &self.entries[*at as usize])
    }

    fn sorted(&self) -> &[u32] {
        self.order.get_or_init(|| {
            let mut order: Vec<u32> =
                (0..).zip(&self.entries).filter(|(_, entry)| entry.node != NONE).map(|(at, _)| at).collect();
            let named = |at: u32| {
                let entry = &self.entries[at as usize];
                (entry.parent, self.name_of(entry))
            };
            order.sort_unstable_by(|left, right| named(*left).cmp(&named(*right)));
            order
        })
    }

    /// Visits the entries of `directory` whose name is greater than `after`, in byte order, until told to stop.
    pub(super) fn visit(&self, directory: u32, after: Option<&[u8]>, visit: &mut Visit<'_>) {
        let order = self.sorted();
        let start = order.partition_point(|at| {
            let entry = &self.entries[*at as usize];
            match entry.parent.cmp(&directory) {
                Ordering::Less => true,
                Ordering::Equal => after.is_some_and(|after| self.name_of(entry) <= after),
                Ordering::Greater => false,
            }
        });
        for at in &order[start..] {
            let entry = &self.entries[*at as usize];
            let Some(kind) = self.get(entry.node).kind().filter(|_| entry.parent == directory) else {
                return;
            };
            if visit(self.name_of(entry), entry.node, kind).is_break() {
                return;
            }
        }
    }

    /// Returns the final tables: node records whose directories hold their range of the entries, and the entries,
    /// grouped by directory and sorted by name.
    #[must_use]
    pub fn finished(&self) -> (Vec<NodeRecord>, Vec<EntryRecord>) {
        let mut records = self.records.clone();
        for record in &mut records {
            if record.kind == kind_code(Kind::Directory) {
                record.content = join(0, 0);
            }
        }
        let mut entries = Vec::with_capacity(self.sorted().len());
        for named in self.order() {
            let number = u32::try_from(entries.len()).unwrap_or(u32::MAX);
            if let Some(directory) = records.get_mut(named.parent as usize) {
                let (first, count) = directory.rows();
                directory.content = join(if count == 0 { number } else { first }, count + 1);
            }
            entries.push(EntryRecord {
                node: named.node.into(),
                name: named.name.into(),
                name_length: named.length.into(),
                kind: self.get(named.node).kind,
                reserved: 0,
                prefix: EntryRecord::prefix_of(self.name_of(named)),
            });
        }
        (records, entries)
    }

    /// Returns one of the other tables as bytes.
    #[must_use]
    pub fn table(&self, table: Table) -> &[u8] {
        match table {
            Table::Nodes => self.records.as_bytes(),
            Table::Names => &self.names,
            Table::Extents => self.extents.as_bytes(),
            Table::Zips => self.zips.as_bytes(),
            Table::Digests => self.digests.as_bytes(),
            Table::Blob => &self.blob,
            Table::Attributes => &self.attributes,
        }
    }
}

impl Tables for Nodes {
    fn bytes(&self, table: Table, offset: u64, length: u64) -> Result<&[u8], IndexError> {
        let start = usize::try_from(offset).ok();
        let end = offset.checked_add(length).and_then(|end| usize::try_from(end).ok());
        start
            .zip(end)
            .and_then(|(start, end)| self.table(table).get(start..end))
            .ok_or(IndexError::Damaged { what: "table", at: offset })
    }
}

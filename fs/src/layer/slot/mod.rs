//! A slot of a package as a layer.
//!
//! With an index it answers at once; without, a background pass makes the index while the layer answers from the growing
//! tree, waiting only for what the pass has not met yet.
//!
//! **Invariant:** what the archive says is shown only as far as [`SlotOptions`] allow: no device nodes and no set-id bits
//! unless asked for.

mod chunks;
mod crew;
mod keep;
mod keeper;
mod options;
mod read;
mod state;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::keep::Kept;
use self::state::{SlotState, View};
use super::{Layer, LayerError, LayerNode, Visit};
use crate::disk::digest::Digest;
use crate::disk::identity::FileIdentity;
use crate::node::{Attributes, Kind, Timestamp};
use crate::package::verify::Checking;
use crate::package::{Container, Slot};
use crate::slot::index::Identity;
use crate::slot::seek::{Plan, Stream};
use crate::slot::tree::tables;
use crate::slot::{Notice, NoticeKind, SlotError};
use crate::store::Object;

pub use self::keeper::{Keeper, KeeperOptions};
pub use self::options::{SlotHome, SlotOptions, SlotStatistics};

/// The layer of one slot. Cloning shares it.
#[derive(Clone, Debug)]
pub struct SlotLayer(Arc<Inner>);

/// What a layer and the keeper share.
#[derive(Debug)]
struct Inner {
    /// The slot's id, for messages.
    slot: String,
    /// Digest of the stored bytes and how they are decoded.
    content: String,
    this: Weak<Self>,
    home: SlotHome,
    options: SlotOptions,
    state: Arc<SlotState>,
    stream: Stream,
    index_existed: bool,
    /// Content of the whole archive is not compressed.
    is_direct: bool,
    /// Digest of a slot that is one program, stored as it is.
    program: Option<Digest>,
    /// Mode and time of a file slot, which are not in its bytes.
    file: Option<(u32, Timestamp)>,
    /// Objects opened last, the newest at the end.
    objects: Mutex<Vec<(u32, Object)>>,
    kept: Mutex<Kept>,
    /// Held while contents that readers wait for are put into the store.
    storing: Mutex<()>,
    stored: AtomicU64,
}

impl SlotLayer {
    /// Opens a slot whose stored bytes were verified to have this `digest` (or are to be, see [`SlotOptions::checking`]): from
    /// its index when there is one, else by starting the pass that makes it, and without waiting for that.
    ///
    /// # Errors
    /// The package file cannot be examined, a thread cannot be started, or the slot is a directory of the host. A slot that
    /// does not decode shows later, to whoever needs what was not reached, and to [`Self::wait_until_settled`].
    pub fn open(
        slot: &Slot,
        digest: Digest,
        home: &SlotHome,
        options: SlotOptions,
    ) -> Result<Self, SlotError> {
        let identity = Identity::of(&slot.source, digest);
        let mut slot = slot.clone();
        match options.checking {
            Checking::Done => {}
            Checking::Chunks => slot.source.stored = chunks::checked(&slot, &identity, home),
            Checking::Beside => slot.source.stored = slot.source.stored.checked_beside(digest),
        }
        let source = &slot.source;
        let stream = Stream::new(source, digest, options.limits)?;
        let content = format!("{}-{}", identity.digest, identity.chain);
        let (state, index_existed) = SlotState::open(&slot, identity, home, options.limits)?;
        let file = (source.container == Container::File)
            .then(|| file_time(source.stored.file()).map(|time| (slot.permissions & 0o7777, time)))
            .transpose()
            .map_err(|source| SlotError::Read { source })?;
        let is_direct = Plan::is_direct(source);
        let is_program = is_direct && file.is_some_and(|(mode, _)| mode & 0o111 != 0);
        Ok(Self(Arc::new_cyclic(|this| Inner {
            slot: slot.id.clone(),
            content,
            this: this.clone(),
            home: home.clone(),
            options,
            state,
            stream,
            index_existed,
            is_direct,
            program: is_program.then_some(digest),
            file,
            objects: Mutex::default(),
            kept: Mutex::default(),
            storing: Mutex::default(),
            stored: AtomicU64::new(0),
        })))
    }

    /// Tells whether the index was there when the slot was opened.
    #[must_use]
    pub fn index_existed(&self) -> bool {
        self.0.index_existed
    }

    /// Waits until the index is there.
    ///
    /// # Errors
    /// [`LayerError::Corrupt`] when the slot cannot be indexed.
    pub fn wait_until_settled(&self) -> Result<(), LayerError> {
        if self.0.state.is_plain() {
            return Ok(());
        }
        self.0.state.wait(true).map(drop).map_err(|error| self.0.fail(error, 0))
    }

    /// Waits until nothing is left to do for the slot, however it ended. Others who read go first.
    pub fn outlast(&self) {
        if !self.0.state.is_plain() {
            let _ = self.0.state.wait(false);
        }
    }

    /// Makes sure that an index that is read from the package has a copy of its own, for whoever wants to know about the slot
    /// when the package is gone. It is made when the layer goes, in any case.
    pub fn keep_index(&self) {
        self.0.state.keep_index();
    }

    /// Takes the stored bytes for right, which somebody has found out of the package in this state.
    pub fn accept(&self, identity: FileIdentity) {
        self.0.stream.stored().accept(identity);
    }

    /// Shows nothing more of stored bytes that were used while they were hashed.
    pub fn refuse(&self) {
        self.0.stream.stored().refuse();
    }

    /// Waits for at most `limit`; tells whether the pass has ended, well or not.
    #[must_use]
    pub fn wait_for(&self, limit: Duration) -> bool {
        self.0.state.wait_for(limit)
    }

    /// Returns what is not shown as the archive has it, as far as it is known now.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn notices(&self) -> Result<Vec<Notice>, LayerError> {
        let mut notices = self.0.with(0, |view| match view {
            View::Ready(index) => Ok(index.notices()?),
            View::Growing(growing) => Ok(growing.tree.notices()),
        })?;
        let options = &self.0.options;
        let is_shown = |what| {
            (what == NoticeKind::SetId && options.set_id) || (what == NoticeKind::Device && options.devices)
        };
        notices.retain(|notice| !is_shown(notice.what));
        Ok(notices)
    }

    /// Returns facts about the slot.
    #[must_use]
    pub fn statistics(&self) -> SlotStatistics {
        let inner = &self.0;
        let (nodes, index_bytes, decoded_bytes) = match inner.state.view() {
            View::Ready(index) => (index.count(), index.size(), index.decoded()),
            View::Growing(growing) => (growing.tree.count(), 0, 0),
        };
        SlotStatistics {
            index_existed: inner.index_existed,
            nodes,
            index_bytes,
            decoded_bytes,
            pass_seconds: inner.state.pass_seconds(),
            kept: inner.stored.load(Ordering::Relaxed),
        }
    }

    /// Puts the contents with these digests into the store that this slot has and the store has not.
    ///
    /// # Errors
    /// [`LayerError::Corrupt`] when one does not decode or verify, [`LayerError::Disk`] when it cannot be written.
    pub fn keep(&self, digests: &BTreeSet<Digest>) -> Result<(), LayerError> {
        self.0.keep_all(digests).map_err(|error| self.0.fail(error, 0))
    }

    /// Passes the whole content of a file to `take`, piece by piece, decoded from the package and checked against its
    /// digest where that is known. Returns its length.
    ///
    /// # Errors
    /// [`LayerError::Corrupt`] when the bytes do not decode or verify: what was passed on must be thrown away then. What
    /// `take` fails with comes back as [`LayerError::Disk`].
    pub fn copy(
        &self,
        node: LayerNode,
        take: &mut dyn FnMut(&[u8]) -> Result<(), crate::disk::DiskError>,
    ) -> Result<u64, LayerError> {
        let view = self.0.state.view();
        let copied = self.0.copy(&view, node.0, &mut |bytes| Ok(take(bytes)?));
        copied.map_err(|error| self.0.fail(error, node.0))
    }
}

/// The time of a file slot: that of the package.
fn file_time(file: &File) -> io::Result<Timestamp> {
    let modified = file.metadata()?.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(match modified.duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: since.subsec_nanos(),
        },
        Err(_) => Timestamp::default(),
    })
}

impl Inner {
    /// Asks what answers now; a damaged index is made anew and asked again.
    fn with<T>(
        &self,
        node: u32,
        mut ask: impl FnMut(&View) -> Result<T, SlotError>,
    ) -> Result<T, LayerError> {
        loop {
            let view = self.state.view();
            match (ask(&view), view) {
                (Ok(answer), _) => return Ok(answer),
                (Err(SlotError::Index(error)), View::Ready(index)) if self.state.rebuild(&index, &error) => {}
                (Err(error), _) => return Err(self.fail(error, node)),
            }
        }
    }

    /// Names slot and path, and leaves a line in the log.
    fn fail(&self, error: SlotError, node: u32) -> LayerError {
        if let SlotError::Disk(error) = error {
            return LayerError::Disk(error);
        }
        let path = match self.state.view() {
            View::Ready(index) => tables::path(&*index, node),
            View::Growing(growing) => {
                growing.tree.read(0, |nodes| Ok(tables::path(nodes, node))).unwrap_or_default()
            }
        };
        LayerError::Corrupt { slot: self.slot.clone(), path, reason: error.to_string() }
    }

    fn kind(&self, view: &View, node: u32) -> Result<Kind, SlotError> {
        match view {
            View::Ready(index) => Ok(tables::kind(&tables::record(&**index, node)?, node)?),
            View::Growing(growing) => {
                growing.tree.read(node, |nodes| tables::kind(&tables::record(nodes, node)?, node))
            }
        }
    }

    fn is_shown(&self, kind: Kind) -> bool {
        self.options.devices || !matches!(kind, Kind::CharacterDevice | Kind::BlockDevice)
    }

    fn lookup(&self, view: &View, directory: u32, name: &[u8]) -> Result<Option<u32>, SlotError> {
        let found = match view {
            View::Ready(index) => index.lookup(directory, name)?,
            View::Growing(growing) => growing.tree.lookup(directory, name)?,
        };
        match found {
            Some(node) if !self.is_shown(self.kind(view, node)?) => Ok(None),
            other => Ok(other),
        }
    }

    fn attributes(&self, view: &View, node: u32) -> Result<Attributes, SlotError> {
        let mut attributes = match view {
            View::Ready(index) => tables::attributes(&**index, node)?,
            View::Growing(growing) => growing.tree.attributes(node)?,
        };
        if let (0, Some((mode, time))) = (node, self.file) {
            attributes.mode = mode;
            (attributes.accessed, attributes.modified, attributes.changed) = (time, time, time);
        }
        if !self.options.set_id {
            attributes.mode &= 0o1777;
        }
        if let Some((user, group)) = self.options.owner {
            (attributes.user, attributes.group) = (user, group);
        }
        Ok(attributes)
    }

    /// Puts one file into the store's staging area, unless the store has it.
    fn keep(&self, node: u32) -> Result<(), SlotError> {
        let view = self.state.view();
        let content = self.content(&view, node)?;
        if self.open_object(node, &content)?.is_some() {
            return Ok(());
        }
        self.stage(&view, node)
    }
}

impl Layer for SlotLayer {
    fn root(&self) -> LayerNode {
        LayerNode(0)
    }

    fn lookup(&self, directory: LayerNode, name: &[u8]) -> Result<Option<LayerNode>, LayerError> {
        let found = self.0.with(directory.0, |view| self.0.lookup(view, directory.0, name))?;
        Ok(found.map(LayerNode))
    }

    fn attributes(&self, node: LayerNode) -> Result<Attributes, LayerError> {
        self.0.with(node.0, |view| self.0.attributes(view, node.0))
    }

    fn read_directory(
        &self,
        directory: LayerNode,
        after: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), LayerError> {
        if self.0.state.is_plain() {
            return Ok(());
        }
        let mut last: Option<Vec<u8>> = after.map(<[u8]>::to_vec);
        loop {
            let from = last.clone();
            let mut shown = |name: &[u8], node, kind| {
                if !self.0.is_shown(kind) {
                    return ControlFlow::Continue(());
                }
                last = Some(name.to_vec());
                visit(name, LayerNode(node), kind)
            };
            let view = self.0.state.view();
            let result = match &view {
                View::Ready(index) => {
                    index.entries(directory.0, from.as_deref(), &mut shown).map_err(SlotError::from)
                }
                // All names are met before the index is made of them.
                View::Growing(growing) => growing.tree.entries(directory.0, from.as_deref(), &mut shown),
            };
            match (result, view) {
                (Ok(()), _) => return Ok(()),
                // Goes on behind the last entry that was visited.
                (Err(SlotError::Index(error)), View::Ready(index))
                    if self.0.state.rebuild(&index, &error) => {}
                (Err(error), _) => return Err(self.0.fail(error, directory.0)),
            }
        }
    }

    fn read_link(&self, node: LayerNode) -> Result<Vec<u8>, LayerError> {
        self.0.with(node.0, |view| match view {
            View::Ready(index) => Ok(tables::target(&**index, node.0)?),
            View::Growing(growing) => growing.tree.read(node.0, |nodes| tables::target(nodes, node.0)),
        })
    }

    fn extended_attributes(&self, node: LayerNode) -> Result<Vec<(Vec<u8>, Vec<u8>)>, LayerError> {
        self.0.with(node.0, |view| match view {
            View::Ready(index) => Ok(tables::extended_attributes(&**index, node.0)?),
            View::Growing(growing) => {
                growing.tree.read(node.0, |nodes| tables::extended_attributes(nodes, node.0))
            }
        })
    }

    fn read(&self, node: LayerNode, offset: u64, buffer: &mut [u8]) -> Result<usize, LayerError> {
        self.0.with(node.0, |view| self.0.read(view, node.0, offset, buffer))
    }

    fn host_file(&self, node: LayerNode) -> Result<Option<Arc<File>>, LayerError> {
        self.0.with(node.0, |view| {
            if matches!(view, View::Growing(_)) && !self.0.state.is_plain() {
                // The staged file may still be renamed; that does not change what it holds, but its content may not
                // have been seen yet, and opening must not wait.
                return Ok(None);
            }
            let content = self.0.content(view, node.0)?;
            let held = self.0.open_object(node.0, &content)?;
            Ok(held.and_then(Object::file))
        })
    }

    fn only_name(&self, node: LayerNode) -> Result<Option<Vec<u8>>, LayerError> {
        self.0.with(node.0, |view| match view {
            View::Ready(index) => Ok(tables::only_name(&**index, node.0)?),
            // The index is being made anew.
            View::Growing(growing) => growing.tree.read(node.0, |nodes| tables::only_name(nodes, node.0)),
        })
    }

    fn identity(&self) -> Option<String> {
        Some(self.0.content.clone())
    }

    fn finish(&self) {
        // Whoever needed the slot has heard why it failed.
        let _ = self.wait_until_settled();
    }

    fn is_settled(&self) -> bool {
        self.0.state.is_ready()
    }
}

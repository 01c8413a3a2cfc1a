//! What all requests share: the volume, and what is remembered between one request and the next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use fuser::{BackingId, Errno, INodeNo, Notifier, Request};

use super::buffers::Buffers;
use super::capabilities::Agreed;
use super::control::Parking;
use super::numbers::Numbers;
use super::opens::Opens;
use super::options::{MountOptions, OpenMode};
use super::privileges::{taken_by, without_privileges};
use super::replies::{self, caller};
use super::statistics::{Operation, Statistics};
use super::touches::Touches;
use crate::volume::{FsError, HandleId, NodeId, SetAttributes, Status, Volume};

/// Serves a volume to the kernel.
#[derive(Debug)]
pub(super) struct FuseDriver {
    pub(super) volume: Arc<Volume>,
    pub(super) numbers: Arc<Numbers>,
    pub(super) opens: Arc<Opens<BackingId>>,
    pub(super) buffers: Buffers,
    pub(super) statistics: Arc<Statistics>,
    /// Set once the connection stands.
    notifier: Arc<OnceLock<Notifier>>,
    pub(super) agreed: Arc<OnceLock<Agreed>>,
    pub(super) mode: OpenMode,
    read_only: bool,
    touches: Option<Arc<Touches>>,
    /// Where requests of this process's own threads are left waiting.
    pub(super) parking: Arc<Mutex<Arc<Parking>>>,
    /// Once `open` was answered with ENOSYS, files come without handles for good.
    unasked: AtomicBool,
}

impl FuseDriver {
    pub(super) fn new(
        volume: Arc<Volume>,
        options: &MountOptions,
        statistics: Arc<Statistics>,
        notifier: Arc<OnceLock<Notifier>>,
        agreed: Arc<OnceLock<Agreed>>,
    ) -> Self {
        Self {
            volume,
            numbers: Arc::new(Numbers::new()),
            opens: Arc::new(Opens::new()),
            buffers: Buffers::default(),
            statistics,
            notifier,
            agreed,
            mode: options.open,
            read_only: options.read_only,
            touches: options.touches.clone(),
            parking: Arc::default(),
            unasked: AtomicBool::new(false),
        }
    }

    /// See [`replies::guarded`]. What changes something waits while changes are held up.
    pub(super) fn guarded<T>(
        &self,
        operation: Operation,
        number: INodeNo,
        call: impl FnOnce() -> Result<T, FsError>,
    ) -> Result<T, Errno> {
        self.guarded_if(operation.changes(), operation, number, call)
    }

    /// As [`Self::guarded`], of a request that is a change only if `changes`.
    pub(super) fn guarded_if<T>(
        &self,
        changes: bool,
        operation: Operation,
        number: INodeNo,
        call: impl FnOnce() -> Result<T, FsError>,
    ) -> Result<T, Errno> {
        let _change = changes.then(|| self.volume.changing());
        replies::guarded(&self.statistics, operation, number, call)
    }

    /// Lets a recording hear of a request, where there is one that wants it.
    pub(super) fn note(
        &self,
        request: &Request,
        number: INodeNo,
        hear: impl FnOnce(&Touches, &Volume, NodeId),
    ) {
        if let Some(touches) = &self.touches
            && touches.wants(request.pid())
            && let Ok(node) = self.node(number)
        {
            hear(touches, &self.volume, node);
        }
    }

    /// Returns where requests of our own threads are left waiting now.
    pub(super) fn parking(&self) -> Arc<Parking> {
        Arc::clone(&self.parking.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the node that the kernel means.
    pub(super) fn node(&self, number: INodeNo) -> Result<NodeId, FsError> {
        self.numbers.node(number.0)
    }

    /// Tells whether the kernel may open directories by itself from now on: what is listed changes through it alone, so
    /// it may keep listings and knows when they are outdated. A volume that is still being indexed gets there later.
    pub(super) fn opens_directories_unasked(&self) -> bool {
        self.mode == OpenMode::Automatic
            && self.agreed.get().is_some_and(|agreed| agreed.no_open_directory)
            && self.volume.layers_are_settled()
    }

    /// Tells whether the kernel may open files by itself from now on. A volume that is still being indexed at the first
    /// open gets there later.
    pub(super) fn opens_unasked(&self) -> bool {
        if self.mode != OpenMode::Automatic || !self.agreed.get().is_some_and(|agreed| agreed.no_open) {
            return false;
        }
        if self.unasked.load(Ordering::Relaxed) {
            return true;
        }
        // What the kernel lets nobody change is as good as what cannot change.
        let immutable = self.volume.is_immutable() || (self.read_only && self.volume.layers_are_settled());
        self.unasked.store(immutable, Ordering::Relaxed);
        immutable
    }

    /// Returns the permission bits of a new node: those asked for, less what the caller's umask takes away where
    /// no access control list is inherited.
    pub(super) fn mode_of_new(&self, parent: NodeId, mode: u32, umask: u32) -> Result<u32, FsError> {
        let inherits = self.volume.inherits_access_list(parent)?;
        Ok(if inherits { mode } else { mode & !umask } & 0o7777)
    }

    /// Changes attributes; privileges go where they must.
    pub(super) fn set_attributes(
        &self,
        request: &Request,
        number: INodeNo,
        handle: Option<HandleId>,
        mut changes: SetAttributes,
    ) -> Result<Status, FsError> {
        let node = self.node(number)?;
        if taken_by(&changes, request.uid()) {
            changes.mode = without_privileges(&self.volume.attributes(node)?);
        }
        self.volume.set_attributes(caller(request), node, handle, &changes)
    }

    /// Takes set-id bits from a file that was changed by somebody without the right to keep them.
    pub(super) fn drop_privileges(
        &self,
        request: &Request,
        number: INodeNo,
        node: NodeId,
    ) -> Result<(), FsError> {
        if let Some(mode) = without_privileges(&self.volume.attributes(node)?) {
            let changes = SetAttributes { mode: Some(mode), ..Default::default() };
            self.volume.set_attributes(caller(request), node, None, &changes)?;
            self.invalidate_attributes(number);
        }
        Ok(())
    }

    /// Makes the kernel ask for a node's attributes again; its pages stay.
    pub(super) fn invalidate_attributes(&self, number: INodeNo) {
        if let Some(notifier) = self.notifier.get()
            && let Err(error) = notifier.inval_inode(number, -1, 0)
        {
            tracing::debug!(node = number.0, "cannot invalidate attributes: {error}");
        }
    }
}

//! From a request to a volume: the package is opened, checked to be the one that was verified, its slots become layers,
//! and what is to go from the upper directory goes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use slotfs_fs::disk::DiskError;
use slotfs_fs::disk::digest::Digest;
use slotfs_fs::disk::identity::FileIdentity;
use slotfs_fs::disk::unix::Erasure;
use slotfs_fs::layer::LayerError;
use slotfs_fs::layer::directory::DirectoryLayer;
use slotfs_fs::layer::slot::{Keeper, KeeperOptions, SlotHome, SlotLayer, SlotOptions};
use slotfs_fs::layer::stack::{PlacedLayer, Stack};
use slotfs_fs::overlay::{Dropped, Upper, drop_owned};
use slotfs_fs::package::{Container, Limits, Package, PackageError, PackageKind, Slot};
use slotfs_fs::slot::SlotError;
use slotfs_fs::store::Store;
use slotfs_fs::volume::{FsError, Volume, VolumeOptions};

use crate::workenv::{Cache, Workenv};

use super::request::{DecodeLimits, FailureCause, ServeRequest, ServedSlot};

/// Why a package cannot become a volume.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// It cannot be opened.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// It is not the file that was verified.
    #[error("`{}` was changed after it was verified", path.display())]
    Changed {
        /// Which package.
        path: PathBuf,
    },
    /// It does not have the slots that were planned for.
    #[error("`{}` has no slot `{slot}` at position {position} that was verified", path.display())]
    NoSuchSlot {
        /// Which package.
        path: PathBuf,
        /// The slot's id.
        slot: String,
        /// Where it should be.
        position: u32,
    },
    /// A slot cannot be opened.
    #[error("cannot open slot `{slot}` of `{}`: {source}", path.display())]
    Slot {
        /// Which package.
        path: PathBuf,
        /// The slot's id.
        slot: String,
        /// Why.
        #[source]
        source: SlotError,
    },
    /// A slot does not decode.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The upper directory, the store or an index cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The layers do not make a volume.
    #[error("cannot join the slots of `{}`: {source}", path.display())]
    Volume {
        /// Which package.
        path: PathBuf,
        /// Why.
        #[source]
        source: FsError,
    },
}

impl AssembleError {
    /// Returns the kind of the failure as the caller is told it.
    #[must_use]
    pub fn cause(&self) -> FailureCause {
        match self {
            Self::Package(PackageError::Disk(error))
            | Self::Disk(error)
            | Self::Layer(LayerError::Disk(error))
            | Self::Slot { source: SlotError::Disk(error), .. }
            | Self::Volume {
                source: FsError::Layer(LayerError::Disk(error)) | FsError::Disk(error), ..
            } => FailureCause::of_disk(error),
            Self::Package(_) => FailureCause::Format,
            Self::Changed { .. }
            | Self::NoSuchSlot { .. }
            | Self::Layer(LayerError::Corrupt { .. })
            | Self::Slot { .. } => FailureCause::Verification,
            Self::Volume { source: FsError::Layer(LayerError::Corrupt { .. }), .. } => {
                FailureCause::Verification
            }
            Self::Volume { .. } => FailureCause::Mount,
        }
    }
}

/// The slots of a request as layers.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    placed: Vec<PlacedLayer>,
    slots: Vec<SlotLayer>,
    keepers: Vec<Arc<Keeper>>,
}

/// A package and what of it is to be served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// The package, absolute.
    pub(super) package: &'a Path,
    /// Which state of the file was verified; not asked for a directory.
    pub(super) identity: Option<&'a FileIdentity>,
    /// The slots, bottom first.
    pub(super) slots: &'a [ServedSlot],
    /// Decompression limits.
    pub(super) limits: DecodeLimits,
}

impl Wanted<'_> {
    /// Tells whether this is the very file that was verified. A directory has no state that would tell.
    fn is(&self, package: &Package) -> bool {
        package.kind() != PackageKind::Directory
            && package.path() == self.package
            && Some(&package.identity()) == self.identity
    }
}

/// What all slots that one process serves have in common.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    home: SlotHome,
    keeper: Arc<Keeper>,
}

impl Shared {
    /// Opens what the environments of `cache` share.
    pub(super) fn open(cache: &Cache) -> Result<Self, DiskError> {
        let shared = cache.shared();
        let home = SlotHome { store: Some(Arc::new(Store::open(&shared)?)), shared };
        Ok(Self { home, keeper: Arc::new(Keeper::new(KeeperOptions::default())) })
    }
}

impl Layers {
    /// Opens the package and its slots. If `opened` is the one that is wanted, it is not opened again.
    pub(super) fn open(
        request: &ServeRequest,
        opened: Option<Package>,
        workenv: &Workenv,
    ) -> Result<Self, AssembleError> {
        let mut layers = Self::default();
        let wanted = Wanted {
            package: &request.package,
            identity: request.identity.as_ref(),
            slots: &request.slots,
            limits: request.limits,
        };
        layers.add_package(wanted, opened, &Shared::open(&workenv.cache())?)?;
        Ok(layers)
    }

    /// Puts the slots of a package over what is there. If `opened` is the one that is wanted, it is not opened again.
    pub(super) fn add_package(
        &mut self,
        wanted: Wanted<'_>,
        opened: Option<Package>,
        shared: &Shared,
    ) -> Result<(), AssembleError> {
        let package = match opened.filter(|package| wanted.is(package)) {
            Some(package) => package,
            None => Package::open(wanted.package, &Limits::default())?,
        };
        if package.kind() != PackageKind::Directory && Some(&package.identity()) != wanted.identity {
            return Err(AssembleError::Changed { path: wanted.package.into() });
        }
        self.keepers.push(Arc::clone(&shared.keeper));
        for served in wanted.slots {
            let slot = package.slot(served.position).filter(|slot| slot.id == served.id);
            let slot = slot.ok_or_else(|| no_such_slot(wanted.package, served))?;
            self.add(slot, served, wanted, shared)?;
        }
        Ok(())
    }

    /// Puts a directory of the host over what is there. It may have been the upper directory of an overlay; with `lasting`
    /// nobody changes it.
    pub(super) fn add_directory(&mut self, path: &Path, lasting: bool) -> Result<(), AssembleError> {
        let layer = Arc::new(DirectoryLayer::open_marked(path, lasting)?);
        let name = path.to_string_lossy().into_owned();
        self.placed.push(PlacedLayer { name, layer, target: Vec::new(), writable: true });
        Ok(())
    }

    fn add(
        &mut self,
        slot: &Slot,
        served: &ServedSlot,
        wanted: Wanted<'_>,
        shared: &Shared,
    ) -> Result<(), AssembleError> {
        let mut placed = |layer| {
            let (name, target) = (slot.id.clone(), slot.target.clone());
            self.placed.push(PlacedLayer { name, layer, target, writable: served.writable });
        };
        if let Container::Directory(path) = &slot.source.container {
            placed(Arc::new(DirectoryLayer::open(path)?));
            return Ok(());
        }
        let digest = served.digest.as_deref().and_then(Digest::parse);
        let digest = digest.ok_or_else(|| no_such_slot(wanted.package, served))?;
        let mut home = shared.home.clone();
        if !served.keep_in_store {
            home.store = None;
        }
        let options = SlotOptions {
            limits: wanted.limits.apply(),
            // As if the user had unpacked it.
            owner: Some((nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())),
            checking: served.checking,
            keeper: served.keep_in_store.then(|| Arc::clone(&shared.keeper)),
            ..SlotOptions::default()
        };
        let layer = SlotLayer::open(slot, digest, &home, options).map_err(|source| AssembleError::Slot {
            path: wanted.package.into(),
            slot: slot.id.clone(),
            source,
        })?;
        self.slots.push(layer.clone());
        placed(Arc::new(layer));
        Ok(())
    }

    /// Returns the layers, lowest first.
    pub(super) fn placed(&self) -> Vec<PlacedLayer> {
        self.placed.clone()
    }

    /// Joins the layers with the upper directory.
    pub(super) fn join(&self, request: &ServeRequest) -> Result<Volume, AssembleError> {
        let upper = match &request.spill {
            Some(spill) => Some(Upper::open(&spill.upper, &spill.work)?),
            None => None,
        };
        if let Some(upper) = &upper {
            self.drop_writes(request, upper, request.erasure(), |slot| slot.drop_at_start)?;
        }
        let limit = request.spill.as_ref().and_then(|spill| spill.limit);
        let options = VolumeOptions { limit, bare_copies: request.bare_copies, ..VolumeOptions::default() };
        Volume::new(self.placed.clone(), upper, options)
            .map_err(|source| AssembleError::Volume { path: request.package.clone(), source })
    }

    /// Takes back what is to go when the mount is gone. No volume of the upper directory lives any more.
    pub(super) fn drop_writes_at_end(&self, request: &ServeRequest) -> Result<(), AssembleError> {
        let Some(spill) = &request.spill else { return Ok(()) };
        if !request.slots.iter().any(|slot| slot.drop_at_end) {
            return Ok(());
        }
        let upper = Upper::open(&spill.upper, &spill.work)?;
        self.drop_writes(request, &upper, request.erasure(), |slot| slot.drop_at_end)?;
        if spill.limit.is_some() {
            // Now, where nobody waits for it, rather than when the next start needs the number.
            upper.keep_number(upper.count()?)?;
        }
        Ok(())
    }

    fn drop_writes(
        &self,
        request: &ServeRequest,
        upper: &Upper,
        erasure: Erasure,
        goes: impl Fn(&ServedSlot) -> bool,
    ) -> Result<Dropped, AssembleError> {
        if !request.slots.iter().any(&goes) {
            return Ok(Dropped::default());
        }
        let dropped =
            |layer: Option<u32>| layer.and_then(|layer| request.slots.get(layer as usize)).is_some_and(&goes);
        let dropped = drop_owned(upper, &Stack::new(self.placed.clone()), &dropped, erasure)?;
        tracing::debug!("{} written names went with their slots", dropped.names);
        Ok(dropped)
    }

    /// Takes back what goes when the user cleans up. Nothing is mounted.
    pub(super) fn drop_writes_at_clean(
        &self,
        request: &ServeRequest,
        erasure: Erasure,
    ) -> Result<Dropped, AssembleError> {
        let Some(spill) = &request.spill else { return Ok(Dropped::default()) };
        let upper = Upper::open(&spill.upper, &spill.work)?;
        self.drop_writes(request, &upper, erasure, |slot| slot.drop_at_clean)
    }

    /// Waits until every slot is indexed.
    pub(super) fn settle(&self) -> Result<(), AssembleError> {
        self.slots.iter().try_for_each(SlotLayer::wait_until_settled).map_err(AssembleError::from)
    }

    /// Takes what is served for right, which was found out of the package in this state.
    pub(super) fn accept(&self, identity: FileIdentity) {
        self.slots.iter().for_each(|slot| slot.accept(identity));
    }

    /// Serves nothing more that was being hashed.
    pub(super) fn refuse(&self) {
        self.slots.iter().for_each(SlotLayer::refuse);
    }

    /// Makes copies of indexes that are read from the package.
    pub(super) fn keep_indexes(&self) {
        self.slots.iter().for_each(SlotLayer::keep_index);
    }

    /// Returns a wait for every slot's index, made or failed, that can be done elsewhere.
    pub(super) fn settling(&self) -> impl FnOnce() + Send + 'static {
        let slots = self.slots.clone();
        move || {
            for slot in slots {
                slot.outlast();
            }
        }
    }

    /// Waits for at most `limit`; tells whether every slot is indexed now, or cannot be.
    pub(super) fn settle_for(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        self.slots.iter().all(|slot| slot.wait_for(end.saturating_duration_since(Instant::now())))
    }

    /// Puts into the store what was read, now that nobody reads any more, for at most `limit`; tells whether that is done.
    pub(super) fn keep_for(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        self.keepers.iter().all(|keeper| {
            keeper.leave_alone();
            keeper.wait_until_done(end.saturating_duration_since(Instant::now()))
        })
    }
}

fn no_such_slot(package: &Path, wanted: &ServedSlot) -> AssembleError {
    AssembleError::NoSuchSlot { path: package.into(), slot: wanted.id.clone(), position: wanted.position }
}

//! Volumes mounted for real, for as long as a test runs.
//!
//! **Invariant:** a mount goes with its guard, also when the test panics, and the guard looks at the mount table to
//! see that it did.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use slotfs_fs::driver::{self, Control, MountOptions, OpenMode, Operation, Served, Statistics, UnmountError};
use slotfs_fs::layer::memory::{MemoryLayer, MemoryLayerBuilder};
use slotfs_fs::layer::{Layer, LayerError, LayerNode, Visit};
use slotfs_fs::node::Attributes;
use slotfs_fs::overlay::Upper;
use slotfs_fs::volume::{PlacedLayer, Volume, VolumeOptions};

/// The environment variable that turns a skipped test into a failed one.
const STRICT: &str = "SLOTFS_TEST_STRICT";

/// How long a mount may stay busy after a test: another test's child holds copies of our files between fork and
/// exec.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells whether this machine lets the test mount anything; says so once on standard error when not, and panics
/// instead when `SLOTFS_TEST_STRICT=1`.
///
/// # Panics
/// FUSE cannot be used and skipping is forbidden.
#[must_use]
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
pub fn require_fuse() -> bool {
    static USABLE: OnceLock<Result<(), String>> = OnceLock::new();
    let usable = USABLE.get_or_init(|| {
        clear_leftovers();
        let volume = volume(MemoryLayer::builder());
        let mounted = Mounted::try_new(volume, |_| {}).map_err(|error| error.to_string())?;
        std::fs::read_dir(mounted.root()).map(drop).map_err(|error| error.to_string())
    });
    if let Err(reason) = usable {
        assert!(
            std::env::var_os(STRICT).is_none_or(|value| value != "1"),
            "FUSE is not usable, and {STRICT}=1 forbids to skip: {reason}"
        );
        eprintln!("SKIPPED: FUSE is not usable here: {reason}");
    }
    usable.is_ok()
}

/// Returns a read-only volume over one layer in memory.
///
/// # Panics
/// The layer was not built as it should.
#[must_use]
pub fn volume(layer: MemoryLayerBuilder) -> Volume {
    let placed = PlacedLayer {
        name: "memory".into(),
        layer: Arc::new(layer.build().expect("the layer's description holds together")),
        target: Vec::new(),
        writable: true,
    };
    Volume::new(vec![placed], None, VolumeOptions::default()).expect("a volume over memory")
}

/// A layer whose nodes belong to whoever runs the tests, as those of a slot do: an ordinary user may change them.
#[derive(Debug)]
struct Ours(MemoryLayer);

impl Layer for Ours {
    fn attributes(&self, node: LayerNode) -> Result<Attributes, LayerError> {
        let user = nix::unistd::geteuid().as_raw();
        let group = nix::unistd::getegid().as_raw();
        let attributes = self.0.attributes(node)?;
        // What a test gave to somebody stays with them.
        let unset = attributes.user == 0 && attributes.group == 0;
        Ok(if unset { Attributes { user, group, ..attributes } } else { attributes })
    }

    fn root(&self) -> LayerNode {
        self.0.root()
    }

    fn lookup(&self, directory: LayerNode, name: &[u8]) -> Result<Option<LayerNode>, LayerError> {
        self.0.lookup(directory, name)
    }

    fn read_directory(
        &self,
        directory: LayerNode,
        after: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), LayerError> {
        self.0.read_directory(directory, after, visit)
    }

    fn read_link(&self, node: LayerNode) -> Result<Vec<u8>, LayerError> {
        self.0.read_link(node)
    }

    fn extended_attributes(&self, node: LayerNode) -> Result<Vec<(Vec<u8>, Vec<u8>)>, LayerError> {
        self.0.extended_attributes(node)
    }

    fn read(&self, node: LayerNode, offset: u64, buffer: &mut [u8]) -> Result<usize, LayerError> {
        self.0.read(node, offset, buffer)
    }

    fn host_file(&self, node: LayerNode) -> Result<Option<Arc<File>>, LayerError> {
        self.0.host_file(node)
    }

    fn is_settled(&self) -> bool {
        self.0.is_settled()
    }
}

/// A mounted volume that can be written to, over one layer in memory, with an upper directory that outlives mounts.
#[derive(Debug)]
pub struct Writable {
    mounted: Option<Mounted>,
    layer: Arc<Ours>,
    mode: OpenMode,
    read_only: bool,
    folder: tempfile::TempDir,
}

impl Writable {
    /// Mounts `layer` with an empty upper directory, or returns nothing when mounting is not possible here and the
    /// test is to be skipped.
    ///
    /// # Panics
    /// The layer was not built as it should, or mounting failed although FUSE is usable.
    #[must_use]
    pub fn new(layer: MemoryLayerBuilder, mode: OpenMode) -> Option<Self> {
        let layer = Arc::new(Ours(layer.build().expect("the layer's description holds together")));
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut writable = Self { mounted: None, layer, mode, read_only: false, folder };
        writable.mount().then_some(writable)
    }

    fn mount(&mut self) -> bool {
        let (upper, work) = (self.upper(), self.folder.path().join("work"));
        let upper = open_upper(&upper, &work);
        let placed = PlacedLayer {
            name: "memory".into(),
            layer: Arc::clone(&self.layer) as Arc<dyn Layer>,
            target: Vec::new(),
            writable: true,
        };
        let volume = Volume::new(
            vec![placed],
            Some(upper),
            VolumeOptions { devices: true, ..VolumeOptions::default() },
        );
        self.mounted = Mounted::with(volume.expect("a volume over memory"), |options| {
            options.open = self.mode;
            options.read_only = self.read_only;
        });
        self.mounted.is_some()
    }

    /// Unmounts and mounts again.
    ///
    /// # Panics
    /// One of both failed.
    pub fn remount(&mut self) {
        if let Some(mounted) = self.mounted.take() {
            mounted.unmount();
        }
        assert!(self.mount(), "it was mountable before");
    }

    /// Unmounts and mounts again so that the kernel refuses every change.
    ///
    /// # Panics
    /// One of both failed.
    pub fn remount_read_only(&mut self) {
        self.read_only = true;
        self.remount();
    }

    /// Returns the upper directory.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.folder.path().join("upper")
    }
}

impl std::ops::Deref for Writable {
    type Target = Mounted;

    fn deref(&self) -> &Mounted {
        self.mounted.as_ref().expect("mounted until it is dropped")
    }
}

/// Opens an upper directory that this process may have used before. Another test's child may hold a copy of the
/// lock between fork and exec, so it is waited for.
///
/// # Panics
/// It cannot be opened.
#[must_use]
pub fn open_upper(upper: &Path, work: &Path) -> Upper {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Upper::open(upper, work) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            opened => return opened.expect("the upper directory opens"),
        }
    }
}

/// A mounted volume.
#[derive(Debug)]
pub struct Mounted {
    served: Option<Served>,
    root: PathBuf,
    // Removed last, when nothing is mounted inside any more.
    folder: Option<tempfile::TempDir>,
}

impl Mounted {
    /// Mounts `volume` in a fresh directory, or returns nothing when mounting is not possible here and the test is
    /// to be skipped.
    ///
    /// # Panics
    /// Mounting failed although FUSE is usable.
    #[must_use]
    pub fn new(volume: Volume) -> Option<Self> {
        Self::with(volume, |_| {})
    }

    /// As [`Self::new`], with other mount options.
    ///
    /// # Panics
    /// Mounting failed although FUSE is usable.
    #[must_use]
    pub fn with(volume: Volume, change: impl FnOnce(&mut MountOptions)) -> Option<Self> {
        require_fuse().then(|| Self::try_new(volume, change).expect("FUSE is usable"))
    }

    fn try_new(
        volume: Volume,
        change: impl FnOnce(&mut MountOptions),
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let folder = temporary()?;
        let root = folder.path().join("mount");
        std::fs::create_dir(&root)?;
        let mut options = MountOptions::new("slotfs-test");
        options.read_only = volume.is_immutable();
        change(&mut options);
        let served = driver::serve(Arc::new(volume), &root, &options)?;
        Ok(Self { served: Some(served), root, folder: Some(folder) })
    }

    /// Mounts `volume` on the directory `root`, which the caller keeps, or returns nothing when mounting is not
    /// possible here and the test is to be skipped.
    ///
    /// # Panics
    /// Mounting failed although FUSE is usable.
    #[must_use]
    pub fn at(volume: Arc<Volume>, root: &Path, options: &MountOptions) -> Option<Self> {
        require_fuse().then(|| {
            let served = driver::serve(volume, root, options).expect("FUSE is usable");
            Self { served: Some(served), root: root.to_path_buf(), folder: None }
        })
    }

    /// Returns the mount point.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns a path inside the mount.
    #[must_use]
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.root.join(inside)
    }

    /// Returns the serving side.
    ///
    /// # Panics
    /// It was unmounted already.
    #[must_use]
    pub fn served(&self) -> &Served {
        self.served.as_ref().expect("still mounted")
    }

    /// Returns access to the mount from within this process.
    #[must_use]
    pub fn control(&self) -> Control {
        self.served().control()
    }

    /// Returns the counts of requests.
    #[must_use]
    pub fn statistics(&self) -> Arc<Statistics> {
        self.served().statistics()
    }

    /// Returns how many requests `action` made the kernel send that somebody waited for. What asks for the space of every
    /// file system on the machine, as monitors do, is not counted.
    pub fn requests_of<T>(&self, action: impl FnOnce() -> T) -> (T, u64) {
        let statistics = self.statistics();
        let count = || statistics.awaited() - statistics.requests(Operation::Space);
        let before = count();
        let result = action();
        (result, count() - before)
    }

    /// As [`Self::requests_of`], for what is to send no request at all: the fewest of several times. The kernel may have taken
    /// back a page or an inode in between, on a machine that is short of memory.
    pub fn fewest_requests_of<T>(&self, mut action: impl FnMut() -> T) -> (T, u64) {
        let (mut result, mut fewest) = self.requests_of(&mut action);
        for _ in 0..5 {
            if fewest == 0 {
                break;
            }
            let again = self.requests_of(&mut action);
            fewest = fewest.min(again.1);
            result = again.0;
        }
        (result, fewest)
    }

    /// Unmounts, waits for the server to end, and checks the mount table.
    ///
    /// # Panics
    /// The mount stayed busy, serving failed, or the mount table still lists it.
    pub fn unmount(mut self) {
        self.end().unwrap_or_else(|reason| panic!("{reason}"));
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(served) = self.served.take() else { return Ok(()) };
        let deadline = Instant::now() + PATIENCE;
        let mut result = Ok(());
        loop {
            match served.unmount(false) {
                Ok(()) | Err(UnmountError::NotMounted { .. }) => break,
                Err(UnmountError::Busy { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => {
                    result = Err(format!("{error}; it is detached"));
                    served.unmount(true).map_err(|error| error.to_string())?;
                    break;
                }
            }
        }
        // A detached mount lives until its last user is gone, which may be the test that failed.
        if result.is_ok() {
            let panics = served.statistics().panics();
            served.join().map_err(|error| error.to_string())?;
            if panics > 0 {
                result = Err(format!("{panics} requests panicked"));
            }
        }
        if is_listed(&self.root) {
            return Err(format!("`{}` is still in the mount table", self.root.display()));
        }
        result
    }
}

impl Drop for Mounted {
    #[expect(clippy::print_stderr, reason = "a second panic would hide the first")]
    fn drop(&mut self) {
        let result = self.end();
        if is_listed(&self.root)
            && let Some(folder) = self.folder.take()
        {
            // Removing the folder would remove what lies in the mount.
            let _ = folder.keep();
        }
        if let Err(reason) = result {
            if std::thread::panicking() {
                eprintln!("{reason}");
            } else {
                panic!("{reason}");
            }
        }
    }
}

/// The temporary directories of mounts start with this.
const PREFIX: &str = "slotfs-mounted-";

/// Makes a directory for a mount, which is found again if the test is killed.
///
/// # Errors
/// What the host reports.
pub fn temporary() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(PREFIX).tempdir()
}

/// Tells whether something is mounted on `place` or below it.
#[must_use]
pub fn is_listed(place: &Path) -> bool {
    mount_points().iter().any(|(mountpoint, _)| mountpoint.starts_with(place))
}

/// Takes away what a killed test left mounted: a dead mount answers ENOTCONN.
fn clear_leftovers() {
    let prefix = std::env::temp_dir().join(PREFIX);
    for (place, kind) in mount_points() {
        let ours = place.as_os_str().as_bytes().starts_with(prefix.as_os_str().as_bytes());
        let dead = || nix::sys::statvfs::statvfs(&place).err() == Some(nix::errno::Errno::ENOTCONN);
        if kind == b"fuse.slotfs" && ours && dead() {
            let _ = driver::unmount(&place, true);
        }
    }
}

/// Returns every mount point of this process and its kind of file system.
#[cfg(target_os = "linux")]
fn mount_points() -> Vec<(PathBuf, Vec<u8>)> {
    slotfs::host::mount_table::read()
        .expect("/proc is mounted")
        .into_iter()
        .map(|mount| (mount.mountpoint, mount.kind))
        .collect()
}

/// There are no mounts of ours elsewhere yet.
#[cfg(not(target_os = "linux"))]
fn mount_points() -> Vec<(PathBuf, Vec<u8>)> {
    Vec::new()
}

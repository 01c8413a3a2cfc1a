//! A writable mount in which real programs work, at a path that stays.
//!
//! What the programs have made can be turned into a layer ([`Workplace::settle`]), so that they then change what
//! lies in a slot, and everything can be unmounted and mounted again ([`Workplace::remount`]).
//!
//! **Invariant:** nothing stays mounted and the server holds nothing open once a workplace is gone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use slotfs_fs::driver::MountOptions;
use slotfs_fs::layer::Layer;
use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_fs::volume::{PlacedLayer, Volume, VolumeOptions};

use crate::command::PATIENCE;
use crate::mounted::{Mounted, is_listed, open_upper, temporary};
use crate::tree;

/// A writable mount over one layer.
#[derive(Debug)]
pub struct Workplace {
    mounted: Option<Mounted>,
    volume: Option<Arc<Volume>>,
    layer: Arc<dyn Layer>,
    folder: Option<tempfile::TempDir>,
    root: PathBuf,
}

impl Workplace {
    /// Mounts an empty one, or returns nothing when mounting is not possible here and the test is to be skipped.
    ///
    /// # Panics
    /// Something in the way of mounting failed although FUSE is usable.
    #[must_use]
    pub fn new() -> Option<Self> {
        let folder = temporary().expect("a temporary directory");
        let root = folder.path().join("mount");
        std::fs::create_dir_all(&root).expect("a mount point");
        let layer = Arc::new(MemoryLayer::builder().build().expect("an empty layer"));
        let mut place = Self { mounted: None, volume: None, layer, folder: Some(folder), root };
        place.mount().then_some(place)
    }

    fn mount(&mut self) -> bool {
        let upper = open_upper(&self.beside("upper"), &self.beside("work"));
        let placed = PlacedLayer {
            name: "memory".into(),
            layer: Arc::clone(&self.layer),
            target: Vec::new(),
            writable: true,
        };
        let volume = Volume::new(
            vec![placed],
            Some(upper),
            VolumeOptions { devices: true, ..VolumeOptions::default() },
        );
        let volume = Arc::new(volume.expect("a volume over memory"));
        self.volume = Some(Arc::clone(&volume));
        self.mounted = Mounted::at(volume, &self.root, &MountOptions::new("slotfs-test"));
        self.mounted.is_some()
    }

    /// Unmounts, and looks that everything that was opened has been closed again.
    fn unmount(&mut self) {
        if let Some(volume) = self.volume.take() {
            // The kernel tells of the last close a moment after it; when it unmounts it tells nothing.
            let deadline = Instant::now() + PATIENCE;
            while volume.open_handles() > 0 {
                assert!(Instant::now() < deadline, "{} files are still open", volume.open_handles());
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if let Some(mounted) = self.mounted.take() {
            mounted.unmount();
        }
    }

    /// Unmounts and mounts again.
    ///
    /// # Panics
    /// One of both failed, or files are still open.
    pub fn remount(&mut self) {
        self.unmount();
        assert!(self.mount(), "it was mountable before");
    }

    /// Unmounts and mounts again, and compares what is shown before and after.
    ///
    /// # Panics
    /// Something has changed.
    pub fn remount_unchanged(&mut self) {
        let before = tree::describe(&self.root);
        self.remount();
        assert_same(&before, &tree::describe(&self.root), "after a remount");
    }

    /// Makes a layer of all that is shown and starts over with an empty upper directory: the programs find what
    /// they made in a read-only slot.
    ///
    /// # Panics
    /// Something could not be read, mounted or unmounted.
    pub fn settle(&mut self) {
        let before = tree::describe(&self.root);
        let layer = tree::layer(&self.root).build().expect("a tree of the host holds together");
        self.unmount();
        self.layer = Arc::new(layer);
        for name in ["upper", "work", "upper-index"] {
            std::fs::remove_dir_all(self.beside(name)).expect("the upper directory can be removed");
        }
        assert!(self.mount(), "it was mountable before");
        assert_same(&before, &tree::describe(&self.root), "as a layer");
    }

    /// Returns a path beside the mount point, outside the mount.
    ///
    /// # Panics
    /// Never: a mount point has a parent.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.root.with_file_name(name)
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

    /// Returns a shell that will run `script` in the mount: it stops at the first error, its home lies beside the
    /// mount, and of the user's settings it knows nothing.
    #[must_use]
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).current_dir(&self.root).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["GIT_", "PYTHON", "VIRTUAL_ENV", "UV_", "XDG_"].iter().any(|prefix| text.starts_with(prefix))
            {
                command.env_remove(name);
            }
        }
        command
            .env("HOME", self.beside("home"))
            .env("LC_ALL", "C.UTF-8")
            .env("OUTSIDE", self.beside("outside"));
        if let Ok(path) = std::env::join_paths(program_folders()) {
            command.env("PATH", path);
        }
        if let Some(wheels) = wheels() {
            for tool in ["PIP", "UV"] {
                command.env(format!("{tool}_NO_INDEX"), "1").env(format!("{tool}_FIND_LINKS"), &wheels);
            }
        }
        command
    }

    /// Runs `script` in the mount; returns what it printed.
    ///
    /// # Panics
    /// It failed; its output is in the message.
    #[expect(clippy::must_use_candidate, reason = "most scripts are run for what they do")]
    pub fn run(&self, script: &str) -> String {
        for name in ["home", "outside"] {
            std::fs::create_dir_all(self.beside(name)).expect("a directory beside the mount");
        }
        let output = self.shell(script).output().expect("bash runs");
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}\n{}\n{text}\n{errors}", output.status);
        text.into_owned()
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.mounted = None;
        } else {
            self.unmount();
        }
        if is_listed(&self.root)
            && let Some(folder) = self.folder.take()
        {
            // Removing the folder would remove what lies in the mount.
            let _ = folder.keep();
        }
    }
}

/// Compares two descriptions of trees, and names what differs.
///
/// # Panics
/// They are not the same.
pub fn assert_same(one: &BTreeMap<PathBuf, String>, other: &BTreeMap<PathBuf, String>, when: &str) {
    let paths: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let different: Vec<_> = paths
        .into_iter()
        .filter(|&path| one.get(path) != other.get(path))
        .map(|path| format!("{}: {:?} was {:?}", path.display(), other.get(path), one.get(path)))
        .collect();
    assert!(
        different.is_empty(),
        "{} differences {when}:\n{}",
        different.len(),
        different[..different.len().min(20)].join("\n")
    );
}

/// Tells whether the program `name` is installed; if not, the test is skipped, or fails where that is forbidden.
#[must_use]
pub fn installed(name: &str) -> bool {
    let found = program_folders().iter().any(|place| place.join(name).is_file());
    if !found {
        crate::command::skip(format!("`{name}` is not installed"));
    }
    found
}

/// Returns where programs are looked for: in the Python environment that `scripts/setup` has made, then where the
/// user's are.
fn program_folders() -> Vec<PathBuf> {
    let environment = std::env::var_os("SLOTFS_TEST_FLAVOR").map(PathBuf::from);
    let own = environment.iter().filter_map(|flavor| flavor.parent()).map(Path::to_path_buf);
    own.chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())).collect()
}

/// Returns the folder of Python packages that `scripts/setup` has downloaded, so that tests need no network.
fn wheels() -> Option<PathBuf> {
    let flavor = PathBuf::from(std::env::var_os("SLOTFS_TEST_FLAVOR")?);
    let folder = flavor.parent()?.with_file_name("wheels");
    folder.is_dir().then_some(folder)
}

//! A mounted volume while it is being served.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use fuser::{Config, Session, SessionACL};

use super::capabilities::Agreed;
use super::control::Control;
use super::error::{DriverError, UnmountError};
use super::mount;
use super::options::MountOptions;
use super::server::FuseDriver;
use super::statistics::Statistics;
use crate::volume::Volume;
use crate::worker;

/// What the kernel and slotfs agreed on for one mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Files that lie on the disk as they are can be handed to the kernel; the first open may still show that
    /// this user or this disk cannot.
    pub passthrough: bool,
    /// An immutable volume is opened without asking the server.
    pub unasked_opens: bool,
    /// How many threads answer.
    pub threads: usize,
}

/// A mounted volume. Dropping this changes nothing: the mount lives until somebody unmounts it.
#[derive(Debug)]
pub struct Served {
    mountpoint: PathBuf,
    statistics: Arc<Statistics>,
    features: Features,
    control: Control,
    thread: JoinHandle<std::io::Result<()>>,
}

/// Mounts `volume` on the directory `mountpoint` and starts to serve it. When this returns, the mount is in the
/// mount table and answers.
///
/// # Errors
/// Says what is missing; [`DriverError::is_unavailable`] tells whether extracting is the way out. Nothing stays
/// mounted then.
pub fn serve(volume: Arc<Volume>, mountpoint: &Path, options: &MountOptions) -> Result<Served, DriverError> {
    let statistics = Arc::new(Statistics::default());
    let notifier = Arc::new(OnceLock::new());
    let agreed = Arc::new(OnceLock::new());
    let driver =
        FuseDriver::new(volume, options, Arc::clone(&statistics), Arc::clone(&notifier), Arc::clone(&agreed));
    let control = Control {
        volume: Arc::clone(&driver.volume),
        opens: Arc::clone(&driver.opens),
        parking: Arc::clone(&driver.parking),
        numbers: Arc::clone(&driver.numbers),
        notifier: Arc::clone(&notifier),
        mountpoint: mountpoint.to_path_buf(),
    };
    let device = mount::mount(mountpoint, options)?;
    let threads = options.thread_count();
    // Who may enter is the kernel's affair: it knows users that fuser's own check would shut out, such as a
    // program that changed its user after opening a file.
    let session = Session::from_fd(driver, device, SessionACL::All, config(threads)).map_err(|source| {
        undo(mountpoint, DriverError::Handshake { mountpoint: mountpoint.into(), source })
    })?;
    let _ = notifier.set(session.notifier());
    drop(notifier);
    let Agreed { passthrough, no_open, .. } = agreed.get().copied().unwrap_or_default();
    let features = Features { passthrough, unasked_opens: no_open, threads };
    let thread = worker::spawn("slotfs-session", move || session.run())
        .map_err(|source| undo(mountpoint, DriverError::Thread { mountpoint: mountpoint.into(), source }))?;
    Ok(Served { mountpoint: mountpoint.to_path_buf(), statistics, features, control, thread })
}

fn config(threads: usize) -> Config {
    let mut config = Config::default();
    // fuser serves from several threads on Linux only.
    config.n_threads = Some(if cfg!(target_os = "linux") { threads } else { 1 });
    // A descriptor for each thread: they do not wait for one another in the kernel's queue.
    config.clone_fd = cfg!(target_os = "linux");
    config
}

/// Takes back a mount that could not be served.
fn undo(mountpoint: &Path, error: DriverError) -> DriverError {
    if let Err(unmount) = mount::unmount(mountpoint, true) {
        tracing::warn!("{unmount}");
    }
    error
}

impl Served {
    /// Returns where the volume is mounted.
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Returns what was agreed on with the kernel.
    #[must_use]
    pub fn features(&self) -> Features {
        self.features
    }

    /// Returns the counts of requests so far; they go on counting.
    #[must_use]
    pub fn statistics(&self) -> Arc<Statistics> {
        Arc::clone(&self.statistics)
    }

    /// Returns access to the mount while it is served.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Tells whether requests are still being answered.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Unmounts; serving then ends by itself, see [`Self::join`]. [`super::unmount`] with the same path does
    /// the same from another thread.
    ///
    /// # Errors
    /// [`UnmountError::Busy`] while something uses the mount, unless `lazy` detaches it from its users.
    pub fn unmount(&self, lazy: bool) -> Result<(), UnmountError> {
        mount::unmount(&self.mountpoint, lazy)
    }

    /// Waits until the volume has been unmounted, by whomever, and the last user of a detached mount is gone.
    /// A connection that was cut instead of unmounted leaves no dead mount behind.
    ///
    /// # Errors
    /// Serving ended with an error.
    pub fn join(self) -> Result<(), DriverError> {
        let ended = self.thread.join();
        mount::clear_dead(&self.mountpoint);
        let result = ended.unwrap_or_else(|_| Err(std::io::Error::other("the serving thread panicked")));
        let result = match result {
            // The kernel says so to who was just taking a request when the mount went (`fuse_dev_do_read` in
            // `fs/fuse/dev.c`), instead of ENODEV as to everybody else.
            Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => Ok(()),
            other => other,
        };
        result.map_err(|source| DriverError::Serving { mountpoint: self.mountpoint, source })
    }
}

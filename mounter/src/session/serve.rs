//! The serving process: from a request to a mount, until the mount is gone and tidied up after.
//!
//! **Invariant:** nothing is served that the request does not identify; and when this process has ended by itself,
//! nothing of it is left: no mount, no record, no mountpoint that it made, no write that was to go.

use std::io::StdinLock;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;
use slotfs_fs::disk::DiskError;
use slotfs_fs::disk::lock::FileLock;
use slotfs_fs::driver::touches::Touches;
use slotfs_fs::driver::{self, DriverError, MountOptions, OpenMode, OtherUsers, UnmountError};
use slotfs_fs::package::{Limits, Package};
use slotfs_fs::volume::Volume;

use crate::host::process;
use crate::host::signals::SignalQueue;

use super::assemble::{AssembleError, Layers};
use super::control::Listening;
use super::drain::{self, Attempt, Event};
use super::place::Place;
use super::profile::recording::Recording;
use super::profile::replay::Replay;
use super::record::SessionRecord;
use super::request::{FailureCause, ServeReply, ServeRequest};
use super::wire::WireError;
use super::{beside, finish, wire};

/// What ends a server, politely.
const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// How often a server that only finishes its layers looks for a signal.
const GLANCE: Duration = Duration::from_millis(100);

/// Why there is nothing to serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another server has this work environment.
    #[error("`{}` is already being served by another process", workenv.display())]
    Served {
        /// The work environment.
        workenv: PathBuf,
    },
    /// Another process has the upper directory.
    #[error("the upper directory `{}` is in use by another mount", upper.display())]
    UpperInUse {
        /// The upper directory.
        upper: PathBuf,
    },
    /// Whoever asked for it is gone.
    #[error("nobody waits for `{}` any more", workenv.display())]
    Unwanted {
        /// The work environment.
        workenv: PathBuf,
    },
    /// The request names a work environment that cannot be one.
    #[error("`{}` cannot be the name of a work environment", workenv.display())]
    Name {
        /// What was named.
        workenv: PathBuf,
    },
    /// The package cannot become a volume.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The kernel did not take the volume.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The host refused something that every server needs.
    #[error("cannot {action}: {source}")]
    Host {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl ServeError {
    /// Returns the kind of the failure as the caller is told it.
    #[must_use]
    pub fn cause(&self) -> FailureCause {
        match self {
            Self::Served { .. } | Self::UpperInUse { .. } | Self::Unwanted { .. } => FailureCause::Busy,
            Self::Assemble(error) => error.cause(),
            Self::Driver(error) if error.is_unavailable() => FailureCause::Unavailable,
            Self::Driver(_) | Self::Host { .. } | Self::Name { .. } => FailureCause::Mount,
            Self::Disk(error) => FailureCause::of_disk(error),
        }
    }
}

/// A task that was heard over standard input.
#[derive(Debug)]
pub struct Heard {
    request: ServeRequest,
    /// What was opened before it was known whether that is wanted.
    package: Option<Package>,
    signals: SignalQueue,
}

impl Heard {
    /// Becomes a server, and hears over standard input what to serve: slots of `package`, as likely as not, which is opened
    /// meanwhile. For a process that does nothing else.
    ///
    /// # Errors
    /// There is nobody who could be heard or understood.
    pub fn listen(package: Option<&Path>) -> Result<Self, ServeError> {
        // A server has another working directory.
        let package = package.and_then(|path| std::path::absolute(path).ok());
        let ((request, package), signals) = hear(|pipe| {
            // What is wrong with it is said to the user by who is going to ask for it.
            let package = package.and_then(|path| path.canonicalize().ok());
            let package = package.and_then(|path| Package::open(&path, &Limits::default()).ok());
            Ok((ServeRequest::receive(pipe)?, package))
        })?;
        Ok(Self { request, package, signals })
    }

    /// Returns what to log, in the syntax of `tracing-subscriber`'s `EnvFilter`.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.request.log
    }

    /// Lets standard error be the log of the work environment. That it cannot be opened is nothing to die of.
    pub fn write_log(&self) {
        let log = self.request.workenv().map(|workenv| Place::of(workenv).log());
        process::write_errors_to(log.as_deref());
    }

    /// Serves, tells the caller the outcome over standard output, and returns when the mount is gone.
    ///
    /// # Errors
    /// There was nothing to serve; the caller has been told.
    pub fn serve(self) -> Result<(), ServeError> {
        serve(&self.request, self.package, self.signals, process::is_output_read, answer)
    }
}

/// Becomes a server: keeps nothing of the caller's, and hears from it what to serve.
pub(super) fn hear<R>(
    receive: impl FnOnce(&mut StdinLock<'static>) -> Result<R, WireError>,
) -> Result<(R, SignalQueue), ServeError> {
    let host = |action| move |source| ServeError::Host { action, source };
    process::close_inherited_files();
    // Before any thread starts, and before there is a mount that a signal could leave behind.
    let signals = SignalQueue::open(&ENDING).map_err(host("queue signals"))?;
    process::leave_terminal().map_err(host("leave the terminal"))?;
    match receive(&mut std::io::stdin().lock()) {
        Ok(request) => Ok((request, signals)),
        Err(error) => {
            tracing::error!("{error}");
            Err(ServeError::Host { action: "hear the caller", source: std::io::Error::other(error) })
        }
    }
}

/// Tells the caller the outcome, and closes the pipes to it.
pub(super) fn answer(reply: ServeReply) {
    if let Err(error) = wire::send(&mut std::io::stdout().lock(), "caller", &reply) {
        // It was killed. Its lease went with it, and with the last lease goes the mount.
        tracing::warn!("{error}");
    }
    if let Err(error) = process::close_input_and_output() {
        tracing::warn!("cannot close the pipes to the caller: {error}");
    }
}

/// Serves `request` if it `is_wanted` still; `tell` hears the outcome once. Returns when the mount is gone.
fn serve(
    request: &ServeRequest,
    package: Option<Package>,
    signals: SignalQueue,
    is_wanted: impl FnOnce() -> bool,
    tell: impl FnOnce(ServeReply),
) -> Result<(), ServeError> {
    match begin(request, package, is_wanted) {
        Ok(serving) => {
            tell(ServeReply::Ready { pid: std::process::id().cast_signed() });
            serving.go_on(request, signals);
            Ok(())
        }
        Err(error) => {
            tracing::error!("{error}");
            tell(ServeReply::Failed { cause: error.cause(), message: error.to_string(), hints: Vec::new() });
            Err(error)
        }
    }
}

/// A mount that answers.
struct Serving {
    place: Place,
    lock: FileLock,
    layers: Layers,
    volume: Arc<Volume>,
    served: driver::Served,
    touches: Option<Arc<Touches>>,
}

fn begin(
    request: &ServeRequest,
    package: Option<Package>,
    is_wanted: impl FnOnce() -> bool,
) -> Result<Serving, ServeError> {
    let workenv = request.workenv().ok_or_else(|| ServeError::Name { workenv: request.workenv.clone() })?;
    let place = Place::of(workenv);
    let Some(lock) = place.try_serving_lock()? else {
        return Err(ServeError::Served { workenv: request.workenv.clone() });
    };
    // Asked with the lock in hand. A caller that was killed earlier has been followed by another one, perhaps, who is
    // clearing up at this moment; from now on such a one finds the lock taken and waits.
    if !is_wanted() {
        return Err(ServeError::Unwanted { workenv: request.workenv.clone() });
    }
    process::keep_little_memory();
    if let Err(error) = process::raise_open_file_limit() {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
    beside::announce(request, &place)?;
    let layers = Layers::open(request, package, place.workenv())?;
    if request.settled {
        layers.settle()?;
    }
    let volume = Arc::new(layers.join(request)?);
    let pid = std::process::id().cast_signed();
    SessionRecord { pid, started: super::seconds_now(), request: request.clone() }.publish(&place)?;
    let touches = request.prefetch.then(Arc::<Touches>::default);
    let options = mount_options(request, touches.clone());
    match driver::serve(Arc::clone(&volume), &request.mountpoint, &options) {
        Ok(served) => Ok(Serving { place, lock, layers, volume, served, touches }),
        Err(error) => {
            if let Err(error) = SessionRecord::remove(&place) {
                tracing::warn!("{error}");
            }
            Err(error.into())
        }
    }
}

fn mount_options(request: &ServeRequest, touches: Option<Arc<Touches>>) -> MountOptions {
    let mut options = MountOptions::new(request.package.as_os_str());
    options.read_only = request.read_only || request.spill.is_none();
    options.others = if request.mount.allow_other { OtherUsers::Required } else { OtherUsers::WherePossible };
    options.open = if request.mount.passthrough { OpenMode::Automatic } else { OpenMode::Requests };
    options.threads = request.mount.threads;
    options.touches = touches;
    options
}

impl Serving {
    fn go_on(self, request: &ServeRequest, signals: SignalQueue) {
        // The program asks for its first files at this moment: those who answer go first.
        std::thread::yield_now();
        let (sender, events) = mpsc::channel();
        let workenv = self.place.workenv();
        let replay = self
            .touches
            .as_ref()
            .and_then(|touches| Replay::begin(workenv, &request.content, &request.mountpoint, touches));
        let recording = self
            .touches
            .and_then(|touches| Recording::begin(touches, workenv.clone(), request.content.clone()));
        beside::begin(request, &self.place, &self.layers);
        give_back_after_passes(&self.layers);
        report_signals(signals, sender.clone());
        let listening = Listening::start(&self.place, self.served.control())
            .inspect_err(|error| tracing::warn!("{error}"))
            .ok();
        let served = report_end(self.served, sender.clone());
        let leaving = drain::until_gone(&self.place, &events, &sender, || {
            if let Some(replay) = &replay {
                replay.end();
            }
            unmount(&request.mountpoint)
        });
        // The kernel has let go; the threads that answered it end by themselves.
        if let Some(served) = served
            && served.join().is_err()
        {
            tracing::error!("the thread that waits for the end of the mount panicked");
        }
        if let Some(listening) = listening {
            listening.stop();
        }
        drop(self.volume);
        if let Err(error) = self.layers.drop_writes_at_end(request) {
            tracing::error!("{error}");
        }
        self.place.note_use();
        if let Err(error) = finish::finish(request, &self.place) {
            tracing::error!("{error}");
        }
        self.layers.keep_indexes();
        // Whoever waits for either lock finds everything done.
        drop(leaving);
        drop(self.lock);
        if let Some(recording) = recording {
            recording.end();
        }
        finish_layers(&self.layers, &events);
    }
}

/// Making an index takes memory that serving from it does not.
fn give_back_after_passes(layers: &Layers) {
    if layers.settle_for(Duration::ZERO) {
        return;
    }
    let settled = layers.settling();
    let wait = move || {
        settled();
        process::give_memory_back();
    };
    if let Err(error) = super::thread("memory", wait) {
        tracing::debug!("cannot wait for the indexes: {error}");
    }
}

/// Lets a pass that still runs come to its end, so that the next start need not begin again, and puts into the store what
/// was read, so that the next start need not decode it again: a program that ran for a moment left no quiet time for
/// that. Nobody waits for it: the mount is gone, the locks are free, and a signal ends it at once.
pub(super) fn finish_layers(layers: &Layers, events: &mpsc::Receiver<Event>) {
    if layers.settle_for(Duration::ZERO) && layers.keep_for(Duration::ZERO) {
        return;
    }
    process::yield_to_others();
    while !(layers.settle_for(GLANCE) && layers.keep_for(GLANCE)) {
        if let Ok(Event::Signal(signal)) = events.try_recv() {
            tracing::info!("{signal}: indexes and contents are left unfinished");
            return;
        }
    }
}

pub(super) fn unmount(mountpoint: &Path) -> Attempt {
    match driver::unmount(mountpoint, false) {
        Ok(()) | Err(UnmountError::NotMounted { .. }) => Attempt::Done,
        Err(UnmountError::Busy { .. }) => Attempt::Busy,
        Err(error) => {
            tracing::warn!("{error}");
            Attempt::Busy
        }
    }
}

/// Reports when the mount is gone, whoever took it away. Without a thread to wait for that, the mount is let go at
/// once: nobody could tell when to stop.
pub(super) fn report_end(served: driver::Served, sender: Sender<Event>) -> Option<JoinHandle<()>> {
    let report = move || {
        if let Err(error) = served.join() {
            tracing::error!("{error}");
        }
        let _ = sender.send(Event::MountGone);
    };
    super::thread("end", report).inspect_err(|error| tracing::error!("cannot wait for the end: {error}")).ok()
}

pub(super) fn report_signals(signals: SignalQueue, sender: Sender<Event>) {
    let report = move || {
        while let Ok(arrival) = signals.wait() {
            if sender.send(Event::Signal(arrival.signal)).is_err() {
                return;
            }
        }
    };
    if let Err(error) = super::thread("signals", report) {
        tracing::error!("cannot watch for signals: {error}");
    }
}

//! Serving given layers: from a request to a mount, until the mount is gone.
//!
//! **Invariant:** every directory is open before the mount is made, so that one which the mount hides is still read
//! itself; and a mount that is in use is not taken away.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use slotfs_fs::disk::DiskError;
use slotfs_fs::driver::{self, GenericFlag, MountOptions, OpenMode, OtherUsers};
use slotfs_fs::overlay::{Upper, UpperPlaces, WhiteoutForm};
use slotfs_fs::volume::{Volume, VolumeOptions};

use super::request::{GivenLayer, GivenOptions, OverlayRequest};
use crate::host::process;
use crate::host::signals::SignalQueue;
use crate::session::assemble::{AssembleError, Layers, Shared, Wanted};
use crate::session::drain::{Attempt, Event};
use crate::session::request::{ServeReply, Spill};
use crate::session::serve::{self, ServeError};
use crate::workenv::Cache;

/// How long the server of a mount that was just taken away may keep its upper directory.
const LEAVING: Duration = Duration::from_secs(2);

/// The first pause before a mount that is in use is tried again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Serves what the caller asks for over standard input, tells it the outcome over standard output, and returns when
/// the mount is gone. For the hidden subcommand, before anything else of the program has run.
///
/// # Errors
/// There was nothing to serve; the caller has been told.
pub fn serve_for_caller() -> Result<(), ServeError> {
    let (request, signals) = serve::hear(OverlayRequest::receive)?;
    match begin(&request) {
        Ok(serving) => {
            serve::answer(ServeReply::Ready { pid: std::process::id().cast_signed() });
            serving.go_on(&request, signals);
            Ok(())
        }
        Err(error) => {
            tracing::error!("{error}");
            let (cause, message) = (error.cause(), error.to_string());
            serve::answer(ServeReply::Failed { cause, message, hints: Vec::new() });
            Err(error)
        }
    }
}

/// A mount that answers.
struct Serving {
    layers: Layers,
    volume: Arc<Volume>,
    served: driver::Served,
}

fn begin(request: &OverlayRequest) -> Result<Serving, ServeError> {
    if let Err(error) = process::raise_open_file_limit() {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
    let layers = open_layers(request)?;
    let upper = match &request.spill {
        Some(spill) => Some(open_upper(spill)?),
        None => None,
    };
    let options = VolumeOptions {
        devices: request.options.devices,
        bare_copies: request.bare_copies,
        ..VolumeOptions::default()
    };
    let volume = Volume::new(layers.placed(), upper, options)
        .map_err(|source| AssembleError::Volume { path: request.mountpoint.clone(), source })?;
    if request.fill && volume.is_writable() {
        let failed = |source| AssembleError::Volume { path: request.mountpoint.clone(), source };
        if volume.may_have_bare_copies().map_err(failed)? {
            volume.fill_all(&mut |_| {}).map_err(failed)?;
        }
    }
    let volume = Arc::new(volume);
    let options = mount_options(request);
    let served = driver::serve(Arc::clone(&volume), &request.mountpoint, &options)?;
    Ok(Serving { layers, volume, served })
}

fn open_layers(request: &OverlayRequest) -> Result<Layers, AssembleError> {
    let mut layers = Layers::default();
    let mut shared: Option<Shared> = None;
    for layer in &request.layers {
        match layer {
            GivenLayer::Directory { path } => layers.add_directory(path, !request.options.layers_change)?,
            GivenLayer::Package { path, identity, slots } => {
                let shared = match &mut shared {
                    Some(shared) => shared,
                    None => shared.insert(Shared::open(&Cache::new(&request.cache))?),
                };
                let identity = identity.as_ref();
                let wanted = Wanted { package: path, identity, slots, limits: request.limits };
                layers.add_package(wanted, None, shared)?;
            }
        }
    }
    Ok(layers)
}

/// Opens the upper directory. A server whose mount is gone may still be writing to it for a moment.
fn open_upper(spill: &Spill) -> Result<Upper, ServeError> {
    let places = UpperPlaces::within(&spill.upper, &spill.work);
    let end = Instant::now() + LEAVING;
    loop {
        match Upper::open_at(&places, WhiteoutForm::Best) {
            Err(error) if is_locked(&error) && Instant::now() < end => std::thread::sleep(FIRST_PAUSE),
            Err(error) if is_locked(&error) => {
                return Err(ServeError::UpperInUse { upper: spill.upper.clone() });
            }
            other => return Ok(other?),
        }
    }
}

fn is_locked(error: &DiskError) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}

fn mount_options(request: &OverlayRequest) -> MountOptions {
    let GivenOptions {
        read_only,
        set_id,
        devices,
        no_execution,
        access_times,
        allow_other,
        no_passthrough,
        layers_change: _,
        flags,
    } = &request.options;
    let mut options = MountOptions::new(request.source.as_os_str());
    options.read_only = *read_only || request.spill.is_none();
    options.others = match allow_other {
        Some(true) => OtherUsers::Required,
        Some(false) => OtherUsers::Never,
        None => OtherUsers::WherePossible,
    };
    options.devices = *devices;
    options.set_id = *set_id;
    options.execute = !no_execution;
    options.access_times = *access_times;
    options.open = if *no_passthrough { OpenMode::Requests } else { OpenMode::Automatic };
    options.flags =
        GenericFlag::ALL.into_iter().filter(|flag| flags.iter().any(|name| name == flag.name())).collect();
    options
}

impl Serving {
    fn go_on(self, request: &OverlayRequest, signals: SignalQueue) {
        let (sender, events) = mpsc::channel();
        serve::report_signals(signals, sender.clone());
        if let Some(caller) = request.caller {
            report_caller(caller, sender.clone());
        }
        let served = serve::report_end(self.served, sender);
        until_gone(&events, || serve::unmount(&request.mountpoint));
        if let Some(served) = served
            && served.join().is_err()
        {
            tracing::error!("the thread that waits for the end of the mount panicked");
        }
        // The upper directory is free for the next one.
        drop(self.volume);
        serve::finish_layers(&self.layers, &events);
    }
}

/// Waits until the mount is gone. A signal asks for it to be taken away as soon as nobody uses it.
fn until_gone(events: &Receiver<Event>, mut unmount: impl FnMut() -> Attempt) {
    let mut pause: Option<Duration> = None;
    loop {
        let event = match pause {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(pause) => events.recv_timeout(pause),
        };
        match event {
            Ok(Event::MountGone) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Event::Signal(signal)) => {
                tracing::info!("{signal}: the mount goes when nobody uses it any more");
                pause = Some(FIRST_PAUSE);
            }
            // Nobody holds leases of a mount without a session.
            Ok(Event::NoLease(_)) => continue,
            Err(RecvTimeoutError::Timeout) => pause = pause.map(|pause| (pause * 2).min(LONGEST_PAUSE)),
        }
        if unmount() == Attempt::Done {
            return;
        }
    }
}

/// Reports the end of the process that asked for the mount as if it had sent a signal.
fn report_caller(caller: i32, sender: Sender<Event>) {
    let report = move || {
        match process::parent(caller) {
            Ok(Some(caller)) => while matches!(caller.wait(Duration::from_hours(1)), Ok(false)) {},
            Ok(None) => {}
            Err(error) => tracing::error!("cannot watch process {caller}: {error}"),
        }
        let _ = sender.send(Event::Signal(Signal::SIGHUP));
    };
    if let Err(error) = crate::session::thread("caller", report) {
        tracing::error!("cannot watch process {caller}: {error}");
    }
}

/// Where the directories of a request are, for whoever has to know what it may not lie in.
pub(super) fn directories(request: &OverlayRequest) -> impl Iterator<Item = &PathBuf> {
    request.layers.iter().filter_map(|layer| match layer {
        GivenLayer::Directory { path } => Some(path),
        GivenLayer::Package { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_asks_again_until_nobody_uses_the_mount() {
        let (sender, events) = mpsc::channel();
        let mut attempts = 0;
        let _ = sender.send(Event::Signal(Signal::SIGTERM));
        until_gone(&events, || {
            attempts += 1;
            if attempts < 3 { Attempt::Busy } else { Attempt::Done }
        });
        assert_eq!(attempts, 3);
    }

    #[test]
    fn without_a_signal_only_the_end_of_the_mount_counts() {
        let (sender, events) = mpsc::channel();
        let _ = sender.send(Event::MountGone);
        until_gone(&events, || Attempt::Busy);
        drop(sender);
        until_gone(&events, || Attempt::Busy);
    }
}

//! The socket on which a serving process is asked for something while its mount is in use.
//!
//! One JSON document a line, each way. Changes are held up ([`Ask::Hold`]) until the caller says so, goes away, or has taken
//! too long; what programs wrote is replaced by the server itself, because it must forget what it knows of that.
//!
//! **Invariant:** only this user and root are heard; and when a caller is gone, nothing of what it asked for goes on but
//! what was to be finished in any case.

use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use slotfs_fs::disk::unix::own_ids;
use slotfs_fs::disk::{Context, DiskError};
use slotfs_fs::driver::{Control, Held};
use slotfs_fs::layer::LayerError;
use slotfs_fs::overlay::Scope;
use slotfs_fs::overlay::take_back::TakeBackError;
use slotfs_fs::volume::{Forgotten, FsError};

use crate::host::socket;

use super::place::Place;
use super::request::FailureCause;
use super::snapshot;

/// The socket's name in the session's directory.
const NAME: &str = "control";

/// How long changes may take to come to an end before they are held up.
const TO_HOLD: Duration = Duration::from_secs(20);

/// How long changes are held up at most.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// The longest line that is read, in bytes.
const LONGEST_LINE: u64 = 64 << 20;

const LATE: &str = "changes were not held up any more";

/// How many callers are heard at once.
const MOST_CALLERS: usize = 16;

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Hold changes up.
    Hold,
    /// Let them go on.
    Release,
    /// Bring the content of files that were copied up without it.
    Whole,
    /// Take back what was written at and below these paths, or everything where there are none. Changes are held up, and go
    /// on afterwards.
    TakeBack {
        /// Names from the root, of any bytes.
        paths: Vec<Vec<Vec<u8>>>,
    },
    /// Put what lies ready in the session's directory in the place of what is written. Changes are held up, and go on
    /// afterwards.
    PutBack {
        /// Its name there.
        prepared: String,
    },
}

/// What the server answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// Nothing changes from now on.
    Held,
    /// Changes go on; whether none was made meanwhile.
    Released {
        /// False when it took too long.
        intact: bool,
    },
    /// What was asked for is done.
    Done,
    /// It cannot be done.
    Failed {
        /// What kind of failure it is.
        cause: FailureCause,
        /// What failed, and why.
        message: String,
    },
}

/// Why the server did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It says why.
    #[error("{message}")]
    Refused {
        /// What kind of failure it is.
        cause: FailureCause,
        /// What failed, and why.
        message: String,
    },
    /// Nobody is there, or somebody who is not understood.
    #[error("cannot talk to the serving process: {0}")]
    Lost(#[from] io::Error),
}

/// The server's side.
#[derive(Debug)]
pub(super) struct Listening {
    shared: Arc<Shared>,
    path: PathBuf,
    /// Where the socket's name leads: the directory may be gone by the end, and another's socket be there.
    made: Option<(u64, u64)>,
    thread: JoinHandle<()>,
    /// The thread waits for a caller or for this to be closed. A caller could not wake it where the name is gone.
    wake: PipeWriter,
}

#[derive(Debug)]
struct Shared {
    place: Place,
    control: Control,
    callers: Mutex<Vec<Caller>>,
}

#[derive(Debug)]
struct Caller {
    stream: UnixStream,
    thread: JoinHandle<()>,
}

impl Listening {
    /// Listens for callers who want something of the mount that `control` leads to.
    ///
    /// # Errors
    /// There can be no socket.
    pub(super) fn start(place: &Place, control: Control) -> Result<Self, DiskError> {
        let directory = place.workenv().own_directory();
        let path = directory.join(NAME);
        let listener = socket::listen(&directory, NAME).context("listen at", &path)?;
        // It is waited for together with the end.
        listener.set_nonblocking(true).context("listen at", &path)?;
        let made = identity_of(&path);
        let shared = Arc::new(Shared { place: place.clone(), control, callers: Mutex::default() });
        let heard = Arc::clone(&shared);
        let (over, wake) = io::pipe().context("listen at", &path)?;
        let thread =
            super::thread("control", move || accept(&heard, &listener, &over)).context("listen at", &path)?;
        Ok(Self { shared, path, made, thread, wake })
    }

    /// Hears nobody any more, and waits until what is being done is done.
    pub(super) fn stop(self) {
        drop(self.wake);
        if self.thread.join().is_err() {
            tracing::error!("the thread that listens for callers panicked");
        }
        if self.made.is_some()
            && identity_of(&self.path) == self.made
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!("cannot remove the socket: {error}");
        }
        let callers = std::mem::take(&mut *self.shared.callers());
        for Caller { stream, thread } in callers {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            if thread.join().is_err() {
                tracing::error!("a thread that heard a caller panicked");
            }
        }
    }
}

impl Shared {
    fn callers(&self) -> MutexGuard<'_, Vec<Caller>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn complete(&self) -> Answer {
        match self.control.volume().fill_all(&mut |_| {}) {
            Ok(missing) if missing.is_empty() => Answer::Done,
            Ok(missing) => {
                let count = missing.len();
                failed(
                    FailureCause::Verification,
                    &format!("the content of {count} files is in another build"),
                )
            }
            Err(FsError::Disk(error)) => failed(FailureCause::of_disk(&error), &error),
            Err(FsError::Layer(error)) => failed(layer_cause(&error), &error),
            Err(error) => failed(FailureCause::Disk, &error),
        }
    }

    /// Replaces what is written, as it was asked for.
    fn replace(&self, held: Held<'_>, ask: &Ask) -> Answer {
        let mut replaced = None;
        let done = self.control.replace(held, |volume| match ask {
            Ask::TakeBack { paths } => {
                let scope = Scope::of(paths.clone());
                if scope.is_everything()
                    && let Err(error) = self.place.workenv().forget_preparation()
                {
                    return (Err(failed(FailureCause::Disk, &error)), Forgotten::default());
                }
                let (done, forgotten) = volume.take_back(&scope);
                (done.map_err(|error| failed(cause_of(&error), &error)), forgotten)
            }
            Ask::PutBack { prepared } => {
                let (done, forgotten) = volume.replace(&Scope::default(), |_, _| {
                    replaced = Some(snapshot::put_back(self.place.workenv(), prepared)?);
                    Ok::<(), LayerError>(())
                });
                (done.map_err(|error| failed(layer_cause(&error), &error)), forgotten)
            }
            Ask::Hold | Ask::Release | Ask::Whole => (Ok(()), Forgotten::default()),
        });
        // Nobody need wait for that.
        if let Some(going) = replaced {
            snapshot::remove_replaced(&going);
        }
        done.err().unwrap_or(Answer::Done)
    }
}

fn failed(cause: FailureCause, error: &impl std::fmt::Display) -> Answer {
    Answer::Failed { cause, message: error.to_string() }
}

fn layer_cause(error: &LayerError) -> FailureCause {
    match error {
        LayerError::Disk(error) => FailureCause::of_disk(error),
        LayerError::Corrupt { .. } => FailureCause::Verification,
    }
}

fn cause_of(error: &TakeBackError) -> FailureCause {
    match error {
        TakeBackError::Layer(error) => layer_cause(error),
        // Whoever asks has looked before, so somebody was quicker.
        TakeBackError::Below { .. } | TakeBackError::Moved { .. } => FailureCause::Busy,
    }
}

/// Returns which file has this name.
fn identity_of(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Hears callers until the other end of `over` is closed.
fn accept(shared: &Arc<Shared>, listener: &UnixListener, over: &PipeReader) {
    loop {
        let ready = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut waited = [ready(over.as_fd()), ready(listener.as_fd())];
        match poll(&mut waited, PollTimeout::NONE) {
            Ok(_) if waited[0].any().unwrap_or(true) => return,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                tracing::warn!("cannot wait for callers: {error}");
                return;
            }
        }
        let heard = match listener.accept() {
            Ok((stream, _)) => stream.set_nonblocking(false).and_then(|()| welcome(shared, stream)),
            // Who wanted something has thought better of it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => {
                // Too many open files, most likely.
                std::thread::sleep(Duration::from_millis(100));
                Err(error)
            }
        };
        if let Err(error) = heard {
            tracing::warn!("cannot hear a caller: {error}");
        }
    }
}

/// Gives a caller a thread of its own.
fn welcome(shared: &Arc<Shared>, stream: UnixStream) -> io::Result<()> {
    let user = socket::peer_user(&stream)?;
    if user != 0 && user != own_ids().0 {
        return Err(io::Error::other(format!("user {user} is none of ours")));
    }
    let mut callers = shared.callers();
    callers.retain(|caller| !caller.thread.is_finished());
    if callers.len() >= MOST_CALLERS {
        return Err(io::Error::other("there are too many"));
    }
    let (own, heard) = (Arc::clone(shared), stream.try_clone()?);
    let thread = super::thread("caller", move || {
        if let Err(error) = converse(&own, &heard) {
            tracing::debug!("a caller is gone: {error}");
        }
        // The other end hears it although this end is still known.
        let _ = heard.shutdown(std::net::Shutdown::Both);
    })?;
    callers.push(Caller { stream, thread });
    Ok(())
}

/// Does what one caller asks for, until it is gone.
fn converse(shared: &Shared, stream: &UnixStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut held: Option<(Held<'_>, Instant)> = None;
    loop {
        let left = held
            .as_ref()
            .map(|(_, until)| until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
        stream.set_read_timeout(left)?;
        let ask = match receive(&mut reader) {
            Err(error) if is_late(&error) && held.is_some() => {
                tracing::warn!("a caller has held up changes for too long");
                held = None;
                continue;
            }
            other => other?,
        };
        let answer = match ask {
            None => return Ok(()),
            Some(Ask::Release) => Answer::Released { intact: held.take().is_some() },
            Some(Ask::Hold) => match shared.control.hold(TO_HOLD) {
                Ok(guard) => {
                    held = Some((guard, Instant::now() + LONGEST_HOLD));
                    Answer::Held
                }
                Err(error) => Answer::Failed { cause: FailureCause::Busy, message: error.to_string() },
            },
            Some(Ask::Whole) => shared.complete(),
            Some(ask @ (Ask::TakeBack { .. } | Ask::PutBack { .. })) => match held.take() {
                Some((guard, _)) => shared.replace(guard, &ask),
                None => Answer::Failed { cause: FailureCause::Busy, message: LATE.into() },
            },
        };
        send(stream, &answer)?;
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn send(mut stream: &UnixStream, document: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(document)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Reads one document; `None` when the other side is gone.
fn receive<T: serde::de::DeserializeOwned>(reader: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    let count = reader.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    if count == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

/// A caller's side: a living server.
#[derive(Debug)]
pub struct Line {
    reader: BufReader<UnixStream>,
}

impl Line {
    /// Connects to the server of the environment at `place`; `None` when there is none that listens.
    ///
    /// # Errors
    /// What the host reports.
    pub fn to(place: &Place) -> Result<Option<Self>, ControlError> {
        let stream = match socket::connect(&place.workenv().own_directory(), NAME) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            other => other?,
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Some(Self { reader: BufReader::new(stream) }))
    }

    /// Holds up all changes, until [`Self::release`] or the end of this.
    ///
    /// # Errors
    /// They cannot be held up, or the server is gone.
    pub fn hold(&mut self) -> Result<(), ControlError> {
        match self.ask(&Ask::Hold)? {
            Answer::Held => Ok(()),
            other @ (Answer::Released { .. } | Answer::Done | Answer::Failed { .. }) => {
                Err(unexpected(&other))
            }
        }
    }

    /// Has what was written at and below `paths` taken back, everything where there are none; changes, which must be held
    /// up, go on.
    ///
    /// # Errors
    /// Why it cannot be done, or not all of it.
    pub fn take_back(&mut self, paths: &[Vec<Vec<u8>>]) -> Result<(), ControlError> {
        self.done(&Ask::TakeBack { paths: paths.to_vec() })
    }

    /// Has the content of files brought that were copied up without it.
    ///
    /// # Errors
    /// Why it cannot be done, or not for all.
    pub fn complete(&mut self) -> Result<(), ControlError> {
        self.done(&Ask::Whole)
    }

    /// Has what lies ready under the name `prepared` put in the place of what is written; changes, which must be held up,
    /// go on.
    ///
    /// # Errors
    /// Why it cannot be done, or not all of it.
    pub fn put_back(&mut self, prepared: &str) -> Result<(), ControlError> {
        self.done(&Ask::PutBack { prepared: prepared.to_owned() })
    }

    fn done(&mut self, ask: &Ask) -> Result<(), ControlError> {
        match self.ask(ask)? {
            Answer::Done => Ok(()),
            other @ (Answer::Held | Answer::Released { .. } | Answer::Failed { .. }) => {
                Err(unexpected(&other))
            }
        }
    }

    /// Lets changes go on; tells whether they were held up all the time.
    ///
    /// # Errors
    /// The server is gone.
    pub fn release(&mut self) -> Result<bool, ControlError> {
        match self.ask(&Ask::Release)? {
            Answer::Released { intact } => Ok(intact),
            other @ (Answer::Held | Answer::Done | Answer::Failed { .. }) => Err(unexpected(&other)),
        }
    }

    fn ask(&mut self, ask: &Ask) -> Result<Answer, ControlError> {
        send(self.reader.get_ref(), ask)?;
        match receive(&mut self.reader)? {
            Some(Answer::Failed { cause, message }) => Err(ControlError::Refused { cause, message }),
            Some(answer) => Ok(answer),
            None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }
}

fn unexpected(answer: &Answer) -> ControlError {
    io::Error::new(io::ErrorKind::InvalidData, format!("it answered {answer:?}")).into()
}

//! Many objects made durable by one call and published by rename. They can be read from the moment they are added.
//!
//! **Invariant:** nothing gets its name before it is durable, and nobody who adds or reads waits for the disk to be.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::chunks::{self, Chunk, LARGE};
use super::object::Object;
use super::similar::{Kept, Similar};
use super::writer::{Content, ObjectWriter, Staged, Temporary};
use super::{Store, layout};
use crate::disk::digest::Digest;
use crate::disk::durable::{CAN_SYNC_FILE_SYSTEM, sync_file_system};
use crate::disk::lock::{FileLock, Mode};
use crate::disk::range::FileRange;
use crate::disk::{Context, DiskError, atomic};
use crate::worker;

/// After so long or so many bytes a batch publishes what it has, so that a crash loses little.
const INTERVAL: Duration = Duration::from_secs(10);
const BYTES: u64 = 1 << 30;

static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// A batch of objects.
#[derive(Debug)]
pub struct Batch {
    /// Held while the folder is in use; see [`super::sweep`].
    _lock: FileLock,
    shelf: Arc<Shelf>,
}

/// What a batch shares with the thread that publishes for it.
#[derive(Debug)]
struct Shelf {
    store: Arc<Store>,
    folder: PathBuf,
    next: AtomicU64,
    waiting: Mutex<Waiting>,
    /// Where small contents go until they are published: a file for each would take longer than decoding it.
    spool: Mutex<Option<Arc<Spool>>>,
    /// Held by the one who publishes.
    publisher: Mutex<()>,
    /// Whether a thread publishes, or is about to.
    is_publishing: AtomicBool,
    /// What such a thread could not do, until somebody is told.
    failed: Mutex<Option<DiskError>>,
}

#[derive(Debug)]
struct Waiting {
    objects: HashMap<Digest, Waits>,
    bytes: u64,
    /// When this began.
    since: Instant,
    /// On their way: durable soon, and renamed one by one.
    publishing: HashMap<Digest, Waits>,
}

/// Where an object is that has no name yet.
#[derive(Clone, Debug)]
enum Waits {
    File { temporary: Arc<Temporary>, length: u64 },
    Spooled { spool: Arc<Spool>, start: u64, length: u64 },
}

/// Contents one after the other. The file goes with the last of them that waits.
#[derive(Debug)]
struct Spool {
    file: Arc<File>,
    temporary: Temporary,
    end: AtomicU64,
}

impl Batch {
    pub(super) fn new(store: Arc<Store>) -> Result<Self, DiskError> {
        let staging = layout::staging(&store.root);
        fs::create_dir_all(&staging).context("create the directory", &staging)?;
        let name = format!("{}-{}", std::process::id(), SEQUENCE.fetch_add(1, Ordering::Relaxed));
        let folder = staging.join(&name);
        let lock_path = staging.join(format!("{name}.lock"));
        // Nobody else uses this name; a left-over of an earlier process of this number is ours now.
        let lock = FileLock::wait(&lock_path, Mode::Exclusive)?;
        fs::create_dir_all(&folder).context("create the directory", &folder)?;
        let waiting =
            Waiting { objects: HashMap::new(), bytes: 0, since: Instant::now(), publishing: HashMap::new() };
        let shelf = Shelf {
            store,
            folder,
            next: AtomicU64::new(0),
            waiting: Mutex::new(waiting),
            spool: Mutex::default(),
            publisher: Mutex::default(),
            is_publishing: AtomicBool::new(false),
            failed: Mutex::default(),
        };
        Ok(Self { _lock: lock, shelf: Arc::new(shelf) })
    }

    /// Starts an object.
    #[must_use]
    pub fn writer(&self) -> ObjectWriter {
        ObjectWriter::new(self.shelf.path())
    }

    /// Adds a finished object, unless the store has it; it can be read at once. When much has come together, that is
    /// published meanwhile.
    ///
    /// # Errors
    /// The staging file cannot be written, or what came together before could not be published.
    pub fn add(&self, staged: Staged) -> Result<(), DiskError> {
        if self.shelf.store.contains(&staged.digest, staged.length) {
            return Ok(());
        }
        let waits = match staged.content {
            Content::File(temporary) => Waits::File { temporary: Arc::new(temporary), length: staged.length },
            Content::Memory(bytes) => self.shelf.spool(&bytes)?,
        };
        let is_full = {
            let mut waiting = self.shelf.lock();
            if waiting.objects.insert(staged.digest, waits).is_none() {
                waiting.bytes += staged.length;
            }
            waiting.bytes >= BYTES || waiting.since.elapsed() >= INTERVAL
        };
        if is_full { self.shelf.publish_beside() } else { Ok(()) }
    }

    /// Opens an object of this batch that is not published yet.
    ///
    /// # Errors
    /// It is here but cannot be opened.
    pub fn staged(&self, digest: &Digest) -> Result<Option<Object>, DiskError> {
        let waiting = self.shelf.lock();
        match waiting.objects.get(digest).or_else(|| waiting.publishing.get(digest)) {
            None => Ok(None),
            Some(Waits::Spooled { spool, start, .. }) => {
                Ok(Some(Object::Among { file: Arc::clone(&spool.file), start: *start }))
            }
            Some(Waits::File { temporary, length }) => match File::open(&temporary.path) {
                // It may go, and be in parts then: who kept it open would keep the room that it takes.
                Ok(file) if *length >= LARGE => Ok(Some(Object::Among { file: Arc::new(file), start: 0 })),
                Ok(file) => Ok(Some(Object::Whole(Arc::new(file)))),
                // Renamed a moment ago.
                Err(error) if error.kind() == ErrorKind::NotFound => self.shelf.store.object(digest),
                Err(error) => Err(DiskError::new("open", &temporary.path, error)),
            },
        }
    }

    /// Opens an object of this batch, or one of the store if it is `length` bytes long; see [`Store::object_of`].
    ///
    /// # Errors
    /// It is here but cannot be opened.
    pub fn object_of(&self, digest: &Digest, length: u64) -> Result<Option<Object>, DiskError> {
        match self.staged(digest)? {
            Some(held) => Ok(Some(held)),
            None => self.shelf.store.object_of(digest, length),
        }
    }

    /// Makes everything added so far durable and gives it its name. Readers are not kept waiting meanwhile.
    ///
    /// # Errors
    /// The host refused; nothing that is not durable was named, and what was not named is dropped.
    pub fn publish(&self) -> Result<(), DiskError> {
        self.shelf.publish()?;
        self.shelf.failure()
    }
}

impl Shelf {
    fn path(&self) -> PathBuf {
        self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a content to the spool.
    fn spool(&self, bytes: &[u8]) -> Result<Waits, DiskError> {
        let mut current = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        let spool = match &*current {
            Some(spool) => Arc::clone(spool),
            None => Arc::clone(current.insert(Arc::new(Spool::create(self.path())?))),
        };
        let length = bytes.len() as u64;
        if let Err(error) = (&*spool.file).write_all(bytes) {
            // Nobody knows how far that went: what comes next goes elsewhere.
            *current = None;
            return Err(DiskError::new("write", &spool.temporary.path, error));
        }
        let start = spool.end.fetch_add(length, Ordering::Relaxed);
        Ok(Waits::Spooled { spool, start, length })
    }

    /// Publishes in a thread of its own, unless one does that already: what is added meanwhile waits for the next time.
    fn publish_beside(self: &Arc<Self>) -> Result<(), DiskError> {
        self.failure()?;
        if self.is_publishing.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let shelf = Arc::clone(self);
        let started = worker::spawn_small("slotfs-publish", move || {
            worker::step_back();
            if let Err(error) = shelf.publish() {
                *shelf.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            shelf.is_publishing.store(false, Ordering::Release);
        });
        if started.is_err() {
            self.is_publishing.store(false, Ordering::Release);
            return self.publish();
        }
        Ok(())
    }

    fn failure(&self) -> Result<(), DiskError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    fn publish(&self) -> Result<(), DiskError> {
        let _one_at_a_time = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        let objects: Vec<(Digest, Waits)> = {
            let mut waiting = self.lock();
            waiting.bytes = 0;
            waiting.since = Instant::now();
            waiting.publishing = std::mem::take(&mut waiting.objects);
            waiting.publishing.iter().map(|(digest, waits)| (*digest, waits.clone())).collect()
        };
        // What is added from now on goes into another one, so that this one can go.
        *self.spool.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let result = self.name(objects);
        self.lock().publishing.clear();
        result
    }

    fn name(&self, mut objects: Vec<(Digest, Waits)>) -> Result<(), DiskError> {
        if objects.is_empty() {
            return Ok(());
        }
        // In the order in which they lie in the spool.
        objects.sort_unstable_by_key(|(_, waits)| waits.start());
        let root = &self.store.root;
        let mut files = Vec::with_capacity(objects.len());
        let mut lists: Vec<(Digest, Vec<Chunk>)> = Vec::new();
        let mut similar = None;
        let mut apart = Vec::new();
        for (digest, waits) in objects {
            let mut path = layout::object(root, &digest);
            let temporary = match waits {
                Waits::File { temporary, length } if length >= LARGE => {
                    if self.store.object_of(&digest, length)?.is_some() {
                        // Somebody else was quicker.
                        continue;
                    }
                    let similar = similar.get_or_insert_with(|| Similar::load(root));
                    match self.share(similar, &temporary, &digest) {
                        Kept::InParts(parts) => {
                            path = layout::parts(root, &digest);
                            Arc::new(parts)
                        }
                        Kept::Whole(chunks) => {
                            lists.push((digest, chunks));
                            temporary
                        }
                    }
                }
                Waits::File { temporary, .. } => temporary,
                Waits::Spooled { spool, start, length } => {
                    let temporary = Arc::new(self.unspool(&spool, start, length, &digest)?);
                    apart.push((digest, Waits::File { temporary: Arc::clone(&temporary), length }));
                    temporary
                }
            };
            files.push((path, temporary));
        }
        // The file that they shared goes here, with its last user, so that the disk need not write it.
        self.lock().publishing.extend(apart);
        if CAN_SYNC_FILE_SYSTEM {
            sync_file_system(root).context("flush the file system of", root)?;
        }
        let mut folders = BTreeSet::new();
        for (path, temporary) in &files {
            let folder = path.parent().unwrap_or(Path::new("."));
            rename(&temporary.path, path, folder)?;
            folders.insert(folder.to_path_buf());
        }
        // A name that a crash loses costs another decoding, nothing else. At most 256 folders.
        folders.iter().try_for_each(|folder| atomic::sync_directory(folder))?;
        for (digest, chunks) in lists.iter().filter(|(_, chunks)| !chunks.is_empty()) {
            if let Err(error) = chunks::write_list(root, digest, chunks) {
                tracing::warn!("nothing will share the content `{digest}`: {error}");
            }
        }
        Ok(())
    }

    /// Keeps a large content in parts, where the store has most of it, and lets others share it. That this cannot be done is
    /// no reason not to keep it.
    fn share(&self, similar: &mut Similar, staged: &Temporary, digest: &Digest) -> Kept {
        let kept = similar.share(&staged.path, digest, self.path()).unwrap_or_else(|error| {
            tracing::warn!("a content is kept whole: {error}");
            Kept::Whole(Vec::new())
        });
        if let Kept::Whole(chunks) = &kept {
            similar.learn(digest, chunks, staged.path.clone());
        }
        kept
    }

    /// Gives a content of the spool a file of its own.
    fn unspool(
        &self,
        spool: &Spool,
        start: u64,
        length: u64,
        digest: &Digest,
    ) -> Result<Temporary, DiskError> {
        let (temporary, mut file) = Temporary::create(self.path())?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        FileRange::new(Arc::clone(&spool.file), start, length)
            .ok_or_else(|| ErrorKind::UnexpectedEof.into())
            .and_then(|range| range.read_exact_at(0, &mut bytes))
            .context("read", &spool.temporary.path)?;
        file.write_all(&bytes).context("write", &temporary.path)?;
        temporary.seal(&file, digest)?;
        Ok(temporary)
    }
}

impl Spool {
    fn create(path: PathBuf) -> Result<Self, DiskError> {
        let file = OpenOptions::new().read(true).append(true).create_new(true).open(&path);
        let file = Arc::new(file.context("create", &path)?);
        Ok(Self { file, temporary: Temporary { path }, end: AtomicU64::new(0) })
    }
}

impl Waits {
    fn start(&self) -> u64 {
        match self {
            Self::File { .. } => 0,
            Self::Spooled { start, .. } => *start,
        }
    }
}

/// Renames into a folder that is made when it is missing.
fn rename(from: &Path, to: &Path, folder: &Path) -> Result<(), DiskError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(folder).context("create the directory", folder)?;
            fs::rename(from, to).context("rename into place", to)
        }
        // Somebody else published the same content, and this host does not replace what is open.
        Err(_) if to.exists() => Ok(()),
        other => other.context("rename into place", to),
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let _no_other = self.shelf.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        // What was not published goes with its `Temporary`; then the folder is empty.
        self.shelf.lock().objects.clear();
        *self.shelf.spool.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = fs::remove_dir(&self.shelf.folder);
        let _ = fs::remove_file(self._lock.path());
    }
}

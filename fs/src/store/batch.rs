//! Many objects made durable by one call and published by rename. They can be read from the moment they are added.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::writer::{Content, ObjectWriter, Staged, Temporary};
use super::{Store, layout};
use crate::disk::digest::Digest;
use crate::disk::durable::{CAN_SYNC_FILE_SYSTEM, sync_file_system};
use crate::disk::lock::{FileLock, Mode};
use crate::disk::{Context, DiskError, atomic};

/// After so many objects or bytes a batch publishes what it has, so that a crash loses little.
const OBJECTS: usize = 4096;
const BYTES: u64 = 128 << 20;

static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// A batch of objects.
#[derive(Debug)]
pub struct Batch {
    store: Arc<Store>,
    folder: PathBuf,
    /// Held while the folder is in use; see [`super::sweep`].
    _lock: FileLock,
    next: AtomicU64,
    waiting: Mutex<Waiting>,
    /// Held by the one who publishes.
    publisher: Mutex<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    objects: HashMap<Digest, Temporary>,
    bytes: u64,
    /// On their way: durable soon, and renamed one by one.
    publishing: HashMap<Digest, Temporary>,
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
        Ok(Self {
            store,
            folder,
            _lock: lock,
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
            publisher: Mutex::default(),
        })
    }

    fn path(&self) -> PathBuf {
        self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Starts an object.
    #[must_use]
    pub fn writer(&self) -> ObjectWriter {
        ObjectWriter::new(self.path())
    }

    /// Adds a finished object, unless the store has it; it can be read at once.
    ///
    /// # Errors
    /// The staging file cannot be written, or the batch was full and cannot be published.
    pub fn add(&self, staged: Staged) -> Result<(), DiskError> {
        if self.store.contains(&staged.digest) {
            return Ok(());
        }
        let temporary = match staged.content {
            Content::File(temporary) => temporary,
            Content::Memory(bytes) => {
                let (temporary, mut file) = Temporary::create(self.path())?;
                file.write_all(&bytes).context("write", &temporary.path)?;
                temporary.seal(&file)?;
                temporary
            }
        };
        let is_full = {
            let mut waiting = self.lock();
            if waiting.objects.insert(staged.digest, temporary).is_none() {
                waiting.bytes += staged.length;
            }
            waiting.objects.len() >= OBJECTS || waiting.bytes >= BYTES
        };
        if is_full { self.publish() } else { Ok(()) }
    }

    /// Opens an object of this batch that is not published yet.
    ///
    /// # Errors
    /// It is here but cannot be opened.
    pub fn staged(&self, digest: &Digest) -> Result<Option<File>, DiskError> {
        let waiting = self.lock();
        let found = waiting.objects.get(digest).or_else(|| waiting.publishing.get(digest));
        let Some(temporary) = found else { return Ok(None) };
        match File::open(&temporary.path) {
            Ok(file) => Ok(Some(file)),
            // Renamed a moment ago.
            Err(error) if error.kind() == ErrorKind::NotFound => self.store.object(digest),
            Err(error) => Err(DiskError::new("open", &temporary.path, error)),
        }
    }

    /// Opens an object of this batch or of the store.
    ///
    /// # Errors
    /// It is here but cannot be opened.
    pub fn object(&self, digest: &Digest) -> Result<Option<File>, DiskError> {
        match self.staged(digest)? {
            Some(file) => Ok(Some(file)),
            None => self.store.object(digest),
        }
    }

    /// Makes everything added so far durable and gives it its name. Readers are not kept waiting meanwhile.
    ///
    /// # Errors
    /// The host refused; nothing that is not durable was named, and what was not named is dropped.
    pub fn publish(&self) -> Result<(), DiskError> {
        let _one_at_a_time = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        let paths: Vec<(Digest, PathBuf)> = {
            let mut waiting = self.lock();
            waiting.bytes = 0;
            waiting.publishing = std::mem::take(&mut waiting.objects);
            waiting.publishing.iter().map(|(digest, temporary)| (*digest, temporary.path.clone())).collect()
        };
        let result = self.name(&paths);
        self.lock().publishing.clear();
        result
    }

    fn name(&self, paths: &[(Digest, PathBuf)]) -> Result<(), DiskError> {
        if paths.is_empty() {
            return Ok(());
        }
        if CAN_SYNC_FILE_SYSTEM {
            sync_file_system(&self.store.root).context("flush the file system of", &self.store.root)?;
        }
        let mut folders = std::collections::BTreeSet::new();
        for (digest, temporary) in paths {
            let path = layout::object(&self.store.root, digest);
            let folder = path.parent().unwrap_or(Path::new("."));
            rename(temporary, &path, folder)?;
            folders.insert(folder.to_path_buf());
        }
        // A name that a crash loses costs another decoding, nothing else. At most 256 folders.
        folders.iter().try_for_each(|folder| atomic::sync_directory(folder))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
        // What was not published goes with its `Temporary`; then the folder is empty.
        self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner).objects.clear();
        let _ = fs::remove_dir(&self.folder);
        let _ = fs::remove_file(self._lock.path());
    }
}

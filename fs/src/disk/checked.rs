//! Bytes of a file that nobody has hashed yet: each chunk is compared with a known digest before anything of it leaves.
//!
//! Which chunks were found right is remembered, so that each is hashed once. Bytes of such a chunk are read again without
//! hashing only while device, inode, size and times of the file are the ones under which it was hashed, and these are
//! asked for after reading: a writer changes a file's times before its content. After any change all is hashed anew.
//!
//! Or, where somebody wants that, the bytes leave at once and are hashed beside; after a mismatch nothing leaves any more.
//!
//! **Invariant:** unless they are checked beside, a byte that leaves is one that was hashed in the very buffer that it leaves in, or that is read from a file
//! of which the operating system says that nobody has written to it since.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::digest::Digest;
use super::identity::FileIdentity;
use super::range::FileRange;

/// How often a read begins again because the file changes under it.
const MOST_ATTEMPTS: u32 = 8;

/// What is wrong with bytes that were checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A chunk is not the one that was stated.
    #[error("chunk {number} (stored bytes {start} to {end}) does not have the digest in the package's index")]
    Chunk {
        /// Which one, from 0.
        number: u64,
        /// Its first stored byte.
        start: u64,
        /// The byte behind its last one.
        end: u64,
    },
    /// All bytes together are not what was stated.
    #[error("the stored bytes do not have the digest in the package's metadata")]
    Whole,
    /// Somebody writes to the file all the time.
    #[error("the package file changes while it is read")]
    Changing,
}

impl From<CheckError> for io::Error {
    fn from(error: CheckError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Finds the digest of a chunk. Where it fails, all bytes are hashed instead and compared with their own digest.
pub type FindDigest = Box<dyn Fn(u64) -> io::Result<Digest> + Send + Sync>;

/// Bytes and what is known about them.
pub struct Checked {
    /// The bytes, unchecked.
    bytes: FileRange,
    digest: Digest,
    /// Length of a chunk; the last one may be shorter.
    chunk: u64,
    find: FindDigest,
    known: Mutex<Known>,
    /// Held by whoever hashes everything.
    hashing: Mutex<()>,
    when: When,
    /// Everything was hashed, and is something else.
    refused: AtomicBool,
}

/// When bytes are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Before they leave.
    First,
    /// While others use them already.
    Beside,
}

/// What was found out.
#[derive(Default)]
struct Known {
    /// Of the file when this was found out.
    identity: Option<FileIdentity>,
    /// A bit for each chunk that is right.
    right: Vec<u64>,
    /// Everything is right, and has the digest of the whole.
    whole: bool,
}

impl Known {
    fn is_right(&self, chunk: u64) -> bool {
        let word = usize::try_from(chunk / 64).ok().and_then(|word| self.right.get(word));
        self.whole || word.is_some_and(|word| word & 1 << (chunk % 64) != 0)
    }
}

impl fmt::Debug for Checked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Checked").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Checked {
    /// Takes unchecked `bytes` with this `digest`, of which chunks of `chunk` bytes have the digests that `find` finds.
    pub(super) fn new(bytes: FileRange, digest: Digest, chunk: u64, find: FindDigest) -> Self {
        Self {
            bytes,
            digest,
            chunk: chunk.max(1),
            find,
            known: Mutex::default(),
            hashing: Mutex::default(),
            when: When::First,
            refused: AtomicBool::new(false),
        }
    }

    /// Takes unchecked `bytes` that are handed out at once, until [`Self::check_whole`] finds that they do not have this
    /// `digest`.
    pub(super) fn beside(bytes: FileRange, digest: Digest) -> Self {
        let none = |_| Err(io::Error::other("no chunk has a digest"));
        Self { when: When::Beside, ..Self::new(bytes, digest, u64::MAX, Box::new(none)) }
    }

    /// Takes the bytes for right, which somebody has found out of the file in this state.
    pub(super) fn accept(&self, identity: FileIdentity) -> io::Result<()> {
        if self.look()? == identity {
            self.lock().whole = true;
        }
        Ok(())
    }

    /// Hands nothing out any more.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Release);
    }

    /// Tells when the bytes are checked.
    pub(super) fn when(&self) -> When {
        self.when
    }

    /// How many bytes are checked together.
    pub(super) fn chunk(&self) -> u64 {
        self.chunk
    }

    /// Where the bytes begin in their file.
    pub(super) fn offset(&self) -> u64 {
        self.bytes.offset()
    }

    /// Fills `buffer`, which must not reach beyond the end, from `position` on.
    pub(super) fn read_exact_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.refused.load(Ordering::Acquire) {
            return Err(CheckError::Whole.into());
        }
        if self.when == When::Beside {
            return self.bytes.read_exact_at(position, buffer);
        }
        for _ in 0..MOST_ATTEMPTS {
            let seen = self.look()?;
            let mut again = false;
            let mut at = 0;
            while at < buffer.len() {
                let from = position + at as u64;
                let right = self.right_from(from, (buffer.len() - at) as u64);
                if right > 0 {
                    let end = at + usize::try_from(right).unwrap_or(usize::MAX);
                    self.bytes.read_exact_at(from, &mut buffer[at..end])?;
                    (again, at) = (true, end);
                } else {
                    at += self.check(from, &mut buffer[at..], seen)?;
                }
            }
            if !again || self.look()? == seen {
                return Ok(());
            }
        }
        Err(CheckError::Changing.into())
    }

    /// Compares everything with its digest, unless that was done before.
    pub(super) fn check_whole(&self) -> io::Result<()> {
        let _one_at_a_time = self.hashing.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..MOST_ATTEMPTS {
            let seen = self.look()?;
            if self.lock().whole {
                return Ok(());
            }
            // What is found out about a file that was written to just now could not be remembered.
            std::thread::sleep(seen.unsettled_for(SystemTime::now()));
            let found = Digest::of_range(&self.bytes)?;
            let is_same = self.look()? == seen;
            if is_same && found != self.digest {
                self.refused.store(self.when == When::Beside, Ordering::Release);
                return Err(CheckError::Whole.into());
            }
            let mut known = self.lock();
            if is_same && known.identity == Some(seen) {
                known.whole = true;
                return Ok(());
            }
        }
        Err(CheckError::Changing.into())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns which file it is now, and forgets what is known of another state of it.
    fn look(&self) -> io::Result<FileIdentity> {
        let mut known = self.lock();
        let now = FileIdentity::of_file(self.bytes.file())?;
        if known.identity != Some(now) {
            let words = usize::try_from(self.bytes.len().div_ceil(self.chunk).div_ceil(64)).unwrap_or(0);
            *known = Known { identity: Some(now), right: vec![0; words], whole: false };
        }
        Ok(now)
    }

    /// How many of the `length` bytes from `position` on are in chunks that are right.
    fn right_from(&self, position: u64, length: u64) -> u64 {
        let known = self.lock();
        let end = position + length;
        let mut at = position;
        while at < end && known.is_right(at / self.chunk) {
            at = (at / self.chunk + 1) * self.chunk;
        }
        at.min(end) - position
    }

    /// Fills `out` from `position` to the end of its chunk, which is checked, and returns how many bytes that were.
    fn check(&self, position: u64, out: &mut [u8], seen: FileIdentity) -> io::Result<usize> {
        let number = position / self.chunk;
        let start = number * self.chunk;
        let length = self.chunk.min(self.bytes.len() - start);
        let (skip, length) = (as_size(position - start), as_size(length));
        let count = out.len().min(length - skip);
        let expected = match (self.find)(number) {
            Ok(digest) => digest,
            Err(error) => {
                tracing::warn!("all stored bytes are hashed, because the digest of a chunk is lost: {error}");
                self.check_whole()?;
                return Ok(0);
            }
        };
        let begun = SystemTime::now();
        let found = if count == length {
            self.bytes.read_exact_at(start, &mut out[..length])?;
            Digest::of(&out[..length])
        } else {
            let mut whole = vec![0; length];
            self.bytes.read_exact_at(start, &mut whole)?;
            out[..count].copy_from_slice(&whole[skip..skip + count]);
            Digest::of(&whole)
        };
        if found != expected {
            return Err(CheckError::Chunk { number, start, end: start + length as u64 }.into());
        }
        if seen.unsettled_for(begun) == Duration::ZERO && self.look()? == seen {
            let mut known = self.lock();
            // Forgotten again if the file changed in between.
            let is_same = known.identity == Some(seen);
            let word = usize::try_from(number / 64).ok().and_then(|word| known.right.get_mut(word));
            if let (true, Some(word)) = (is_same, word) {
                *word |= 1 << (number % 64);
            }
        }
        Ok(count)
    }
}

fn as_size(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;

    const CHUNK: u64 = 1000;

    struct Case {
        content: Vec<u8>,
        file: File,
        range: FileRange,
        /// How often a digest was asked for.
        asked: Arc<AtomicU64>,
    }

    /// Bytes 10 and on of a file as a checked range; without digests of chunks unless they `are_known`.
    fn case(length: usize, are_known: bool) -> Case {
        let content: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; 10]).unwrap();
        file.write_all(&content).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_001);
        file.set_modified(long_ago).unwrap();
        let digests: Vec<Digest> = content.chunks(1000).map(Digest::of).collect();
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let find = move |number: u64| {
            count.fetch_add(1, Ordering::Relaxed);
            let found = digests.get(usize::try_from(number).unwrap()).filter(|_| are_known);
            found.copied().ok_or_else(|| io::Error::other("lost"))
        };
        let bytes = FileRange::new(Arc::new(file.try_clone().unwrap()), 10, length as u64).unwrap();
        let range = bytes.checked(Digest::of(&content), CHUNK, Box::new(find));
        // The time of the last change of the inode cannot be set.
        std::thread::sleep(FileIdentity::of_file(&file).unwrap().unsettled_for(SystemTime::now()));
        Case { content, file, range, asked }
    }

    fn overwrite(case: &Case, at: usize, byte: u8) {
        use std::io::Seek as _;
        let mut file = &case.file;
        file.seek(io::SeekFrom::Start(10 + at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    }

    fn message(error: &io::Error) -> String {
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        error.to_string()
    }

    #[test]
    fn every_read_is_right_and_each_chunk_is_hashed_once() {
        let case = case(4321, true);
        for (from, length) in [(0, 1), (999, 2), (1500, 2000), (0, 4321), (4320, 1), (17, 4000), (0, 4321)] {
            let mut buffer = vec![0; length];
            case.range.read_exact_at(from as u64, &mut buffer).unwrap();
            assert!(buffer == case.content[from..from + length], "{from} {length}");
        }
        assert_eq!(case.asked.load(Ordering::Relaxed), 5);
        // Parts and readers of it are checked, too.
        let part = case.range.part(1001, 3000).unwrap();
        let mut read = Vec::new();
        part.reader(0).read_to_end(&mut read).unwrap();
        assert!(read == case.content[1001..4001]);
        assert_eq!(case.range.read_at(4321, &mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_wrong_chunk_is_named_and_the_others_are_served() {
        let case = case(3500, true);
        overwrite(&case, 2999, !case.content[2999]);
        let mut buffer = vec![0; 10];
        let error = case.range.read_exact_at(2000, &mut buffer).unwrap_err();
        assert!(message(&error).starts_with("chunk 2 (stored bytes 2000 to 3000) does not"), "{error}");
        case.range.read_exact_at(1990, &mut buffer).unwrap();
        case.range.read_exact_at(3400, &mut buffer).unwrap();
        assert!(message(&case.range.check_whole().unwrap_err()).contains("metadata"));
    }

    #[test]
    fn what_is_written_after_a_check_is_noticed() {
        let case = case(2500, true);
        let mut buffer = vec![0; 2500];
        case.range.read_exact_at(0, &mut buffer).unwrap();
        overwrite(&case, 1200, !case.content[1200]);
        assert!(message(&case.range.read_exact_at(1000, &mut buffer[..5]).unwrap_err()).contains("chunk 1"));
        overwrite(&case, 1200, case.content[1200]);
        case.range.read_exact_at(0, &mut buffer).unwrap();
        assert!(buffer == case.content);
        case.file.set_len(100).unwrap();
        assert!(case.range.read_exact_at(0, &mut buffer).is_err());
    }

    #[test]
    fn what_is_checked_beside_leaves_at_once_and_not_after_a_mismatch() {
        let case = case(2500, true);
        let digest = Digest::of(&case.content);
        let bytes = FileRange::new(Arc::new(case.file.try_clone().unwrap()), 10, 2500).unwrap();
        let good = bytes.clone().checked_beside(digest);
        let mut buffer = vec![0; 2500];
        good.read_exact_at(0, &mut buffer).unwrap();
        assert!(buffer == case.content);
        good.check_whole().unwrap();
        good.read_exact_at(0, &mut buffer).unwrap();
        let bad = bytes.checked_beside(Digest::of(b"other"));
        bad.read_exact_at(0, &mut buffer).unwrap();
        assert!(message(&bad.check_whole().unwrap_err()).contains("metadata"));
        assert!(
            message(&bad.part(5, 7).unwrap().read_exact_at(0, &mut buffer[..7]).unwrap_err())
                .contains("metadata")
        );
    }

    #[test]
    fn without_digests_of_chunks_everything_is_hashed_first() {
        let good = case(2500, false);
        let mut buffer = vec![0; 2500];
        good.range.read_exact_at(3, &mut buffer[3..]).unwrap();
        assert!(buffer[3..] == good.content[3..]);
        good.range.read_exact_at(0, &mut buffer).unwrap();
        assert_eq!(good.asked.load(Ordering::Relaxed), 1);
        let bad = case(2500, false);
        overwrite(&bad, 2400, !bad.content[2400]);
        assert!(message(&bad.range.read_exact_at(0, &mut buffer[..1]).unwrap_err()).contains("metadata"));
    }
}

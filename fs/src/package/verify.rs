//! Hashes every slot's stored bytes and compares them with what metadata and descriptor say.
//!
//! No other program compares slots with the full SHA-256 in the signed metadata; they check the descriptor's 8
//! bytes, which nobody signs. What to do about a slot that does not agree, or for which nothing is stated, is
//! for others to decide.
//!
//! Slots whose chunks somebody vouches for need not be hashed: they are checked as they are read.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::assemble::read_failed;
use super::{Package, PackageError, PackageKind, Slot, StatedChecksum};
use crate::disk::digest::Digest;
use crate::disk::identity::{Change, FileIdentity};
use crate::worker;

/// Bytes hashed between two reports; fits in a core's cache together with what else it holds.
const PIECE: usize = 256 << 10;

/// Below this much data another thread costs more than it saves.
const WORTH_A_THREAD: u64 = 4 << 20;

/// How far a verification has come, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Hashed so far.
    pub done: u64,
    /// To hash altogether.
    pub total: u64,
}

/// What was found about one slot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The bytes have the full SHA-256 of the metadata, and the descriptor's 8 bytes.
    Full,
    /// The bytes have the 8 bytes that the metadata gives, and the descriptor's.
    Short,
    /// The metadata gives nothing to compare with; the bytes have the descriptor's 8 bytes.
    DescriptorOnly,
    /// They were not hashed: the package carries digests of their chunks, with which each is compared when it is read. The
    /// full SHA-256 of the metadata and the descriptor's 8 bytes say the same.
    InChunks,
    /// They were not hashed: whoever serves them hashes them meanwhile. As stated otherwise.
    Beside,
    /// There is nothing to compare with at all: an archive, a directory, the package's own launcher.
    Unstated,
    /// The bytes are not those that the metadata, the descriptor, or both state.
    Wrong {
        /// The metadata states others.
        metadata: bool,
        /// The descriptor states others.
        descriptor: bool,
    },
}

/// How stored bytes are known to be right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checking {
    /// They were hashed.
    #[default]
    Done,
    /// Nobody has hashed them: each chunk is compared with the digest in the index that the package carries before anything
    /// of it is used.
    Chunks,
    /// They are used while they are hashed. What is made of them is for others only when that is done.
    Beside,
}

/// One slot, hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedSlot {
    /// Position of the slot.
    pub position: u32,
    /// Its id.
    pub id: String,
    /// SHA-256 of the stored bytes as found, as stated where they were not hashed; `None` for a directory.
    pub digest: Option<Digest>,
    /// Against what was stated.
    pub outcome: Outcome,
}

impl VerifiedSlot {
    /// Tells how whoever reads its bytes has to check them.
    #[must_use]
    pub fn checking(&self) -> Checking {
        match self.outcome {
            Outcome::InChunks => Checking::Chunks,
            Outcome::Beside => Checking::Beside,
            Outcome::Full
            | Outcome::Short
            | Outcome::DescriptorOnly
            | Outcome::Unstated
            | Outcome::Wrong { .. } => Checking::Done,
        }
    }

    /// Says which check failed, or `None`.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let Outcome::Wrong { metadata, descriptor } = self.outcome else { return None };
        let stated = match (metadata, descriptor) {
            (true, true) => "neither the signed metadata's SHA-256 nor the descriptor's checksum",
            (true, false) => {
                "not the SHA-256 in the signed metadata, although the descriptor was made to fit"
            }
            (false, _) => "not the checksum in the slot's descriptor",
        };
        Some(format!("slot {} (`{}`): its bytes have {stated}", self.position, super::error::shown(&self.id)))
    }
}

/// Every slot of a package, hashed.
#[derive(Clone, Debug)]
pub struct Verification {
    /// In the package's order.
    pub slots: Vec<VerifiedSlot>,
    /// Which file was read.
    pub identity: FileIdentity,
    /// When reading began.
    pub started: SystemTime,
}

impl Verification {
    /// Tells whether every slot is what it is stated to be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failures().next().is_none()
    }

    /// Returns what was found about the slot at `position`.
    #[must_use]
    pub fn slot(&self, position: u32) -> Option<&VerifiedSlot> {
        self.slots.get(position as usize).filter(|slot| slot.position == position)
    }

    /// Returns one sentence for each slot that is not what it is stated to be.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        self.slots.iter().filter_map(VerifiedSlot::failure)
    }
}

/// Hashes all slots of `package`, several at once, and tells `report` from any thread how far it is.
///
/// # Errors
/// The file cannot be read, or was written to meanwhile. Slots that are not what they should be are no error:
/// see [`Verification::failures`].
pub fn verify(package: &Package, report: &(dyn Fn(Progress) + Sync)) -> Result<Verification, PackageError> {
    verify_rest(package, &|_| Checking::Done, report)
}

/// As [`verify`], but for the slots that are checked otherwise, as `checking` tells.
///
/// # Errors
/// As [`verify`].
pub fn verify_rest(
    package: &Package,
    checking: &dyn Fn(&Slot) -> Checking,
    report: &(dyn Fn(Progress) + Sync),
) -> Result<Verification, PackageError> {
    let started = SystemTime::now();
    let known = package.slots().iter().map(|slot| (slot, checking(slot)));
    let (now, later): (Vec<_>, Vec<_>) = known.partition(|(_, checking)| *checking == Checking::Done);
    let slots: Vec<&Slot> = now.into_iter().map(|(slot, _)| slot).collect();
    let work = Work {
        package,
        total: slots.iter().map(|slot| slot.source.stored.len()).fold(0, u64::saturating_add),
        results: Mutex::new(Vec::with_capacity(slots.len())),
        // The longest first, so that no thread is left alone with it at the end.
        order: longest_first(slots),
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        done: AtomicU64::new(0),
        report,
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let worth = usize::try_from(work.total / WORTH_A_THREAD).unwrap_or(usize::MAX).saturating_add(1);
    std::thread::scope(|scope| {
        for _ in 1..cores.min(worth).min(work.order.len()) {
            // Those that there are do it all.
            let _ = worker::spawn_scoped(scope, "verify", || work.run());
        }
        work.run();
    });
    let results = work.results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut slots = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    slots.extend(later.into_iter().map(|(slot, checking)| taken_as_stated(slot, checking)));
    slots.sort_by_key(|slot| slot.position);
    if package.change().map_err(PackageError::Disk)? == Change::Content {
        return Err(PackageError::Changed { path: package.path().into() });
    }
    Ok(Verification { slots, identity: package.identity(), started })
}

/// What is said about a slot that is not hashed.
fn taken_as_stated(slot: &Slot, checking: Checking) -> VerifiedSlot {
    let outcome = match slot.digest.map(|digest| compare(slot, &digest)) {
        Some(Outcome::Full) if checking == Checking::Beside => Outcome::Beside,
        Some(Outcome::Full) => Outcome::InChunks,
        Some(other) => other,
        None => Outcome::Unstated,
    };
    VerifiedSlot { position: slot.position, id: slot.id.clone(), digest: slot.digest, outcome }
}

fn longest_first(mut order: Vec<&Slot>) -> Vec<&Slot> {
    order.sort_by_key(|slot| std::cmp::Reverse(slot.source.stored.len()));
    order
}

/// What the threads share.
struct Work<'a> {
    package: &'a Package,
    order: Vec<&'a Slot>,
    next: AtomicUsize,
    stop: AtomicBool,
    done: AtomicU64,
    total: u64,
    results: Mutex<Vec<Result<VerifiedSlot, PackageError>>>,
    report: &'a (dyn Fn(Progress) + Sync),
}

impl Work<'_> {
    fn run(&self) {
        let mut buffer = vec![0; PIECE];
        while let Some(slot) = self.order.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let result = self.check(slot, &mut buffer);
            self.stop.fetch_or(result.is_err(), Ordering::Relaxed);
            self.results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(result);
        }
    }

    fn check(&self, slot: &Slot, buffer: &mut [u8]) -> Result<VerifiedSlot, PackageError> {
        let digest = match self.package.kind() {
            PackageKind::Directory => None,
            PackageKind::Pspf | PackageKind::Archive | PackageKind::CompressedFile => {
                Some(self.hash(slot, buffer)?)
            }
        };
        let outcome = digest.map_or(Outcome::Unstated, |digest| compare(slot, &digest));
        Ok(VerifiedSlot { position: slot.position, id: slot.id.clone(), digest, outcome })
    }

    fn hash(&self, slot: &Slot, buffer: &mut [u8]) -> Result<Digest, PackageError> {
        let stored = &slot.source.stored;
        let mut hasher = Sha256::new();
        let mut offset = 0;
        while offset < stored.len() && !self.stop.load(Ordering::Relaxed) {
            let wanted = usize::try_from(stored.len() - offset).unwrap_or(usize::MAX).min(buffer.len());
            let piece = &mut buffer[..wanted];
            stored.read_exact_at(offset, piece).map_err(|error| read_failed(self.package.path(), error))?;
            hasher.update(&*piece);
            offset += wanted as u64;
            let done = self.done.fetch_add(wanted as u64, Ordering::Relaxed) + wanted as u64;
            (self.report)(Progress { done, total: self.total });
        }
        Ok(Digest(hasher.finalize().into()))
    }
}

fn compare(slot: &Slot, found: &Digest) -> Outcome {
    let metadata = !slot.stated_checksum.agrees_with(found);
    let descriptor = slot.short_checksum.is_some_and(|bytes| !found.0.starts_with(&bytes));
    if metadata || descriptor {
        return Outcome::Wrong { metadata, descriptor };
    }
    match (&slot.stated_checksum, &slot.short_checksum) {
        (StatedChecksum::Full(_), _) => Outcome::Full,
        (StatedChecksum::Short(_), _) => Outcome::Short,
        (StatedChecksum::None | StatedChecksum::Unknown, Some(_)) => Outcome::DescriptorOnly,
        (StatedChecksum::None | StatedChecksum::Unknown, None) => Outcome::Unstated,
    }
}

//! The power fails at any moment under a volume whose upper directory is on a real ext4: what was synced is there,
//! nothing is half done, and nothing of the slots is lost.
//!
//! Needs root and loop devices; without them the tests say so and pass.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::fs::OFlags;
use slotfs_fs::overlay::{UpperForm, WhiteoutForm};
use slotfs_fs::volume::RenameMode;
use slotfs_tests::mounted_subject::MountedSubject;
use slotfs_tests::operations::{Operation, durable_operation};
use slotfs_tests::power_failure::History;
use slotfs_tests::recorded_disk::{RecordedDisk, Recording};
use slotfs_tests::subject::Subject;
use slotfs_tests::volume_subject::{VolumeSubject, layers};

/// How often the power fails in a test, unless this variable asks for more.
const FAILURES: usize = 48;
const MORE_FAILURES: &str = "SLOTFS_TEST_POWER_FAILURES";
/// How many of them follow one workload.
const FAILURES_EACH: usize = 16;
const LENGTH: usize = 250;

/// Numbers that look random and come again with the seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }
}

fn workload(seed: u64) -> Vec<Operation> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    proptest::collection::vec(durable_operation(), LENGTH).new_tree(&mut runner).unwrap().current()
}

/// Does what the kernel may do at any moment: commits the disk's journal, and begins to write content, in no order
/// that a program could rely on.
fn stir(folder: &Path, seed: u64, ended: &AtomicBool) {
    let mut random = Random(seed);
    let mut own = File::create(folder.join("stirred")).unwrap();
    while !ended.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_micros(random.next() % 3000));
        if random.below(2) == 0 {
            own.write_all(b".").unwrap();
            own.sync_all().unwrap();
        } else {
            let files = files_below(&folder.join("upper"));
            if !files.is_empty() {
                begin_writing(&files[random.below(files.len())]);
            }
        }
    }
}

/// What is there now; what vanishes while it is looked at is left out.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => waiting.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}

/// Starts writing a file's content without waiting and without committing anything.
fn begin_writing(path: &Path) {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file =
        std::os::unix::fs::OpenOptionsExt::custom_flags(OpenOptions::new().read(true), flags).open(path);
    if let Ok(file) = file {
        // As the kernel's own flusher: it may fail, and then it was not done.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

/// Lets the power fail at moments of one workload, and looks at what is left.
fn survives<S: Subject>((seed, workload): (u64, Vec<Operation>), mut start: impl FnMut(&Path) -> Option<S>) {
    let Some(disk) = RecordedDisk::new() else { return };
    let history = {
        let Some(mut subject) = start(disk.folder()) else { return };
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| stir(disk.folder(), seed, &ended));
            let _ends = EndOnDrop(&ended);
            History::record(workload, layers().1, (&mut subject, bare_copies(seed).is_some()), &disk)
        })
    };
    let recording = disk.end();
    let mut random = Random(!seed);
    for position in moments(&history, &mut random) {
        let how = ["all of it", "none of it", "a part of it"][random.below(3)];
        let found = after_failure(&recording, position, how, &mut random, &mut start);
        if let Err(why) = history.check(position, &found) {
            let length = recording.length();
            panic!(
                "seed {seed}: the power failed after {position} of {length} writes, {how} of the last unflushed \
                 ones had reached the disk: {why}"
            );
        }
    }
}

/// Lets the other thread end also when this one panics.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Half are the ends of syncs, half are any.
fn moments(history: &History, random: &mut Random) -> Vec<usize> {
    let synced: Vec<usize> = history.synced().collect();
    assert!(synced.len() > 3, "the workload syncs: {synced:?}");
    let any = (0..FAILURES_EACH / 2).map(|_| random.below(history.end() + 1)).collect::<Vec<_>>();
    (0..FAILURES_EACH / 2).map(|_| synced[random.below(synced.len())]).chain(any).collect()
}

/// Returns what is found when the disk is used again, and makes sure that it can be.
fn after_failure<S: Subject>(
    recording: &Recording,
    position: usize,
    how: &str,
    random: &mut Random,
    start: &mut impl FnMut(&Path) -> Option<S>,
) -> std::collections::BTreeMap<Vec<Vec<u8>>, slotfs_tests::subject::Observed> {
    let disk = recording.fail_at(position, || match how {
        "all of it" => true,
        "none of it" => false,
        _ => random.below(2) == 0,
    });
    let mut subject = start(disk.folder()).unwrap();
    let found = subject.observe();
    let new = vec![b"new".to_vec()];
    subject.apply(&Operation::Create { path: new.clone(), mode: 0o600 }).unwrap();
    subject.apply(&Operation::Remount).unwrap();
    let mut again = subject.observe();
    assert!(again.remove(&new).is_some(), "what is made after a failure is there");
    let root = again.get_mut(&Vec::new()).unwrap();
    root.modified = found[&Vec::new()].modified;
    assert_eq!(again, found, "what was found after the failure stays");
    found
}

fn seeds() -> std::ops::Range<u64> {
    let failures = std::env::var(MORE_FAILURES).ok().and_then(|asked| asked.parse().ok()).unwrap_or(FAILURES);
    0..failures.div_ceil(FAILURES_EACH) as u64
}

/// What generated workloads once found, in its shortest form; the power fails right after the last operation.
#[test]
fn regressions() {
    let path = |text: &str| text.split('/').map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
    let exchange = |from: &str, to: &str| Operation::Rename {
        from: path(from),
        to: path(to),
        mode: RenameMode::Exchange,
    };
    let sync = |at: &str| Operation::Sync { path: path(at), data_only: false };
    let table = [
        ("the file is only in a slot, its directory was moved", vec![exchange("a", "c"), sync("c/a")]),
        (
            "the directory was moved before the mount",
            vec![exchange("a", "c"), Operation::Remount, sync("c/a")],
        ),
        ("a directory only in a slot is synced", vec![exchange("a", "c"), sync("c/c")]),
    ];
    for (name, operations) in table {
        let Some(disk) = RecordedDisk::new() else { return };
        let start = |disk: &Path| Some(VolumeSubject::new(disk.into(), layers().0, WhiteoutForm::Best, None));
        let mut subject = start(disk.folder()).unwrap();
        let history = History::record(operations, layers().1, (&mut subject, false), &disk);
        drop(subject);
        let recording = disk.end();
        let found = after_failure(&recording, history.end(), "none of it", &mut Random(0), &mut { start });
        history.check(history.end(), &found).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

/// Every other workload leaves content in the layers while only attributes or names change.
fn bare_copies(seed: u64) -> Option<u64> {
    (seed % 2 == 1).then_some(1)
}

#[test]
fn what_was_synced_is_there_and_nothing_is_half_done() {
    for seed in seeds() {
        survives((seed, workload(seed)), |disk| {
            Some(VolumeSubject::new(disk.into(), layers().0, WhiteoutForm::Best, bare_copies(seed)))
        });
    }
}

#[test]
fn so_it_is_where_no_whiteout_devices_can_be_made() {
    for seed in seeds() {
        let seed = seed + 1_000_000;
        survives((seed, workload(seed)), |disk| {
            Some(VolumeSubject::new(disk.into(), layers().0, WhiteoutForm::Attribute, bare_copies(seed)))
        });
    }
}

#[test]
fn so_it_is_where_owners_and_modes_are_kept_aside() {
    for seed in seeds() {
        let seed = seed + 3_000_000;
        survives((seed, workload(seed)), |disk| {
            Some(VolumeSubject::new(disk.into(), layers().0, UpperForm::ORDINARY, bare_copies(seed)))
        });
    }
}

#[test]
fn so_it_is_through_a_mount() {
    // Modes are what they are asked to be.
    rustix::process::umask(rustix::fs::Mode::empty());
    for seed in seeds() {
        let mut operations = workload(seed + 2_000_000);
        // The kernel tells no ordinary FUSE server of `syncfs(2)`.
        operations.retain(|operation| !matches!(operation, Operation::SyncAll));
        survives((seed, operations), |disk| {
            MountedSubject::new(disk.into(), layers().0, |_| {}, bare_copies(seed), UpperForm::default())
        });
    }
}

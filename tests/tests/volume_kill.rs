//! A process that changes a volume is killed at any moment: what it was told is done is there afterwards, and what
//! it was doing is done or not, never half.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use slotfs_fs::overlay::UpperForm;
use slotfs_fs::volume::PlacedLayer;
use slotfs_tests::operations::{Operation, operation};
use slotfs_tests::subject::{Oracle, Subject};
use slotfs_tests::volume_subject::{VolumeSubject, layers};

const FOLDER: &str = "SLOTFS_TEST_KILL_FOLDER";
const SEED: &str = "SLOTFS_TEST_KILL_SEED";
/// How many kills, unless this variable asks for more.
const KILLS: u64 = 10;
const MORE_KILLS: &str = "SLOTFS_TEST_KILLS";
const LENGTH: usize = 600;

/// The workload that a seed stands for.
fn workload(seed: u64) -> Vec<Operation> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let operations = proptest::collection::vec(operation(), LENGTH);
    operations.new_tree(&mut runner).unwrap().current()
}

/// With every other seed, files are copied up without content where that will do; with two of four, owners and modes are
/// kept aside.
fn subject(folder: &Path, layers: Vec<PlacedLayer>, seed: u64) -> VolumeSubject {
    let form = if seed % 4 < 2 { UpperForm::default() } else { UpperForm::ORDINARY };
    VolumeSubject::new(folder.into(), layers, form, (seed % 2 == 1).then_some(1))
}

/// Not a test but the process that is killed: it says a byte for every operation that is done.
#[test]
fn victim() {
    let (Some(folder), Some(seed)) = (std::env::var_os(FOLDER), std::env::var(SEED).ok()) else { return };
    let mut subject = subject(Path::new(&folder), layers().0, seed.parse().unwrap());
    let mut done = std::fs::File::create(Path::new(&folder).join("done")).unwrap();
    for operation in workload(seed.parse().unwrap()) {
        let _ = subject.apply(&operation);
        done.write_all(b".").unwrap();
    }
}

#[test]
fn a_kill_at_any_moment_leaves_what_was_done_and_nothing_half_done() {
    let mut interrupted = 0;
    let kills = std::env::var(MORE_KILLS).ok().and_then(|asked| asked.parse().ok()).unwrap_or(KILLS);
    for seed in 0..kills {
        let folder = tempfile::tempdir().unwrap();
        let done = kill_in_the_middle(folder.path(), seed);
        interrupted += u32::from(done > 0 && done < LENGTH);
        let (layers, model) = layers();
        let mut oracle = Oracle::new(model);
        let operations = workload(seed);
        for operation in &operations[..done] {
            let _ = oracle.apply(operation);
        }
        let mut subject = subject(folder.path(), layers, seed);
        let mut same = |mut oracle: Oracle| {
            let _ = oracle.apply(&Operation::Remount);
            oracle.compare_after_kill(&mut subject, &mut BTreeMap::new())
        };
        let before = same(oracle.clone());
        let next = operations.get(done);
        let after = next.map(|next| {
            let _ = oracle.apply(next);
            same(oracle)
        });
        if let (Err(before), Some(Err(after))) = (&before, &after) {
            panic!("seed {seed}, {done} done, then {next:?}: before it: {before}; after it: {after}");
        }
    }
    assert!(interrupted > 2, "the kills came in the middle {interrupted} times");
}

/// Starts the victim, kills it after a while, and returns how many operations it had done.
fn kill_in_the_middle(folder: &Path, seed: u64) -> usize {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(FOLDER, folder)
        .env(SEED, seed.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let done = folder.join("done");
    let started = || std::fs::metadata(&done).is_ok_and(|metadata| metadata.len() > 0);
    while !started() && victim.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_micros(seed * seed * 97 % 60_000));
    victim.kill().unwrap();
    victim.wait().unwrap();
    let mut told = Vec::new();
    std::fs::File::open(done).unwrap().read_to_end(&mut told).unwrap();
    told.len()
}

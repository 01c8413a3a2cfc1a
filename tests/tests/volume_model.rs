//! Generated operations on a volume, with remounts in between, compared with the oracle after each.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use slotfs_tests::operations::{Operation, operation};
use slotfs_tests::subject::{Oracle, Subject};
use slotfs_tests::volume_subject::{VolumeSubject, layers};

fn run(operations: &[Operation]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let (layers, model) = layers();
    let mut oracle = Oracle::new(model);
    let mut subject = VolumeSubject::new(folder.path().to_path_buf(), layers);
    let mut inodes = BTreeMap::new();
    let same = |oracle: &Oracle, subject: &mut VolumeSubject, inodes: &mut _| {
        oracle.compare(subject, inodes).map_err(TestCaseError::fail)
    };
    same(&oracle, &mut subject, &mut inodes)?;
    for operation in operations {
        let (expected, found) = (oracle.apply(operation), subject.apply(operation));
        prop_assert_eq!(found, expected, "{:?}", operation);
        same(&oracle, &mut subject, &mut inodes)?;
    }
    let last = Operation::Remount;
    let _ = (oracle.apply(&last), subject.apply(&last));
    same(&oracle, &mut subject, &mut inodes)
}

/// Fewer than proptest's own number, as every case writes to a disk; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    let asked = Config::default().cases;
    if std::env::var_os("PROPTEST_CASES").is_some() { asked } else { 64 }
}

proptest! {
    #![proptest_config(Config {
        cases: cases(),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..Config::default()
    })]

    #[test]
    fn a_volume_behaves_as_the_oracle_says(operations in prop::collection::vec(operation(), 1..40)) {
        run(&operations)?;
    }
}

//! Generated operations through the kernel, with remounts in between, compared with the oracle after each.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use slotfs_fs::driver::{MountOptions, OpenMode};
use slotfs_fs::overlay::UpperForm;
use slotfs_tests::model::ModelError;
use slotfs_tests::mounted_subject::MountedSubject;
use slotfs_tests::operations::{Operation, operation};
use slotfs_tests::subject::{Oracle, Subject};
use slotfs_tests::volume_subject::layers;

fn run(
    operations: &[Operation],
    options: fn(&mut MountOptions),
    bare_copies: Option<u64>,
    form: UpperForm,
) -> Result<(), TestCaseError> {
    // Modes are what they are asked to be.
    rustix::process::umask(rustix::fs::Mode::empty());
    let folder = tempfile::tempdir().unwrap();
    let (layers, model) = layers();
    let mut oracle = Oracle::new(model);
    let folder = folder.path().to_path_buf();
    let Some(mut subject) = MountedSubject::new(folder, layers, options, bare_copies, form) else {
        return Ok(());
    };
    let mut inodes = BTreeMap::new();
    let same = |oracle: &Oracle, subject: &mut MountedSubject, inodes: &mut _| {
        oracle.compare(subject, inodes).map_err(TestCaseError::fail)
    };
    same(&oracle, &mut subject, &mut inodes)?;
    for operation in operations {
        let (expected, found) = (oracle.apply(operation), subject.apply(operation));
        prop_assert!(same_outcome(expected, found), "{operation:?}: {found:?} instead of {expected:?}");
        same(&oracle, &mut subject, &mut inodes)?;
    }
    let last = Operation::Remount;
    let _ = (oracle.apply(&last), subject.apply(&last));
    same(&oracle, &mut subject, &mut inodes)
}

/// Of two reasons to refuse, the kernel finds some first that the oracle finds second: it looks at the names before
/// the nodes.
fn same_outcome(expected: Result<(), ModelError>, found: Result<(), ModelError>) -> bool {
    use ModelError::{Exists, Invalid, IsDirectory, NotDirectory, NotEmpty, NotPermitted};
    const SWAPPED: &[(ModelError, ModelError)] =
        &[(NotPermitted, Exists), (NotDirectory, Invalid), (IsDirectory, NotEmpty), (NotDirectory, NotEmpty)];
    match (expected, found) {
        (Err(expected), Err(found)) => expected == found || SWAPPED.contains(&(expected, found)),
        (expected, found) => expected == found,
    }
}

/// Few, as every case mounts and writes to a disk; `PROPTEST_CASES` asks for more.
fn config() -> Config {
    let asked = Config::default().cases;
    Config {
        cases: if std::env::var_os("PROPTEST_CASES").is_some() { asked } else { 12 },
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_mount_behaves_as_the_oracle_says(operations in prop::collection::vec(operation(), 1..30)) {
        run(&operations, |_| {}, None, UpperForm::default())?;
    }

    #[test]
    fn a_mount_without_passthrough_behaves_as_the_oracle_says(
        operations in prop::collection::vec(operation(), 1..30)
    ) {
        run(&operations, |options| options.open = OpenMode::Requests, None, UpperForm::default())?;
    }

    #[test]
    fn a_mount_that_keeps_owners_and_modes_aside_behaves_as_the_oracle_says(
        operations in prop::collection::vec(operation(), 1..30)
    ) {
        run(&operations, |_| {}, None, UpperForm::ORDINARY)?;
    }

    #[test]
    fn a_mount_whose_copies_come_without_content_behaves_as_the_oracle_says(
        operations in prop::collection::vec(operation(), 1..30)
    ) {
        run(&operations, |_| {}, Some(1), UpperForm::default())?;
    }
}

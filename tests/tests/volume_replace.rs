//! Taking back and putting back what was written under a volume in use, compared with the same at rest: after any
//! operations, and before any.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use slotfs_fs::disk::DiskError;
use slotfs_fs::disk::unix::Directory;
use slotfs_fs::layer::LayerError;
use slotfs_fs::layer::stack::Stack;
use slotfs_fs::overlay::{Scope, Upper, UpperForm, WhiteoutForm, duplicate, take_back};
use slotfs_tests::operations::{Operation, OperationPath, PLACES, operation, path};
use slotfs_tests::subject::{Observed, Subject};
use slotfs_tests::volume_subject::{Memory, VolumeSubject, layers, memory};

/// Fewer than proptest's own number, as every case writes to a disk; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    let asked = Config::default().cases;
    if std::env::var_os("PROPTEST_CASES").is_some() { asked } else { 64 }
}

fn start(folder: &std::path::Path, form: impl Into<UpperForm>, bare_copies: Option<u64>) -> VolumeSubject {
    VolumeSubject::new(folder.to_path_buf(), layers().0, form, bare_copies)
}

/// Takes back in the directories alone; `false` where that is not possible.
fn take_back_at_rest(folder: &std::path::Path, form: impl Into<UpperForm>, scope: &Scope) -> bool {
    let upper = Upper::open_with(&folder.join("upper"), &folder.join("work"), form).unwrap();
    if scope.is_everything() {
        upper.clear().unwrap();
        return true;
    }
    take_back::take_back(&upper, &Stack::new(layers().0), scope).is_ok()
}

/// Everything there is, but for numbers and times, which two runs have each for themselves.
fn seen(subject: &mut VolumeSubject) -> BTreeMap<OperationPath, Observed> {
    let plain = |observed: Observed| Observed { inode: 0, modified: 0, ..observed };
    subject.observe().into_iter().map(|(path, observed)| (path, plain(observed))).collect()
}

/// What the two show differently.
fn differences(one: &mut VolumeSubject, other: &mut VolumeSubject) -> Vec<String> {
    let (one, other) = (seen(one), seen(other));
    let paths: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differing = paths.into_iter().filter(|path| one.get(*path) != other.get(*path));
    differing.map(|path| format!("{path:?}: {:?} and {:?}", one.get(path), other.get(path))).collect()
}

/// What is shown in `scope`, but for the number of names, some of which may lie elsewhere.
fn within(scope: &Scope, subject: &mut VolumeSubject) -> BTreeMap<OperationPath, Observed> {
    let shown = seen(subject).into_iter().filter(|(path, _)| scope.holds(path));
    shown.map(|(path, observed)| (path, Observed { links: 0, ..observed })).collect()
}

fn is_about_held(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Hold { .. }
            | Operation::WriteHeld { .. }
            | Operation::SetModeHeld { .. }
            | Operation::Release { .. }
    )
}

fn run(
    (before, paths, after): (&[Operation], &[OperationPath], &[Operation]),
    form: impl Into<UpperForm> + Copy,
    (bare_copies, memory): (Option<u64>, Memory),
) -> Result<(), TestCaseError> {
    let [live, still] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let scope = Scope::of(paths.to_vec());
    // What is known decides which names of a file are copied up along.
    let mut one = start(live.path(), form, bare_copies).remembering(memory);
    let mut other = start(still.path(), form, bare_copies).remembering(memory);
    for operation in before {
        prop_assert_eq!(one.apply(operation), other.apply(operation), "{:?}", operation);
    }
    // Known to the volume, as to a kernel that has looked at everything.
    let _ = one.observe();
    let held: Vec<_> = (0..PLACES).map(|place| one.observe_held(place)).collect();

    drop(other);
    let done = take_back_at_rest(still.path(), form, &scope);
    let (result, forgotten) = one.volume().take_back(&scope);
    prop_assert_eq!(result.is_ok(), done, "{:?}", result);
    let mut other = start(still.path(), form, bare_copies).remembering(memory);
    prop_assert_eq!(differences(&mut one, &mut other), [""; 0], "after taking back {:?}", paths);
    if done {
        let fresh = tempfile::tempdir().unwrap();
        let mut fresh = start(fresh.path(), form, bare_copies);
        prop_assert_eq!(within(&scope, &mut other), within(&scope, &mut fresh), "what was taken back");
    }
    prop_assert!(!done || before.is_empty() || !scope.is_everything() || !forgotten.directories.is_empty());
    for (place, before) in held.into_iter().enumerate() {
        let now = one.observe_held(place);
        prop_assert_eq!(
            now.map(|now| (now.kind, now.bytes, now.xattrs)),
            before.map(|before| (before.kind, before.bytes, before.xattrs)),
            "what is held in {}",
            place
        );
    }
    for place in 0..PLACES {
        let _ = one.apply(&Operation::Release { place });
    }
    go_on_alike(&mut one, &mut other, after)
}

/// Both behave alike from now on, also after a remount.
fn go_on_alike(
    one: &mut VolumeSubject,
    other: &mut VolumeSubject,
    after: &[Operation],
) -> Result<(), TestCaseError> {
    for operation in after.iter().filter(|operation| !is_about_held(operation)) {
        prop_assert_eq!(one.apply(operation), other.apply(operation), "{:?}", operation);
        prop_assert_eq!(differences(one, other), [""; 0], "after {:?}", operation);
    }
    one.remount();
    other.remount();
    prop_assert_eq!(differences(one, other), [""; 0], "after a remount");
    Ok(())
}

/// Puts what other operations have written in the place of what is written, in use.
fn put_back(
    (before, wanted, after): (&[Operation], &[Operation], &[Operation]),
    form: impl Into<UpperForm> + Copy,
    memory: Memory,
) -> Result<(), TestCaseError> {
    let [live, still] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut one = start(live.path(), form, Some(1)).remembering(memory);
    let mut other = start(still.path(), form, Some(1));
    for (operations, subject) in [(before, &mut one), (wanted, &mut other)] {
        for operation in operations {
            let _ = subject.apply(operation);
        }
    }
    let _ = one.observe();
    let held: Vec<_> = (0..PLACES).map(|place| one.observe_held(place)).collect();
    drop(other);
    let (result, _) = one.volume().replace(&Scope::default(), |upper, _| {
        upper.clear()?;
        let open = |name: &str| Ok::<_, DiskError>(Arc::new(Directory::open(&still.path().join(name))?));
        let pairs = [
            (open("upper")?, Arc::clone(upper.root())),
            (open("upper-index")?, Arc::clone(upper.index_directory())),
        ];
        duplicate(&pairs, None, &mut |_| {})?;
        Ok::<(), LayerError>(())
    });
    prop_assert!(result.is_ok(), "{:?}", result);
    let mut other = start(still.path(), form, Some(1)).remembering(memory);
    prop_assert_eq!(differences(&mut one, &mut other), [""; 0], "after putting back");
    for (place, before) in held.into_iter().enumerate() {
        let now = one.observe_held(place);
        prop_assert_eq!(now.map(|now| now.bytes), before.map(|before| before.bytes), "held in {}", place);
        let _ = one.apply(&Operation::Release { place });
    }
    go_on_alike(&mut one, &mut other, after)
}

fn operations(most: usize) -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec(operation(), 0..most)
}

fn paths() -> impl Strategy<Value = Vec<OperationPath>> {
    prop_oneof![1 => Just(Vec::new()), 3 => prop::collection::vec(path(), 1..3)]
}

proptest! {
    #![proptest_config(Config {
        cases: cases(),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..Config::default()
    })]

    #[test]
    fn taking_back_in_use_is_taking_back_at_rest(
        before in operations(30), paths in paths(), after in operations(15), memory in memory(),
    ) {
        run((&before, &paths, &after), WhiteoutForm::Best, (None, memory))?;
    }

    #[test]
    fn it_is_so_where_copies_come_without_content(
        before in operations(30), paths in paths(), after in operations(15), memory in memory(),
    ) {
        run((&before, &paths, &after), WhiteoutForm::Best, (Some(1), memory))?;
    }

    #[test]
    fn putting_back_in_use_gives_what_was_kept(
        before in operations(20), wanted in operations(20), after in operations(10), memory in memory(),
    ) {
        put_back((&before, &wanted, &after), WhiteoutForm::Best, memory)?;
    }

    #[test]
    fn it_is_so_where_no_whiteout_devices_can_be_made(
        before in operations(30), paths in paths(), after in operations(15), memory in memory(),
    ) {
        run((&before, &paths, &after), WhiteoutForm::Attribute, (None, memory))?;
    }

    #[test]
    fn it_is_so_where_owners_and_modes_are_kept_aside(
        before in operations(30), paths in paths(), after in operations(15), memory in memory(),
    ) {
        run((&before, &paths, &after), UpperForm::ORDINARY, (None, memory))?;
    }

    #[test]
    fn putting_back_gives_what_was_kept_aside(
        before in operations(20), wanted in operations(20), after in operations(10), memory in memory(),
    ) {
        put_back((&before, &wanted, &after), UpperForm::ORDINARY, memory)?;
    }
}

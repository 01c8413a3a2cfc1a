//! Generated operations on a volume, with remounts in between, compared with the oracle after each.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use slotfs_fs::node::Kind;
use slotfs_fs::overlay::{Rights, UpperForm, WhiteoutForm};
use slotfs_fs::volume::RenameMode;
use slotfs_tests::operations::{Operation, operation};
use slotfs_tests::subject::{Oracle, Subject};
use slotfs_tests::volume_subject::{Memory, VolumeSubject, layers, memory};

fn run(
    operations: &[Operation],
    form: impl Into<UpperForm>,
    bare_copies: Option<u64>,
    memory: Memory,
) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let (layers, model) = layers();
    let mut oracle = Oracle::new(model);
    let mut subject =
        VolumeSubject::new(folder.path().to_path_buf(), layers, form, bare_copies).remembering(memory);
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
    fn a_volume_behaves_as_the_oracle_says(
        operations in prop::collection::vec(operation(), 1..40),
        memory in memory(),
    ) {
        run(&operations, WhiteoutForm::Best, None, memory)?;
    }

    #[test]
    fn it_does_so_too_where_copies_come_without_content(
        operations in prop::collection::vec(operation(), 1..40),
        memory in memory(),
    ) {
        run(&operations, WhiteoutForm::Best, Some(1), memory)?;
    }

    #[test]
    fn it_does_so_too_where_no_whiteout_devices_can_be_made(
        operations in prop::collection::vec(operation(), 1..40),
        memory in memory(),
    ) {
        run(&operations, WhiteoutForm::Attribute, None, memory)?;
    }

    #[test]
    fn it_does_so_too_where_owners_and_modes_are_kept_aside(
        operations in prop::collection::vec(operation(), 1..40),
        whiteouts in prop_oneof![Just(WhiteoutForm::Best), Just(WhiteoutForm::Attribute)],
        bare_copies in prop_oneof![Just(None), Just(Some(1))],
        memory in memory(),
    ) {
        run(&operations, UpperForm { whiteouts, rights: Rights::Ordinary }, bare_copies, memory)?;
    }

    #[test]
    #[ignore = "takes minutes: run by hand after changes of the volume"]
    fn a_long_life_is_no_different(
        operations in prop::collection::vec(operation(), 200..400),
        memory in memory(),
    ) {
        run(&operations, WhiteoutForm::Best, None, memory)?;
        run(&operations, WhiteoutForm::Best, Some(1), memory)?;
        run(&operations, UpperForm::ORDINARY, None, memory)?;
    }
}

fn path(text: &str) -> Vec<Vec<u8>> {
    text.split('/').map(|name| name.as_bytes().to_vec()).collect()
}

/// What generated operations once found, in its shortest form.
#[test]
fn regressions() {
    use Operation as O;
    let rename =
        |from: &str, to: &str| O::Rename { from: path(from), to: path(to), mode: RenameMode::Replace };
    let table = [
        (
            "a name of the layers is replaced while the node is known by a name in the upper",
            vec![
                O::OpenTruncate { path: path("a/a") },
                O::Hold { path: path("a/a"), place: 0, write: false },
                rename("c/a", "c/b"),
            ],
        ),
        (
            "a 0/0 device is listed as a device wherever it is moved",
            vec![
                O::MakeNode { path: path("b/x"), kind: Kind::CharacterDevice, device: 0 },
                rename("b/x", "a/a"),
            ],
        ),
    ];
    for (name, operations) in table {
        for form in [WhiteoutForm::Best, WhiteoutForm::Attribute] {
            for rights in [Rights::Own, Rights::Ordinary] {
                for (bare_copies, memory) in [
                    (None, Memory::Nothing),
                    (Some(1), Memory::Nothing),
                    (None, Memory::Everything),
                    (Some(1), Memory::Files),
                ] {
                    let form = UpperForm { whiteouts: form, rights };
                    let done = run(&operations, form, bare_copies, memory);
                    done.unwrap_or_else(|error| panic!("{name}: {error}"));
                }
            }
        }
    }
}

/// The whole of the above in a process that may do nothing but what ordinary users may.
#[test]
fn an_ordinary_users_process_is_no_different() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::process::Command;

    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        // Then this one is such a process.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &std::path::Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    // Where the user may run it.
    let (program, place) = (folder.path().join("test"), folder.path().join("place"));
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::create_dir(&place).unwrap();
    chown(&place, Some(NOBODY), Some(NOBODY)).unwrap();
    open(folder.path());
    open(&program);
    let done = Command::new("setpriv")
        .args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")])
        .args(["--clear-groups", "--"])
        .arg(&program)
        .envs([("TMPDIR", place.as_os_str()), ("PROPTEST_CASES", "24".as_ref())])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("6 passed"), "{said}");
}

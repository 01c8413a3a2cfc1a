//! Generated operations on a volume, then its changes as one more layer over what is left of the others: the tree is the same.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use slotfs_fs::layer::Layer;
use slotfs_fs::layer::stack::{PlacedLayer, Stack};
use slotfs_fs::overlay::{Above, Rest, Upper, View, WhiteoutForm};
use slotfs_fs::volume::{RenameMode, Volume, VolumeOptions, VolumePart};
use slotfs_tests::operations::{Operation, operation};
use slotfs_tests::subject::{Oracle, Subject};
use slotfs_tests::volume_subject::{VolumeSubject, layers};

fn run(operations: &[Operation], bare_copies: Option<u64>, strict: bool) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let (layers, model) = layers();
    let mut oracle = Oracle::new(model);
    let form = WhiteoutForm::Best;
    let mut subject = VolumeSubject::new(folder.path().to_path_buf(), layers.clone(), form, bare_copies);
    for operation in operations {
        let _ = (oracle.apply(operation), subject.apply(operation));
    }
    let last = Operation::Remount;
    let _ = (oracle.apply(&last), subject.apply(&last));
    drop(subject);

    let upper = folder.path().join("upper");
    let stack = Stack::new(layers.clone());
    let above = Above::of(&View::open(&upper).unwrap().unwrap(), &stack, strict).unwrap();
    let mut remaining = Vec::new();
    for placed in &layers {
        match above.rest(placed).unwrap() {
            Rest::All => remaining.push(placed.clone()),
            Rest::Less(layer, _) => remaining.push(PlacedLayer { layer, ..placed.clone() }),
            Rest::Nothing => {}
        }
    }
    let upper = Upper::open_with(&upper, &folder.path().join("work"), form).unwrap();
    let options = VolumeOptions { devices: true, ..VolumeOptions::default() };
    let volume = Volume::new(layers, Some(upper), options).unwrap();
    let layer: Arc<dyn Layer> =
        Arc::new(VolumePart::new(volume, above.held.iter().map(Vec::as_slice)).unwrap());
    remaining.push(PlacedLayer { name: "changes".into(), layer, target: Vec::new(), writable: true });
    if strict {
        // As if each were unpacked over the one before it: nothing gets in the way.
        check_apart(&remaining);
    }
    let other = tempfile::tempdir().unwrap();
    let mut again = VolumeSubject::new(other.path().to_path_buf(), remaining, form, None);
    oracle.compare(&mut again, &mut BTreeMap::new()).map_err(TestCaseError::fail)
}

/// Fails where the topmost layer has a directory in the place of something else of the layers below, or the other way round.
fn check_apart(layers: &[PlacedLayer]) {
    let (top, below) = layers.split_last().unwrap();
    let below = Stack::new(below.to_vec());
    let mut waiting = vec![(Vec::<Vec<u8>>::new(), top.layer.root())];
    while let Some((path, directory)) = waiting.pop() {
        top.layer
            .read_directory(directory, None, &mut |name, node, kind| {
                let path = [path.as_slice(), &[name.to_vec()]].concat();
                let is_directory = kind == slotfs_fs::node::Kind::Directory;
                if let Some(lower) = below.walk(path.iter().map(Vec::as_slice)).unwrap() {
                    assert_eq!(lower.kind == slotfs_fs::node::Kind::Directory, is_directory, "{path:?}");
                }
                if is_directory {
                    waiting.push((path, node));
                }
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
    }
}

#[test]
fn a_name_that_went_with_its_directory_is_not_counted() {
    let [place, other] = [vec![b"c".to_vec()], vec![b"b".to_vec(), b"b".to_vec()]];
    let name = [other.as_slice(), &[b"b".to_vec()]].concat();
    let operations = [
        Operation::Rename { from: place, to: other, mode: RenameMode::Exchange },
        Operation::Unlink { path: name },
    ];
    for (bare_copies, strict) in [(None, false), (Some(1), true)] {
        run(&operations, bare_copies, strict).unwrap();
    }
}

proptest! {
    #![proptest_config(Config {
        cases: if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { 64 },
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..Config::default()
    })]

    #[test]
    fn changes_over_what_is_left_of_the_layers_are_the_tree(
        operations in prop::collection::vec(operation(), 1..60),
    ) {
        run(&operations, None, false)?;
    }

    #[test]
    fn so_they_are_where_nothing_may_get_in_the_way_and_copies_come_without_content(
        operations in prop::collection::vec(operation(), 1..60),
    ) {
        run(&operations, Some(1), true)?;
    }
}

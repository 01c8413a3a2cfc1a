//! Look-ups wait for the pass and end with it; nodes keep their numbers.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::slot::NoticeKind;
use crate::slot::scan::Body;

fn entry(path: &str, body: Body) -> Entry {
    Entry {
        path: path.into(),
        body,
        mode: 0o644,
        user: 0,
        group: 0,
        modified: Timestamp { seconds: 5, nanoseconds: 0 },
        attributes: Vec::new(),
    }
}

fn file(path: &str) -> Entry {
    entry(path, Body::File(crate::slot::scan::Content::Whole { decoded: 0, size: 1 }))
}

#[test]
fn a_look_up_waits_until_the_name_is_met_or_the_pass_ends() {
    let tree = Arc::new(GrowingTree::of_archive(Limits::default()));
    let early = thread::spawn({
        let tree = Arc::clone(&tree);
        move || (tree.lookup(0, b"late").unwrap(), tree.attributes(0).unwrap().modified.seconds)
    });
    let never = thread::spawn({
        let tree = Arc::clone(&tree);
        move || tree.lookup(0, b"never").unwrap()
    });
    thread::sleep(Duration::from_millis(20));
    assert!(!early.is_finished());
    tree.place(&file("first")).unwrap();
    tree.place(&file("late")).unwrap();
    assert_eq!(early.join().unwrap(), (Some(2), 5));
    thread::sleep(Duration::from_millis(20));
    assert!(!never.is_finished());
    tree.end(Ok(()));
    assert_eq!(never.join().unwrap(), None);
}

#[test]
fn a_listing_waits_for_the_last_name_and_is_in_order() {
    let tree = Arc::new(GrowingTree::of_archive(Limits::default()));
    let listed = |tree: &GrowingTree, directory: u32, after: Option<&[u8]>| {
        let mut names = Vec::new();
        tree.entries(directory, after, &mut |name, node, _| {
            names.push((String::from_utf8(name.to_vec()).unwrap(), node));
            std::ops::ControlFlow::Continue(())
        })
        .map(|()| names)
    };
    let early = thread::spawn({
        let tree = Arc::clone(&tree);
        move || listed(&tree, 0, None).unwrap()
    });
    for path in ["b", "d/z", "a", "d/y", "c"] {
        tree.place(&file(path)).unwrap();
    }
    thread::sleep(Duration::from_millis(10));
    assert!(!early.is_finished(), "there may be more");
    // The name stays in the list, once, with its new node.
    tree.place(&file("a")).unwrap();
    tree.end(Ok(()));
    let names: Vec<String> = early.join().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    let folder = tree.lookup(0, b"d").unwrap().unwrap();
    assert_eq!(
        listed(&tree, folder, Some(b"y")).unwrap(),
        [("z".into(), tree.lookup(folder, b"z").unwrap().unwrap())]
    );
    assert_eq!(listed(&tree, folder, Some(b"z")).unwrap(), []);
    let failed = GrowingTree::of_archive(Limits::default());
    failed.place(&file("met")).unwrap();
    failed.end(Err(&SlotError::Truncated { entry: "met".into() }));
    assert!(listed(&failed, 0, None).is_err(), "part of a listing is none");
}

#[test]
fn a_pass_that_fails_wakes_everybody_and_keeps_what_it_met() {
    let tree = Arc::new(GrowingTree::of_archive(Limits::default()));
    tree.place(&file("met")).unwrap();
    let waiting = thread::spawn({
        let tree = Arc::clone(&tree);
        move || tree.lookup(0, b"missing").unwrap_err().to_string()
    });
    thread::sleep(Duration::from_millis(10));
    tree.end(Err(&SlotError::Truncated { entry: "met".into() }));
    assert!(waiting.join().unwrap().contains("truncated"));
    assert_eq!(tree.lookup(0, b"met").unwrap(), Some(1));
    // A later end changes nothing.
    tree.end(Ok(()));
    assert!(tree.wait_until_ended().is_err());
}

#[test]
fn implied_parents_are_filled_in_under_their_number() {
    let tree = GrowingTree::of_archive(Limits::default());
    tree.place(&file("a/b/c")).unwrap();
    let implied = tree.lookup(0, b"a").unwrap().unwrap();
    assert_eq!(tree.attributes(implied).unwrap().mode, 0o755);
    let mut described = entry("a", Body::Directory);
    described.mode = 0o711;
    tree.place(&described).unwrap();
    assert_eq!(tree.lookup(0, b"a").unwrap(), Some(implied));
    let attributes = tree.attributes(implied).unwrap();
    assert_eq!((attributes.mode, attributes.links), (0o711, 3));
}

#[test]
fn link_counts_follow_names() {
    let tree = GrowingTree::of_archive(Limits::default());
    tree.place(&file("one")).unwrap();
    tree.place(&entry("two", Body::HardLink(b"one".to_vec()))).unwrap();
    tree.place(&entry("folder/three", Body::HardLink(b"./two".to_vec()))).unwrap();
    let node = tree.lookup(0, b"one").unwrap().unwrap();
    assert_eq!(tree.attributes(node).unwrap().links, 3);
    tree.place(&file("two")).unwrap();
    assert_eq!(tree.attributes(node).unwrap().links, 2);
    assert_ne!(tree.lookup(0, b"two").unwrap(), Some(node));
}

#[test]
fn a_copy_is_a_file_of_its_own_with_the_same_content() {
    let tree = GrowingTree::of_archive(Limits::default());
    let content = crate::slot::scan::Content::Whole { decoded: 512, size: 7 };
    let placed = tree.place(&entry("one", Body::File(content))).unwrap().unwrap();
    tree.set_digest(placed.node, crate::disk::digest::Digest([9; 32]), true).unwrap();
    let mut copy = entry("folder/two", Body::Copy(b"./one".to_vec()));
    copy.mode = 0o600;
    let copied = tree.place(&copy).unwrap().unwrap();
    assert!(copied.node != placed.node && !copied.is_file);
    let (one, two) = (tree.attributes(placed.node).unwrap(), tree.attributes(copied.node).unwrap());
    assert_eq!((one.links, two.links, two.size, two.mode), (1, 1, 7, 0o600));
    let shown = |node| format!("{:?}", tree.content(node, true).unwrap());
    assert_eq!(shown(copied.node), shown(placed.node));
    // Onto itself; of what is no file; of nothing.
    let again = tree.place(&entry("one", Body::Copy(b"one".to_vec()))).unwrap().unwrap();
    assert_eq!(shown(again.node), shown(placed.node));
    tree.place(&entry("link", Body::Symlink(b"one".to_vec()))).unwrap();
    for target in ["folder", "link", "none", "../one", ""] {
        let refused = entry("three", Body::Copy(target.into()));
        assert_eq!(tree.place(&refused).unwrap(), None, "{target}");
    }
    assert!(
        tree.notices()
            .iter()
            .all(|notice| { matches!(notice.what, NoticeKind::DanglingHardLink | NoticeKind::Replaced) })
    );
}

#[test]
fn notices_of_one_kind_are_bounded() {
    let tree = GrowingTree::of_archive(Limits::default());
    for number in 0..10_000 {
        assert_eq!(tree.place(&file(&format!("../{number}"))).unwrap(), None);
    }
    assert_eq!(tree.notices().len(), 100);
}

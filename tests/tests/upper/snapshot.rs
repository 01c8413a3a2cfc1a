//! `slotfs snapshot`, `snapshots` and `restore`.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use slotfs_tests::command::{Home, missing_fuse};
use slotfs_tests::package::{SlotSpec, Tree};
use slotfs_tests::tree;
use slotfs_tests::workplace::assert_same;

use super::support::{mounted, package, shown, unmount, write};

fn json(home: &Home) -> Value {
    serde_json::from_str(&home.run(["snapshots", "app", "--json"]).success().stdout).unwrap()
}

/// Names in the session's folder that a finished command leaves nowhere.
fn leftovers(home: &Home) -> Vec<String> {
    let folders = [home.session("app"), home.session("app").join("snapshots")];
    let names = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let names = names.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".tmp") || name == "restoring").collect()
}

#[test]
fn what_was_kept_is_put_back_as_it_was() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write(&root);
    fs::write(root.join("lib/tool-too"), "changed under both names").unwrap();
    rustix::fs::setxattr(root.join("lib/x.py"), "user.note", b"kept", rustix::fs::XattrFlags::empty())
        .unwrap();
    let before = tree::describe(&root);
    home.run(["snapshot", "app", "live"]).success();
    unmount(&home);
    let told = home.run(["diff", "app"]).success().stdout;
    home.run(["snapshot", "app", "first"]).success();
    home.run(["mount", "app.psp"]).success();
    fs::remove_file(root.join("lib/x.py")).unwrap();
    fs::write(root.join("lib/tool"), "once more").unwrap();
    fs::remove_dir_all(root.join("moved")).unwrap();
    fs::write(root.join("later"), "later").unwrap();
    unmount(&home);
    for _ in 0..2 {
        home.run(["restore", "app", "first", "-y"]).success();
        assert_eq!(home.run(["diff", "app"]).success().stdout, told);
        assert_same(&shown(&home), &before, "from the snapshot");
        home.run(["reset", "app", "-y"]).success();
    }
    home.run(["restore", "app", "first", "-y"]).success();
    home.run(["mount", "app.psp"]).success();
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(root.join("lib/x.py"), "user.note", &mut value[..]).unwrap(), 4);
    // Still one file under two names, for whoever writes next.
    fs::write(root.join("lib/tool"), "both").unwrap();
    assert_eq!(fs::read_to_string(root.join("lib/tool-too")).unwrap(), "both");
    unmount(&home);
    assert_eq!(leftovers(&home), [""; 0]);
}

#[test]
fn holes_are_kept_and_the_list_says_what_there_is() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    home.run(["snapshot", "nothing", "x"]).code(111);
    let none = home.run(["snapshots", "app"]).success();
    assert!(none.stderr.contains("has no snapshots"), "{}", none.stderr);
    let file = fs::File::create(root.join("sparse")).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(b"middle", 1 << 39).unwrap();
    drop(file);
    unmount(&home);
    home.run(["snapshot", "app", "one"]).success();
    home.run(["reset", "app", "-y"]).success();
    home.run(["snapshot", "app", "two"]).success();
    let kept = home.session("app").join("snapshots/one/upper/sparse");
    assert!(fs::metadata(&kept).unwrap().blocks() < 64);
    let told = json(&home);
    let names: Vec<&Value> = told["snapshots"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(told["snapshots"][0]["bytes"], 1_u64 << 40);
    assert_eq!(
        (&told["snapshots"][0]["prepared"], &told["snapshots"][1]["prepared"]),
        (&true.into(), &false.into())
    );
    fs::write(home.session("app").join("snapshots/two/snapshot.json"), "{").unwrap();
    let listed = home.run(["snapshots", "app"]).success();
    assert!(listed.stdout.contains("one") && listed.stdout.contains("1.0 TiB"), "{}", listed.stdout);
    assert!(listed.stderr.contains("snapshot `two` cannot be read"), "{}", listed.stderr);
    home.run(["restore", "app", "one", "-y"]).success();
    let back = fs::File::open(home.session("app").join("upper/sparse")).unwrap();
    assert!(back.metadata().unwrap().blocks() < 64);
    let mut middle = [0; 6];
    back.read_exact_at(&mut middle, 1 << 39).unwrap();
    assert_eq!(&middle, b"middle");
}

#[test]
fn nothing_is_replaced_or_removed_unasked() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    fs::write(root.join("note"), "first").unwrap();
    unmount(&home);
    home.run(["snapshot", "app", "one"]).success();
    let taken = home.run(["snapshot", "app", "one"]).code(2);
    assert!(taken.stderr.contains("has a snapshot `one` already"), "{}", taken.stderr);
    for bad in ["../one", ".one", "a b"] {
        home.run(["snapshot", "app", bad]).code(2);
        home.run(["restore", "app", bad, "-y"]).code(111);
        home.run(["snapshot", "app", bad, "--delete", "-y"]).code(111);
    }
    let note = home.session("app").join("upper/note");
    fs::write(&note, "second").unwrap();
    assert!(home.run(["restore", "app", "one"]).code(2).stderr.contains("--yes"));
    assert!(home.run(["restore", "app", "one", "--dry-run"]).success().stderr.contains("would replace"));
    assert_eq!(fs::read_to_string(&note).unwrap(), "second");
    home.run(["snapshot", "app", "one", "--delete"]).code(2);
    home.run(["snapshot", "app", "one", "--delete", "--dry-run"]).success();
    assert_eq!(json(&home)["snapshots"].as_array().unwrap().len(), 1);
    home.run(["snapshot", "app", "one", "--delete", "-y"]).success();
    assert_eq!(json(&home)["snapshots"].as_array().unwrap().len(), 0);
    home.run(["restore", "app", "one", "-y"]).code(111);
    assert_eq!(leftovers(&home), [""; 0]);
}

#[test]
fn a_snapshot_of_another_build_stays_where_it_is() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    fs::write(root.join("note"), "of the first").unwrap();
    unmount(&home);
    home.run(["snapshot", "app", "one"]).success();
    let more = Tree::new().file("more", 0o644, b"more\n");
    home.package("app.psp", package().slot(SlotSpec::tree("more", "tar", more)));
    home.run(["mount", "app.psp"]).success();
    unmount(&home);
    let refused = home.run(["restore", "app", "one", "-y"]).code(2);
    assert!(refused.stderr.contains("another build"), "{}", refused.stderr);
    assert!(home.session("app").join("snapshots/one/upper/note").is_file());
}

#[test]
fn a_clean_takes_snapshots_only_when_asked_for_all() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    fs::write(root.join("note"), "kept").unwrap();
    unmount(&home);
    home.run(["snapshot", "app", "one"]).success();
    // As good as new: without the snapshot there would be nothing to keep.
    home.run(["reset", "app", "-y"]).success();
    let listed = |more: &[&str]| -> Value {
        let words = ["clean", "--dry-run", "--json"].iter().chain(more);
        serde_json::from_str(&home.run(words).success().stdout).unwrap()
    };
    assert_eq!(listed(&[])["environments"].as_array().unwrap().len(), 0);
    home.run(["clean", "-y"]).success();
    home.run(["restore", "app", "one", "-y"]).success();
    assert_eq!(fs::read_to_string(home.session("app").join("upper/note")).unwrap(), "kept");
    assert_eq!(listed(&["--all"])["environments"][0]["reason"], "asked");
    let told = home.run(["remove", "app", "--dry-run", "--json"]).success().stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["environments"][0]["snapshots"], 1);
    home.run(["snapshot", "app", "one", "--delete", "-y"]).success();
    home.run(["reset", "app", "-y"]).success();
    assert_eq!(listed(&[])["environments"][0]["reason"], "unfinished");
}

/// Writes enough that making or putting back a snapshot takes a moment.
fn much(root: &Path) {
    write(root);
    fs::write(root.join("lib/tool"), "changed under both names").unwrap();
    for number in 0..120 {
        let folder = root.join(format!("many/{number}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("file"), vec![b'x'; 10_000]).unwrap();
    }
}

fn killed_after(home: &Home, arguments: &[&str], pause: Duration) {
    let mut child = home.slotfs(arguments).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(pause);
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn killed_at_any_moment_there_is_the_whole_or_nothing() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    much(&root);
    let written = tree::describe(&root);
    unmount(&home);
    for round in 0..4 {
        killed_after(&home, &["snapshot", "app", "one"], Duration::from_millis(5 + 12 * round));
        // Every command that takes hold of the environment tidies up.
        let done = home.run(["snapshot", "app", "other"]).success();
        assert_eq!(leftovers(&home), [""; 0], "{}", done.stderr);
        home.run(["snapshot", "app", "other", "--delete", "-y"]).success();
        if json(&home)["snapshots"].as_array().unwrap().len() == 1 {
            home.run(["snapshot", "app", "one", "--delete", "-y"]).success();
        }
    }
    home.run(["snapshot", "app", "one"]).success();
    home.run(["reset", "app", "-y"]).success();
    let packaged = shown(&home);
    for round in 0..5 {
        killed_after(&home, &["restore", "app", "one", "-y"], Duration::from_millis(5 + 16 * round));
        let now = shown(&home);
        assert!(now == written || now == packaged, "half put back in round {round}");
        assert_eq!(leftovers(&home), [""; 0]);
        home.run(["reset", "app", "-y"]).success();
    }
}

#[test]
fn putting_back_goes_on_from_each_step() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    much(&root);
    let written = tree::describe(&root);
    unmount(&home);
    home.run(["snapshot", "app", "one"]).success();
    let session = home.session("app");
    let prepared = session.join("prepared");
    for step in 0..5 {
        home.run(["reset", "app", "-y"]).success();
        home.run(["mount", "app.psp"]).success();
        fs::write(root.join("later"), "later").unwrap();
        fs::write(root.join("lib/tool-too"), "later").unwrap();
        unmount(&home);
        // As a killed restore leaves it after so many renames.
        let restoring = session.join("restoring");
        let copied = home.program("cp").arg("-a").arg(session.join("snapshots/one")).arg(&restoring).status();
        assert!(copied.unwrap().success());
        let moves = [
            ("upper", "restoring/earlier-upper"),
            ("restoring/upper", "upper"),
            ("upper-index", "restoring/earlier-upper-index"),
            ("restoring/upper-index", "upper-index"),
        ];
        for (from, to) in &moves[..step] {
            fs::rename(session.join(from), session.join(to)).unwrap();
        }
        assert_same(&shown(&home), &written, &format!("after {step} renames"));
        assert!(prepared.is_file());
        assert_eq!(leftovers(&home), [""; 0]);
    }
}

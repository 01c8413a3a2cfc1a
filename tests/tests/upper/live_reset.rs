//! Taking back and putting back what was written under programs that go on.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slotfs_tests::command::{Done, Home, Running, missing_fuse, setup_script};
use slotfs_tests::tree;
use slotfs_tests::workplace::assert_same;

use super::support::{Writers, diff, mounted, package, packaged, shown, unmount, write};

#[test]
fn programs_find_the_package_again_and_keep_what_they_have_open() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    // The kernel knows that there is nothing.
    assert!(!root.join("var").exists());
    write(&root);
    for removed in ["etc/old", "lib/whole/one", "lib/deep/er/file"] {
        assert!(!root.join(removed).exists());
    }
    let _ = tree::describe(&root);
    let open = OpenOptions::new().read(true).write(true).open(root.join("lib/x.py")).unwrap();
    let mut inside = Running::start(
        home.program("sh").arg("-c").arg("cd etc; while read line; do eval $line; done").current_dir(&root),
    );
    inside.tell("cat conf\n");
    assert_eq!(inside.line(), "key=2");

    let told = diff(&home);
    let done = home.run(["reset", "app", "-y"]).success();
    assert!(done.stderr.contains("16 changes were taken back"), "{}", done.stderr);
    assert!(told.contains("lib/x.py"));
    assert_same(&packaged(), &tree::describe(&root), "in the mount");
    assert_eq!(diff(&home), "");

    let mut text = String::new();
    (&open).read_to_string(&mut text).unwrap();
    assert_eq!(text, "print('changed')\n");
    open.write_all_at(b"PRINT", 0).unwrap();
    open.sync_all().unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    assert_eq!(fs::read_to_string(root.join("lib/x.py")).unwrap(), "print(1)\n");
    // Who is in a directory of the package stays there.
    for (line, expected) in [("cat conf", "key=1"), ("echo new > made; cat made", "new"), ("pwd", "etc")] {
        inside.tell(&format!("{line}\n"));
        let heard = inside.line();
        assert!(heard.ends_with(expected), "{line}: {heard}");
    }
    inside.finish();
    fs::write(root.join("lib/x.py"), "again\n").unwrap();
    drop(open);
    let now = tree::describe(&root);
    unmount(&home);
    assert_same(&now, &shown(&home), "after a remount");
    assert_eq!(diff(&home), "slot library\n  M lib/x.py\nslot settings\n  A etc/made\n");
}

#[test]
fn paths_come_back_alone_in_use_as_at_rest() {
    if missing_fuse().is_some() {
        return;
    }
    let paths = ["etc/old", "lib/whole", "lib/x.py", "var/log/app.log", "lib/deep", "moved"];
    let [one, other] = [true, false].map(|live| {
        let (home, root) = mounted();
        write(&root);
        fs::write(root.join("lib/tool"), "changed under both names").unwrap();
        let _ = tree::describe(&root);
        if !live {
            unmount(&home);
        }
        home.run([&["reset", "app", "-y", "lib/tool-too"][..], &paths].concat()).success();
        let told = diff(&home);
        if live {
            // What the kernel shows by itself, and what a new mount shows.
            let now = tree::describe(&root);
            unmount(&home);
            assert_same(&now, &shown(&home), "after a remount");
            (told, now)
        } else {
            (told, shown(&home))
        }
    });
    assert_eq!(one.0, other.0);
    let plain = |tree: BTreeMap<PathBuf, String>| tree.into_keys().collect::<Vec<_>>();
    assert_eq!(plain(one.1), plain(other.1));
}

/// Both have their copy in the index: a hard-linked file and a symbolic link.
#[test]
fn what_was_moved_away_parts_from_what_comes_back() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    for line in [
        "mkdir -p tree && echo one > tree/file && ln tree/file tree/other && ln -s file tree/link",
        "tar --create --file=app.tar --directory=tree .",
    ] {
        Done::of(home.program("sh").args(["-c", line])).success();
    }
    home.run(["mount", "app.tar", "place", "--rw"]).success();
    let root = home.path("place");
    let before = tree::describe(&root);
    fs::write(root.join("file"), "two\n").unwrap();
    Done::of(home.program("touch").args(["-h", "-d", "2001-01-01", "place/link"])).success();
    fs::rename(root.join("file"), root.join("moved")).unwrap();
    fs::rename(root.join("link"), root.join("moved-link")).unwrap();
    assert_eq!(fs::read_to_string(root.join("other")).unwrap(), "two\n");

    home.run(["reset", "app", "file", "link", "-y"]).success();
    for (name, expected) in [("file", "one\n"), ("other", "one\n"), ("moved", "two\n")] {
        assert_eq!(fs::read_to_string(root.join(name)).unwrap(), expected, "{name}");
    }
    for moved in ["moved", "moved-link"] {
        fs::remove_file(root.join(moved)).unwrap();
    }
    assert_same(&before, &tree::describe(&root), "when what was moved is gone");
    home.run(["unmount", "place"]).success();
}

#[test]
fn a_path_that_cannot_be_taken_back_alone_is_refused_in_use_too() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write(&root);
    let before = tree::describe(&root);
    let refused = home.run(["reset", "app", "lib/whole/one", "-y"]).code(2);
    assert!(refused.stderr.contains("take back `lib/whole` as a whole"), "{}", refused.stderr);
    assert!(home.run(["reset", "app"]).code(2).stderr.contains("--yes"));
    home.run(["reset", "app", "--dry-run"]).success();
    assert_same(&before, &tree::describe(&root), "nothing was changed");
    unmount(&home);
}

#[test]
fn a_snapshot_is_put_back_under_programs_that_go_on() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write(&root);
    let before = tree::describe(&root);
    home.run(["snapshot", "app", "one"]).success();
    fs::remove_file(root.join("lib/x.py")).unwrap();
    fs::remove_dir_all(root.join("var")).unwrap();
    fs::rename(root.join("moved"), root.join("moved-on")).unwrap();
    fs::write(root.join("lib/tool"), "later").unwrap();
    fs::write(root.join("later"), "later").unwrap();
    for gone in ["lib/x.py", "var/log/app.log", "moved/er/file"] {
        assert!(!root.join(gone).exists());
    }
    let _ = tree::describe(&root);
    let later = File::open(root.join("later")).unwrap();
    for _ in 0..2 {
        home.run(["restore", "app", "one", "-y"]).success();
        assert_same(&before, &tree::describe(&root), "in the mount");
        let mut text = String::new();
        (&later).read_to_string(&mut text).unwrap();
        assert!(text == "later" || text.is_empty());
        fs::write(root.join("lib/tool-too"), "once more").unwrap();
        assert_eq!(fs::read_to_string(root.join("lib/tool")).unwrap(), "once more");
    }
    // Also where nothing is written and the kernel knows all of that.
    home.run(["reset", "app", "-y"]).success();
    assert_same(&packaged(), &tree::describe(&root), "taken back");
    home.run(["restore", "app", "one", "-y"]).success();
    assert_same(&before, &tree::describe(&root), "over what was not written");
    drop(later);
    unmount(&home);
    assert_same(&before, &shown(&home), "after a remount");
    let left = fs::read_dir(home.session("app")).unwrap();
    let left =
        left.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().contains("restoring"));
    assert_eq!(left.count(), 0);
}

#[test]
fn writers_go_on_while_everything_is_taken_back_and_put_back() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write(&root);
    home.run(["snapshot", "app", "one"]).success();
    for round in 0..6 {
        // Those of a round end when their files are taken away.
        let writers = Writers::start(&root);
        match round % 3 {
            0 => home.run(["reset", "app", "-y"]).success(),
            1 => home.run(["restore", "app", "one", "-y"]).success(),
            _ => home.run(["reset", "app", "-y", "grown-0", "first-1", "etc", "lib/deep", "moved"]).success(),
        };
        writers.stop();
        let now = tree::describe(&root);
        unmount(&home);
        assert_same(&now, &shown(&home), &format!("after a remount in round {round}"));
        home.run(["mount", "app.psp"]).success();
    }
    unmount(&home);
}

#[test]
fn room_comes_back_but_for_what_is_open() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    unmount(&home);
    home.run(["mount", "--max-upper", "1M", "app.psp"]).success();
    let large = vec![7; 600 << 10];
    fs::write(root.join("one"), &large).unwrap();
    let open = File::open(root.join("one")).unwrap();
    fs::write(root.join("lib/x.py"), &large[..200 << 10]).unwrap();
    assert_eq!(fs::write(root.join("two"), &large).unwrap_err().kind(), ErrorKind::StorageFull);
    home.run(["reset", "app", "-y"]).success();
    // It is still on the disk.
    assert_eq!(fs::write(root.join("two"), &large).unwrap_err().kind(), ErrorKind::StorageFull);
    fs::remove_file(root.join("two")).unwrap();
    drop(open);
    slotfs_tests::command::wait_for("room", || fs::write(root.join("two"), &large).is_ok());
    assert_eq!(fs::write(root.join("three"), &large).unwrap_err().kind(), ErrorKind::StorageFull);
    unmount(&home);
}

/// Writes enough that taking or putting it back takes a moment.
fn much(root: &Path) {
    write(root);
    for number in 0..120 {
        let folder = root.join(format!("many/{number}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("file"), vec![b'x'; 10_000]).unwrap();
    }
}

#[test]
fn a_server_that_is_killed_leaves_the_snapshot_or_what_was_there() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    much(&root);
    let written = tree::describe(&root);
    home.run(["snapshot", "app", "one"]).success();
    home.run(["reset", "app", "-y"]).success();
    fs::write(root.join("only"), "this").unwrap();
    let mut only = tree::describe(&root);
    for round in 0..8_u64 {
        let mut command = home.slotfs(["restore", "app", "one", "-y"]);
        let mut restore = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + 12 * round));
        for server in home.servers() {
            let _ = kill(Pid::from_raw(server), Signal::SIGKILL);
        }
        let done = restore.wait().unwrap().success();
        let now = shown(&home);
        assert!(now == written || !done && now == only, "half put back in round {round}");
        home.run(["mount", "app.psp"]).success();
        home.run(["reset", "app", "-y"]).success();
        fs::write(root.join("only"), "this").unwrap();
        only = tree::describe(&root);
    }
    unmount(&home);
}

#[test]
fn a_server_that_is_killed_while_it_takes_back_is_followed_by_one_that_finishes_it() {
    if missing_fuse().is_some() {
        return;
    }
    let original = packaged();
    let (home, root) = mounted();
    for round in 0..6_u64 {
        much(&root);
        let written = tree::describe(&root);
        let mut command = home.slotfs(["reset", "app", "-y"]);
        let mut reset = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(10 + 6 * round));
        for server in home.servers() {
            let _ = kill(Pid::from_raw(server), Signal::SIGKILL);
        }
        reset.wait().unwrap();
        let now = shown(&home);
        for path in now.keys() {
            assert!(written.contains_key(path) || original.contains_key(path), "{}", path.display());
        }
        home.run(["reset", "app", "-y"]).success();
        assert_same(&original, &shown(&home), &format!("finished in round {round}"));
        home.run(["mount", "app.psp"]).success();
    }
    unmount(&home);
}

#[test]
fn setup_that_was_taken_back_is_done_again_at_the_next_start() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let setup = setup_script("echo run >> {workenv}/setup-ran");
    home.package("app.psp", package().section("setup_commands", serde_json::json!([setup])));
    let root = home.workenv("app");
    home.run(["mount", "app.psp"]).success();
    assert_eq!(fs::read_to_string(root.join("setup-ran")).unwrap(), "run\n");
    home.run(["reset", "app", "-y"]).success();
    assert!(!root.join("setup-ran").exists());
    home.run(["run", "app.psp"]).success();
    assert_eq!(fs::read_to_string(home.session("app").join("upper/setup-ran")).unwrap(), "run\n");
    if home.mounts() == [root] {
        unmount(&home);
    }
}

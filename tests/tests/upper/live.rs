//! Keeping and looking at what is written while programs write it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use slotfs_tests::command::{Home, missing_fuse, wait_for};
use slotfs_tests::tree;
use slotfs_tests::workplace::assert_same;

use super::support::{WRITERS, Writers, archive, mounted, shown, unmount, write};

/// Checks what the writers' files are in `root`: those of one moment.
pub(crate) fn check(root: &Path) {
    for number in 0..WRITERS {
        let count = |name: &str| {
            let mut bytes = [0; 8];
            File::open(root.join(format!("{name}-{number}"))).unwrap().read_exact_at(&mut bytes, 0).unwrap();
            u64::from_le_bytes(bytes)
        };
        let (first, second) = (count("first"), count("second"));
        let grown = fs::read(root.join(format!("grown-{number}"))).unwrap();
        let rows = (grown.len() / 4096) as u64;
        assert!(first == second || first == second + 1, "{first} and {second}");
        assert!(rows == first || rows + 1 == first, "{rows} rows at {first}");
        for (row, bytes) in (1u64..).zip(grown.chunks(4096)) {
            assert!(bytes.iter().all(|byte| *byte == row as u8), "row {row} of {rows}");
        }
    }
}

fn snapshots(home: &Home) -> Value {
    serde_json::from_str(&home.run(["snapshots", "app", "--json"]).success().stdout).unwrap()
}

#[test]
fn a_snapshot_is_of_one_moment_and_the_writers_go_on() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write(&root);
    let writers = Writers::start(&root);
    for name in ["one", "two", "three"] {
        home.run(["snapshot", "app", name]).success();
        check(&home.session("app").join("snapshots").join(name).join("upper"));
        writers.go_on();
    }
    writers.stop();
    check(&root);
    unmount(&home);
    for name in ["three", "one"] {
        home.run(["restore", "app", name, "-y"]).success();
        home.run(["mount", "app.psp"]).success();
        check(&root);
        assert_eq!(fs::read_to_string(root.join("etc/conf")).unwrap(), "key=2\n");
        unmount(&home);
    }
}

#[test]
fn a_snapshot_of_a_mount_is_that_of_the_same_at_rest() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write(&root);
    // Changed after it was copied ahead, and never again: the time of the copy must not matter.
    let open = OpenOptions::new().append(true).open(root.join("var/log/app.log")).unwrap();
    let before = tree::describe(&root);
    home.run(["snapshot", "app", "live"]).success();
    drop(open);
    unmount(&home);
    home.run(["snapshot", "app", "still"]).success();
    let folder = |name: &str| tree::describe(&home.session("app").join("snapshots").join(name).join("upper"));
    assert_same(&folder("live"), &folder("still"), "two snapshots");
    let listed = snapshots(&home);
    let (one, other) = (&listed["snapshots"][0], &listed["snapshots"][1]);
    assert_eq!((&one["names"], &one["bytes"]), (&other["names"], &other["bytes"]));
    home.run(["reset", "app", "-y"]).success();
    home.run(["restore", "app", "live", "-y"]).success();
    assert_same(&before, &shown(&home), "from the snapshot");
}

#[test]
fn changes_and_archives_are_of_one_moment() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    let writers = Writers::start(&root);
    for round in 0..4 {
        let told: Value =
            serde_json::from_str(&home.run(["diff", "app", "--json"]).success().stdout).unwrap();
        let sizes: BTreeMap<&str, u64> = told["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| (change["path"].as_str().unwrap(), change["size"].as_u64().unwrap()))
            .collect();
        for number in 0..WRITERS {
            for turn in 0..7 {
                let has = |name: &str| sizes.contains_key(&*format!("{name}-{number}-{turn}"));
                assert!(sizes[&*format!("grown-{number}")] < 8 * 4096 || has("before") || has("after"));
            }
        }
        let file = archive(&home, &format!("{round}.tar"));
        let copy = home.path(format!("copy-{round}"));
        fs::create_dir(&copy).unwrap();
        tar::Archive::new(File::open(file).unwrap()).unpack(&copy).unwrap();
        check(&copy);
        writers.go_on();
    }
    writers.stop();
    unmount(&home);
}

/// A server listens a moment after it has mounted. Who looks at what is written in that moment waits for it, or says that
/// nobody was held up.
#[test]
fn a_server_that_does_not_listen_yet_is_waited_for() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    let (socket, aside) = (home.session("app").join("control"), home.session("app").join("aside"));
    wait_for("the socket", || socket.exists());
    fs::rename(&socket, &aside).unwrap();
    let told = home.run(["diff", "app"]).success();
    assert!(told.stderr.contains("programs go on writing meanwhile"), "{}", told.stderr);

    let looking =
        home.slotfs(["diff", "app", "--tar"]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let writers = Writers::start(&root);
    std::thread::sleep(Duration::from_millis(200));
    fs::rename(&aside, &socket).unwrap();
    let told = looking.wait_with_output().unwrap();
    assert!(told.status.success());
    assert_eq!(String::from_utf8_lossy(&told.stderr), "");
    let copy = home.path("copy");
    fs::create_dir(&copy).unwrap();
    tar::Archive::new(&told.stdout[..]).unpack(&copy).unwrap();
    check(&copy);
    writers.stop();
    unmount(&home);
}

#[test]
fn a_caller_that_is_killed_holds_nobody_up() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    fs::write(root.join("large"), vec![7; 64 << 20]).unwrap();
    let writers = Writers::start(&root);
    for round in 0..12_u64 {
        let mut command = home.slotfs(["snapshot", "app", &format!("round-{round}")]);
        let mut snapshot = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(7 * round * round));
        snapshot.kill().unwrap();
        snapshot.wait().unwrap();
        writers.go_on();
    }
    for snapshot in snapshots(&home)["snapshots"].as_array().unwrap() {
        let name = snapshot["name"].as_str().unwrap();
        check(&home.session("app").join("snapshots").join(name).join("upper"));
    }
    writers.stop();
    unmount(&home);
    home.run(["snapshot", "app", "last"]).success();
    let folder = home.session("app").join("snapshots");
    let left = fs::read_dir(folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".tmp"));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_server_that_is_killed_leaves_whole_snapshots_and_what_was_written() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    fs::write(root.join("large"), vec![7; 32 << 20]).unwrap();
    for round in 0..6_u64 {
        let writers = Writers::start(&root);
        let name = format!("round-{round}");
        let mut command = home.slotfs(["snapshot", "app", &name]);
        let snapshot = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(15 * round));
        for server in home.servers() {
            let _ = kill(Pid::from_raw(server), Signal::SIGKILL);
        }
        writers.stop();
        let done = snapshot.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        let made = snapshots(&home)["snapshots"].as_array().unwrap().iter().any(|one| one["name"] == name);
        assert_eq!(done.status.success(), made, "{said}");
        if made {
            check(&home.session("app").join("snapshots").join(&name).join("upper"));
        }
        home.run(["mount", "app.psp"]).success();
        assert_eq!(fs::metadata(root.join("large")).unwrap().len(), 32 << 20);
    }
    unmount(&home);
}

#[test]
fn only_its_user_may_talk_to_a_server_and_nonsense_does_it_no_harm() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    let socket: PathBuf = home.session("app").join("control");
    wait_for("the socket", || socket.exists());
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    for nonsense in [&b"\n"[..], b"{}\n", b"{\"hold\":7}\n", b"\xff\xfe\n", b"\"hold\"", b"[[[[[[\n"] {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        std::io::Write::write_all(&mut stream, nonsense).unwrap();
        drop(stream);
    }
    // As many callers as like who say nothing.
    let silent: Vec<_> = (0..40).map(|_| std::os::unix::net::UnixStream::connect(&socket).unwrap()).collect();
    fs::write(root.join("file"), "written").unwrap();
    drop(silent);
    wait_for("room for a caller", || home.run(["snapshot", "app", "after"]).code == 0);
    unmount(&home);
    assert!(!socket.exists());
}

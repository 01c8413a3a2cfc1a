//! What launches touch: recorded, shown, and asked for ahead of the next launch.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slotfs_tests::command::{Home, Running, is_ours, missing_fuse, shell_package, wait_for};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};

const FILES: usize = 60;

/// A package whose program reads the first half of its files, last one first, and asks for one that is not there.
fn package() -> PackageBuilder {
    let mut tree = Tree::new().file("never", 0o644, b"not read\n");
    for number in 0..FILES {
        tree = tree.file(format!("lib/{number:02}"), 0o644, format!("{number}\n").repeat(1000).as_bytes());
    }
    let script = "cd {workenv}/lib; for n in $(seq 29 -1 10); do cat $n; done >/dev/null; \
                  cat 0? \"$@\" >/dev/null; test -e ../absent || true";
    shell_package("app", script).slot(SlotSpec::tree("a", "tar.gzip", tree))
}

fn file(home: &Home) -> PathBuf {
    home.session("app").join("profile.json")
}

/// Runs the package and waits until its profile is there.
fn recorded(home: &Home) -> PathBuf {
    let package = home.package("app.psp", package());
    home.run(["run", package.to_str().unwrap(), "sh"]).success();
    wait_for("the profile", || file(home).exists());
    package
}

fn shown(home: &Home) -> serde_json::Value {
    serde_json::from_str(&home.run(["profile", "app", "--json"]).success().stdout).unwrap()
}

fn paths_of(profile: &serde_json::Value, what: &str) -> Vec<String> {
    let entries = profile["entries"].as_array().unwrap().iter();
    entries
        .filter(|entry| entry["what"] == what)
        .map(|entry| entry["path"].as_str().unwrap().into())
        .collect()
}

/// Processes that ask in advance in this home.
fn asking(home: &Home) -> Vec<i32> {
    let root = home.root().to_str().unwrap().to_owned();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| Some((process.file_name().to_str()?.parse().ok()?, process.path())))
        .filter(|(_, place)| {
            let line = fs::read(place.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains("__prefetch") && line.contains(&root)
        })
        .map(|(number, _)| number)
        .collect()
}

/// How often the server of the home's mount has read from the kernel.
fn requests(home: &Home) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/io", home.servers()[0])).unwrap();
    text.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap()
}

#[test]
fn a_launch_is_recorded_in_order_and_shown() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    recorded(&home);
    let profile = shown(&home);
    let read = paths_of(&profile, "content");
    let expected: Vec<String> =
        (10..30).rev().chain(0..10).map(|number| format!("lib/{number:02}")).collect();
    assert_eq!(read, expected);
    assert!(paths_of(&profile, "name").contains(&"absent".to_owned()), "{profile}");
    assert!(paths_of(&profile, "listing").contains(&"lib".to_owned()), "{profile}");
    let whole =
        profile["entries"].as_array().unwrap().iter().find(|entry| entry["path"] == "lib/29").unwrap();
    assert_eq!(whole["ranges"], serde_json::json!([[0, 3000]]));

    let table = home.run(["profile", "app"]).success();
    assert!(
        table.stdout.lines().any(|line| line.ends_with("lib/29") && line.contains("content")),
        "{}",
        table.stdout
    );
    assert!(table.stderr.contains("read, within"), "{}", table.stderr);
    let picture = home.path("picture.svg");
    home.run(["profile".as_ref(), "app".as_ref(), "--svg".as_ref(), picture.as_os_str()]).success();
    let picture = fs::read_to_string(picture).unwrap();
    assert!(picture.contains("<title>lib/29</title>"), "{picture}");
}

#[test]
fn another_launch_adds_what_is_new_and_forgetting_begins_anew() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = recorded(&home);
    let first = paths_of(&shown(&home), "content");
    let again = || home.run(["run", package.to_str().unwrap(), "sh", "../never", "50"]).success();
    again();
    wait_for("the new files", || paths_of(&shown(&home), "content").len() == first.len() + 2);
    let second = paths_of(&shown(&home), "content");
    assert_eq!(second[..first.len()], first);
    assert_eq!(second[first.len()..], ["never".to_owned(), "lib/50".to_owned()]);

    home.run(["profile", "app", "--forget"]).success();
    let done = home.run(["profile", "app"]).code(111);
    assert!(done.stderr.contains("no launch of `app` was recorded"), "{}", done.stderr);
    again();
    wait_for("the profile", || file(&home).exists());
    assert_eq!(paths_of(&shown(&home), "content").len(), second.len());
}

#[test]
fn what_was_touched_is_there_before_it_is_asked_for() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = recorded(&home);
    let place = home.workenv("app");
    // What the kernel gives up when memory is short it asks for again, so the fewest of several tries count.
    let fewest = |flags: &[&str]| {
        let tries = (0..5).map(|_| {
            let words = ["mount", "--ro", package.to_str().unwrap()];
            home.run(words.iter().chain(flags)).success();
            if flags.is_empty() {
                // It begins when it gets a processor.
                wait_for("asking in advance", || requests(&home) > 30);
            }
            wait_for("the end of asking", || asking(&home).is_empty());
            let before = requests(&home);
            for number in 0..30 {
                let read = fs::read(place.join(format!("lib/{number:02}"))).unwrap();
                assert_eq!(read, format!("{number}\n").repeat(1000).as_bytes());
            }
            assert!(!place.join("absent").exists());
            let asked = requests(&home) - before;
            home.run(["unmount", "app"]).success();
            asked
        });
        tries.min().unwrap()
    };
    let (with, without) = (fewest(&[]), fewest(&["--no-prefetch"]));
    assert!(with * 3 < without, "{with} requests after asking in advance, {without} without");
}

#[test]
fn without_prefetch_nothing_is_recorded() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", package());
    home.run(["run", "--no-prefetch", package.to_str().unwrap(), "sh"]).success();
    home.settle();
    assert!(!file(&home).exists());
}

/// Enough to ask for that it does not end at once.
fn long_profile(home: &Home) {
    let mut profile: serde_json::Value = serde_json::from_slice(&fs::read(file(home)).unwrap()).unwrap();
    let entries = profile["entries"].as_array_mut().unwrap();
    for number in 0..100_000 {
        entries.push(serde_json::json!({ "path": format!("lib/absent-{number}"), "at": 1, "what": "name" }));
    }
    fs::write(file(home), profile.to_string()).unwrap();
}

#[test]
fn asking_in_advance_keeps_no_mount_busy_and_ends_with_its_server() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = recorded(&home);
    long_profile(&home);
    let mount = ["mount", "--ro", package.to_str().unwrap()];
    home.run(mount).success();
    wait_for("the asking", || !asking(&home).is_empty());
    home.run(["unmount", "app"]).success();
    assert_eq!(asking(&home), Vec::<i32>::new());
    assert_eq!(home.mounts(), Vec::<PathBuf>::new());

    home.run(mount).success();
    wait_for("the asking", || !asking(&home).is_empty());
    kill(Pid::from_raw(home.servers()[0]), Signal::SIGKILL).unwrap();
    wait_for("the end of asking", || asking(&home).is_empty());
    wait_for("the end of the server", || home.servers().is_empty());
    home.run(["list"]).success();
    assert_eq!(home.mounts(), Vec::<PathBuf>::new());

    if nix::unistd::geteuid().is_root() {
        home.run(mount).success();
        wait_for("the asking", || !asking(&home).is_empty());
        nix::mount::umount(&home.workenv("app")).unwrap();
        for number in asking(&home) {
            kill(Pid::from_raw(number), Signal::SIGKILL).unwrap();
        }
        home.settle();
    }

    // A program that ends while its files are still being asked for does not wait for that.
    home.run(["run", package.to_str().unwrap(), "sh"]).success();
    assert_eq!(asking(&home), Vec::<i32>::new());
}

#[test]
fn the_one_who_asks_can_be_killed() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = recorded(&home);
    long_profile(&home);
    home.run(["mount", package.to_str().unwrap()]).success();
    wait_for("the asking", || !asking(&home).is_empty());
    for number in asking(&home) {
        kill(Pid::from_raw(number), Signal::SIGKILL).unwrap();
    }
    wait_for("the end of asking", || asking(&home).is_empty());
    assert_eq!(fs::read(home.workenv("app").join("lib/01")).unwrap(), "1\n".repeat(1000).as_bytes());
    home.run(["unmount", "app"]).success();
}

#[test]
fn a_profile_that_is_damaged_or_hostile_changes_nothing() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = recorded(&home);
    let secret = home.path("secret");
    assert!(nix::unistd::mkfifo(&secret, nix::sys::stat::Mode::S_IRWXU).is_ok());
    let good: serde_json::Value = serde_json::from_slice(&fs::read(file(&home)).unwrap()).unwrap();
    let with = |path: &str, what: serde_json::Value| {
        let mut profile = good.clone();
        let mut entry = serde_json::json!({ "path": path, "at": u64::MAX });
        entry.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        profile["entries"].as_array_mut().unwrap().insert(0, entry);
        profile.to_string()
    };
    let content = |ranges: serde_json::Value| serde_json::json!({ "what": "content", "ranges": ranges });
    let outside = secret.to_str().unwrap();
    let profiles = [
        String::new(),
        "{".to_owned(),
        good.to_string().replace("\"version\":1", "\"version\":2"),
        with(outside, content(serde_json::json!([[0, 10]]))),
        with("../../secret", content(serde_json::json!([]))),
        with("lib", content(serde_json::json!([[0, 10]]))),
        with("lib/01", content(serde_json::json!([[u64::MAX, 0], [0, u64::MAX], [5, 3]]))),
        with("lib/01", serde_json::json!({ "what": "listing" })),
        with(&"x/".repeat(5000), serde_json::json!({ "what": "name" })),
    ];
    for profile in profiles {
        fs::write(file(&home), &profile).unwrap();
        home.run(["mount", package.to_str().unwrap()]).success();
        // It would wait for ever at the pipe outside.
        wait_for("the end of asking", || asking(&home).is_empty());
        assert_eq!(read_all(&home.workenv("app")), FILES, "{profile:.100}");
        let servers = home.servers();
        home.run(["unmount", "app"]).success();
        // It writes the profile when nobody waits any more.
        wait_for("the end of the server", || !servers.iter().any(|&server| is_ours(server)));
    }
    for kind in ["directory", "pipe"] {
        let _ = fs::remove_file(file(&home));
        match kind {
            "directory" => fs::create_dir(file(&home)).unwrap(),
            _ => {
                fs::remove_dir(file(&home)).unwrap();
                nix::unistd::mkfifo(&file(&home), nix::sys::stat::Mode::S_IRWXU).unwrap();
            }
        }
        let done = Running::start(&mut home.slotfs(["run", package.to_str().unwrap(), "sh"])).finish();
        assert_eq!(done.code, 0, "{kind}: {}", done.stderr);
        home.settle();
    }
}

/// Reads every file, and returns how many there are.
fn read_all(root: &Path) -> usize {
    let entries: Vec<_> = fs::read_dir(root.join("lib")).unwrap().collect();
    for entry in &entries {
        assert_ne!(fs::read(entry.as_ref().unwrap().path()).unwrap(), b"");
    }
    entries.len()
}

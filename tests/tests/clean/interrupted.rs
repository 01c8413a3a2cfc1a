//! Removals that were killed, and those that end them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Instant;

use slotfs_tests::command::{Home, PATIENCE, Running, binary};

use super::support::{clean, is_gone, launcher_environment, listed, metadata, names, nothing_aside, ran};

/// Folders of removed environments that are not deleted yet.
fn entries(home: &Home) -> Vec<PathBuf> {
    let folders = fs::read_dir(home.cache().join(".slotfs/removed-v1")).into_iter().flatten().flatten();
    let inside = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    inside.map(|entry| entry.path()).collect()
}

/// Begins to remove a big environment and kills that when everything is moved; tells whether something was left.
fn is_killed_halfway(home: &Home) -> bool {
    launcher_environment(home, "big");
    for folder in 0..6 {
        let folder = home.workenv("big").join(format!("folder{folder}"));
        fs::create_dir(&folder).unwrap();
        for file in 0..500 {
            fs::write(folder.join(file.to_string()), b"").unwrap();
        }
    }
    // So that it is this test that gets the processor.
    let mut command = home.program("nice");
    command.args(["-n", "19"]).arg(binary()).args(["remove", "big", "--yes"]);
    let mut removal = Running::start(&mut command);
    let begun = Instant::now();
    while !entries(home).iter().any(|entry| entry.join("metadata").exists()) && removal.is_running() {
        assert!(begun.elapsed() < PATIENCE, "nothing is removed");
    }
    drop(removal);
    !entries(home).is_empty()
}

#[test]
fn a_removal_killed_halfway_is_finished_by_the_next_clean() {
    let home = Home::new();
    // On a busy machine it may be done before it is seen.
    let killed = (0..20).any(|_| is_killed_halfway(&home));
    assert!(killed, "it was always too quick to be killed halfway");
    assert_eq!(listed(&home), Vec::<String>::new(), "what is half gone is nobody's environment");
    let dry: serde_json::Value =
        serde_json::from_str(&home.run(["clean", "--dry-run", "--json"]).success().stdout).unwrap();
    assert!(dry["leftover_bytes"].as_u64().unwrap() > 0, "{dry}");
    let report = clean(&home, &[]);
    assert_eq!(report["freed_bytes"], dry["freed_bytes"], "{report}");
    is_gone(&home, "big");
    assert_eq!(home.run(["clean"]).success().stderr, "slotfs: nothing to clean\n");
}

/// What is on disk when the process is killed between moving an environment's files and its metadata.
fn moved_by_half(home: &Home, name: &str) {
    let entry = home.cache().join(".slotfs/removed-v1/1-0/0");
    fs::create_dir_all(&entry).unwrap();
    let known = fs::metadata(metadata(home, name)).unwrap();
    let note = serde_json::json!({ "name": name.as_bytes(), "metadata": [known.dev(), known.ino()] });
    fs::write(entry.join("note.json"), note.to_string()).unwrap();
    fs::remove_file(metadata(home, name).join("instance/package.checksum")).unwrap();
    fs::rename(home.workenv(name), entry.join("content")).unwrap();
}

#[test]
fn an_environment_that_was_moved_by_half_is_moved_whole() {
    let home = Home::new();
    ran(&home, "app", "extract");
    moved_by_half(&home, "app");
    clean(&home, &[]);
    is_gone(&home, "app");
}

#[test]
fn one_that_was_used_since_stays() {
    let home = Home::new();
    let path = ran(&home, "app", "extract");
    moved_by_half(&home, "app");
    let run = home.run(["run", "--mode", "extract", path.to_str().unwrap()]);
    assert_eq!(run.success().stdout, "app");
    assert_eq!(names(&clean(&home, &[]), "environments"), Vec::<String>::new());
    nothing_aside(&home);
    assert_eq!(fs::read(home.workenv("app").join("lib/text")).unwrap(), b"app");
}

#[test]
fn a_removal_that_is_going_on_is_left_alone() {
    let home = Home::new();
    ran(&home, "app", "extract");
    let entry = home.cache().join(".slotfs/removed-v1/1-0/0/content");
    fs::create_dir_all(&entry).unwrap();
    let lock = fs::File::create(home.cache().join(".slotfs/removed-v1/1-0.lock")).unwrap();
    lock.lock().unwrap();
    clean(&home, &["--all"]);
    assert!(entry.exists());
    drop(lock);
    clean(&home, &[]);
    nothing_aside(&home);
}

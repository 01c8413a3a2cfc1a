//! One cache directory shared by slotfs, the launchers and `flavor workenv`: each sees the others' environments.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::support::{Peer, Place, file_slot, peer, run, take_apart};
use serde_json::{Value, json};
use slotfs::workenv::{Cache, Claim, MadeBy, NameRule, PackageFacts, Workenv};

fn package(peer: &Peer, place: &Place, language: &str, name: &str, version: &str) -> PathBuf {
    let manifest = json!({
        "package": { "name": format!("{name}-in-metadata"), "version": version },
        "execution": { "command": "/bin/sh {workenv}/probe.sh" },
        "slots": [file_slot("probe.sh", "probe.sh", "0755")],
    });
    peer.build(language, place, name, &manifest)
}

fn start(place: &Place, package: &Path) -> (Option<i32>, bool) {
    let variables: Vec<(String, OsString)> = vec![
        ("HOME".into(), place.home().into()),
        ("PATH".into(), "/usr/bin:/bin".into()),
        ("FLAVOR_LOG_LEVEL".into(), "error".into()),
    ];
    let ran = run(package, &[], &variables, &place.somewhere());
    (ran.status.code(), String::from_utf8_lossy(&ran.stderr).contains("Extracting"))
}

fn flavor(peer: &Peer, place: &Place, cache: &Path, arguments: &[&str]) -> String {
    let ran = Command::new(&peer.flavor)
        .arg("workenv")
        .args(arguments)
        .env_clear()
        .env("HOME", place.home())
        .env("PATH", "/usr/bin:/bin")
        .env("FLAVOR_LOG_LEVEL", "error")
        .env("FLAVOR_CACHE", cache)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

fn copy(probe: &Path, content: &Path) {
    fs::copy(probe, content.join("probe.sh")).unwrap();
}

fn cache(place: &Place) -> Cache {
    Cache::new(place.home().join(".cache/flavor/workenv"))
}

/// Prepares an environment as slotfs does; `place_files` stands in for the mount.
fn prepare(cache: &Cache, facts: &PackageFacts, place_files: impl Fn(&Path)) -> Workenv {
    let claimed = cache.claim(facts, NameRule::Any, SystemTime::now()).unwrap();
    let workenv = claimed.workenv;
    workenv.describe(facts).unwrap();
    place_files(&workenv.content());
    workenv.mark_prepared(facts).unwrap();
    workenv.publish(facts).unwrap();
    workenv
}

#[test]
fn flavor_shows_slotfs_environments_and_slotfs_lists_those_of_the_launchers() {
    let Some(peer) = peer() else { return };
    let place = Place::new();
    let cache = cache(&place);
    let theirs = package(&peer, &place, "rs", "theirs", "1.5");
    let go = package(&peer, &place, "go", "theirs-go", "1.6");
    let ours = package(&peer, &place, "rs", "ours", "2.5");
    assert_eq!(start(&place, &theirs), (Some(42), true));
    assert_eq!(start(&place, &go), (Some(42), true));
    let (_, facts) = take_apart(&ours);
    let probe = place.sources().join("probe.sh");
    let workenv = prepare(&cache, &facts, |content| copy(&probe, content));

    let list = flavor(&peer, &place, cache.directory(), &["list"]);
    for words in
        ["ours-in-metadata v2.5", "ID: ours\n", "theirs-in-metadata v1.5", "theirs-go-in-metadata v1.6"]
    {
        assert!(list.contains(words), "{words} is not in:\n{list}");
    }
    let inspected = flavor(&peer, &place, cache.directory(), &["inspect", "ours"]);
    for words in [
        "Extraction: Complete".to_owned(),
        format!("Checksum: {}", facts.index.checksum_text()),
        "Format Version: 0x20250001".to_owned(),
        format!("Package Size: {}", grouped(facts.index.package_size)),
        "Slot Count: 1".to_owned(),
        "Name: ours-in-metadata".to_owned(),
        "Version: 2.5".to_owned(),
    ] {
        assert!(inspected.contains(&words), "{words} is not in:\n{inspected}");
    }

    let all = cache.all().unwrap();
    let shown: Vec<_> = all
        .iter()
        .map(|one| {
            let package = one.package.as_ref().unwrap();
            let name = one.workenv.name();
            format!("{name} {} {} {:?} {}", package.name, package.version, one.made_by, one.state.complete)
        })
        .collect();
    assert_eq!(
        shown,
        [
            "ours ours-in-metadata 2.5 Slotfs true",
            "theirs theirs-in-metadata 1.5 Launcher true",
            "theirs-go theirs-go-in-metadata 1.6 Launcher true",
        ]
    );
    for (package, name) in [(&theirs, "theirs"), (&go, "theirs-go")] {
        let (_, facts) = take_apart(package);
        let found = cache.find(Path::new(facts.id.as_str())).unwrap();
        assert_eq!((found.workenv.name().to_string().as_str(), found.made_by), (name, MadeBy::Launcher));
        assert!(found.state.launcher_would_start(&facts));
    }

    // After the unmount flavor still lists it, and inspects it as far as it goes.
    fs::remove_file(workenv.content().join("probe.sh")).unwrap();
    workenv.withdraw().unwrap();
    assert!(flavor(&peer, &place, cache.directory(), &["list"]).contains("ours-in-metadata v2.5"));

    // What slotfs removes is gone for flavor too, whoever made it; the rest is not, and starts as before.
    let found = slotfs::cleanup::find(&cache, &["ours", "theirs"]).unwrap();
    slotfs::cleanup::remove(&cache, &found, slotfs_fs::disk::unix::Erasure::None, &mut |_| {}).unwrap();
    let list = flavor(&peer, &place, cache.directory(), &["list"]);
    assert!(!list.contains("ours-in-metadata") && !list.contains("theirs-in-metadata"), "{list}");
    assert!(list.contains("theirs-go-in-metadata v1.6"), "{list}");
    assert_eq!(start(&place, &go), (Some(42), false));
    assert_eq!(start(&place, &theirs), (Some(42), true), "its launcher unpacks it again");
}

/// `1,234,567`, as flavor prints it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[test]
fn metadata_files_are_those_of_the_launchers() {
    let Some(peer) = peer() else { return };
    for language in ["rs", "go"] {
        let place = Place::new();
        let package = package(&peer, &place, language, "app", "1");
        assert_eq!(start(&place, &package), (Some(42), true));
        let (_, facts) = take_apart(&package);
        let theirs = cache(&place).claim(&facts, NameRule::Launcher, SystemTime::now()).unwrap();
        assert_eq!(theirs.claim, Claim::Same);
        let ours = Cache::new(place.folder.path().join("other"));
        let ours = prepare(&ours, &facts, |_| {});
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        assert_eq!(read(ours.index_json()), read(theirs.workenv.index_json()), "{language}");
        assert_eq!(read(ours.checksum_file()), read(theirs.workenv.checksum_file()), "{language}");
        let json = |path: PathBuf| serde_json::from_str::<Value>(&read(path)).unwrap();
        let (ours, theirs) = (json(ours.package_json()), json(theirs.workenv.package_json()));
        assert_eq!(ours["package"]["name"], theirs["package"]["name"]);
        assert_eq!(ours["slots"][0]["checksum"], theirs["slots"][0]["checksum"]);
    }
}

#[test]
fn launchers_start_from_a_published_environment_and_unpack_a_withdrawn_one() {
    let Some(peer) = peer() else { return };
    for language in ["rs", "go"] {
        let place = Place::new();
        let package = package(&peer, &place, language, "app", "1");
        let (_, facts) = take_apart(&package);
        let probe = place.sources().join("probe.sh");
        let workenv = prepare(&cache(&place), &facts, |content| copy(&probe, content));
        assert_eq!(start(&place, &package), (Some(42), false), "{language}: from what slotfs prepared");

        fs::remove_file(workenv.content().join("probe.sh")).unwrap();
        workenv.withdraw().unwrap();
        assert_eq!(start(&place, &package), (Some(42), true), "{language}: nothing is there any more");
        // It unpacked for real, which slotfs leaves as it is.
        workenv.withdraw().unwrap();
        assert_eq!(start(&place, &package), (Some(42), false), "{language}: from what it unpacked itself");

        workenv.forget_preparation().unwrap();
        assert_eq!(start(&place, &package), (Some(42), true), "{language}: told to start over");
    }
}

#[test]
fn two_packages_of_one_name_work_where_their_launchers_destroy_each_other() {
    let Some(peer) = peer() else { return };
    let place = Place::new();
    let first = package(&peer, &place, "go", "app", "1");
    let folder = place.folder.path().join("elsewhere");
    fs::create_dir(&folder).unwrap();
    let moved = folder.join("app.psp");
    fs::rename(&first, &moved).unwrap();
    let other = json!({
        "package": { "name": "another", "version": "1" },
        "execution": { "command": "/bin/sh {workenv}/probe.sh" },
        "slots": [file_slot("probe.sh", "probe.sh", "0755")],
    });
    let second = peer.build("go", &place, "app", &other);
    assert_eq!(start(&place, &moved).0, Some(42));
    assert_ne!(start(&place, &second).0, Some(42), "the Go launcher refuses the second");

    let cache = cache(&place);
    let (_, first) = take_apart(&moved);
    let (_, second) = take_apart(&second);
    let claim = |facts: &PackageFacts| cache.claim(facts, NameRule::Any, SystemTime::now()).unwrap().workenv;
    assert_eq!(claim(&first).name().to_string(), "app");
    assert_eq!(claim(&second).name().to_string(), format!("app-{}", second.id));
    assert!(cache.claim(&second, NameRule::Launcher, SystemTime::now()).is_err());
}

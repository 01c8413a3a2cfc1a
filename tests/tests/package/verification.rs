//! Hashing slots, and remembering that they were good.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use slotfs_fs::disk::digest::Digest;
use slotfs_fs::package::verified::Ledger;
use slotfs_fs::package::verify::{Outcome, Progress, Verification, verify};
use slotfs_fs::package::{Limits, Package};
use slotfs_tests::package::{PackageBuilder, SlotSpec, descriptor};

use crate::support::{built, open, write_at};

/// Opens the package at `path` once its times are old enough to be trusted.
fn settled(path: &Path) -> Package {
    std::thread::sleep(Duration::from_millis(60));
    Package::open(path, &Limits::default()).unwrap()
}

fn verified(package: &Package) -> Verification {
    verify(package, &|_| {}).unwrap()
}

#[test]
fn what_is_stated_decides_how_much_was_proved() {
    let content = b"content";
    let short = Digest::of(content).to_string()[..16].to_owned();
    let slot = |id: &str| SlotSpec::file(id, id, "raw", content);
    let package = PackageBuilder::new("n", "1")
        .slot(slot("full"))
        .slot(slot("short").key("checksum", short.into()))
        .slot(slot("none").key("checksum", "".into()))
        .slot(slot("odd").key("checksum", "md5:1234".into()))
        .slot(SlotSpec::self_reference("self", "self"))
        .slot(slot("wrong").key("checksum", "0123456789abcdef".into()));
    let verification = verified(&open(&package.build().bytes).unwrap());
    let outcomes: Vec<_> = verification.slots.iter().map(|slot| (slot.id.as_str(), &slot.outcome)).collect();
    assert_eq!(
        outcomes,
        [
            ("full", &Outcome::Full),
            ("short", &Outcome::Short),
            ("none", &Outcome::DescriptorOnly),
            ("odd", &Outcome::DescriptorOnly),
            ("self", &Outcome::Unstated),
            ("wrong", &Outcome::Wrong { metadata: true, descriptor: false }),
        ]
    );
    assert!(!verification.is_good());
    assert_eq!(verification.slots[0].digest, Some(Digest::of(content)));
}

#[test]
fn progress_grows_to_the_whole_and_several_slots_are_hashed() {
    let mut package = PackageBuilder::new("n", "1");
    for number in 0..5 {
        package = package.slot(SlotSpec::file("s", &number.to_string(), "raw", &vec![number; 3 << 20]));
    }
    let package = open(&package.build().bytes).unwrap();
    let reports = Mutex::new(Vec::new());
    let verification = verify(&package, &|progress| reports.lock().unwrap().push(progress)).unwrap();
    assert!(verification.is_good());
    assert_eq!(verification.slots.iter().map(|slot| slot.position).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let reports = reports.into_inner().unwrap();
    let total = 15 << 20;
    assert!(reports.iter().all(|progress| progress.total == total && progress.done <= total));
    assert!(reports.contains(&Progress { done: total, total }));
}

#[test]
fn a_package_written_to_while_it_is_hashed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.psp");
    let built = built();
    built.write(&path);
    let package = settled(&path);
    let offset = built.slots[0].start;
    let error = verify(&package, &|_| {
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        write_at(&file, b"x", offset);
    })
    .unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` changed while it was being read", path.display()));

    let package = Package::open(&path, &Limits::default()).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
    let error = verify(&package, &|_| {}).unwrap_err().to_string();
    assert!(error.ends_with("changed while it was being read"), "{error}");
}

#[test]
fn a_good_package_is_remembered_until_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.psp");
    built().write(&path);
    let ledger = Ledger::new(folder.path().join("verified-v1"));
    let package = settled(&path);
    assert!(ledger.recall(&package).is_none());
    let verification = verified(&package);
    assert!(ledger.record(&package, &verification).unwrap());

    let again = Package::open(&path, &Limits::default()).unwrap();
    assert_eq!(ledger.recall(&again).unwrap().slots, verification.slots);

    // The same bytes written anew are another state of the file.
    built().write(&path);
    assert!(ledger.recall(&settled(&path)).is_none());
}

#[test]
fn only_good_and_settled_packages_are_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(folder.path().join("verified-v1"));
    let bad = folder.path().join("bad.psp");
    built().with_descriptor(0, |row| row[descriptor::CHECKSUM] ^= 1).write(&bad);
    let package = settled(&bad);
    assert!(!ledger.record(&package, &verified(&package)).unwrap());

    let fresh = folder.path().join("fresh.psp");
    built().write(&fresh);
    let package = settled(&fresh);
    let changed = UNIX_EPOCH + Duration::from_nanos(package.identity().changed.try_into().unwrap());
    for (after, recorded) in [(0, false), (10, false), (5000, true)] {
        let started = changed + Duration::from_millis(after);
        let verification = Verification { started, ..verified(&package) };
        assert_eq!(ledger.record(&package, &verification).unwrap(), recorded, "{after} ms after a write");
    }
    fs::remove_dir_all(folder.path().join("verified-v1")).unwrap();

    let directory = Package::open(folder.path(), &Limits::default()).unwrap();
    assert!(!ledger.record(&directory, &verified(&directory)).unwrap());
    assert!(!folder.path().join("verified-v1").exists());
}

#[test]
fn records_that_are_damaged_or_forged_are_as_good_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.psp");
    built().write(&path);
    let records = folder.path().join("verified-v1");
    let ledger = Ledger::new(&records);
    let package = settled(&path);
    assert!(ledger.record(&package, &verified(&package)).unwrap());
    let record = fs::read_dir(&records).unwrap().next().unwrap().unwrap().path();
    let intact = fs::read_to_string(&record).unwrap();
    assert!(ledger.recall(&package).is_some());

    let digest = package.slots()[0].digest.unwrap().to_string();
    for damaged in [
        String::new(),
        "{}".to_owned(),
        intact[..intact.len() / 2].to_owned(),
        intact.replace(&digest, &"0".repeat(64)),
        intact.replace(&digest, "not a digest"),
        intact.replace(package.id(), "0123456789abcdef"),
        intact.replace("\"size\":", "\"size\":1"),
        intact.replacen("\"full\"", r#"{"wrong":{"metadata":true,"descriptor":true}}"#, 1),
        "[".repeat(1_000_000),
        "9".repeat(20 << 20),
    ] {
        fs::write(&record, damaged.as_bytes()).unwrap();
        assert!(ledger.recall(&package).is_none(), "{}", &damaged[..damaged.len().min(100)]);
    }

    // What is in the way of a record is replaced where it can be.
    fs::remove_file(&record).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("/dev/zero", &record).unwrap();
    assert!(ledger.recall(&package).is_none());
    assert!(ledger.record(&package, &verified(&package)).unwrap());
    assert!(ledger.recall(&package).is_some());
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    assert!(ledger.recall(&package).is_none());
    assert!(ledger.record(&package, &verified(&package)).is_err());
}

//! What is refused, and why.

use std::path::PathBuf;

use slotfs_tests::command::missing_fuse;
use slotfs_tests::package::{PackageBuilder, SlotSpec};

use super::support::{WRITABLE, home, mount, overlay, served_no_more, servers, unmount};

#[test]
fn options_that_nobody_knows_are_named() {
    let home = home();
    let done = overlay(&home, "lowerdir=a,volatile,nosuid,squash_to_uid=0").code(2);
    assert!(done.stderr.contains("unknown mount options `volatile`, `squash_to_uid=0`"), "{}", done.stderr);
    let done = overlay(&home, "nosuid").code(2);
    assert!(done.stderr.contains("`lowerdir` is missing"), "{}", done.stderr);
    let done = overlay(&home, "lowerdir=a,upperdir=upper").code(2);
    assert!(done.stderr.contains("`upperdir` needs `workdir`"), "{}", done.stderr);
    assert_eq!(home.mounts(), Vec::<PathBuf>::new());
}

#[test]
fn directories_that_lie_in_each_other_are_refused() {
    let home = home();
    for name in ["a/inner", "upper/inner"] {
        std::fs::create_dir(home.path(name)).unwrap();
    }
    let table = [
        ("lowerdir=a,upperdir=a/inner,workdir=work", "target", "the upper directory"),
        ("lowerdir=upper/inner,upperdir=upper,workdir=work", "target", "the lower directory"),
        ("lowerdir=a,upperdir=upper,workdir=upper/inner", "target", "the work directory"),
        ("lowerdir=a,upperdir=upper,workdir=upper", "target", "the upper directory"),
        ("lowerdir=a", "a/inner", "the mountpoint"),
    ];
    for (options, target, named) in table {
        let done = home.run(["overlay", "-o", options, target]).code(2);
        assert!(done.stderr.contains(named) && done.stderr.contains("lies in"), "{options}: {}", done.stderr);
    }
    assert_eq!(home.mounts(), Vec::<PathBuf>::new());
}

#[test]
fn an_upper_on_another_disk_than_its_work_is_refused_with_the_reason() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let other = tempfile::Builder::new().prefix("slotfs-other-").tempdir_in("/dev/shm").unwrap();
    let options = format!("lowerdir=a,upperdir=upper,workdir={}", other.path().display());
    let done = overlay(&home, &options).code(106);
    assert!(done.stderr.contains("not on the upper's disk"), "{}", done.stderr);
    assert_eq!(home.mounts(), Vec::<PathBuf>::new());
    served_no_more(&home);
}

#[test]
fn an_upper_has_one_mount_at_a_time_whatever_its_work() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    for name in ["target2", "work2"] {
        std::fs::create_dir(home.path(name)).unwrap();
    }
    mount(&home, WRITABLE);
    for work in ["work", "work2"] {
        let options = format!("lowerdir=b,upperdir=upper,workdir={work}");
        let done = home.run(["overlay", "-o", &options, "target2"]).code(110);
        assert!(done.stderr.contains("is in use by another mount"), "{}", done.stderr);
    }
    assert_eq!(servers(&home).len(), 1);
    unmount(&home);
}

#[test]
fn a_damaged_package_is_no_layer() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let mut built =
        PackageBuilder::new("app", "1.0").slot(SlotSpec::file("f", "f", "gzip", &[7; 5000])).build();
    let middle = built.slots[0].start + built.slots[0].len() / 2;
    built.bytes[middle] ^= 1;
    built.write(&home.path("app.psp"));
    overlay(&home, "lowerdir=app.psp:a").code(107);
    std::fs::write(home.path("text"), "no archive").unwrap();
    overlay(&home, "lowerdir=text").code(102);
    assert_eq!(home.mounts(), Vec::<PathBuf>::new());
    assert_eq!(servers(&home), Vec::<i32>::new());
}

#[test]
fn what_is_no_directory_is_no_target() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    for target in ["a/in-a", "missing"] {
        let done = home.run(["overlay", "-o", "lowerdir=b", target]).code(103);
        assert!(done.stderr.contains(target), "{}", done.stderr);
    }
    served_no_more(&home);
}

//! Changes of attributes and names alone copy no content, and nobody can tell the difference.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slotfs_fs::package::Compression;
use slotfs_tests::archive;
use slotfs_tests::command::{Home, missing_fuse, shell_package, skip, wait_for};
use slotfs_tests::package::{SlotSpec, Tree};
use slotfs_tests::tree;
use slotfs_tests::workplace::assert_same;

use super::support::{WRITABLE, home, mount, names, served_no_more, servers, unmount};

/// Large enough to be left where it is, and no multiple of anything.
const LARGE: usize = (3 << 20) + 4321;

/// Less than this is no content.
const NOTHING: u64 = 64;

fn with_metacopy() -> String {
    format!("{WRITABLE},metacopy=on")
}

fn content() -> Vec<u8> {
    (0..LARGE).map(|at| (at / 7 % 251) as u8).collect()
}

/// A home with a large file in `b`, which has a second name.
fn large_home() -> Home {
    let home = home();
    std::fs::write(home.path("b/large"), content()).unwrap();
    std::fs::write(home.path("b/linked"), content()).unwrap();
    std::fs::hard_link(home.path("b/linked"), home.path("b/other-name")).unwrap();
    home
}

fn blocks(path: impl AsRef<Path>) -> u64 {
    std::fs::metadata(path).unwrap().blocks()
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Tells whether the file in the upper directory says that its content is elsewhere.
fn is_bare(path: impl AsRef<Path>) -> bool {
    let mut value = [0; 8];
    rustix::fs::lgetxattr(path.as_ref(), "user.overlay.metacopy", &mut value[..]).is_ok()
}

#[test]
fn every_change_of_attributes_and_names_leaves_the_content_where_it_is() {
    if missing_fuse().is_some() {
        return;
    }
    let home = large_home();
    let place = mount(&home, &with_metacopy());
    let lower = std::fs::metadata(home.path("b/large")).unwrap();
    set_mode(&place.join("large"), 0o640);
    std::os::unix::fs::chown(place.join("large"), Some(7), Some(8)).unwrap();
    rustix::fs::lsetxattr(place.join("large"), "user.colour", b"red", rustix::fs::XattrFlags::empty())
        .unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    File::open(place.join("large")).unwrap().set_modified(time).unwrap();
    std::fs::hard_link(place.join("large"), place.join("second")).unwrap();
    std::fs::create_dir(place.join("deep")).unwrap();
    std::fs::rename(place.join("large"), place.join("deep/moved")).unwrap();
    set_mode(&place.join("linked"), 0o600);
    let look = |place: &Path| {
        let seen = std::fs::metadata(place.join("deep/moved")).unwrap();
        assert_eq!((seen.mode() & 0o7777, seen.uid(), seen.gid(), seen.mtime()), (0o640, 7, 8, 1_000_000));
        assert_eq!((seen.size(), seen.blocks(), seen.nlink()), (LARGE as u64, lower.blocks(), 2));
        let linked = std::fs::metadata(place.join("other-name")).unwrap();
        assert_eq!((linked.mode() & 0o7777, linked.nlink(), linked.size()), (0o600, 2, LARGE as u64));
        for name in ["deep/moved", "second", "linked", "other-name"] {
            assert!(std::fs::read(place.join(name)).unwrap() == content(), "{name}");
        }
    };
    look(&place);
    unmount(&home);
    for name in ["upper/deep/moved", "upper/second", "upper/linked"] {
        assert!(is_bare(home.path(name)) && blocks(home.path(name)) < NOTHING, "{name}");
        assert_eq!(std::fs::metadata(home.path(name)).unwrap().size(), LARGE as u64);
    }
    // Also where no new ones are made.
    for options in [with_metacopy(), WRITABLE.to_owned()] {
        look(&mount(&home, &options));
        unmount(&home);
    }
    assert!(std::fs::read(home.path("b/large")).unwrap() == content());
}

#[test]
fn the_first_write_brings_the_content_under_every_name() {
    if missing_fuse().is_some() {
        return;
    }
    let home = large_home();
    let place = mount(&home, &with_metacopy());
    let mut expected = content();
    for name in ["large", "linked"] {
        set_mode(&place.join(name), 0o600);
        // A reader that came first goes on and sees what is written.
        let reader = File::open(place.join(name)).unwrap();
        let mut byte = [0];
        reader.read_exact_at(&mut byte, 5).unwrap();
        assert_eq!(byte[0], expected[5]);
        let before = std::fs::metadata(place.join(name)).unwrap();
        let writer = OpenOptions::new().write(true).open(place.join(name)).unwrap();
        let after = std::fs::metadata(place.join(name)).unwrap();
        assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()));
        writer.write_all_at(b"!", 5).unwrap();
        reader.read_exact_at(&mut byte, 5).unwrap();
        assert_eq!(byte, *b"!");
    }
    expected[5] = b'!';
    for _ in 0..2 {
        for name in ["large", "linked", "other-name"] {
            assert!(std::fs::read(place.join(name)).unwrap() == expected, "{name}");
        }
        unmount(&home);
        for name in ["upper/large", "upper/linked"] {
            assert!(!is_bare(home.path(name)) && blocks(home.path(name)) > NOTHING, "{name}");
            assert!(std::fs::read(home.path(name)).unwrap() == expected, "{name}");
        }
        mount(&home, &with_metacopy());
    }
    unmount(&home);
}

#[test]
fn what_is_cut_is_not_copied_first() {
    if missing_fuse().is_some() {
        return;
    }
    let home = large_home();
    let place = mount(&home, &with_metacopy());
    for name in ["large", "linked"] {
        set_mode(&place.join(name), 0o600);
    }
    File::create(place.join("large")).unwrap();
    let file = OpenOptions::new().write(true).open(place.join("in-b")).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 100).unwrap();
    drop(file);
    nix::unistd::truncate(&place.join("linked"), 5000).unwrap();
    assert_eq!(std::fs::read(place.join("large")).unwrap(), b"");
    assert!(std::fs::read(place.join("other-name")).unwrap() == content()[..5000]);
    unmount(&home);
    assert!(!is_bare(home.path("upper/large")) && blocks(home.path("upper/large")) < NOTHING);
    assert!(!is_bare(home.path("upper/linked")) && blocks(home.path("upper/linked")) < NOTHING);
    assert_eq!(std::fs::metadata(home.path("upper/in-b")).unwrap().size(), 100);
    let place = mount(&home, &with_metacopy());
    // Longer than it was: the rest is a hole.
    nix::unistd::truncate(&place.join("linked"), 10_000).unwrap();
    let mut expected = content()[..5000].to_vec();
    expected.resize(10_000, 0);
    assert!(std::fs::read(place.join("linked")).unwrap() == expected);
    unmount(&home);
}

#[test]
fn an_open_file_without_a_name_keeps_its_content() {
    if missing_fuse().is_some() {
        return;
    }
    let home = large_home();
    let place = mount(&home, &with_metacopy());
    set_mode(&place.join("large"), 0o600);
    let writer = OpenOptions::new().read(true).write(true).open(place.join("linked")).unwrap();
    let reader = File::open(place.join("large")).unwrap();
    for name in ["large", "linked", "other-name"] {
        std::fs::remove_file(place.join(name)).unwrap();
    }
    let mut bytes = vec![0; LARGE];
    reader.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == content());
    reader.set_permissions(std::fs::Permissions::from_mode(0o400)).unwrap();
    writer.write_all_at(b"!", 0).unwrap();
    writer.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes[0] == b'!' && bytes[1..] == content()[1..]);
    drop((reader, writer));
    unmount(&home);
}

#[test]
fn small_files_and_those_of_mounts_that_did_not_ask_are_whole() {
    if missing_fuse().is_some() {
        return;
    }
    let home = large_home();
    let place = mount(&home, &with_metacopy());
    set_mode(&place.join("in-b"), 0o600);
    unmount(&home);
    assert!(!is_bare(home.path("upper/in-b")));
    let place = mount(&home, WRITABLE);
    set_mode(&place.join("large"), 0o600);
    unmount(&home);
    assert!(!is_bare(home.path("upper/large")) && blocks(home.path("upper/large")) > NOTHING);
}

/// Looks through the kernel's overlay, mounted with `options` besides; nothing where there is none.
fn in_kernel<T>(home: &Home, options: &str, look: impl FnOnce(&Path) -> T) -> Option<T> {
    let root = home.root().display();
    std::fs::create_dir_all(home.path("kernel-work")).unwrap();
    let options =
        format!("lowerdir={root}/a:{root}/b,upperdir={root}/upper,workdir={root}/kernel-work,{options}");
    let place = home.path("target");
    let kind = Some("overlay");
    if let Err(error) = nix::mount::mount(kind, &place, kind, MsFlags::empty(), Some(&*options)) {
        skip(format!("overlayfs cannot be mounted here: {error}"));
        return None;
    }
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&place)));
    nix::mount::umount2(&place, MntFlags::MNT_DETACH).unwrap();
    Some(seen.unwrap())
}

#[test]
fn what_the_kernel_copied_without_content_is_read_and_completed() {
    if missing_fuse().is_some() {
        return;
    }
    let home = large_home();
    let copied = in_kernel(&home, "metacopy=on,redirect_dir=on", |place| {
        set_mode(&place.join("large"), 0o640);
        std::fs::rename(place.join("linked"), place.join("renamed")).unwrap();
        set_mode(&place.join("renamed"), 0o600);
    });
    if copied.is_none() {
        return;
    }
    assert!(blocks(home.path("upper/large")) < NOTHING && blocks(home.path("upper/renamed")) < NOTHING);
    let place = mount(&home, WRITABLE);
    for name in ["large", "renamed"] {
        assert!(std::fs::read(place.join(name)).unwrap() == content(), "{name}");
        OpenOptions::new().write(true).open(place.join(name)).unwrap().write_all_at(b"!", 0).unwrap();
    }
    unmount(&home);
    for name in ["upper/large", "upper/renamed"] {
        let seen = std::fs::read(home.path(name)).unwrap();
        assert!(seen[0] == b'!' && seen[1..] == content()[1..], "{name}");
    }
}

#[test]
fn the_kernel_refuses_such_a_file_and_shows_it_after_it_was_made_whole() {
    if missing_fuse().is_some() {
        return;
    }
    let home = large_home();
    let place = mount(&home, &with_metacopy());
    set_mode(&place.join("large"), 0o640);
    set_mode(&place.join("linked"), 0o600);
    std::fs::rename(place.join("in-b"), place.join("renamed")).unwrap();
    let before = tree::describe(&place);
    unmount(&home);
    // Never wrong bytes.
    let refused =
        in_kernel(&home, "userxattr", |place| std::fs::read(place.join("large")).unwrap_err().raw_os_error());
    let Some(refused) = refused else { return };
    assert_eq!(refused, Some(libc::EPERM));

    let place = mount(&home, &format!("{WRITABLE},metacopy=off"));
    assert_same(&before, &tree::describe(&place), "made whole");
    unmount(&home);
    assert!(!is_bare(home.path("upper/large")) && !is_bare(home.path("upper/linked")));
    let theirs = in_kernel(&home, "userxattr", tree::describe).unwrap();
    // A second name that was never used in the mount is not in the upper directory, and so not in the kernel's overlay.
    let without = |mut tree: std::collections::BTreeMap<std::path::PathBuf, String>| {
        tree.retain(|path, _| !path.ends_with("other-name") && !path.ends_with("linked"));
        tree
    };
    assert_same(&without(before), &without(theirs), "in the kernel's overlay");
}

#[test]
fn a_kill_while_the_content_is_brought_leaves_it_as_it_was() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let content: Vec<u8> = (0..40 << 20).map(|at: u32| (at / 4096 % 253) as u8 + 1).collect();
    // In an archive, as a disk may copy a file by reference, in no time.
    let archive = Tree::new().file("huge", 0o644, &content).archive();
    std::fs::write(home.path("b.tar.gz"), archive::compress(Compression::Gzip, &archive)).unwrap();
    let options = with_metacopy().replace(":b,", ":b.tar.gz,");
    let mut in_between = 0;
    for round in 0..6 {
        let place = mount(&home, &options);
        set_mode(&place.join("huge"), 0o600 | round);
        let opening = std::thread::spawn({
            let path = place.join("huge");
            move || OpenOptions::new().write(true).open(path).is_ok()
        });
        // At first nothing is written, then more and more of it.
        let copy = home.path("upper/huge");
        let wanted = u64::from(round) * (8 << 20) / 512;
        wait_for("some of the content", || blocks(&copy) >= wanted || !is_bare(&copy));
        kill(Pid::from_raw(servers(&home)[0]), Signal::SIGKILL).unwrap();
        opening.join().unwrap();
        served_no_more(&home);
        in_between += u32::from(is_bare(&copy) && blocks(&copy) > NOTHING);
        let place = mount(&home, &options);
        let seen = std::fs::metadata(place.join("huge")).unwrap();
        assert_eq!((seen.size(), seen.mode() & 0o777), (content.len() as u64, 0o600 | round));
        assert!(std::fs::read(place.join("huge")).unwrap() == content, "round {round}");
        std::fs::remove_file(place.join("huge")).unwrap();
        unmount(&home);
        // As at the beginning.
        std::fs::remove_file(home.path("upper/huge")).unwrap();
    }
    assert!(in_between > 0, "no kill came in between");
}

#[test]
fn an_upper_with_such_files_is_a_layer_like_any_other() {
    if missing_fuse().is_some() {
        return;
    }
    let home = large_home();
    let place = mount(&home, &with_metacopy());
    set_mode(&place.join("large"), 0o640);
    std::fs::create_dir(place.join("deep")).unwrap();
    std::fs::rename(place.join("large"), place.join("deep/moved")).unwrap();
    let before = tree::describe(&place);
    unmount(&home);
    let place = mount(&home, "lowerdir=upper:a:b");
    assert_same(&before, &tree::describe(&place), "as a layer");
    assert_eq!(blocks(place.join("deep/moved")), blocks(home.path("b/large")));
    unmount(&home);
    // Without what it lies over, its content is nowhere.
    std::fs::create_dir(home.path("c")).unwrap();
    let place = mount(&home, "lowerdir=upper:c");
    let error = std::fs::read(place.join("deep/moved")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    unmount(&home);
}

#[test]
fn content_that_is_gone_is_an_error_and_never_other_bytes() {
    if missing_fuse().is_some() {
        return;
    }
    let home = large_home();
    let place = mount(&home, &with_metacopy());
    set_mode(&place.join("large"), 0o640);
    set_mode(&place.join("linked"), 0o640);
    unmount(&home);
    std::fs::write(home.path("b/large"), &content()[1..]).unwrap();
    let place = mount(&home, &with_metacopy());
    let error = std::fs::read(place.join("large")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    let error = OpenOptions::new().append(true).open(place.join("large")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert_eq!(std::fs::metadata(place.join("large")).unwrap().size(), LARGE as u64);
    // It can be written anew, renamed and removed.
    std::fs::rename(place.join("large"), place.join("renamed")).unwrap();
    std::fs::write(place.join("renamed"), "new").unwrap();
    assert_eq!(std::fs::read(place.join("renamed")).unwrap(), b"new");
    unmount(&home);
}

#[test]
fn a_package_that_always_has_its_slots_leaves_its_content_in_them() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let slot =
        |id: &str| SlotSpec::tree(id, "tar.gzip", Tree::new().file(format!("{id}-file"), 0o644, &content()));
    let always = shell_package("always", "true").slot(slot("lib"));
    let sometimes =
        shell_package("sometimes", "true").slot(slot("lib")).slot(slot("dev").lifecycle("dev", 8));
    for (name, package, bare) in [("always", always, true), ("sometimes", sometimes, false)] {
        let path = home.package(&format!("{name}.psp"), package);
        for round in 0..2 {
            home.run(["mount".as_ref(), path.as_os_str()]).success();
            let file = home.workenv(name).join("lib-file");
            if round == 0 {
                set_mode(&file, 0o755);
            }
            assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o755);
            assert!(std::fs::read(&file).unwrap() == content(), "{name}");
            home.run(["unmount", name]).success();
            let copy = home.session(name).join("upper/lib-file");
            assert_eq!((is_bare(&copy), blocks(&copy) < NOTHING), (bare, bare), "{name}");
        }
    }
    assert_eq!(names(&home.session("always").join("upper")), ["lib-file"]);
}

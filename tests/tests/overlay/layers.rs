//! What layers show, and where writes go.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags};
use slotfs_tests::command::{Home, missing_fuse, skip};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};
use slotfs_tests::tree;

use super::support::{WRITABLE, home, mount, names, overlay, servers, table_line, unmount};

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_leftmost_is_on_top_and_writes_go_to_the_upper() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let place = mount(&home, WRITABLE);
    assert_eq!(names(&place), ["both", "in-a", "in-b"]);
    assert_eq!(text(place.join("both")), "a");
    std::fs::write(place.join("in-b"), "written").unwrap();
    std::fs::remove_file(place.join("both")).unwrap();
    std::fs::create_dir_all(place.join("new/deep")).unwrap();
    unmount(&home);
    assert_eq!(names(&home.path("upper")), ["both", "in-b", "new"]);
    assert!(std::fs::metadata(home.path("upper/both")).unwrap().file_type().is_char_device());
    assert_eq!(text(home.path("b/in-b")), "b");
    // Nothing was put beside what the user named.
    assert_eq!(names(home.root()), [".cache", "a", "b", "target", "upper", "work"]);
    let place = mount(&home, WRITABLE);
    assert_eq!(names(&place), ["in-a", "in-b", "new"]);
    assert_eq!(text(place.join("in-b")), "written");
    unmount(&home);
}

#[test]
fn packages_and_archives_are_layers_too() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let slot =
        SlotSpec::tree("lib", "tar.gzip", Tree::new().file("both", 0o644, b"slot").file("in-p", 0o600, b"p"));
    home.package("app.psp", PackageBuilder::new("app", "1.0").slot(slot));
    let members = Tree::new().file("in-t", 0o644, b"t").file("both", 0o644, b"tar").archive();
    std::fs::write(home.path("t.tar"), members).unwrap();
    let place = mount(&home, "lowerdir=t.tar:app.psp:a,upperdir=upper,workdir=work");
    assert_eq!(names(&place), ["both", "in-a", "in-p", "in-t"]);
    assert_eq!(text(place.join("both")), "tar");
    assert_eq!(text(place.join("in-p")), "p");
    std::fs::write(place.join("in-p"), "changed").unwrap();
    unmount(&home);
    let place = mount(&home, "lowerdir=app.psp:t.tar,upperdir=upper,workdir=work");
    assert_eq!(text(place.join("both")), "slot");
    assert_eq!(text(place.join("in-p")), "changed");
    unmount(&home);
}

#[test]
fn without_an_upper_nothing_can_be_written() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    for options in ["lowerdir=a:b", "ro,lowerdir=a:b,upperdir=upper,workdir=work"] {
        let place = mount(&home, options);
        let error = std::fs::write(place.join("new"), "").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        assert_eq!(text(place.join("both")), "a");
        unmount(&home);
    }
}

#[test]
fn the_kernel_is_told_what_it_takes_care_of() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    mount(
        &home,
        &format!("{WRITABLE},noexec,sync,nodiratime,fsname=my own,_netdev,x-note,nofail,comment=no"),
    );
    let line = table_line(&home);
    assert!(line.starts_with("my\\040own "), "{line}");
    let options: Vec<_> = line.split(' ').nth(3).unwrap().split(',').collect();
    for wanted in ["rw", "nosuid", "nodev", "noexec", "sync", "noatime", "nodiratime", "default_permissions"]
    {
        assert!(options.contains(&wanted), "{wanted}: {line}");
    }
    unmount(&home);
    mount(&home, &format!("{WRITABLE},relatime,suid,dev"));
    let line = table_line(&home);
    assert!(line.starts_with("overlay "), "{line}");
    for unwanted in ["noatime", "nosuid", "nodev", "noexec"] {
        assert!(!line.contains(unwanted), "{line}");
    }
    unmount(&home);
}

#[test]
fn without_passthrough_what_is_written_comes_to_the_server() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let content = vec![7; 4 << 20];
    for (flag, comes) in [("passthrough", !nix::unistd::geteuid().is_root()), ("nopassthrough", true)] {
        let place = mount(&home, &format!("{WRITABLE},{flag}"));
        let read = || {
            let counts = std::fs::read_to_string(format!("/proc/{}/io", servers(&home)[0])).unwrap();
            let line = counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
            line.parse::<usize>().unwrap()
        };
        let before = read();
        std::fs::write(place.join("large"), &content).unwrap();
        assert_eq!(read() - before >= content.len(), comes, "{flag}");
        assert_eq!(std::fs::read(place.join("large")).unwrap(), content);
        unmount(&home);
    }
}

#[test]
fn separators_may_be_part_of_a_name() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    std::fs::rename(home.path("a"), home.path("a:1,2\\")).unwrap();
    let place = mount(&home, r"lowerdir=a\:1\,2\\:b,upperdir=upper,workdir=work");
    assert_eq!(names(&place), ["both", "in-a", "in-b"]);
    unmount(&home);
}

/// Whiteouts, directories that replace others, moved directories, all through our own mount.
fn rework(place: &Path) {
    std::fs::remove_file(place.join("both")).unwrap();
    std::fs::remove_dir_all(place.join("replaced")).unwrap();
    std::fs::create_dir(place.join("replaced")).unwrap();
    std::fs::write(place.join("replaced/new"), "new").unwrap();
    std::fs::rename(place.join("moved"), place.join("here")).unwrap();
    std::fs::write(place.join("here/added"), "added").unwrap();
    std::fs::write(place.join("in-b"), "changed").unwrap();
}

fn deepen(home: &Home) {
    for directory in ["replaced", "moved"] {
        std::fs::create_dir(home.path("b").join(directory)).unwrap();
        std::fs::write(home.path("b").join(directory).join("old"), directory).unwrap();
    }
}

#[test]
fn a_former_upper_is_a_layer_that_hides_and_moves_as_it_did() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    deepen(&home);
    let place = mount(&home, WRITABLE);
    rework(&place);
    let before = tree::describe(&place);
    unmount(&home);
    let place = mount(&home, "lowerdir=upper:a:b");
    assert_eq!(names(&place), ["here", "in-a", "in-b", "replaced"]);
    assert_eq!(names(&place.join("replaced")), ["new"]);
    assert_eq!(names(&place.join("here")), ["added", "old"]);
    slotfs_tests::workplace::assert_same(&before, &tree::describe(&place), "as a layer");
    unmount(&home);
    // It is written over as any other layer.
    for name in ["upper2", "work2"] {
        std::fs::create_dir(home.path(name)).unwrap();
    }
    let place = mount(&home, "lowerdir=upper:a:b,upperdir=upper2,workdir=work2");
    std::fs::write(place.join("both"), "back").unwrap();
    std::fs::write(place.join("here/old"), "again").unwrap();
    assert_eq!(names(&place), ["both", "here", "in-a", "in-b", "replaced"]);
    assert_eq!(names(&place.join("here")), ["added", "old"]);
    unmount(&home);
}

/// Mounts the kernel's own overlay, does `work` in it, and unmounts; `false` where there is none.
fn in_kernel(home: &Home, options: &str, work: impl FnOnce(&Path)) -> bool {
    let place = home.path("target");
    let options = options
        .replace('=', &format!("={}/", home.root().display()))
        .replace(':', &format!(":{}/", home.root().display()));
    let kind = Some("overlay");
    if let Err(error) = nix::mount::mount(Some("overlay"), &place, kind, MsFlags::empty(), Some(&*options)) {
        skip(format!("overlayfs cannot be mounted here: {error}"));
        return false;
    }
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&place)));
    nix::mount::umount2(&place, MntFlags::MNT_DETACH).unwrap();
    done.unwrap();
    true
}

#[test]
fn what_the_kernel_has_written_is_understood_as_layer_and_as_upper() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    deepen(&home);
    let mut before = None;
    // Without `userxattr`, its marks are in another name space.
    let worked = in_kernel(&home, WRITABLE, |place| {
        std::fs::remove_file(place.join("both")).unwrap();
        std::fs::remove_dir_all(place.join("replaced")).unwrap();
        std::fs::create_dir(place.join("replaced")).unwrap();
        std::fs::write(place.join("replaced/new"), "new").unwrap();
        before = Some(tree::describe(place));
    });
    if !worked {
        return;
    }
    for options in ["lowerdir=upper:a:b", WRITABLE] {
        let place = mount(&home, options);
        slotfs_tests::workplace::assert_same(before.as_ref().unwrap(), &tree::describe(&place), options);
        unmount(&home);
    }
}

#[test]
fn the_kernel_shows_what_was_written_here() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    deepen(&home);
    let place = mount(&home, WRITABLE);
    std::fs::remove_file(place.join("both")).unwrap();
    std::fs::remove_dir_all(place.join("replaced")).unwrap();
    std::fs::create_dir(place.join("replaced")).unwrap();
    std::fs::write(place.join("moved/old"), "changed").unwrap();
    let before = tree::describe(&place);
    unmount(&home);
    std::fs::create_dir(home.path("work2")).unwrap();
    let options = "lowerdir=a:b,upperdir=upper,workdir=work2,userxattr";
    in_kernel(&home, options, |place| {
        slotfs_tests::workplace::assert_same(&before, &tree::describe(place), "in the kernel's overlay");
    });
}

#[test]
fn with_noac_a_change_from_outside_is_seen_where_nothing_was_written() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let place = mount(&home, &format!("{WRITABLE},noac"));
    assert_eq!(text(place.join("both")), "a");
    std::fs::write(place.join("in-a"), "through the mount").unwrap();
    for (name, content) in [("both", "changed"), ("in-a", "hidden"), ("late", "new")] {
        std::fs::write(home.path("a").join(name), content).unwrap();
    }
    assert_eq!(text(place.join("both")), "changed");
    assert_eq!(text(place.join("late")), "new");
    assert_eq!(text(place.join("in-a")), "through the mount");
    std::fs::remove_file(home.path("a/both")).unwrap();
    assert_eq!(text(place.join("both")), "b");
    unmount(&home);
}

#[test]
fn without_noac_the_kernel_asks_once() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let place = mount(&home, &format!("{WRITABLE},nopassthrough"));
    let late = || place.join("late").exists();
    assert!(!late());
    std::fs::write(home.path("a/late"), "new").unwrap();
    assert!(!late(), "it was looked up again");
    // What is changed through the mount is seen all the same.
    std::fs::write(place.join("late"), "written").unwrap();
    std::fs::write(place.join("both"), "written").unwrap();
    assert_eq!((text(place.join("late")), text(place.join("both"))), ("written".into(), "written".into()));
    unmount(&home);
}

#[test]
fn a_directory_can_be_mounted_over_itself() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    home.run(["overlay", "-o", "lowerdir=a,upperdir=upper,workdir=work", "a"]).success();
    std::fs::write(home.path("a/in-a"), "over").unwrap();
    assert_eq!(text(home.path("a/in-a")), "over");
    home.run(["unmount", "a"]).success();
    assert_eq!(text(home.path("a/in-a")), "a");
    super::support::served_no_more(&home);
}

#[test]
fn devices_work_only_where_they_were_asked_for() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let null = home.path("a/null");
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    let number = nix::sys::stat::makedev(1, 3);
    if nix::sys::stat::mknod(&null, nix::sys::stat::SFlag::S_IFCHR, mode, number).is_err() {
        skip("devices cannot be made here".into());
        return;
    }
    let place = mount(&home, "lowerdir=a");
    assert_eq!(std::fs::metadata(place.join("null")).unwrap().rdev(), number);
    assert_eq!(std::fs::read(place.join("null")).unwrap_err().raw_os_error(), Some(libc::EACCES));
    unmount(&home);
    let place = mount(&home, "lowerdir=a,dev");
    assert_eq!(std::fs::read(place.join("null")).unwrap(), b"");
    unmount(&home);
    overlay(&home, "lowerdir=missing").code(106);
}

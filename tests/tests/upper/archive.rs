//! `slotfs diff --tar`: the archive, unpacked by tar over the package's tree, gives what the mount showed.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use slotfs_tests::command::missing_fuse;
use slotfs_tests::tree;

use super::support::{apply, archive, mounted, write};

#[test]
fn the_archive_over_the_package_is_what_the_mount_shows() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write(&root);
    rustix::fs::setxattr(root.join("lib/x.py"), "user.note", b"kept", rustix::fs::XattrFlags::empty())
        .unwrap();
    fs::create_dir_all(root.join("d".repeat(120))).unwrap();
    fs::write(root.join("d".repeat(120)).join("ü"), "long").unwrap();
    fs::write(root.join("lib/tool"), "changed under both names").unwrap();
    let live = archive(&home, "live.tar");
    let shown = tree::describe(&root);
    home.run(["unmount", "app"]).success();
    home.settle();
    let after = archive(&home, "after.tar");
    assert!(
        fs::read(&live).unwrap() == fs::read(&after).unwrap(),
        "the archive depends on whether it is mounted"
    );
    let copy = home.path("copy");
    home.run(["extract", "app.psp", "copy"]).success();
    apply(&home, &after, &copy);
    slotfs_tests::workplace::assert_same(&shown, &tree::describe(&copy), "from the archive");
    let note = |path: &Path| {
        let mut value = vec![0; 16];
        let length = rustix::fs::getxattr(path, "user.note", &mut value[..]).unwrap();
        value.truncate(length);
        value
    };
    assert_eq!(note(&copy.join("lib/x.py")), b"kept");
    let inode = |name: &str| fs::metadata(copy.join("var/log").join(name)).unwrap().ino();
    assert_eq!(inode("app.log"), inode("same.log"));
}

#[test]
fn holes_take_no_room_in_the_archive() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    let file = fs::File::create(root.join("sparse")).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(b"start", 0).unwrap();
    file.write_all_at(b"middle", 1 << 39).unwrap();
    drop(file);
    home.run(["unmount", "app"]).success();
    home.settle();
    let path = archive(&home, "sparse.tar");
    assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
    let copy = home.path("copy");
    fs::create_dir(&copy).unwrap();
    apply(&home, &path, &copy);
    let file = fs::File::open(copy.join("sparse")).unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.len(), 1 << 40);
    assert!(metadata.blocks() < 2048, "{} blocks", metadata.blocks());
    let mut middle = [0; 6];
    file.read_exact_at(&mut middle, 1 << 39).unwrap();
    assert_eq!(&middle, b"middle");
}

#[test]
fn a_terminal_gets_no_archive_and_odd_things_are_left_out_aloud() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    fs::write(root.join(".wh.name"), "x").unwrap();
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
    let path = home.path("odd.tar");
    let mut command = home.slotfs(["diff", "app", "--tar"]);
    let output = command.stdout(fs::File::create(&path).unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("left out `.wh.name`") && said.contains("left out `socket`"), "{said}");
    let mut terminal = home.program("script");
    let line = format!("{} diff app --tar", slotfs_tests::command::binary().display());
    let done = slotfs_tests::command::Done::of(terminal.args(["-qec", &line, "/dev/null"])).code(2);
    assert!(done.stdout.contains("cannot write an archive to a terminal"), "{}", done.stdout);
    home.run(["unmount", "app"]).success();
    home.settle();
}

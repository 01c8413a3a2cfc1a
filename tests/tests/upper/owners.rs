//! An ordinary user's work environment in which others work, too: whose things are is kept through every command that looks
//! at the upper directory, and through a kill.

use std::os::unix::fs::MetadataExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slotfs_tests::command::{Done, is_ours, missing_fuse, shell_package, wait_for};
use slotfs_tests::ordinary::{NOBODY, Ordinary};
use slotfs_tests::package::{SlotSpec, Tree};

const CHANGE: &str = "chown 1:2 lib/text && chmod 2640 lib/text && ln -s text lib/link && chown -h 3:4 lib/link && \
                      mkdir -m 0 lib/closed && echo in > lib/closed/file && mkfifo -m 644 lib/fifo && \
                      setfattr -n trusted.note -v kept lib/text";
const SHOW: &str = "find lib | sort | xargs stat -c '%n %A %u:%g %h' | grep -v '^lib d' && cat lib/closed/file && \
                    getfattr --only-values -n trusted.note lib/text";
const SHOWN: &str = "lib/closed d--------- 0:0 2\nlib/closed/file -rw-r--r-- 0:0 1\n\
                     lib/fifo prw-r--r-- 0:0 1\nlib/link lrwxrwxrwx 3:4 1\nlib/text -rw-r-S--- 1:2 1\nin\nkept";

/// Runs a line of shell in the environment, as root.
fn as_root(user: &Ordinary, line: &str) -> Done {
    let line = format!("umask 022; cd '{}' && {line}", user.home().workenv("app").display());
    Done::of(&mut user.program_of_root("sh", ["-ec", &line]))
}

fn show(user: &Ordinary) -> String {
    as_root(user, SHOW).success().stdout
}

/// What the archive of the changes holds, as tar lists it.
fn archived(user: &Ordinary, path: &str) -> Vec<String> {
    let slotfs = user.home().path("slotfs");
    let line = format!("'{}' diff '{path}' --tar | tar --numeric-owner -tvf -", slotfs.display());
    let listed = user.shell(&line).success().stdout;
    let mut entries: Vec<String> = listed
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[1], words[5])
        })
        .collect();
    entries.sort();
    entries
}

#[test]
fn whose_things_are_is_kept_through_every_command() {
    if missing_fuse().is_some() {
        return;
    }
    let Some(user) = Ordinary::letting_others_in() else { return };
    let tree = Tree::new().directory("lib", 0o755).file("lib/text", 0o644, b"packaged\n");
    let package = shell_package("app", "true").slot(SlotSpec::tree("app", "tar", tree));
    let package = user.home().package("app.psp", package);
    user.own(&package);
    let path = package.to_str().unwrap();
    user.run(["mount", path]).success();
    as_root(&user, CHANGE).success();
    assert_eq!(show(&user), SHOWN);
    let expected = [
        "-rw-r--r-- 0/0 lib/closed/file",
        "-rw-r-S--- 1/2 lib/text",
        "d--------- 0/0 lib/closed/",
        "drwxr-xr-x 65534/65534 lib/",
        "lrwxrwxrwx 3/4 lib/link",
        "prw-r--r-- 0/0 lib/fifo",
    ];
    assert_eq!(archived(&user, path), expected);
    user.run(["snapshot", "app", "first"]).success();
    as_root(
        &user,
        "chown -hR 7:7 lib && chmod 777 lib/closed && rm lib/fifo && setfattr -x trusted.note lib/text",
    )
    .success();
    user.run(["restore", "app", "first", "-y"]).success();
    assert_eq!(show(&user), SHOWN, "put back in use");
    let server = user.home().servers()[0];
    kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
    wait_for("the end of the server", || !is_ours(server));
    user.run(["mount", path]).success();
    assert_eq!(show(&user), SHOWN, "after a kill");
    user.run(["unmount", "app"]).success();
    assert_eq!(archived(&user, path), expected, "at rest");
    // Nothing on the disk belongs to anybody else, or keeps its owner out.
    let upper = user.home().session("app").join("upper");
    for name in ["lib", "lib/text", "lib/closed", "lib/link", "lib/fifo"] {
        let found = upper.join(name).symlink_metadata().unwrap();
        assert_eq!((found.uid(), found.mode() & 0o600), (NOBODY, 0o600), "{name}");
    }
    user.run(["restore", "app", "first", "-y"]).success();
    user.run(["mount", path]).success();
    assert_eq!(show(&user), SHOWN, "put back at rest");
    user.run(["reset", "app", "lib/text", "lib/link", "-y"]).success();
    let after = as_root(&user, "stat -c '%n %a %u' lib/* && getfattr -d -m - lib/text").success().stdout;
    assert_eq!(after, "lib/closed 0 0\nlib/fifo 644 0\nlib/text 644 65534\n");
    user.run(["unmount", "app"]).success();
}

/// Its user makes a directory unreadable, and can still look at it after the next mount.
#[test]
fn a_directory_that_its_user_has_closed_is_there_after_the_next_mount() {
    if missing_fuse().is_some() {
        return;
    }
    let Some(user) = Ordinary::new() else { return };
    let tree = Tree::new().file("lib/inner/text", 0o644, b"packaged\n");
    let package = shell_package("app", "true").slot(SlotSpec::tree("app", "tar", tree));
    let package = user.home().package("app.psp", package);
    user.own(&package);
    let path = package.to_str().unwrap();
    let inside = |line: &str| user.shell(&format!("cd '{}' && {line}", user.home().workenv("app").display()));
    user.run(["mount", path]).success();
    inside("mkdir new && echo x > new/file && chmod 0 new lib/inner && chmod 0 lib").success();
    user.run(["unmount", "app"]).success();
    user.run(["mount", path]).success();
    let found = inside(
        "stat -c '%n %a' new lib; ls new 2>&1 || chmod 700 new lib && stat -c '%n %a' lib/inner && cat new/file",
    );
    assert_eq!(
        found.success().stdout,
        "new 0\nlib 0\nls: cannot open directory 'new': Permission denied\nlib/inner 0\nx\n"
    );
    inside("cat lib/inner/text 2>&1").code(1);
    inside("chmod 700 lib/inner && cat lib/inner/text").success();
    user.run(["unmount", "app"]).success();
}

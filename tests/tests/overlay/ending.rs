//! How such a mount ends, and what is there afterwards.

use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slotfs_tests::command::{Done, Running, missing_fuse, wait_for};

use super::support::{WRITABLE, home, mount, served_no_more, servers, unmount};

#[test]
fn whatever_unmounts_it_ends_the_server_and_frees_the_upper() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    for (number, unmounting) in
        [["slotfs", "unmount"], ["umount", "-v"], ["fusermount3", "-u"]].into_iter().enumerate()
    {
        let place = mount(&home, WRITABLE);
        assert_eq!(names_written(&place), number);
        std::fs::write(place.join(format!("written-{number}")), "").unwrap();
        match unmounting {
            ["slotfs", command] => home.run([command, "target"]).success(),
            [program, flag] => {
                Done::of(home.program(program).args([flag, place.to_str().unwrap()])).success()
            }
        };
        assert_eq!(home.mounts(), Vec::<PathBuf>::new());
        // The next one starts at once, whether the last server has ended already or not.
    }
    let place = mount(&home, WRITABLE);
    assert_eq!(names_written(&place), 3);
    unmount(&home);
}

fn names_written(place: &std::path::Path) -> usize {
    super::support::names(place).iter().filter(|name| name.starts_with("written-")).count()
}

#[test]
fn what_is_in_use_stays_until_it_is_free() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let place = mount(&home, WRITABLE);
    let user = Running::start(home.program("sleep").arg("60").current_dir(&place));
    let done = home.run(["unmount", "target"]).code(110);
    assert!(done.stderr.contains("sleep 60"), "{}", done.stderr);
    // Asked to end, the server waits for its user.
    kill(Pid::from_raw(servers(&home)[0]), Signal::SIGTERM).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(home.mounts(), [place]);
    user.signal(Signal::SIGKILL);
    user.finish();
    home.settle();
    served_no_more(&home);
}

#[test]
fn in_the_foreground_it_ends_with_its_command() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let arguments = ["overlay", "--foreground", "-o", WRITABLE, "target"];
    for ending in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let mut command = Running::start(&mut home.slotfs(arguments));
        assert_eq!(command.line(), "target");
        assert_eq!(home.mounts(), [home.path("target")]);
        command.signal(ending);
        command.finish();
        home.settle();
        served_no_more(&home);
    }
    let mut command = Running::start(&mut home.slotfs(arguments));
    command.line();
    nix::mount::umount(&home.path("target")).unwrap();
    command.finish().success();
    served_no_more(&home);
}

#[test]
fn after_a_kill_the_next_mount_takes_the_place_of_the_dead_one() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let place = mount(&home, WRITABLE);
    std::fs::write(place.join("in-a"), "written").unwrap();
    std::fs::File::open(place.join("in-a")).unwrap().sync_all().unwrap();
    let killed = |home: &slotfs_tests::command::Home| {
        kill(Pid::from_raw(servers(home)[0]), Signal::SIGKILL).unwrap();
        served_no_more(home);
        wait_for("a dead mount", || {
            let asked = std::fs::metadata(home.path("target/no-such-name"));
            asked.is_err_and(|error| error.raw_os_error() == Some(libc::ENOTCONN))
        });
    };
    killed(&home);
    let place = mount(&home, WRITABLE);
    assert_eq!(std::fs::read(place.join("in-a")).unwrap(), b"written");
    killed(&home);
    home.run(["unmount", "target"]).success();
    assert_eq!(home.mounts(), Vec::<PathBuf>::new());
}

#[test]
fn a_server_keeps_none_of_its_callers_files_and_no_directory_busy() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    mount(&home, WRITABLE);
    let server = servers(&home)[0];
    assert_eq!(std::fs::read_link(format!("/proc/{server}/cwd")).unwrap(), PathBuf::from("/"));
    for descriptor in [0, 1] {
        let open = std::fs::read_link(format!("/proc/{server}/fd/{descriptor}")).unwrap();
        assert_eq!(open, PathBuf::from("/dev/null"));
    }
    unmount(&home);
}

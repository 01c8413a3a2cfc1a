//! Several users of one mount: it is made once and goes with the last.

use std::path::PathBuf;

use slotfs_tests::command::{Done, Home, Running, is_ours, missing_fuse, shell_package, wait_for};

const WAITS: &str = "echo ready; read line; echo $line";

fn start(home: &Home, package: &std::path::Path) -> Running {
    let mut running = Running::start(&mut home.slotfs(["run".as_ref(), package.as_os_str()]));
    assert_eq!(running.line(), "ready");
    running
}

#[test]
fn two_runs_share_one_mount_and_the_last_one_out_unmounts() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", WAITS));
    let mut first = start(&home, &package);
    let server = home.servers();
    let mut second = start(&home, &package);
    assert_eq!(home.mounts(), [home.workenv("app")]);
    assert_eq!(home.servers(), server);
    first.tell("one\n");
    assert_eq!(first.finish().success().stdout, "one\n");
    assert_eq!(home.mounts(), [home.workenv("app")], "unmounted under the second run");
    second.tell("two\n");
    assert_eq!(second.finish().success().stdout, "two\n");
    assert_eq!(home.mounts(), Vec::<PathBuf>::new());
    assert_eq!(home.servers(), Vec::<i32>::new());
}

#[test]
fn many_that_start_and_end_at_once_never_meet_a_missing_mount() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let script = "echo x > {workenv}/mine.$$; grep -c {workenv} /proc/self/mounts";
    let package = home.package("app.psp", shell_package("app", script));
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..4 {
                        let done = home.run(["run".as_ref(), package.as_os_str()]).success();
                        assert_eq!(done.stdout, "1\n", "{}", done.stderr);
                    }
                })
            })
            .collect();
        for run in runs {
            run.join().unwrap();
        }
    });
    home.settle();
}

#[test]
fn a_mount_that_the_program_left_busy_stays_until_that_ends() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let fifo = home.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // A process that outlives the program, with its working directory in the mount.
    let script = format!(
        "cd {{workenv}}; (read line < {}) < /dev/null > /dev/null 2>&1 & cd /; exit 5",
        fifo.display()
    );
    let package = home.package("app.psp", shell_package("app", &script));
    let done = home.run(["run", "--wait", "1", package.to_str().unwrap()]).code(5);
    assert!(done.stderr.contains("still in use"), "{}", done.stderr);
    assert!(done.stderr.contains("used by process"), "{}", done.stderr);
    assert_eq!(home.mounts(), [home.workenv("app")]);
    // A run that comes meanwhile joins.
    let other = home.package("app.psp", shell_package("app", &script));
    drop(other);
    std::fs::write(&fifo, b"go\n").unwrap();
    home.settle();
}

#[test]
fn a_run_that_comes_while_the_mount_is_going_starts_anew() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "grep -c {workenv} /proc/self/mounts"));
    // The first one is not waited for at its end, so the second one often meets its server on the way out.
    for _ in 0..15 {
        let mut first = Running::start(&mut home.slotfs(["run", "--wait", "0", package.to_str().unwrap()]));
        first.line();
        let done = Done::of(&mut home.slotfs(["run", package.to_str().unwrap()])).success();
        assert_eq!(done.stdout, "1\n", "{}", done.stderr);
        first.finish().success();
    }
    wait_for("the end of the last server", || home.servers().is_empty() && home.mounts().is_empty());
}

#[test]
fn a_copy_that_stands_by_serves_or_ends() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", WAITS));
    let mut first = start(&home, &package);
    let server = home.servers();
    assert_eq!(children(first.pid().as_raw()), [server[0], program(&first)], "the server is not the copy");
    let name = std::fs::read_to_string(format!("/proc/{}/comm", server[0])).unwrap();
    assert_eq!(name, "slotfs-server\n");
    // Whoever joins needs no server: nothing is left of its copy, not even a process that nobody waits for.
    let mut second = start(&home, &package);
    assert_eq!(children(second.pid().as_raw()), [program(&second)]);
    for run in [&mut first, &mut second] {
        run.tell("bye\n");
    }
    first.finish().success();
    second.finish().success();
    // One that is killed before it knows what it wants leaves no copy behind either.
    let fifo = home.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut config =
        home.slotfs(["--config".as_ref(), fifo.as_os_str(), "run".as_ref(), package.as_os_str()]);
    let stuck = Running::start(&mut config);
    let mut copies = Vec::new();
    wait_for("a copy", || {
        copies = children(stuck.pid().as_raw());
        !copies.is_empty()
    });
    stuck.signal(nix::sys::signal::Signal::SIGKILL);
    stuck.finish().code(137);
    wait_for("the end of the copy", || !is_ours(copies[0]));
}

/// The children of a process, in the order in which they were made.
fn children(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    list.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// The program that slotfs runs: the shell that waits.
fn program(run: &Running) -> i32 {
    let is_shell = |pid: &i32| !is_ours(*pid);
    children(run.pid().as_raw()).into_iter().find(is_shell).expect("a program")
}

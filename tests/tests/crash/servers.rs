//! A server that is killed: its mount is dead until the next command, whichever that is.

use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slotfs_tests::command::{Done, Home, Running, is_ours, missing_fuse, shell_package, wait_for};

fn kill_server(home: &Home) {
    let servers = home.servers();
    assert_eq!(servers.len(), 1);
    kill(Pid::from_raw(servers[0]), Signal::SIGKILL).unwrap();
    wait_for("the end of the server", || !is_ours(servers[0]));
}

/// Asserts that the mount is in the table and dead: this is what a command has to clear.
fn assert_dead(home: &Home, place: &std::path::Path) {
    assert_eq!(home.mounts(), [place.to_owned()]);
    // The last request that the server got may still be taken back at this moment.
    wait_for("the end of the connection", || {
        nix::sys::statfs::statfs(place).is_err_and(|error| error == nix::errno::Errno::ENOTCONN)
    });
}

#[test]
fn every_command_clears_a_dead_mount() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "grep -c {workenv} /proc/self/mounts"));
    let other = home.package("other.psp", shell_package("other", "true"));
    let (package, other) = (package.to_str().unwrap(), other.to_str().unwrap());
    let commands: [&[&str]; 5] = [
        &["run", package],
        &["run", other],
        &["mount", package],
        &["unmount", "app"],
        &["warm", "--unmounted", other],
    ];
    for command in commands {
        home.run(["mount", package]).success();
        kill_server(&home);
        assert_dead(&home, &home.workenv("app"));
        let done = home.run(command).success();
        assert!(done.stderr.contains("cleared the mount of a killed server"), "{command:?}: {}", done.stderr);
        let left = if command[0] == "mount" { vec![home.workenv("app")] } else { Vec::new() };
        assert_eq!(home.mounts(), left, "{command:?}");
        if command[0] == "mount" {
            std::fs::write(home.workenv("app").join("works"), b"").unwrap();
            home.run(["unmount", "app"]).success();
        }
        assert!(!home.session("app").join("session.json").exists(), "{command:?}");
        assert!(!home.cache().join(".app.pspf/instance/package.checksum").exists(), "{command:?}");
    }
}

/// A killed process lets go of its files one after the other: its mount may be dead before its locks are free.
#[test]
fn a_server_that_is_still_dying_is_waited_for_and_not_joined() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "cat {workenv}/written"));
    let package = package.to_str().unwrap();
    home.run(["mount", package]).success();
    std::fs::write(home.workenv("app").join("written"), b"here\n").unwrap();
    kill_server(&home);
    assert_dead(&home, &home.workenv("app"));
    let serving = std::fs::File::open(home.session("app").join("serving.lock")).unwrap();
    wait_for("the lock of the dead server", || serving.try_lock().is_ok());
    let mut run = Running::start(&mut home.slotfs(["run", package]));
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(run.is_running());
    drop(serving);
    assert_eq!(run.finish().success().stdout, "here\n");
}

#[test]
fn a_dead_mount_outside_the_cache_is_cleared_with_its_directory() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "true"));
    home.run(["mount", package.to_str().unwrap(), "elsewhere"]).success();
    kill_server(&home);
    assert_dead(&home, &home.path("elsewhere"));
    home.run(["run", package.to_str().unwrap()]).success();
    assert_eq!(home.mounts(), Vec::<PathBuf>::new());
    assert!(!home.path("elsewhere").exists());
}

#[test]
fn a_run_whose_server_is_killed_cleans_up_itself() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "echo ready; read line; exit 4"));
    let mut run = Running::start(&mut home.slotfs(["run".as_ref(), package.as_os_str()]));
    run.line();
    kill_server(&home);
    assert_dead(&home, &home.workenv("app"));
    run.tell("\n");
    run.finish().code(4);
    assert_eq!(home.mounts(), Vec::<PathBuf>::new());
    assert!(!home.session("app").join("session.json").exists());
}

#[test]
fn what_was_synced_survives_a_killed_server() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    // Writes and syncs numbered files for as long as it is let, and says so only after each sync.
    let script =
        "n=0; while echo $n > {workenv}/file.$n && sync {workenv}/file.$n && echo $n; do n=$((n+1)); done";
    let package = home.package("app.psp", shell_package("app", script));
    let reader = shell_package("app", script);
    drop(reader);
    let mut run = Running::start(&mut home.slotfs(["run".as_ref(), package.as_os_str()]));
    while run.line() != "20" {}
    kill_server(&home);
    let done = run.finish();
    let synced: u32 = done.stdout.lines().last().map_or(20, |line| line.parse().unwrap());
    home.run(["mount".as_ref(), package.as_os_str()]).success();
    for number in 0..=synced {
        let text = std::fs::read_to_string(home.workenv("app").join(format!("file.{number}"))).unwrap();
        assert_eq!(text, format!("{number}\n"));
    }
    home.run(["unmount", "app"]).success();
}

#[test]
fn a_stopped_server_is_not_taken_for_a_dead_one() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "true"));
    let other = home.package("other.psp", shell_package("other", "true"));
    home.run(["mount".as_ref(), package.as_os_str()]).success();
    let server = Pid::from_raw(home.servers()[0]);
    kill(server, Signal::SIGSTOP).unwrap();
    // Nothing asks the stopped mount anything, so nothing hangs.
    let done = Done::of(&mut home.slotfs(["run".as_ref(), other.as_os_str()]));
    kill(server, Signal::SIGCONT).unwrap();
    done.success();
    assert_eq!(home.mounts(), [home.workenv("app")]);
    home.run(["unmount", "app"]).success();
}

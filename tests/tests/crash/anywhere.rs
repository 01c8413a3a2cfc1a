//! Kills at moments nobody chose: from the first instruction to after the end.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use slotfs_tests::command::{Home, Running, is_ours, missing_fuse, setup_script, shell_package, wait_for};

/// Moments that are spread over a start, a run and an end of some 20 ms, more densely at the beginning.
fn moments() -> impl Iterator<Item = Duration> {
    (0..24_u64).map(|step| Duration::from_micros(step * step * 110))
}

#[derive(Clone, Copy, Debug)]
enum Victim {
    Caller,
    Server,
    Both,
}

fn kill_at(home: &Home, run: &Running, victim: Victim, moment: Duration) {
    std::thread::sleep(moment);
    // Whoever has ended already, or not begun yet, cannot be killed at this moment.
    let servers = || {
        let servers = home.servers();
        for &server in &servers {
            let _ = kill(Pid::from_raw(server), Signal::SIGKILL);
        }
        // A signal that was sent has not ended a process yet; until it has, the mount can still be joined.
        wait_for("the end of the server", || servers.iter().all(|&server| !is_ours(server)));
    };
    match victim {
        Victim::Caller => run.signal(Signal::SIGKILL),
        Victim::Server => servers(),
        Victim::Both => {
            servers();
            run.signal(Signal::SIGKILL);
        }
    }
}

fn survives(victim: Victim) {
    let home = Home::new();
    let package = shell_package("app", "cat {workenv}/installed {workenv}/more; echo run >> {workenv}/runs")
        .section(
            "setup_commands",
            json!([
                setup_script("echo one > {workenv}/installed"),
                setup_script("echo two > {workenv}/more")
            ]),
        );
    let package = home.package("app.psp", package);
    let metadata = home.cache().join(".app.pspf");
    for moment in moments() {
        // From the beginning: setup, too, is interrupted.
        if metadata.exists() {
            std::fs::remove_dir_all(&metadata).unwrap();
        }
        for _ in 0..2 {
            let run = Running::start(&mut home.slotfs(["run".as_ref(), package.as_os_str()]));
            kill_at(&home, &run, victim, moment);
            run.finish();
            // The very next command works, whatever was left.
            let done = home.run(["run".as_ref(), package.as_os_str()]);
            assert_eq!(done.code, 0, "{victim:?} at {moment:?}: {}", done.stderr);
            assert_eq!(done.stdout, "one\ntwo\n", "{victim:?} at {moment:?}");
            wait_for("no mount and no server", || home.mounts().is_empty() && home.servers().is_empty());
            assert!(!home.session("app").join("session.json").exists(), "{victim:?} at {moment:?}");
        }
    }
}

#[test]
fn a_caller_killed_at_any_moment_leaves_nothing_that_matters() {
    if missing_fuse().is_none() {
        survives(Victim::Caller);
    }
}

#[test]
fn a_server_killed_at_any_moment_leaves_nothing_that_matters() {
    if missing_fuse().is_none() {
        survives(Victim::Server);
    }
}

#[test]
fn both_killed_at_any_moment_leave_nothing_that_matters() {
    if missing_fuse().is_none() {
        survives(Victim::Both);
    }
}

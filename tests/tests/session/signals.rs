//! Signals reach the program, each once.

use nix::sys::signal::Signal;
use slotfs_tests::command::{Home, Running, missing_fuse, shell_package, wait_for};

/// Writes a line for each signal and goes on waiting; `QUIT` ends it.
const TRAPS: &str = "for s in TERM INT HUP USR1 USR2 ALRM WINCH CONT; do trap \"echo $s\" $s; done; \
                     trap \"exit 9\" QUIT; echo ready; while :; do sleep 0.02; done";

#[test]
fn signals_sent_to_slotfs_are_passed_on() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", TRAPS));
    let mut running = Running::start(&mut home.slotfs(["run".as_ref(), package.as_os_str()]));
    assert_eq!(running.line(), "ready");
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGWINCH,
        Signal::SIGCONT,
    ] {
        running.signal(signal);
        assert_eq!(format!("SIG{}", running.line()), signal.as_str());
    }
    running.signal(Signal::SIGQUIT);
    let done = running.finish().code(9);
    assert_eq!(done.stdout, "", "a signal came twice");
    assert!(home.mounts().is_empty());
}

#[test]
fn a_killed_slotfs_takes_the_program_and_the_mount_with_it() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "echo $$; while :; do sleep 1; done"));
    let mut running = Running::start(&mut home.slotfs(["run".as_ref(), package.as_os_str()]));
    let program: i32 = running.line().parse().unwrap();
    running.signal(Signal::SIGKILL);
    running.finish().code(137);
    wait_for("the end of the program", || !std::path::Path::new(&format!("/proc/{program}/cwd")).exists());
    home.settle();
    assert!(!home.session("app").join("session.json").exists());
}

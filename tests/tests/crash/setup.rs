//! Kills in the middle of setup: nothing half done is kept, and nobody goes on with it.

use nix::sys::signal::Signal;
use serde_json::json;
use slotfs_tests::command::{Home, Running, missing_fuse, setup_script, shell_package, wait_for};

#[test]
fn a_caller_killed_in_setup_leaves_neither_its_commands_nor_what_they_wrote() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let (ready, go) = (home.path("ready"), home.path("go"));
    let wait =
        format!("echo $$ > {}; while ! test -e {}; do sleep 0.02; done", ready.display(), go.display());
    let package = shell_package("app", "ls {workenv}").section(
        "setup_commands",
        json!([
            setup_script("echo half > {workenv}/half.$$"),
            setup_script(&wait),
            setup_script("echo > {workenv}/done")
        ]),
    );
    let package = home.package("app.psp", package);
    let path = package.to_str().unwrap();
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        let _ = std::fs::remove_file(&ready);
        let run = Running::start(&mut home.slotfs(["run", path]));
        wait_for("the second setup command", || {
            std::fs::read_to_string(&ready).is_ok_and(|pid| pid.ends_with('\n'))
        });
        let pid = std::fs::read_to_string(&ready).unwrap();
        run.signal(signal);
        run.finish().code(128 + signal as i32);
        wait_for("the end of the setup command", || {
            std::fs::read_link(format!("/proc/{}/exe", pid.trim())).is_err()
        });
        home.settle();
        assert!(!home.cache().join(".app.pspf/instance/extract/complete").exists());
    }
    std::fs::write(&go, b"").unwrap();
    let done = home.run(["run", path]).success();
    let names: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(names.len(), 2, "half of an earlier setup was kept: {names:?}");
    assert!(names[0] == "done" && names[1].starts_with("half."), "{names:?}");
}

#[test]
fn another_run_waits_for_setup_and_says_for_whom() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let go = home.path("go");
    let wait = format!("while ! test -e {}; do sleep 0.02; done; echo x >> {{workenv}}/times", go.display());
    let package =
        shell_package("app", "cat {workenv}/times").section("setup_commands", json!([setup_script(&wait)]));
    let package = home.package("app.psp", package);
    let first = Running::start(&mut home.slotfs(["run".as_ref(), package.as_os_str()]));
    wait_for("setup", || !home.mounts().is_empty());
    let second = Running::start(&mut home.slotfs(["run".as_ref(), package.as_os_str()]));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    std::fs::write(&go, b"").unwrap();
    let holder = first.pid();
    assert_eq!(first.finish().success().stdout, "x\n");
    let done = second.finish().success();
    assert_eq!(done.stdout, "x\n", "setup was done twice");
    assert!(done.stderr.contains(&format!("waiting for process {holder}")), "{}", done.stderr);
}

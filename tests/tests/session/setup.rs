//! Setup: once, in the final place, all or nothing.

use serde_json::json;
use slotfs_tests::command::{Home, missing_fuse, setup_script, shell_package};

#[test]
fn setup_runs_once_and_what_it_wrote_is_there() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = shell_package("app", "cat {workenv}/setup.log; ls -d {workenv}/var/log").section(
        "setup_commands",
        json!([
            setup_script("echo {workenv} >> {workenv}/setup.log"),
            setup_script("echo two >> {workenv}/setup.log")
        ]),
    );
    let package = package.section(
        "workenv",
        json!({ "directories": [{ "path": "{workenv}/var/log", "mode": "0700" }], "env": {} }),
    );
    let package = home.package("app.psp", package);
    let content = home.workenv("app").display().to_string();
    for _ in 0..2 {
        let done = home.run(["run".as_ref(), package.as_os_str()]).success();
        assert_eq!(done.stdout, format!("{content}\ntwo\n{content}/var/log\n"));
    }
}

#[test]
fn failed_setup_leaves_nothing_and_is_done_again() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let flag = home.path("flag");
    let script = format!("test -e {}", flag.display());
    let package = shell_package("app", "cat {workenv}/steps").section(
        "setup_commands",
        json!([setup_script("echo begun >> {workenv}/steps"), setup_script(&script)]),
    );
    let package = home.package("app.psp", package);
    for _ in 0..2 {
        let done = home.run(["run".as_ref(), package.as_os_str()]).code(104);
        assert!(done.stderr.contains("setup command 2"), "{}", done.stderr);
        assert!(home.mounts().is_empty());
        let upper: Vec<_> = std::fs::read_dir(home.session("app").join("upper")).unwrap().flatten().collect();
        assert!(upper.is_empty(), "half of setup was kept: {upper:?}");
        assert!(!home.cache().join(".app.pspf/instance/extract/complete").exists());
        assert!(!home.cache().join(".app.pspf/instance/package.checksum").exists());
    }
    std::fs::write(&flag, b"").unwrap();
    let done = home.run(["run".as_ref(), package.as_os_str()]).success();
    assert_eq!(done.stdout, "begun\n");
}

#[test]
fn a_missing_check_file_makes_setup_run_again_without_losing_writes() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = shell_package("app", "cat {workenv}/count; $0")
        .section(
            "setup_commands",
            json!([setup_script("echo x >> {workenv}/count; echo ok > {workenv}/installed")]),
        )
        .section(
            "cache_validation",
            json!({ "check_file": "{workenv}/installed", "expected_content": "ok" }),
        );
    let package = home.package("app.psp", package);
    let run = |then: &str| home.run(["run", package.to_str().unwrap(), "--", then]).success().stdout;
    assert_eq!(run("true"), "x\n");
    assert_eq!(run("true"), "x\n");
    std::fs::remove_file(home.session("app").join("upper/installed")).unwrap();
    assert_eq!(run("true"), "x\nx\n");
    let done = home.run(["run", "--fresh", package.to_str().unwrap(), "--", "true"]).success();
    assert_eq!(done.stdout, "x\nx\nx\n");
}

#[test]
fn a_rebuilt_package_is_set_up_anew_and_what_was_written_is_set_aside() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let build = |version: &str| {
        let script = "cat {workenv}/installed; ls {workenv}; echo mine > {workenv}/home/file";
        shell_package("app", script)
            .section(
                "setup_commands",
                json!([setup_script(&format!("echo {version} > {{workenv}}/installed"))]),
            )
            .section(
                "workenv",
                json!({ "directories": [{ "path": "{workenv}/home", "mode": "0700" }], "env": {} }),
            )
    };
    let package = home.package("app.psp", build("old"));
    home.run(["run".as_ref(), package.as_os_str()]).success();
    std::fs::write(home.session("app").join("upper/stray"), b"").unwrap();
    let package = home.package("app.psp", build("new"));
    let done = home.run(["run".as_ref(), package.as_os_str()]).success();
    assert_eq!(done.stdout, "new\nhome\ninstalled\n");
    assert!(done.stderr.contains("earlier"), "{}", done.stderr);
    let kept = home.run(["run", package.to_str().unwrap()]).success();
    assert!(kept.stdout.contains("home"));
    assert_eq!(std::fs::read(home.session("app").join("upper/home/file")).unwrap(), b"mine\n");
}

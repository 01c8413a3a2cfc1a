//! Packages people already have: their own launchers start from the mount, unmodified.

use std::path::Path;

use serde_json::json;
use slotfs_tests::command::{Done, Home, missing_fuse, real_launcher, setup_script, shell_package};

/// Each of FlavorPack's launchers that is installed.
fn launchers() -> Vec<(&'static str, Vec<u8>)> {
    ["rs", "go"]
        .into_iter()
        .filter_map(|language| Some((language, std::fs::read(real_launcher(language)?).unwrap())))
        .collect()
}

fn launch(home: &Home, package: &Path) -> Done {
    Done::of(home.program(package).env("FLAVOR_LOG_LEVEL", "error"))
}

#[test]
fn plain_packages_start_from_the_mount_after_mount_and_after_warm() {
    if missing_fuse().is_some() {
        return;
    }
    for (language, bytes) in launchers() {
        let home = Home::new();
        let package =
            shell_package("app", "cat {workenv}/installed; grep -c {workenv} /proc/self/mounts; true")
                .launcher(&bytes)
                .section("setup_commands", json!([setup_script("echo by-$PPID > {workenv}/installed")]))
                .section(
                    "workenv",
                    json!({ "directories": [{ "path": "{workenv}/tmp", "mode": "0700" }], "env": {} }),
                );
        let package = home.package("app.psp", package);
        let path = package.to_str().unwrap();
        for command in [&["mount", "--for-launcher", path][..], &["warm", path]] {
            home.run(command).success();
            let done = launch(&home, &package).success();
            let (installed, mounted) = done.stdout.trim_end().split_once('\n').unwrap();
            assert!(installed.starts_with("by-"), "{language}: {}", done.stdout);
            assert_eq!(mounted, "1", "{language} did not start from the mount");
            // Setup was slotfs's, once: the launcher did none of its own.
            assert_eq!(launch(&home, &package).success().stdout, done.stdout);
            home.run(["unmount", "app"]).success();
        }
        // Without the mount the launcher does everything itself, as if slotfs had never been there.
        let done = launch(&home, &package).success();
        assert!(done.stdout.ends_with("\n0\n"), "{language}: {}", done.stdout);
    }
}

#[test]
fn a_name_that_belongs_to_another_package_is_not_taken_for_a_launcher() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let first = home.package("a/app.psp", shell_package("first", "cat {workenv}/mine"));
    let second = home.package("b/app.psp", shell_package("second", "true"));
    home.run(["mount", "--for-launcher", first.to_str().unwrap()]).success();
    std::fs::write(home.workenv("app").join("mine"), b"first\n").unwrap();
    let done = home.run(["mount", "--for-launcher", second.to_str().unwrap()]).code(110);
    assert!(done.stderr.contains("belongs to another package"), "{}", done.stderr);
    home.run(["run", second.to_str().unwrap()]).success();
    assert_eq!(home.run(["run", first.to_str().unwrap()]).success().stdout, "first\n");
    home.run(["unmount", "app"]).success();
}

//! Packages people already have: their own launchers start from the mount, unmodified.

use std::path::Path;

use serde_json::json;
use slotfs_tests::command::{Done, Home, missing_fuse, real_launcher, setup_script, shell_package};
use slotfs_tests::package::{SlotSpec, Tree};

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

/// Returns what lies in a directory, by name.
fn names(place: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(place).into_iter().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn plain_packages_start_from_the_mount_after_mount_and_after_warm() {
    if missing_fuse().is_some() {
        return;
    }
    for (language, bytes) in launchers() {
        let home = Home::new();
        let tree = Tree::new().directory("lib", 0o755).file("lib/text", 0o644, b"packaged\n");
        let script = "cat {workenv}/lib/text {workenv}/installed; grep -c {workenv} /proc/self/mounts; true";
        let package = shell_package("app", script)
            .launcher(&bytes)
            .slot(SlotSpec::tree("app", "tar.gzip", tree))
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
            let lines: Vec<_> = done.stdout.lines().collect();
            assert_eq!(
                (lines.len(), lines[0], lines[2]),
                (3, "packaged", "1"),
                "{language}: {}",
                done.stdout
            );
            assert!(lines[1].starts_with("by-"), "{language}: {}", done.stdout);
            // Setup was slotfs's, once: the launcher did none of its own.
            assert_eq!(launch(&home, &package).success().stdout, done.stdout);
            home.run(["unmount", "app"]).success();
            // Nothing was unpacked, neither below the mount nor through it.
            assert_eq!(names(&home.workenv("app")), [""; 0], "{language}");
            assert_eq!(names(&home.session("app").join("upper")), ["installed", "tmp"], "{language}");
            assert_eq!(names(&home.session("app").join("upper/tmp")), [""; 0], "{language}");
        }
        // Without the mount the launcher does everything itself, as if slotfs had never been there.
        home.run(["warm", "--unmounted", path]).success();
        for _ in 0..2 {
            let done = launch(&home, &package).success();
            assert!(done.stdout.starts_with("packaged\nby-"), "{language}: {}", done.stdout);
            assert!(done.stdout.ends_with("\n0\n"), "{language}: {}", done.stdout);
        }
        assert!(home.workenv("app").join("lib/text").exists(), "{language}");
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

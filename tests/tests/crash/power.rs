//! The power fails at any moment while packages are started, set up, run and ended, with the whole cache on a disk
//! that may have lost everything that was not flushed.

use serde_json::json;
use slotfs_tests::command::{Home, missing_fuse, setup_script, shell_package};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};
use slotfs_tests::recorded_disk::RecordedDisk;

/// How often the power fails, unless the variable asks for more.
const FAILURES: usize = 16;
const MORE_FAILURES: &str = "SLOTFS_TEST_POWER_FAILURES";
const RUNS: usize = 2;

/// The program says what setup and the slots gave it, and how often it has run; it syncs that number as databases do: file,
/// rename, directory. Setup, where there is one, writes a large file without syncing it.
fn package(setup: bool) -> PackageBuilder {
    let script = "cd {workenv} && if test -e installed; then wc -c < installed; fi && cat one two && tail -c 3 many && \
                  n=$(cat state 2>/dev/null || echo 0) && n=$((n+1)) && echo $n > state.new && sync state.new && \
                  mv state.new state && sync . && echo $n";
    let tree = |name: &str| Tree::new().file(name, 0o644, format!("slot {name}\n").as_bytes());
    let many = Tree::new().file("many", 0o644, &b"0123456\n".repeat(20_000));
    let package = shell_package("app", script)
        .slot(SlotSpec::tree("one", "tar.gzip", tree("one")))
        .slot(SlotSpec::tree("two", "tar.bzip2", tree("two")))
        .slot(SlotSpec::tree("many", "tar.xz", many));
    if !setup {
        return package;
    }
    let install = setup_script("head -c 300000 /dev/zero | tr \"\\\\000\" x > {workenv}/installed");
    package.section("setup_commands", json!([install]))
}

/// Runs the package, which must find everything as it should be; returns how often it has run.
fn run(home: &Home, setup: bool, when: &str) -> usize {
    let package = home.path("app.psp");
    let done = home.run(["run".as_ref(), package.as_os_str()]);
    assert_eq!(done.code, 0, "{when}: {}{}", done.stdout, done.stderr);
    let (rest, count) = done.stdout.trim_end().rsplit_once('\n').unwrap_or_default();
    let installed = if setup { "300000\n" } else { "" };
    assert_eq!(rest, format!("{installed}slot one\nslot two\n56"), "{when}: {}", done.stderr);
    home.settle();
    count.parse().unwrap()
}

#[test]
fn after_a_power_failure_at_any_moment_the_package_runs_and_has_what_it_synced() {
    fail_at_any_moment(true);
}

/// Hardly anything is waited for then before the program runs.
#[test]
fn so_it_is_without_setup() {
    fail_at_any_moment(false);
}

fn fail_at_any_moment(setup: bool) {
    if missing_fuse().is_some() {
        return;
    }
    let Some(disk) = RecordedDisk::new() else { return };
    let mut acknowledged = Vec::new();
    {
        let home = Home::at(&disk.folder().join("home"));
        home.package("app.psp", package(setup));
        rustix::fs::syncfs(std::fs::File::open(disk.folder()).unwrap()).unwrap();
        acknowledged.push(disk.position());
        for before in 0..RUNS {
            assert_eq!(run(&home, setup, "before the failure"), before + 1);
            acknowledged.push(disk.position());
        }
    }
    let recording = disk.end();
    let failures = std::env::var(MORE_FAILURES).ok().and_then(|asked| asked.parse().ok()).unwrap_or(FAILURES);
    let (first, last) = (acknowledged[0], recording.length());
    for failure in 0..failures {
        let position = first + (last - first) * failure / failures;
        let disk = recording.fail_at(position, || failure % 2 == 0);
        let home = Home::at(&disk.folder().join("home"));
        let promised = acknowledged.iter().skip(1).filter(|end| **end <= position).count();
        let when = format!("the power failed after {position} of {last} writes, in run {}", promised + 1);
        let count = run(&home, setup, &when);
        assert!(count > promised && count <= promised + 2, "{when}: it was run {count} times");
        if failure % 4 == 0 {
            assert_eq!(run(&home, setup, &when), count + 1, "{when}");
        }
    }
}

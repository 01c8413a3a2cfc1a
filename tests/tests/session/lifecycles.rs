//! Every lifecycle's effect, through a real mount: what is there when, and what becomes of what is written over it.

use serde_json::json;
use slotfs_tests::command::{Home, missing_fuse, setup_script, shell_package};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};

/// Name, code, seen by setup, seen by the program, writes seen by the next run.
type Row = (&'static str, u8, bool, bool, bool);

/// Each name of both vocabularies, with what follows.
const TABLE: [Row; 25] = [
    ("persistent", 2, true, true, true),
    ("volatile", 2, true, true, false),
    ("temporary", 5, true, true, false),
    ("temp", 5, true, true, false),
    ("ephemeral", 2, true, true, false),
    ("cached", 2, true, true, true),
    ("cache", 4, true, true, true),
    ("init-only", 2, true, false, false),
    ("init", 0, true, false, false),
    ("install", 2, true, false, false),
    ("eager", 7, true, true, true),
    ("lazy", 6, true, true, true),
    ("startup", 1, true, true, false),
    ("runtime", 2, true, true, true),
    ("shutdown", 3, true, true, true),
    ("dev", 8, true, true, true),
    ("development", 2, true, true, true),
    ("config", 9, true, true, true),
    ("platform", 10, true, true, true),
    ("", 2, true, true, true),
    ("RUNTIME", 2, true, true, true),
    ("whatever", 2, true, true, true),
    ("init ", 2, true, true, true),
    ("Temporary", 2, true, true, true),
    ("persistent\u{301}", 2, true, true, true),
];

/// A package with one slot for each row: a directory `s{row}` with a file in it.
fn package(script: &str) -> PackageBuilder {
    let mut package = shell_package("app", script);
    for (row, (name, code, ..)) in TABLE.iter().enumerate() {
        let tree = Tree::new().directory(format!("s{row}"), 0o755).file(
            format!("s{row}/file"),
            0o644,
            b"original\n",
        );
        package = package.slot(SlotSpec::tree(&format!("slot{row}"), "tar", tree).lifecycle(name, *code));
    }
    package.section(
        "setup_commands",
        json!([setup_script("ls -d {workenv}/s[0-9]* | wc -l > {workenv}/seen-by-setup")]),
    )
}

#[test]
fn each_name_has_its_effect() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let script = "cd {workenv}; cat seen-by-setup; for f in s[0-9]*/file; do test -e $f && echo $f $(cat $f); done; \
                  for d in s[0-9]*/; do echo changed > $d/file; echo new > $d/new; done; cd /";
    let package = home.package("app.psp", package(script));
    let run = || {
        let stdout = home.run(["run".as_ref(), package.as_os_str()]).success().stdout;
        let (seen, files) = stdout.split_once('\n').unwrap();
        assert_eq!(seen.trim(), TABLE.iter().filter(|row| row.2).count().to_string());
        let mut files: Vec<String> = files.lines().map(str::to_owned).collect();
        files.sort();
        files
    };
    let expected = |text: &dyn Fn(&Row) -> &'static str| {
        let rows = TABLE.iter().enumerate().filter(|(_, row)| row.3);
        let mut files: Vec<String> =
            rows.map(|(number, row)| format!("s{number}/file {}", text(row))).collect();
        files.sort();
        files
    };
    assert_eq!(run(), expected(&|_| "original"));
    assert_eq!(run(), expected(&|row| if row.4 { "changed" } else { "original" }));
    for (row, (name, _, _, in_run, kept)) in TABLE.iter().enumerate() {
        let new = home.session("app").join(format!("upper/s{row}/new"));
        // What goes at the next start is still there; what goes at exit is not.
        let expected = *in_run && (*kept || *name == "startup");
        assert_eq!(new.exists(), expected, "{name}");
    }
}

#[test]
fn writes_that_go_at_exit_go_after_a_crash_too() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let tree =
        |name: &str| Tree::new().directory(name, 0o755).file(format!("{name}/file"), 0o644, b"original\n");
    let package = shell_package("app", "cat {workenv}/gone/file {workenv}/kept/file; $0")
        .slot(SlotSpec::tree("gone", "tar", tree("gone")).lifecycle("temporary", 5))
        .slot(SlotSpec::tree("kept", "tar", tree("kept")).lifecycle("persistent", 2));
    let package = home.package("app.psp", package);
    let path = package.to_str().unwrap();
    home.run(["mount", path]).success();
    for place in ["gone", "kept"] {
        std::fs::write(home.workenv("app").join(place).join("file"), b"changed\n").unwrap();
    }
    let server = home.servers()[0];
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server), nix::sys::signal::Signal::SIGKILL).unwrap();
    slotfs_tests::command::wait_for("the end of the server", || !slotfs_tests::command::is_ours(server));
    let done = home.run(["run", path, "--", "true"]).success();
    assert_eq!(done.stdout, "original\nchanged\n");
}

#[test]
fn writes_that_go_at_exit_go_with_the_first_mount_too() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let tree = Tree::new().directory("gone", 0o755).file("gone/file", 0o644, b"original\n");
    let package =
        shell_package("app", "true").slot(SlotSpec::tree("gone", "tar", tree).lifecycle("temporary", 5));
    let package = home.package("app.psp", package);
    home.run(["mount".as_ref(), package.as_os_str()]).success();
    std::fs::write(home.workenv("app").join("gone/file"), b"changed\n").unwrap();
    home.run(["unmount", "app"]).success();
    home.settle();
    assert!(!home.session("app").join("upper/gone/file").exists());
}

#[test]
fn slots_for_development_and_other_platforms_stay_away() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let file = |id: &str| SlotSpec::file(id, id, "raw", b"x");
    let here = if cfg!(target_arch = "aarch64") { "linux_arm64" } else { "linux_amd64" };
    let package = shell_package("app", "cd {workenv}; ls; cd /")
        .slot(file("always"))
        .slot(file("debug").lifecycle("dev", 8))
        .slot(file(&format!("here-{here}")).lifecycle("platform", 10))
        .slot(file("there-darwin_arm64").lifecycle("platform", 10));
    let package = home.package("app.psp", package);
    let path = package.to_str().unwrap();
    let done = home.run(["run", path]).success();
    assert_eq!(done.stdout, format!("always\ndebug\nhere-{here}\n"));
    let done = home.run(["run", "--production", path]).success();
    assert_eq!(done.stdout, format!("always\nhere-{here}\n"));
}

#[test]
fn access_is_decided_slot_by_slot() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let tree = |name: &str| Tree::new().directory(name, 0o755).file(format!("{name}/file"), 0o644, b"x");
    let package =
        shell_package("app", "for d in one two; do echo y > {workenv}/$d/file && echo $d; done; true")
            .slot(SlotSpec::tree("one", "tar", tree("one")))
            .slot(SlotSpec::tree("two", "tar", tree("two")));
    let package = home.package("app.psp", package);
    let path = package.to_str().unwrap();
    for (arguments, expected) in [
        (&["run", path][..], "one\ntwo\n"),
        (&["run", "--slot", "one=ro", path], "two\n"),
        (&["run", "--ro", path], ""),
        (&["run", "--ro", "--slot", "one=rw", path], "one\n"),
    ] {
        assert_eq!(home.run(arguments).success().stdout, expected, "{arguments:?}");
    }
    let done = home.run(["run", "--slot", "three=ro", path]).code(2);
    assert!(done.stderr.contains("there is no slot `three`"), "{}", done.stderr);
}

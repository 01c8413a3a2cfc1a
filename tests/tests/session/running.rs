//! `slotfs run`: what the program gets, and what of it comes back.

use sha2::{Digest as _, Sha256};
use slotfs_tests::command::{Home, Running, missing_fuse, shell_package, wait_for};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree, hex};

#[test]
fn exit_codes_and_signals_come_back() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("code.psp", shell_package("code", "$0"));
    for (script, code) in [("exit 0", 0), ("exit 1", 1), ("exit 42", 42), ("exit 255", 255)] {
        let package = home.package("code.psp", shell_package("code", script));
        home.run(["run".as_ref(), package.as_os_str()]).code(code);
    }
    drop(package);
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("SEGV", 139), ("USR1", 138)] {
        let package = home.package("signal.psp", shell_package("signal", "kill -s $0 $$"));
        home.run(["run", package.to_str().unwrap(), "--", signal]).code(code);
    }
    assert!(home.mounts().is_empty());
}

#[test]
fn standard_streams_arguments_and_directory_are_the_callers() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let script = "cat; echo to-stderr >&2; pwd; echo \"$0|$1|$2\"";
    let package = home.package("streams.psp", shell_package("streams", script));
    let mut command = home.slotfs(["run", package.to_str().unwrap(), "one", "--two", "three words"]);
    let mut running = Running::start(&mut command);
    running.tell("from stdin\n");
    let done = running.finish().code(0);
    let expected = format!("from stdin\n{}\none|--two|three words\n", home.root().display());
    assert_eq!(done.stdout, expected);
    assert_eq!(done.stderr, "to-stderr\n");
}

#[test]
fn the_mount_is_there_for_the_program_and_gone_after_it() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "grep -c {workenv} /proc/self/mounts"));
    for _ in 0..3 {
        let done = home.run(["run".as_ref(), package.as_os_str()]).success();
        assert_eq!(done.stdout, "1\n", "stderr: {}", done.stderr);
        assert_eq!(home.mounts(), Vec::<std::path::PathBuf>::new());
        assert_eq!(home.servers(), Vec::<i32>::new());
        assert!(!home.session("app").join("session.json").exists());
    }
}

#[test]
fn what_a_short_run_read_need_not_be_decoded_again() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let tree = Tree::new().file("read", 0o644, &content).file("unread", 0o644, b"unread");
    let program = std::fs::read("/bin/true").unwrap();
    let package = shell_package("app", "cat {workenv}/read | wc -c; {workenv}/bin/program")
        .slot(SlotSpec::tree("tree", "tar.gzip", tree))
        .slot(SlotSpec::file("program", "bin/program", "raw", &program).permissions(0o755))
        .slot(SlotSpec::file("data", "data", "raw", &content));
    let package = home.package("app.psp", package);
    assert_eq!(home.run(["run".as_ref(), package.as_os_str()]).success().stdout, "1200000\n");
    // The mount was gone long before the time after which reading counts as over.
    let stored = |content: &[u8]| {
        let digest = hex(&Sha256::digest(content));
        home.cache().join(".slotfs/objects-v1").join(&digest[..2]).join(&digest[2..]).exists()
    };
    wait_for("what was read in the store", || stored(&content) && stored(&program));
    assert!(!stored(b"unread"));
    // It belongs to the environment that read it, and stays as long as that does.
    home.run(["clean", "-y"]).success();
    assert!(stored(&content) && stored(&program));
    home.run(["remove", "-y", "app"]).success();
    home.run(["clean", "-y"]).success();
    assert!(!stored(&content));
}

#[test]
fn what_the_program_writes_stays() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let script = "echo run >> {workenv}/log; wc -l < {workenv}/log";
    let package = home.package("app.psp", shell_package("app", script));
    for runs in 1..=3 {
        let done = home.run(["run".as_ref(), package.as_os_str()]).success();
        assert_eq!(done.stdout.trim(), runs.to_string());
    }
}

#[test]
fn what_cannot_run_says_why_with_its_own_exit_code() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    std::fs::write(home.path("text.psp"), b"this is no package").unwrap();
    std::fs::write(home.path("empty.psp"), b"").unwrap();
    home.package("nothing.psp", PackageBuilder::new("nothing", "1").command(""));
    home.package("absent.psp", PackageBuilder::new("absent", "1").command("/no/such/program-anywhere"));
    let cases = [
        ("none.psp", 111, "none.psp"),
        ("text.psp", 102, "is not a package"),
        ("empty.psp", 102, "it is empty"),
        (".", 104, "no command"),
        ("nothing.psp", 104, "no command"),
        ("absent.psp", 104, "program-anywhere"),
    ];
    for (package, code, message) in cases {
        let done = home.run(["run", package]).code(code);
        assert!(done.stderr.contains(message), "{package}: {}", done.stderr);
        assert!(done.stderr.starts_with("slotfs: "), "{package}: {}", done.stderr);
        home.settle();
    }
}

#[test]
fn a_slot_that_was_changed_is_refused() {
    if missing_fuse().is_some() {
        return;
    }
    use slotfs_tests::package::SlotSpec;
    let home = Home::new();
    let package = PackageBuilder::new("app", "1").slot(SlotSpec::file("data", "data", "raw", b"genuine"));
    let built = package.build();
    let mut changed = built.clone();
    changed.bytes[built.slots[0].start] ^= 1;
    let path = home.path("app.psp");
    changed.write(&path);
    let done = home.run(["run".as_ref(), path.as_os_str()]).code(107);
    assert!(done.stderr.contains("slot `data`"), "{}", done.stderr);
}

#[test]
fn two_packages_of_one_file_name_keep_their_own_environments() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let script = |name: &str| format!("echo {name} >> {{workenv}}/log; cat {{workenv}}/log");
    let first = home.package("a/app.psp", shell_package("first", &script("first")));
    let second = home.package("b/app.psp", shell_package("second", &script("second")));
    for round in 1..=2 {
        for (package, name) in [(&first, "first"), (&second, "second")] {
            let done = home.run(["run".as_ref(), package.as_os_str()]).success();
            assert_eq!(done.stdout, format!("{name}\n").repeat(round));
        }
    }
}

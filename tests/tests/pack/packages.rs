//! `slotfs pack`: what it makes is accepted by `flavor verify` and runs alike under both launchers and slotfs.

use std::path::Path;

use serde_json::Value;
use slotfs_tests::command::{Done, Home, binary, missing_fuse};
use slotfs_tests::package::Tree;

use super::support::{application, file, inspected, launchers, noise, pack, started, verified};

const COMMAND: [&str; 4] = ["--command", "{workenv}/bin/show fixed", "--env", "COLOUR=blue"];

/// Packs everything that can be a source.
fn everything(home: &Home, output: &str, launcher: &Path) -> Done {
    application(home);
    file(home, "settings.toml", 0o640, "a = 1\n");
    file(home, "tool", 0o755, "#!/bin/sh\n");
    file(home, "nothing", 0o644, "");
    let tree = || {
        Tree::new()
            .directory("from", 0o755)
            .file("from/archive", 0o644, &noise(300_000))
            .symlink("alias", "from/archive")
    };
    file(home, "first.tar", 0o644, tree().archive());
    file(home, "second.tgz", 0o644, slotfs_tests::package::compress("gzip", &tree().archive()));
    file(home, "third.tar.xz", 0o644, slotfs_tests::package::compress("xz", &tree().archive()));
    let launcher = launcher.display().to_string();
    let sources = [
        "app,purpose=code,lifecycle=eager",
        "settings.toml,target=etc/app/settings.toml,lifecycle=config,mode=0640",
        "tool,target={workenv}/bin/tool",
        "nothing,operations=gzip",
        "first.tar,operations=tar",
        "second.tgz,target=opt/second,lifecycle=lazy",
        "third.tar.xz,target=opt/third/",
    ];
    let rest = ["-o", output, "--launcher", &launcher, "--key-seed", "test", "--setup", "/bin/true"];
    pack(home, &[&sources[..], &COMMAND, &rest].concat())
}

#[test]
fn one_package_runs_alike_under_both_launchers_and_slotfs() {
    if missing_fuse().is_some() {
        return;
    }
    let mut outputs = Vec::new();
    for (language, launcher) in launchers() {
        let home = Home::new();
        let output = format!("{language}.psp");
        everything(&home, &output, &launcher).success();
        verified(&home, &output);
        outputs.push(started(&home, &home.path(&output), &["one", "two words"]));
        let again = Home::new();
        everything(&again, &output, &launcher).success();
        let mounted = again.run(["run", &output, "one", "two words"]).code(42);
        outputs.push((mounted.stdout, mounted.code));
    }
    assert!(outputs.len() == 4 && outputs.iter().all(|output| *output == outputs[0]), "{outputs:#?}");
    let text = &outputs[0].0;
    assert!(text.starts_with("blue fixed one two words\n"), "{text}");
    for path in ["./bin/libraries/link", "./lib/link", "./etc/app/settings.toml", "./bin/tool", "./nothing"] {
        assert!(text.contains(&format!(" {path}\n")), "{path}: {text}");
    }
    for place in ["", "opt/second/", "opt/third/"] {
        assert!(text.contains(&format!(" ./{place}alias\n")), "{place}: {text}");
    }
}

#[test]
fn the_metadata_say_what_was_asked_for() {
    let home = Home::new();
    let Some((_, launcher)) = launchers().into_iter().next() else { return };
    let done = everything(&home, "all.psp", &launcher).success();
    assert!(done.stderr.contains("in the place of the link `bin/libraries` and 2 more"), "{}", done.stderr);
    let shown = inspected(&home, "all.psp");
    let package = &shown["package"];
    assert_eq!((&package["name"], &package["version"]), (&"all".into(), &"0.0.0".into()));
    assert_eq!(package["command"], "{workenv}/bin/show fixed");
    assert_eq!(package["setup_commands"], 1);
    assert_eq!(package["launcher_size"], launcher.metadata().unwrap().len());
    let slots: Vec<String> = package["slots"].as_array().unwrap().iter().map(line).collect();
    let expected = [
        "app code tar.gzip eager - null",
        "settings data gzip config etc/app/settings.toml 0640",
        "tool data gzip runtime bin/tool 0755",
        "nothing data gzip runtime nothing 0644",
        "first data tar runtime - null",
        "second data tar.gzip lazy - null",
        "third data tar.gzip runtime - null",
    ];
    assert_eq!(slots, expected);
}

fn line(slot: &Value) -> String {
    let text = |key: &str| slot[key].as_str().unwrap_or("null").to_owned();
    let target = text("target");
    let target = if target.is_empty() { "-" } else { &target };
    let (lifecycle, mode) = (slot["lifecycle"]["name"].as_str().unwrap(), text("mode"));
    format!("{} {} {} {lifecycle} {target} {mode}", text("id"), text("purpose"), text("chain"))
}

#[test]
fn a_package_without_a_launcher_calls_slotfs() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    application(&home);
    pack(&home, &[&["app", "-o", "plain.psp"], &COMMAND[..]].concat()).success();
    let folder = binary().parent().unwrap().display();
    let mut command = home.program(home.path("plain.psp"));
    command.args(["--help", "x"]).env("PATH", format!("{folder}:/usr/bin:/bin"));
    let done = Done::of(&mut command).code(42);
    assert!(done.stdout.starts_with("blue fixed --help x\n"), "{}", done.stdout);
    verified(&home, "plain.psp");
}

#[test]
fn a_launcher_can_come_from_another_package() {
    let home = Home::new();
    let Some((_, launcher)) = launchers().into_iter().next() else { return };
    everything(&home, "first.psp", &launcher).success();
    pack(&home, &[&["app", "-o", "second.psp", "--launcher", "first.psp"], &COMMAND[..]].concat()).success();
    let bytes = std::fs::read(home.path("second.psp")).unwrap();
    assert!(bytes.starts_with(&std::fs::read(launcher).unwrap()));
    assert!(started(&home, &home.path("second.psp"), &[]).0.starts_with("blue fixed\n"));
}

#[test]
fn links_are_kept_on_demand_and_slotfs_shows_them() {
    let home = Home::new();
    application(&home);
    let done = pack(&home, &["app", "-o", "kept.psp", "--keep-links"]).success();
    assert!(done.stderr.contains("launchers refuse the package"), "{}", done.stderr);
    home.run(["extract", "kept.psp", "out"]).success();
    assert_eq!(std::fs::read_link(home.path("out/lib/link")).unwrap(), Path::new("data.bin"));
    assert_eq!(std::fs::read_link(home.path("out/bin/libraries")).unwrap(), Path::new("../lib"));
    verified(&home, "kept.psp");
}

#[test]
fn what_is_packed_comes_out_again() {
    let home = Home::new();
    application(&home);
    pack(&home, &["app", "-o", "app.psp"]).success();
    home.run(["extract", "app.psp", "out"]).success();
    let differences = Done::of(home.program("diff").args(["-r", "app", "out"])).success();
    assert_eq!(differences.stdout, "");
    let stat = |folder: &str| {
        let line = format!(
            "cd {folder} && find . -mindepth 1 -not -type l -not -path './bin/libraries*' -not -name link -printf '%p %m %Ts\\n' | sort"
        );
        Done::of(home.program("sh").args(["-c", &line])).success().stdout
    };
    assert_eq!(stat("app"), stat("out"));
}

#[test]
fn names_may_hold_any_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let home = Home::new();
    let name = OsStr::from_bytes(b"no text \xff,target=x");
    std::fs::write(home.path(name), "x").unwrap();
    Done::of(home.slotfs(["pack"]).arg(name).args(["-o", "x.psp"])).success();
    home.run(["extract", "x.psp", "out"]).success();
    assert_eq!(std::fs::read_dir(home.path("out")).unwrap().count(), 1);
    application(&home);
    pack(&home, &["app", "-o", "app.psp"]).success();
    home.run(["extract", "app.psp", "app2"]).success();
    assert_eq!(std::fs::read(home.path(OsStr::from_bytes(b"app2/lib/no text \xff"))).unwrap(), b"bytes");
}

#[test]
fn an_interrupted_pack_leaves_the_old_package_and_nothing_else() {
    use nix::sys::signal::Signal;
    use slotfs_tests::command::Running;
    let home = Home::new();
    application(&home);
    pack(&home, &["app", "-o", "out/app.psp", "--key-seed", "x"]).code(106);
    std::fs::create_dir(home.path("out")).unwrap();
    pack(&home, &["app", "-o", "out/app.psp", "--key-seed", "x"]).success();
    let kept = std::fs::read(home.path("out/app.psp")).unwrap();
    // More than can be compressed before the signal comes.
    let big = std::fs::File::create(home.path("app/big")).unwrap();
    big.set_len(64 << 30).unwrap();
    let mut command = home.slotfs(["pack", "app", "-o", "out/app.psp", "--key-seed", "x"]);
    let running = Running::start(&mut command);
    slotfs_tests::command::wait_for("something is written", || {
        std::fs::read_dir(home.path("out")).unwrap().count() == 2
    });
    running.signal(Signal::SIGINT);
    let done = running.finish();
    assert_eq!((done.code, done.stderr.contains("interrupted")), (130, true), "{}", done.stderr);
    assert!(std::fs::read(home.path("out/app.psp")).unwrap() == kept);
    assert_eq!(std::fs::read_dir(home.path("out")).unwrap().count(), 1, "no temporary is left");
}

#[test]
fn a_slot_is_never_held_in_memory() {
    let home = Home::new();
    file(&home, "big/script", 0o755, "");
    std::fs::File::create(home.path("big/zeros")).unwrap().set_len(600 << 20).unwrap();
    // The limit is on what is in memory and what could be: code, stacks and heap, far below the slot.
    let line = format!(
        "ulimit -v 400000; MALLOC_ARENA_MAX=2 exec taskset -c 0 {} pack big -o big.psp --level 1",
        binary().display()
    );
    Done::of(home.program("sh").args(["-c", &line])).success();
    assert!(home.path("big.psp").metadata().unwrap().len() < 8 << 20);
}

/// zstd in one frame cannot be reached at random, so its contents go to the store on the way.
#[test]
fn an_archive_that_was_read_once_need_not_be_read_again() {
    let tree = Tree::new().file("one", 0o644, &noise(30_000)).file("two", 0o644, &noise(40_000));
    let archive = slotfs_tests::package::compress("zstd", &tree.archive());
    for words in [&["pack", "tree.tar.zst", "--output", "app.psp"][..], &["extract", "tree.tar.zst", "out"]] {
        let home = Home::new();
        file(&home, "tree.tar.zst", 0o644, &archive);
        home.run(words).success();
        let kept: Value =
            serde_json::from_str(&home.run(["store", "check", "--json"]).success().stdout).unwrap();
        assert_eq!((&kept["indexes"], &kept["contents"]), (&1.into(), &2.into()), "{words:?}");
    }
}

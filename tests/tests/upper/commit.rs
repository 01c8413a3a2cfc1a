//! `slotfs commit`: the new package shows the tree that the environment showed, whatever was written, and keeps what it can of
//! the old one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use slotfs_tests::command::{Done, Home, Running, flavor, missing_fuse, real_launcher};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};
use slotfs_tests::tree;
use slotfs_tests::workplace::assert_same;

use super::support::{Writers, mounted, package, unmount, write};

/// Everything that a package can hold of a tree: what [`tree::describe`] says, extended attributes, and the root.
fn whole(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut lines = tree::describe(root);
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode();
    lines.insert(PathBuf::new(), format!("{:o}", mode(root)));
    for (path, line) in &mut lines {
        let place = root.join(path);
        let mut buffer = vec![0; 64 << 10];
        let length = rustix::fs::llistxattr(&place, &mut buffer[..]).unwrap();
        let names: Vec<Vec<u8>> = buffer[..length].split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        for name in names.iter().filter(|name| name.starts_with(b"user.")) {
            let length = rustix::fs::lgetxattr(&place, name.as_slice(), &mut buffer[..]).unwrap();
            line.insert_str(0, &format!("{name:?}={:?} ", &buffer[..length]));
        }
    }
    lines
}

/// The same without saying which names are of one file.
fn names_alone(lines: BTreeMap<PathBuf, String>) -> BTreeMap<PathBuf, String> {
    // The line ends with "… 2 links, first …".
    let alone = |line: String| match line.split_once(" links, first ") {
        Some((before, _)) => before.rsplit_once(' ').unwrap().0.to_owned(),
        None => line,
    };
    lines.into_iter().map(|(path, line)| (path, alone(line))).collect()
}

/// More than [`write()`]: attributes, kinds that change, a fifo, nanoseconds, names of any bytes, a second directory moved
/// over one that was there.
fn write_more(root: &Path) {
    write(root);
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(root.join(path), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("lib/tool", "user.note", b"changed through one name");
    set("etc", "user.folder", b"\x00\xff");
    fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o1770)).unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o750)).unwrap();
    nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o640)).unwrap();
    let file = fs::File::options().write(true).open(root.join("etc/other")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567_890, 123_456_789)).unwrap();
    // A file for a directory, and the other way round.
    fs::create_dir_all(root.join("swap/down/er")).unwrap();
    fs::remove_file(root.join("lib/link")).unwrap();
    fs::create_dir(root.join("lib/link")).unwrap();
    fs::write(root.join("lib/link/below"), "x").unwrap();
    fs::rename(root.join("moved"), root.join("lib/moved again")).unwrap();
    fs::write(root.join("lib/moved again/er/new"), "new").unwrap();
    fs::remove_file(root.join("lib/moved again/er/file")).unwrap();
    let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"odd \xff name");
    fs::write(root.join(odd), "odd").unwrap();
    symlink("/nowhere", root.join("var/absolute")).unwrap();
}

fn commit(home: &Home, line: &[&str]) -> Value {
    let done = home.run([&["commit", "--json", "--key-seed", "s"], line].concat()).success();
    serde_json::from_str(&done.stdout).unwrap()
}

/// Mounts the package and describes what it shows.
fn shown_by(home: &Home, name: &str) -> BTreeMap<PathBuf, String> {
    home.run(["mount", &format!("{name}.psp")]).success();
    let shown = whole(&home.workenv(name));
    home.run(["unmount", name]).success();
    home.settle();
    shown
}

fn verified(home: &Home, package: &str) {
    home.run(["verify", package]).success();
    if let Some(flavor) = flavor() {
        Done::of(home.program(flavor).args(["verify", package])).success();
    }
}

/// Returns each slot's fate by its id.
fn fates(told: &Value) -> BTreeMap<&str, &str> {
    let slots = told["slots"].as_array().unwrap().iter();
    slots.map(|slot| (slot["id"].as_str().unwrap(), slot["fate"].as_str().unwrap())).collect()
}

/// Returns the digests of a package's slots.
fn digests(home: &Home, package: &str) -> BTreeMap<String, Value> {
    let told = home.run(["verify", "--json", package]).success().stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    let checks = told["packages"][0]["checks"].as_array().unwrap().clone();
    let slots = checks.into_iter().filter(|check| check["name"] == "slot");
    slots.map(|check| (check["slot"].as_str().unwrap().to_owned(), check["digest"].clone())).collect()
}

#[test]
fn a_new_package_shows_what_the_mount_showed_live_and_at_rest() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write_more(&root);
    let before = whole(&root);
    let live = commit(&home, &["app", "--out", "live.psp", "--profile", "fast"]);
    assert_eq!(fates(&live)["changes"], "added");
    assert_same(&before, &whole(&root), "in the mount, after it was committed");
    unmount(&home);
    commit(&home, &["app", "--out", "still.psp", "--profile", "fast"]);
    commit(&home, &["app", "--out", "common.psp"]);
    for name in ["live", "still"] {
        verified(&home, &format!("{name}.psp"));
        assert_same(&before, &shown_by(&home, name), name);
    }
    verified(&home, "common.psp");
    assert_same(&names_alone(before.clone()), &names_alone(shown_by(&home, "common")), "for launchers, too");
    let bytes = |name: &str| fs::read(home.path(name)).unwrap();
    assert!(bytes("live.psp") == bytes("still.psp"), "the same changes and key give the same bytes");
    assert_same(&before, &shown_by(&home, "app"), "in the environment that was committed");
    let left = fs::read_dir(home.session("app").join("snapshots")).unwrap();
    assert_eq!(left.count(), 0, "no copy is left");
    let out = home.run(["run", "live.psp"]).success();
    assert_eq!(out.stdout, "print('changed')\n");
}

#[test]
fn slots_that_lose_nothing_stay_the_same_bytes() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    for (path, content) in [("one/a/x", "x"), ("one/a/y", "y"), ("two/b/z", "z"), ("three/c/w", "w")] {
        fs::create_dir_all(home.path(path).parent().unwrap()).unwrap();
        fs::write(home.path(path), content).unwrap();
    }
    let sources = ["one", "two,lifecycle=lazy", "three,operations=tar", "--command", "/bin/true"];
    home.run([&["pack", "-o", "app.psp", "--key-seed", "a"], &sources[..]].concat()).success();
    home.run(["mount", "app.psp"]).success();
    let root = home.workenv("app");
    fs::write(root.join("a/x"), "changed").unwrap();
    fs::remove_file(root.join("b/z")).unwrap();
    fs::write(root.join("c/new"), "new").unwrap();
    let before = whole(&root);
    unmount(&home);
    let told = commit(&home, &["app", "-o", "new.psp"]);
    let expected = [("changes", "added"), ("one", "kept"), ("three", "kept"), ("two", "rewritten")];
    assert_eq!(fates(&told), expected.into());
    assert_eq!(told["rewritten"][0]["without"][0]["path"], "b/z");
    let (old, new) = (digests(&home, "app.psp"), digests(&home, "new.psp"));
    assert!(old["one"] == new["one"] && old["three"] == new["three"] && old["two"] != new["two"]);
    let inspected = |package: &str| -> Value {
        serde_json::from_str(&home.run(["inspect", "--json", package]).success().stdout).unwrap()
    };
    let slots = inspected("new.psp")["package"]["slots"].as_array().unwrap().clone();
    let about = |slot: &Value| (slot["id"].clone(), slot["lifecycle"]["name"].clone(), slot["chain"].clone());
    let told = |id: &str, lifecycle: &str, chain: &str| (id.into(), lifecycle.into(), chain.into());
    assert_eq!(about(&slots[1]), told("two", "lazy", "tar.gzip"));
    assert_eq!(about(&slots[3]), told("changes", "runtime", "tar.gzip"));
    assert!(slots.iter().all(|slot| slot["index"]["carried"] == true), "{slots:#?}");
    // On a machine that has seen neither, no slot is gone over.
    let other = Home::new();
    fs::copy(home.path("new.psp"), other.path("new.psp")).unwrap();
    let mut command = other.slotfs(["mount", "new.psp"]);
    Done::of(command.env("SLOTFS_LOG", "slotfs_fs::layer=debug,slotfs_fs::slot=debug")).success();
    assert_same(&before, &whole(&other.workenv("new")), "elsewhere");
    other.run(["unmount", "new"]).success();
    other.settle();
    let log = fs::read_to_string(other.session("new").join("server.log")).unwrap();
    assert!(log.contains("the package's own index is used") && !log.contains(" indexed"), "{log}");
}

#[test]
fn changes_are_committed_again_and_again_or_into_the_same_slot() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write(&root);
    unmount(&home);
    commit(&home, &["app", "-o", "second.psp"]);
    home.run(["mount", "second.psp"]).success();
    let root = home.workenv("second");
    fs::write(root.join("lib/x.py"), "print('again')\n").unwrap();
    fs::remove_file(root.join("var/log/latest")).unwrap();
    fs::rename(root.join("moved"), root.join("back")).unwrap();
    fs::write(root.join("etc/third"), "3").unwrap();
    let before = whole(&root);
    let told = commit(&home, &["second", "-o", "third.psp", "--profile", "fast"]);
    assert_eq!((&told["slot"], fates(&told)["changes"]), (&"changes-2".into(), "rewritten"));
    let told = commit(&home, &["second", "-o", "merged.psp", "--slot", "changes", "--profile", "fast"]);
    assert_eq!((&told["merged"], fates(&told).len()), (&true.into(), 3));
    home.run(["unmount", "second"]).success();
    home.settle();
    for name in ["third", "merged"] {
        verified(&home, &format!("{name}.psp"));
        assert_same(&before, &shown_by(&home, name), name);
    }
    for (slot, reason) in [("library", "another slot lies over it"), ("a\nb", "no name for a slot")] {
        let refused = home.run(["commit", "second", "-o", "x.psp", "--slot", slot]).code(2);
        assert!(refused.stderr.contains(reason), "{}", refused.stderr);
    }
    let named = commit(&home, &["second", "-o", "named.psp", "--slot", "mine"]);
    assert_eq!((&named["slot"], &named["merged"]), (&"mine".into(), &false.into()));
    assert!(!home.path("x.psp").exists());
}

/// A package whose launcher is FlavorPack's, with trees over each other, a file slot, and nothing that a launcher refuses.
fn common(launcher: &Path) -> PackageBuilder {
    let script = "cd {workenv} && find . -type f | LC_ALL=C sort | xargs cksum";
    let base = Tree::new()
        .directory("app", 0o755)
        .file("app/kept", 0o644, b"kept\n")
        .file("app/gone", 0o644, b"gone\n")
        .directory("app/tree", 0o755)
        .file("app/tree/leaf", 0o644, b"leaf\n")
        .file("app/plain", 0o644, b"plain\n");
    let over = Tree::new()
        .directory("app", 0o755)
        .file("app/kept", 0o600, b"over\n")
        .file("app/gone", 0o644, b"2\n");
    slotfs_tests::command::shell_package("app", script)
        .launcher(&fs::read(launcher).unwrap())
        .slot(SlotSpec::tree("base", "tar.gzip", base))
        .slot(SlotSpec::file("note", "etc/note", "raw", b"note\n"))
        .slot(SlotSpec::file("other", "etc/other", "gzip", b"other\n"))
        .slot(SlotSpec::tree("over", "tar", over))
}

#[test]
fn launchers_run_what_was_committed() {
    if missing_fuse().is_some() {
        return;
    }
    for language in ["rs", "go"] {
        let Some(launcher) = real_launcher(language) else { return };
        let home = Home::new();
        home.package("app.psp", common(&launcher));
        home.run(["mount", "app.psp"]).success();
        let root = home.workenv("app");
        fs::write(root.join("app/kept"), "changed\n").unwrap();
        fs::remove_file(root.join("app/gone")).unwrap();
        fs::remove_file(root.join("etc/note")).unwrap();
        // What an archive over the others could not be unpacked over.
        fs::remove_dir_all(root.join("app/tree")).unwrap();
        fs::write(root.join("app/tree"), "a file now\n").unwrap();
        fs::remove_file(root.join("app/plain")).unwrap();
        fs::create_dir(root.join("app/plain")).unwrap();
        fs::write(root.join("app/plain/inside"), "a directory now\n").unwrap();
        fs::hard_link(root.join("app/kept"), root.join("app/same")).unwrap();
        let done = home.run(["commit", "app", "--out", "new.psp", "--key-seed", "s"]).success();
        assert!(done.stderr.contains("it becomes a file of its own"), "{}", done.stderr);
        let mut command: Command = home.program("sh");
        command.args(["-c", "find . -type f | LC_ALL=C sort | xargs cksum"]).current_dir(&root);
        let expected = Done::of(&mut command).success().stdout;
        unmount(&home);
        verified(&home, "new.psp");
        let mounted = home.run(["run", "new.psp"]).success();
        assert_eq!(mounted.stdout, expected, "slotfs");
        home.settle();
        let other = Home::new();
        fs::copy(home.path("new.psp"), other.path("new.psp")).unwrap();
        let started = Done::of(&mut other.program(other.path("new.psp"))).success();
        assert_eq!(started.stdout, expected, "{language}");
    }
}

#[test]
fn what_is_committed_while_programs_write_is_of_one_moment() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    let writers = Writers::start(&root);
    for name in ["one", "two"] {
        let file = format!("{name}.psp");
        commit(&home, &["app", "--out", &file]);
        writers.go_on();
        home.run(["extract", &file, name]).success();
        super::live::check(&home.path(name));
    }
    writers.stop();
    unmount(&home);
}

#[test]
fn a_commit_that_is_killed_or_interrupted_leaves_the_mount_as_it_was() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    fs::write(root.join("large"), (0..24 << 20).map(|_| next()).collect::<Vec<u8>>()).unwrap();
    let before = whole(&root);
    for (round, signal) in [Signal::SIGKILL, Signal::SIGINT].into_iter().cycle().take(6).enumerate() {
        let mut command = home.slotfs(["commit", "app", "--out", "out/new.psp"]);
        fs::create_dir_all(home.path("out")).unwrap();
        let running = Running::start(&mut command);
        std::thread::sleep(Duration::from_millis(40 * round as u64));
        running.signal(signal);
        let done = running.finish();
        // It may have been quicker; then the package is whole.
        let is_there = home.path("out/new.psp").exists();
        assert!(is_there || done.code != 0, "{}", done.stderr);
        if is_there {
            verified(&home, "out/new.psp");
        }
        fs::remove_dir_all(home.path("out")).unwrap();
        fs::write(root.join("etc/conf"), "programs go on").unwrap();
        fs::write(root.join("etc/conf"), "key=1\n").unwrap();
    }
    let after = whole(&root);
    let but_times = |lines: BTreeMap<PathBuf, String>| {
        lines.into_iter().filter(|(path, _)| path != Path::new("etc/conf")).collect::<BTreeMap<_, _>>()
    };
    assert_same(&but_times(before), &but_times(after), "in the mount");
    unmount(&home);
    home.run(["mount", "app.psp"]).success();
    let left = fs::read_dir(home.session("app").join("snapshots")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "what was copied goes with the next start");
    unmount(&home);
}

#[test]
fn a_dry_run_says_what_would_be_in_it_and_writes_nothing() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    let empty = home.run(["commit", "app", "--dry-run"]).code(111);
    assert!(empty.stderr.contains("nothing was written in `app`"), "{}", empty.stderr);
    home.run(["commit", "app", "--out", "new.psp"]).code(111);
    fs::write(root.join("lib/x.py"), "2").unwrap();
    fs::create_dir(root.join("new")).unwrap();
    fs::write(root.join("new/file"), "3").unwrap();
    fs::remove_dir_all(root.join("lib/deep")).unwrap();
    let names = || {
        let listed = fs::read_dir(home.root()).unwrap().map(|entry| entry.unwrap().file_name());
        listed.collect::<std::collections::BTreeSet<_>>()
    };
    let before = names();
    let told = home.run(["commit", "app", "--dry-run"]).success().stdout;
    let expected = "slot changes (new)\n  lib\n  lib/x.py\n  new\n  new/file\n\
                    slot library (written again without)\n  lib/deep\n";
    assert_eq!(told, expected);
    let told = home.run(["commit", "app", "--out", "new.psp", "--dry-run", "--json"]).success().stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["rewritten"][0]["slot"], "library");
    assert_eq!(told["held"][1]["path"], "lib/x.py");
    assert_eq!(names(), before);
    // A file that is no package is not replaced unasked, and needs a name.
    fs::write(home.path("precious"), "mine").unwrap();
    home.run(["commit", "app", "--out", "precious"]).code(2);
    home.run(["commit", "app"]).code(2);
    assert_eq!(fs::read(home.path("precious")).unwrap(), b"mine");
    unmount(&home);
}

#[test]
fn what_no_slot_can_hold_is_told() {
    if missing_fuse().is_some() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let (home, root) = mounted();
    fs::write(root.join("theirs"), "x").unwrap();
    std::os::unix::fs::chown(root.join("theirs"), Some(1234), Some(1234)).unwrap();
    fs::write(root.join("tool"), "x").unwrap();
    fs::set_permissions(root.join("tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    let set = |name: &str| {
        rustix::fs::lsetxattr(root.join("tool"), name, b"v", rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("trusted.mark");
    set("user.mark");
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let told = commit(&home, &["app", "-o", "new.psp"]);
    let slot = told["slots"].as_array().unwrap().iter().find(|slot| slot["id"] == "changes").unwrap();
    let differences: Vec<String> = slot["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {}", one["path"].as_str().unwrap(), one["what"].as_str().unwrap()))
        .collect();
    let expected = [
        "socket is neither a file nor a directory: left out",
        "theirs belongs to somebody else: in a package it belongs to who mounts it",
        "tool has set-user-ID or set-group-ID bits: they are left out",
        "tool has an access list or other attributes of the system: they are left out",
    ];
    assert_eq!(differences, expected);
    unmount(&home);
    let shown = shown_by(&home, "new");
    assert!(shown[Path::new("tool")].contains(" 100755 ") && shown[Path::new("tool")].starts_with('['));
    assert!(!shown.contains_key(Path::new("socket")));
}

#[test]
fn only_a_package_that_may_be_used_is_signed_anew() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    fs::write(root.join("new"), "x").unwrap();
    unmount(&home);
    let bytes = fs::read(home.path("app.psp")).unwrap();
    let mut damaged = bytes.clone();
    let at = damaged.windows(2).position(|window| window == [0x1f, 0x8b]).unwrap();
    damaged[at + 40] ^= 1;
    fs::write(home.path("app.psp"), damaged).unwrap();
    let refused = home.run(["commit", "app", "-o", "new.psp"]);
    assert!([102, 107].contains(&refused.code), "{}", refused.stderr);
    fs::write(home.path("app.psp"), bytes).unwrap();
    home.package("app.psp", package().key_seed("somebody else"));
    let refused = home.run(["commit", "app", "-o", "new.psp"]).code(111);
    assert!(refused.stderr.contains("is another package by now"), "{}", refused.stderr);
    assert!(!home.path("new.psp").exists());
}

#[test]
fn archives_and_directories_become_packages() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    for (path, content) in
        [("plain/bin/main", "#!/bin/sh\ncat \"$FLAVOR_WORKENV/data/new\"\n"), ("plain/data/old", "old")]
    {
        fs::create_dir_all(home.path(path).parent().unwrap()).unwrap();
        fs::write(home.path(path), content).unwrap();
    }
    fs::set_permissions(home.path("plain/bin/main"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("old", home.path("plain/data/link")).unwrap();
    let line = "tar -cJf arc.tar.xz -C plain . && gzip -c plain/data/old > note.gz && cd plain && zip -qry ../zipped.zip . ; true";
    Done::of(home.program("sh").args(["-c", line])).success();
    let mut kinds = vec![("plain", "plain"), ("arc.tar.xz", "arc"), ("note.gz", "note.gz")];
    if home.path("zipped.zip").exists() {
        kinds.push(("zipped.zip", "zipped"));
    }
    for (turn, (file, name)) in kinds.into_iter().enumerate() {
        let profile = ["compatible", "fast"][turn % 2];
        home.run(["mount", file]).success();
        let root = home.workenv(name);
        fs::create_dir_all(root.join("data")).unwrap();
        fs::write(root.join("data/new"), "new").unwrap();
        let _ = fs::remove_file(root.join("data/old"));
        let before = whole(&root);
        let command = "{workenv}/bin/main";
        let told = commit(&home, &[name, "--out", "new.psp", "--profile", profile, "--command", command]);
        home.run(["unmount", name]).success();
        home.settle();
        assert_eq!(told["slots"].as_array().unwrap().len(), 2, "{told:#}");
        verified(&home, "new.psp");
        let mut shown = shown_by(&home, "new");
        // One that is a slot of its own has the time of the package.
        if name == "note.gz" {
            let line = shown.get_mut(Path::new("note")).unwrap();
            before[Path::new("note")].clone_into(line);
        }
        assert_same(&before, &shown, &format!("{file}, {profile}"));
        if name != "note.gz" {
            assert_eq!(home.run(["run", "new.psp"]).success().stdout, "new", "{file}");
            home.settle();
        }
        home.run(["remove", "new", "-y"]).success();
    }
}

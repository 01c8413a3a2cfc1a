//! `slotfs reset`: what it takes back, what it leaves, and when it refuses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use slotfs_tests::command::{Done, Home, binary, missing_fuse, setup_script};
use slotfs_tests::package::{SlotSpec, Tree};
use slotfs_tests::tree;

use super::support::{diff, mounted, package, packaged, shown, unmount, write};

#[test]
fn everything_is_as_packaged_again() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write(&root);
    unmount(&home);
    let told = diff(&home);
    let dry = home.run(["reset", "app", "--dry-run"]).success();
    assert_eq!(dry.stdout, told);
    assert!(dry.stderr.contains("16 changes would be taken back"), "{}", dry.stderr);
    assert_eq!(diff(&home), told, "a dry run changed something");
    let done = home.run(["reset", "app", "--yes"]).success();
    assert!(done.stderr.contains("16 changes were taken back"), "{}", done.stderr);
    assert_eq!(diff(&home), "");
    assert_eq!(shown(&home), packaged());
    let again = home.run(["reset", "app", "-y"]).success();
    assert!(again.stderr.contains("nothing to take back"), "{}", again.stderr);
}

#[test]
fn paths_come_back_and_the_rest_stays() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write(&root);
    let written = tree::describe(&root);
    unmount(&home);
    let original = packaged();
    let paths = ["etc/old", "lib/whole", "lib/x.py", "var/log/app.log", "lib/deep", "moved"];
    let told = home.run([&["reset", "app", "-y", "--json"][..], &paths].concat()).success().stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["taken_back"].as_array().unwrap().len(), 9, "{told:#}");
    let now = shown(&home);
    let taken = |path: &Path| paths.iter().any(|taken| path.starts_with(taken));
    let mut expected: BTreeMap<PathBuf, String> =
        written.into_iter().filter(|(path, _)| !taken(path)).collect();
    expected.extend(original.into_iter().filter(|(path, _)| taken(path)));
    // It had two names and has one.
    let same = |map: &BTreeMap<PathBuf, String>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(same(&now), same(&expected));
    for (path, line) in &now {
        if path != Path::new("var/log/same.log") {
            assert_eq!(line, &expected[path], "{}", path.display());
        }
    }
    insta::assert_snapshot!("reset_rest", diff(&home));
}

#[test]
fn a_file_with_several_names_is_taken_back_under_all() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    fs::write(root.join("lib/tool"), "changed").unwrap();
    fs::hard_link(root.join("lib/tool"), root.join("mine")).unwrap();
    assert_eq!(fs::read_to_string(root.join("lib/tool-too")).unwrap(), "changed");
    fs::write(root.join("lib/link.new"), "").unwrap();
    fs::remove_file(root.join("lib/link")).unwrap();
    unmount(&home);
    home.run(["reset", "app", "lib/tool-too", "lib/link", "-y"]).success();
    home.run(["mount", "app.psp"]).success();
    for name in ["lib/tool", "lib/tool-too"] {
        assert_eq!(fs::read_to_string(root.join(name)).unwrap(), "#!/bin/sh\n", "{name}");
    }
    assert_eq!(fs::read_to_string(root.join("mine")).unwrap(), "changed", "a name of one's own went");
    assert_eq!(fs::read_link(root.join("lib/link")).unwrap(), Path::new("x.py"));
    fs::write(root.join("lib/tool"), "again").unwrap();
    assert_eq!(fs::read_to_string(root.join("lib/tool-too")).unwrap(), "again");
    assert_eq!(fs::read_to_string(root.join("mine")).unwrap(), "changed");
    fs::remove_file(root.join("lib/tool")).unwrap();
    unmount(&home);
    home.run(["reset", "app", "lib/tool-too", "-y"]).success();
    home.run(["mount", "app.psp"]).success();
    assert_eq!(fs::read_to_string(root.join("lib/tool-too")).unwrap(), "#!/bin/sh\n");
    assert!(!root.join("lib/tool").exists(), "a removed name came back unasked");
    unmount(&home);
}

#[test]
fn what_was_written_without_slots_for_development_is_told_and_taken_back_as_such() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let more = Tree::new().file("dev/tool", 0o755, b"tool\n").hard_link("dev/same", "dev/tool");
    let more = SlotSpec::tree("tools", "tar", more).lifecycle("dev", 8);
    home.package("app.psp", package().slot(more));
    let root = home.workenv("app");
    home.run(["mount", "app.psp", "--production"]).success();
    assert!(!root.join("dev").exists());
    fs::write(root.join("lib/tool"), "changed").unwrap();
    fs::write(root.join("lib/x.py"), "changed").unwrap();
    unmount(&home);
    home.run(["reset", "app", "lib/x.py", "-y"]).success();
    home.run(["mount", "app.psp", "--production"]).success();
    assert_eq!(
        fs::read_to_string(root.join("lib/tool-too")).unwrap(),
        "changed",
        "it was not to be taken back"
    );
    assert_eq!(fs::read_to_string(root.join("lib/x.py")).unwrap(), "print(1)\n");
    unmount(&home);
}

#[test]
fn what_cannot_be_taken_back_alone_is_refused_with_what_can() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write(&root);
    fs::remove_dir_all(root.join("etc")).unwrap();
    unmount(&home);
    let before = diff(&home);
    let table = [
        ("etc/conf", "`etc/conf` lies below `etc`, which was removed", "take back `etc` as a whole"),
        ("lib/whole/one", "which was replaced", "take back `lib/whole` as a whole"),
        ("moved/er/file", "which was moved", "take back `moved` as a whole"),
        ("lib/deep", "`lib/deep` was moved to `moved`", "take back both, `lib/deep` and `moved`"),
        ("lib", "`lib/deep` was moved to `moved`", "take back both"),
    ];
    for (path, message, hint) in table {
        let done = home.run(["reset", "app", path, "-y"]).code(2);
        assert!(done.stderr.contains(message) && done.stderr.contains(hint), "{path}: {}", done.stderr);
    }
    assert_eq!(diff(&home), before);
    fs::remove_file(home.path("app.psp")).unwrap();
    home.run(["reset", "app", "etc", "-y"]).code(111);
    home.run(["reset", "app", "-y"]).success();
    assert_eq!(home.run(["diff", "app"]).success().stdout, "");
}

#[test]
fn nobody_is_reset_under_his_feet_and_nobody_unasked() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    fs::write(root.join("note"), "kept").unwrap();
    // A server that hears nobody, as one of an earlier version, is not gone around.
    let control = home.session("app").join("control");
    let aside = home.session("app").join("aside");
    fs::rename(&control, &aside).unwrap();
    let live = home.run(["reset", "app", "-y"]).code(110);
    assert!(
        live.stderr.contains("is mounted at") && live.stderr.contains("slotfs unmount app"),
        "{}",
        live.stderr
    );
    fs::rename(&aside, &control).unwrap();
    assert_eq!(fs::read_to_string(root.join("note")).unwrap(), "kept");
    home.run(["reset", "app", "--dry-run"]).success();
    unmount(&home);
    let unasked = home.run(["reset", "app"]).code(2);
    assert!(unasked.stderr.contains("--yes"), "{}", unasked.stderr);
    let asked = |answer: &str| {
        let line = format!("printf {answer} | script -qec '{} reset app' /dev/null", binary().display());
        Done::of(home.program("sh").args(["-c", &line]))
    };
    let no = asked("n\\\\n").code(1);
    assert!(no.stdout.contains("Take back 1 change in `app`? [y/N]"), "{}", no.stdout);
    assert_eq!(diff(&home), "no slot\n  A note\n");
    asked("yes\\\\n").success();
    assert_eq!(diff(&home), "");
}

#[test]
fn setup_is_done_again_after_everything_was_taken_back() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let setup = setup_script("echo run >> {workenv}/setup-ran; date +%N > {workenv}/made");
    home.package("app.psp", package().section("setup_commands", serde_json::json!([setup])));
    home.run(["run", "app.psp"]).success();
    home.settle();
    home.run(["reset", "app", "lib", "-y"]).success();
    home.run(["run", "app.psp"]).success();
    home.settle();
    let made = home.session("app").join("upper/setup-ran");
    assert_eq!(fs::read_to_string(&made).unwrap(), "run\n");
    home.run(["reset", "app", "-y"]).success();
    assert!(!made.exists());
    home.run(["run", "app.psp"]).success();
    home.settle();
    assert_eq!(fs::read_to_string(&made).unwrap(), "run\n");
}

#[test]
fn an_interrupted_reset_is_finished_by_the_next_one() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    let original = tree::describe(&root);
    for round in 0..12_u64 {
        if round > 0 {
            home.run(["mount", "app.psp"]).success();
        }
        write(&root);
        for number in 0..200 {
            let folder = root.join(format!("lib/many/{number}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), "x").unwrap();
        }
        fs::write(root.join("lib/tool-too"), "changed").unwrap();
        unmount(&home);
        let arguments: &[&str] = if round % 2 == 0 {
            &["reset", "app", "-y"]
        } else {
            &["reset", "app", "lib", "etc", "moved", "var", "-y"]
        };
        let mut child = home.slotfs(arguments).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(4 * (round + 1)));
        let _ = child.kill();
        child.wait().unwrap();
        home.run(["mount", "app.psp"]).success();
        // Whatever was taken back until then: a file is there as written or as packaged.
        let content = fs::read_to_string(root.join("lib/x.py")).unwrap();
        assert!(["print(1)\n", "print('changed')\n"].contains(&content.as_str()), "{content}");
        unmount(&home);
        home.run(arguments).success();
        home.run(["mount", "app.psp"]).success();
        assert_eq!(tree::describe(&root), original, "round {round}");
        unmount(&home);
    }
}

//! `slotfs path` and `slotfs diff`.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;
use slotfs_tests::command::{Home, missing_fuse};

use super::support::{mounted, write};

fn json(home: &Home, arguments: &[&str]) -> Value {
    serde_json::from_str(&home.run(arguments).success().stdout).unwrap()
}

#[test]
fn the_upper_is_where_path_says() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    fs::write(root.join("note"), "written").unwrap();
    let said = home.run(["path", "app"]).success().stdout;
    let place = said.strip_suffix('\n').unwrap();
    assert_eq!(Path::new(place), home.session("app").join("upper"));
    assert_eq!(fs::read_to_string(Path::new(place).join("note")).unwrap(), "written");
    assert_eq!(json(&home, &["path", "ap", "--json"])["upper"], place);
    home.run(["unmount", "app"]).success();
    home.run(["path", "nothing"]).code(111);
    fs::create_dir_all(home.cache().join(".theirs.pspf/instance")).unwrap();
    let failed = home.run(["path", "theirs"]).code(111);
    assert!(failed.stderr.contains("never mounted"), "{}", failed.stderr);
    home.settle();
}

#[test]
fn changes_are_told_by_slot_while_mounted_and_after() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write(&root);
    let live = home.run(["diff", "app"]).success();
    assert_eq!(live.stderr, "");
    insta::assert_snapshot!("diff", live.stdout);
    home.run(["unmount", "app"]).success();
    home.settle();
    assert_eq!(home.run(["diff", "app"]).success().stdout, live.stdout);
    let only = home.run(["diff", "app", "etc", "lib/whole"]).success().stdout;
    insta::assert_snapshot!("diff_paths", only);
    let inside = home.workenv("app").join("etc/conf");
    let only = home.run(["diff".as_ref(), "app".as_ref(), inside.as_os_str()]).success().stdout;
    assert_eq!(only, "slot settings\n  M etc/conf\n");
    home.run(["diff", "app", "/etc"]).code(2);
    home.run(["diff", "app", "../x"]).code(2);
}

#[test]
fn nothing_written_is_nothing_told() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    assert_eq!(fs::read_to_string(root.join("lib/x.py")).unwrap(), "print(1)\n");
    assert_eq!(home.run(["diff", "app"]).success().stdout, "");
    assert_eq!(json(&home, &["diff", "app", "--json"])["changes"], Value::Array(Vec::new()));
    home.run(["unmount", "app"]).success();
    home.settle();
}

#[test]
fn a_file_changed_through_one_name_is_told_under_all() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    fs::write(root.join("lib/tool-too"), "changed").unwrap();
    let both = "slot library\n  M lib/tool\n  M lib/tool-too\n";
    assert_eq!(home.run(["diff", "app"]).success().stdout, both);
    assert_eq!(home.run(["diff", "app", "lib/tool"]).success().stdout, "slot library\n  M lib/tool\n");
    fs::remove_file(root.join("lib/tool")).unwrap();
    let one = "slot library\n  D lib/tool\n  M lib/tool-too\n";
    assert_eq!(home.run(["diff", "app"]).success().stdout, one);
    home.run(["unmount", "app"]).success();
    home.settle();
    let dry = home.run(["reset", "app", "lib/tool-too", "--dry-run"]).success();
    assert_eq!(dry.stdout, "slot library\n  M lib/tool-too\n");
    assert_eq!(home.run(["diff", "app"]).success().stdout, one);
}

#[test]
fn json_says_what_and_whose_and_names_have_their_bytes() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write(&root);
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"odd\xff")), "12345").unwrap();
    let told = json(&home, &["diff", "app", "--json"]);
    let find = |path: &str| {
        let lines = told["changes"].as_array().unwrap();
        lines
            .iter()
            .find(|line| line["path"] == path)
            .unwrap_or_else(|| panic!("no {path} in {told:#}"))
            .clone()
    };
    assert_eq!(told["slots_known"], true);
    let odd = find("odd\u{fffd}");
    assert_eq!((&odd["path_hex"], &odd["size"], &odd["slot"]), (&"6f6464ff".into(), &5.into(), &Value::Null));
    let changed = find("lib/x.py");
    assert_eq!((&changed["change"], &changed["slot"]), (&"changed".into(), &"library".into()));
    assert_eq!(changed["differs"], serde_json::json!(["content"]));
    assert_eq!(changed["mode"], "0644");
    let mode = find("lib/y.py");
    assert_eq!((&mode["differs"], &mode["mode"]), (&serde_json::json!(["mode"]), &"0600".into()));
    let removed = find("etc/old");
    assert_eq!(
        (&removed["change"], &removed["kind"], &removed["size"]),
        (&"removed".into(), &"file".into(), &Value::Null)
    );
    assert_eq!(find("moved")["moved_from"], "lib/deep");
    home.run(["unmount", "app"]).success();
    home.settle();
}

#[test]
fn without_the_package_everything_is_still_told() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    write(&root);
    home.run(["unmount", "app"]).success();
    home.settle();
    fs::rename(home.path("app.psp"), home.path("elsewhere.psp")).unwrap();
    let done = home.run(["diff", "app"]).success();
    assert!(done.stderr.contains("slots cannot be told"), "{}", done.stderr);
    insta::assert_snapshot!("diff_without_package", done.stdout);
    let told = json(&home, &["diff", "app", "--json"]);
    assert_eq!(told["slots_known"], false);
    assert!(told["changes"].as_array().unwrap().iter().all(|line| line["slot"].is_null()));
}

#[test]
fn files_may_come_and_go_while_they_are_told() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = mounted();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for number in 0..20 {
                    let folder = root.join(format!("busy/{number}"));
                    fs::create_dir_all(&folder).unwrap();
                    fs::write(folder.join("file"), vec![b'x'; 5000]).unwrap();
                }
                fs::remove_dir_all(root.join("busy")).unwrap();
            }
        });
        for _ in 0..10 {
            home.run(["diff", "app"]).success();
            let archive = home.path("busy.tar");
            let mut command = home.slotfs(["diff", "app", "--tar"]);
            let output = fs::File::create(&archive).unwrap();
            assert!(command.stdout(output).status().unwrap().success());
            let listed = home.program("tar").arg("-tf").arg(&archive).output().unwrap();
            assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    home.run(["unmount", "app"]).success();
    home.settle();
}

//! What `slotfs list` shows of mounts that belong to no work environment.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use slotfs_tests::command::{Home, missing_fuse, shell_package, wait_for};

use super::support::{WRITABLE, home, mount, served_no_more, servers, unmount};

/// Returns what is shown of the mount on `target`, as JSON and as a line of the table.
fn shown(home: &Home) -> (Value, Option<String>) {
    let report = home.run(["list", "--json"]).success().stdout;
    let report: Value = serde_json::from_str(&report).unwrap();
    let target = home.path("target").display().to_string();
    let others = report["other_mounts"].as_array().unwrap();
    let found: Vec<&Value> = others.iter().filter(|other| other["mountpoint"] == target).collect();
    assert!(found.len() < 2, "{found:?}");
    let text = home.run(["list"]).success().stdout;
    let line = text.lines().find(|line| line.starts_with(&target)).map(|line| {
        line.split("  ").map(str::trim).filter(|field| !field.is_empty()).collect::<Vec<_>>().join("|")
    });
    (found.first().map_or(Value::Null, |found| (*found).clone()), line)
}

fn expected(home: &Home, source: &str, state: &str, read_only: bool) -> Value {
    json!({
        "mountpoint": home.path("target"),
        "source": source,
        "state": state,
        "file_system": "fuse.slotfs",
        "read_only": read_only,
    })
}

#[test]
fn layers_given_by_hand_are_listed_while_they_are_mounted() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    assert_eq!(shown(&home), (Value::Null, None));
    mount(&home, &format!("{WRITABLE},fsname=a name"));
    let place = home.path("target").display().to_string();
    let (json, line) = shown(&home);
    assert_eq!(json, expected(&home, "a name", "mounted", false));
    assert_eq!(line.unwrap(), format!("{place}|a name|mounted"));
    unmount(&home);
    mount(&home, "lowerdir=a:b,ro,fsname=other");
    let (json, line) = shown(&home);
    assert_eq!(json, expected(&home, "other", "mounted", true));
    assert_eq!(line.unwrap(), format!("{place}|other|mounted, read-only"));
    unmount(&home);
    assert_eq!(shown(&home), (Value::Null, None));
}

#[test]
fn one_whose_server_was_killed_is_listed_as_dead() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    mount(&home, &format!("{WRITABLE},fsname=dead"));
    kill(Pid::from_raw(servers(&home)[0]), Signal::SIGKILL).unwrap();
    served_no_more(&home);
    wait_for("the dead mount", || shown(&home).0["state"] == "dead");
    home.run(["unmount", "target"]).success();
    assert_eq!(shown(&home), (Value::Null, None));
}

#[test]
fn a_mount_of_an_environment_is_listed_once_and_that_of_another_cache_as_another() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let package = home.package("app.psp", shell_package("app", "true"));
    home.run(["mount".as_ref(), package.as_os_str(), "target".as_ref()]).success();
    assert_eq!(shown(&home), (Value::Null, None));
    let elsewhere = home.path("other-cache");
    let done = home.run(["--cache-dir".as_ref(), elsewhere.as_os_str(), "list".as_ref()]).success();
    let place = home.path("target").display().to_string();
    assert!(done.stdout.lines().any(|line| line.starts_with(&place)), "{}", done.stdout);
    home.run(["unmount", "target"]).success();
}

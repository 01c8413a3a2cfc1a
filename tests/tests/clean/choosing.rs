//! What each wish removes, and that a dry run removes nothing.

use std::fs;

use slotfs_tests::command::{Done, Home, missing_fuse};

use super::support::{
    age, clean, everything, is_gone, launcher_environment, listed, metadata, names, ran, says,
};

#[test]
fn each_wish_removes_what_it_says_by_the_time_of_last_use() {
    let home = Home::new();
    let reset = || {
        for (name, days) in [("fresh", 0), ("week", 8), ("old", 31)] {
            ran(&home, name, "extract");
            age(&home, name, days);
        }
        launcher_environment(&home, "theirs");
        age(&home, "theirs", 40);
        launcher_environment(&home, "torn");
        fs::remove_file(metadata(&home, "torn").join("instance/extract/complete")).unwrap();
    };
    let table: &[(&[&str], &[&str])] = &[
        (&[], &["old", "theirs", "torn"]),
        (&["--older-than", "7"], &["old", "theirs", "torn", "week"]),
        (&["--older-than", "32"], &["theirs", "torn"]),
        (&["--older-than", "0"], &["fresh", "old", "theirs", "torn", "week"]),
        (&["--all"], &["fresh", "old", "theirs", "torn", "week"]),
    ];
    for (arguments, expected) in table {
        reset();
        let report = clean(&home, arguments);
        assert_eq!(names(&report, "environments"), *expected, "{arguments:?}");
        for name in *expected {
            is_gone(&home, name);
        }
        let stays: Vec<_> = ["fresh", "old", "theirs", "torn", "week"]
            .into_iter()
            .filter(|name| !expected.contains(name))
            .collect();
        assert_eq!(listed(&home), stays, "{arguments:?}");
        assert!(report["freed_bytes"].as_u64().unwrap() > 10_000, "{report}");
    }
}

#[test]
fn the_strategy_of_the_settings_decides() {
    let home = Home::new();
    ran(&home, "app", "extract");
    age(&home, "app", 100);
    let with = |strategy: &str| {
        let done = Done::of(home.slotfs(["clean", "--dry-run", "--json"]).env("SLOTFS_STRATEGY", strategy));
        names(&serde_json::from_str(&done.success().stdout).unwrap(), "environments")
    };
    assert_eq!(with("aggressive"), Vec::<String>::new());
    assert_eq!(with("balanced"), ["app"]);
}

#[test]
fn the_end_of_a_mount_is_its_last_use() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let path = ran(&home, "app", "mount");
    home.run(["mount", path.to_str().unwrap()]).success();
    // As if it had been mounted all the time since.
    age_notes(&home);
    home.run(["unmount", "app"]).success();
    home.settle();
    assert_eq!(names(&clean(&home, &[]), "environments"), Vec::<String>::new());
    age_notes(&home);
    assert_eq!(names(&clean(&home, &[]), "environments"), ["app"]);
    is_gone(&home, "app");
}

fn age_notes(home: &Home) {
    super::support::age_tree(&metadata(home, "app"), 60);
}

#[test]
fn a_dry_run_touches_nothing_and_says_what_would_go() {
    let home = Home::new();
    ran(&home, "old", "extract");
    age(&home, "old", 50);
    launcher_environment(&home, "theirs");
    let before = everything(&home.cache());
    for command in [
        &["clean", "--dry-run"][..],
        &["clean", "--all", "--dry-run", "--json"],
        &["remove", "old", "theirs", "--dry-run"],
    ] {
        let done = home.run(command).success();
        says(&done, &["old"]);
        assert_eq!(everything(&home.cache()), before, "{command:?}");
    }
    says(&home.run(["clean", "--dry-run"]).success(), &["unused for 50 days", "would be freed"]);
}

#[test]
fn without_a_terminal_and_without_yes_nothing_goes() {
    let home = Home::new();
    launcher_environment(&home, "app");
    for command in [&["clean", "--all"][..], &["remove", "app"]] {
        says(&home.run(command).code(2), &["nobody is there to be asked", "`--yes`", "`--dry-run`"]);
        assert_eq!(listed(&home), ["app"]);
    }
    let nothing = home.run(["clean"]).success();
    says(&nothing, &["nothing to clean"]);
    home.run(["clean", "--all", "-y"]).success();
    is_gone(&home, "app");
}

#[test]
fn what_the_user_had_before_a_failed_setup_is_not_taken_for_unfinished() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let broken = |works: bool| {
        let script = if works { "true" } else { "false" };
        super::support::package("app", "text")
            .section(
                "workenv",
                serde_json::json!({ "directories": [{ "path": "{workenv}/home", "mode": "0700" }], "env": {} }),
            )
            .section("setup_commands", serde_json::json!([slotfs_tests::command::setup_script(script)]))
    };
    let path = home.package("app.psp", broken(true));
    home.run(["mount", path.to_str().unwrap()]).success();
    fs::write(home.workenv("app").join("home/mine"), "mine").unwrap();
    home.run(["unmount", "app"]).success();
    home.settle();
    home.package("app.psp", broken(false));
    assert_ne!(home.run(["run", path.to_str().unwrap()]).code, 0);
    home.settle();
    assert_eq!(names(&clean(&home, &[]), "environments"), Vec::<String>::new());
    assert_eq!(fs::read(home.session("app").join("upper/home/mine")).unwrap(), b"mine");
}

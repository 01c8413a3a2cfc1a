//! `slotfs remove`: which environments, the question, and what it says.

use std::fs;

use serde_json::Value;
use slotfs_tests::command::{Done, Home, binary, missing_fuse, skip};

use super::support::{is_gone, launcher_environment, listed, ran, says};

#[test]
fn environments_are_found_by_name_identity_file_and_beginning() {
    let home = Home::new();
    let by_file = ran(&home, "one", "extract");
    ran(&home, "two", "extract");
    launcher_environment(&home, "three");
    launcher_environment(&home, "throng");
    launcher_environment(&home, "stays");
    let report: Value = serde_json::from_str(&home.run(["list", "--json"]).success().stdout).unwrap();
    let two = report["environments"].as_array().unwrap().iter().find(|one| one["name"] == "two").unwrap();
    says(&home.run(["remove", "th", "-y"]).code(2), &["`three`", "`throng`"]);
    says(&home.run(["remove", "one", "nobody", "-y"]).code(111), &["no work environment `nobody`"]);
    assert_eq!(listed(&home).len(), 5, "nothing goes unless all are found");
    let content = home.workenv("throng");
    let arguments = [
        by_file.to_str().unwrap(),
        two["id"].as_str().unwrap(),
        "three",
        content.to_str().unwrap(),
        // Named twice, removed once.
        "one",
    ];
    let done = home.run(["remove", "-y", "--json"].iter().chain(&arguments)).success();
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(super::support::names(&report, "environments"), ["one", "two", "three", "throng"]);
    for name in ["one", "two", "three", "throng"] {
        is_gone(&home, name);
    }
    assert_eq!(listed(&home), ["stays"]);
}

#[test]
fn a_person_is_asked_and_told_what_goes() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    if home.program("script").arg("--version").output().is_err() {
        skip("`script` (util-linux) is not installed".into());
        return;
    }
    let path = ran(&home, "app", "mount");
    home.run(["mount", path.to_str().unwrap()]).success();
    for number in 0..3 {
        fs::write(home.workenv("app").join(format!("note{number}")), [b'x'; 5000]).unwrap();
    }
    home.run(["unmount", "app"]).success();
    home.settle();
    let answer = |text: &str, line: &str| {
        let input = home.path("answer");
        fs::write(&input, text).unwrap();
        let line = format!("{} {line}", binary().display());
        let mut command = home.program("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.env("TERM", "dumb").stdin(fs::File::open(&input).unwrap());
        Done::of(&mut command)
    };
    let no = answer("n\n", "remove app");
    assert_eq!(no.code, 1, "{}", no.stdout);
    says(&no, &["3 files written there, ", " KiB, go for good; remove `app`? [y/N]", "nothing was removed"]);
    says(&answer("\n", "clean --all"), &["[y/N]", "nothing was removed"]);
    assert_eq!(listed(&home), ["app"]);
    says(&answer("y\n", "remove app"), &["freed"]);
    is_gone(&home, "app");
}

#[test]
fn a_removed_package_starts_as_if_it_had_never_been_there() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let path = ran(&home, "app", "mount");
    home.run(["mount", path.to_str().unwrap()]).success();
    fs::write(home.workenv("app").join("lib/text"), "changed").unwrap();
    home.run(["unmount", "app"]).success();
    home.settle();
    assert_eq!(home.run(["run", path.to_str().unwrap()]).success().stdout, "changed");
    home.settle();
    home.run(["remove", "app", "--yes"]).success();
    is_gone(&home, "app");
    assert_eq!(home.run(["run", path.to_str().unwrap()]).success().stdout, "app");
    home.settle();
}

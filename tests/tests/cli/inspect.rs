//! `slotfs inspect`.

use std::fs;

use serde_json::{Value, json};
use slotfs_tests::command::Home;
use slotfs_tests::package::{PackageBuilder, SlotSpec};

use super::packages::{application, write};
use super::shown::{check, shown};

#[test]
fn a_package_is_shown_slot_by_slot() {
    let home = Home::new();
    write(&home, &application().build());
    check!("inspect_package", shown(&home, "inspect hello.psp"));
    check!("inspect_package_json", shown(&home, "inspect hello.psp --json"));
    assert!(!home.cache().exists(), "a look makes no cache");
}

#[test]
fn every_lifecycle_is_named_with_what_it_means_here() {
    let home = Home::new();
    let names = [
        ("init", 0),
        ("startup", 1),
        ("runtime", 2),
        ("shutdown", 3),
        ("cache", 4),
        ("temporary", 5),
        ("lazy", 6),
        ("eager", 7),
        ("dev", 8),
        ("config", 9),
        ("platform", 10),
        ("volatile", 2),
        ("persistent", 2),
        ("someday", 2),
        ("", 2),
    ];
    let mut builder = PackageBuilder::new("lives", "1");
    for (number, (name, code)) in names.iter().enumerate() {
        let id = format!("slot-{number}");
        let slot = SlotSpec::file(&id, &id, "raw", b"x").lifecycle(name, *code);
        let slot = if *name == "platform" { slot.key("platform", json!("windows")) } else { slot };
        builder = builder.slot(slot);
    }
    write(&home, &builder.build());
    check!("inspect_lifecycles", shown(&home, "inspect hello.psp"));
}

#[test]
fn hostile_text_cannot_reach_the_terminal() {
    let home = Home::new();
    let builder = PackageBuilder::new("a\u{1b}[2Jb\nc", "\u{202e}1")
        .command("\u{7}true")
        .slot(SlotSpec::file("s\u{1b}]0;x\u{7}", "t", "raw", b"x").lifecycle("\u{9b}31m", 2));
    write(&home, &builder.build());
    let done = home.run(["inspect", "hello.psp"]).success();
    let bad = |letter: char| (letter.is_control() && letter != '\n') || letter == '\u{202e}';
    assert!(!done.stdout.contains(bad), "{:?}", done.stdout);
    let done = home.run(["verify", "hello.psp"]);
    assert!(!done.stdout.contains(bad), "{:?}", done.stdout);
}

#[test]
fn an_environment_is_found_by_name_id_and_beginning() {
    let home = Home::new();
    launcher_environment(&home, "greeter", "1.2.3");
    launcher_environment(&home, "grumbler", "2");
    check!("inspect_environment", shown(&home, "inspect greeter"));
    let report: Value =
        serde_json::from_str(&home.run(["inspect", "gree", "--json"]).success().stdout).unwrap();
    assert_eq!(report["package"], Value::Null);
    let id = report["environment"]["id"].as_str().unwrap().to_owned();
    home.run(["inspect", &id]).success();
    home.run(["inspect", &id[..6]]).success();
    home.run([home.workenv("greeter").as_os_str().to_str().unwrap(), "x"]).code(2);
    let done = home.run(["inspect", home.workenv("greeter").to_str().unwrap()]).success();
    assert!(done.stdout.starts_with("work environment greeter"), "{}", done.stdout);
    check!("inspect_ambiguous", shown(&home, "inspect gr"));
    check!("inspect_unknown", shown(&home, "inspect nobody"));
    check!("inspect_missing_file", shown(&home, "inspect ./nobody.psp"));
}

/// Makes the files that a package's own launcher leaves behind.
pub(crate) fn launcher_environment(home: &Home, name: &str, version: &str) {
    let metadata = home.cache().join(format!(".{name}.pspf"));
    fs::create_dir_all(metadata.join("instance/extract")).unwrap();
    fs::create_dir_all(metadata.join("package")).unwrap();
    fs::create_dir_all(home.workenv(name)).unwrap();
    fs::write(home.workenv(name).join("file"), "x").unwrap();
    fs::write(metadata.join("instance/extract/complete"), "123\n").unwrap();
    fs::write(metadata.join("instance/package.checksum"), "3c9c6793").unwrap();
    let document = json!({ "package": { "name": name, "version": version } });
    fs::write(metadata.join("package/psp.json"), document.to_string()).unwrap();
}

//! `slotfs list`.

use std::fs;
use std::time::{Duration, SystemTime};

use slotfs_tests::command::Home;

use super::inspect::launcher_environment;
use super::shown::{check, shown, shown_loosely};

/// Makes every file of an environment look as if it had last been used `days` ago.
fn age(home: &Home, name: &str, days: u64) {
    let marker = home.cache().join(format!(".{name}.pspf/instance/extract/complete"));
    let time = SystemTime::now() - Duration::from_secs(days * 86_400 + 60);
    fs::File::options().write(true).open(marker).unwrap().set_modified(time).unwrap();
}

#[test]
fn environments_of_launchers_are_listed_latest_first() {
    let home = Home::new();
    launcher_environment(&home, "greeter", "1.2.3");
    launcher_environment(&home, "grumbler", "2");
    launcher_environment(&home, "begun", "3");
    fs::remove_file(home.cache().join(".begun.pspf/instance/extract/complete")).unwrap();
    age(&home, "greeter", 3);
    age(&home, "grumbler", 10);
    check!("list", shown_loosely(&home, "list"));
    check!("list_json", shown(&home, "list --json"));
}

#[test]
fn an_empty_cache_is_no_error() {
    let home = Home::new();
    check!("list_empty", shown(&home, "list"));
    check!("list_empty_json", shown(&home, "list --json"));
    assert_eq!(home.run(["list", "--quiet"]).success().stderr, "");
    fs::write(home.path("file"), "").unwrap();
    check!("list_not_a_directory", shown(&home, "list --cache-dir file"));
}

#[test]
fn damaged_environments_are_listed_with_what_is_known() {
    let home = Home::new();
    launcher_environment(&home, "broken", "1");
    fs::write(home.cache().join(".broken.pspf/package/psp.json"), "{").unwrap();
    check!("list_damaged", shown_loosely(&home, "list"));
}

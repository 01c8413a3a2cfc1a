//! The same sources give the same bytes.

use std::time::{Duration, SystemTime};

use slotfs_tests::command::{Done, Home, binary};

use super::support::{application, file, metadata, pack};

fn bytes(home: &Home, path: &str) -> Vec<u8> {
    std::fs::read(home.path(path)).unwrap()
}

#[test]
fn two_packages_of_the_same_sources_are_the_same() {
    let home = Home::new();
    application(&home);
    let line = ["app", "app/lib/private,target=x", "--key-seed", "s", "--command", "x", "--name", "n", "-o"];
    pack(&home, &[&line[..], &["one.psp"]].concat()).success();
    // On one processor, elsewhere, under another name, with another home and umask.
    std::fs::create_dir(home.path("elsewhere")).unwrap();
    let words = line.map(|word| word.replace("app", "../app")).join(" ");
    let line = format!(
        "umask 077; HOME=/ TZ=Asia/Tokyo exec taskset -c 0 {} pack {words} two.psp",
        binary().display()
    );
    let mut command = home.program("sh");
    Done::of(command.current_dir(home.path("elsewhere")).args(["-c", &line])).success();
    assert!(bytes(&home, "one.psp") == bytes(&home, "elsewhere/two.psp"));
}

#[test]
fn with_source_date_epoch_a_fresh_checkout_gives_the_same() {
    let packed = |seconds: u64| {
        let home = Home::new();
        // Names in another order on the disk.
        for name in if seconds == 0 { ["a", "b", "c"] } else { ["c", "b", "a"] } {
            let path = file(&home, &format!("app/{name}"), 0o644, name);
            let time = SystemTime::now() - Duration::from_secs(seconds);
            std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
        let mut command = home.slotfs(["pack", "app", "-o", "app.psp", "--key-seed", "s"]);
        Done::of(command.env("SOURCE_DATE_EPOCH", "1700000000")).success();
        bytes(&home, "app.psp")
    };
    assert!(packed(0) == packed(101));
    let home = Home::new();
    file(&home, "app/a", 0o644, "");
    let mut command = home.slotfs(["pack", "app", "-o", "app.psp"]);
    let done = Done::of(command.env("SOURCE_DATE_EPOCH", "yesterday")).code(109);
    assert!(done.stderr.contains("no number of seconds since 1970"), "{}", done.stderr);
}

#[test]
fn packages_say_nothing_about_where_they_were_made() {
    let home = Home::new();
    application(&home);
    pack(&home, &[&home.path("app").display().to_string(), "-o", "app.psp", "--keep-links"]).success();
    let text = metadata(&home, "app.psp");
    assert!(!text.contains(&home.root().display().to_string()) && !text.contains("\"host\""), "{text}");
}

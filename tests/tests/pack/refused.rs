//! What `slotfs pack` does not make, and what it says then.

use std::os::unix::fs::symlink;

use slotfs_tests::command::{Done, Home};

use super::support::{application, file, pack};

/// Fails unless the command ends with `code` and says `reason`, and nothing is written.
#[track_caller]
fn refused(home: &Home, line: &[&str], code: i32, reason: &str) -> Done {
    let before = listing(home);
    let done = pack(home, line).code(code);
    assert!(done.stderr.contains(reason), "{reason}: {}", done.stderr);
    assert_eq!(listing(home), before);
    done
}

fn listing(home: &Home) -> String {
    Done::of(home.program("find").args([".", "-not", "-path", "./.cache*", "-printf", "%p %s\\n"]))
        .success()
        .stdout
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    let home = Home::new();
    application(&home);
    file(&home, "plain", 0o644, "x");
    for (line, code, reason) in [
        (&["-o", "x.psp"][..], 2, "there is nothing to pack"),
        (&["nowhere", "-o", "x.psp"], 2, "there is no `nowhere` to pack"),
        (&["app,targt=x", "-o", "x.psp"], 2, "`targt` cannot be said of the source `app`"),
        (&["app,operations=gzip", "-o", "x.psp"], 2, "has to become an archive"),
        (&["plain,operations=tar", "-o", "x.psp"], 2, "neither a directory nor an archive"),
        (&["plain,operations=xz", "-o", "x.psp"], 2, "the operations `xz` are not for everybody"),
        (&["app,operations=tar.bz2", "-o", "x.psp"], 2, "the operations `tar.bzip2` are not for everybody"),
        (&["plain,target=../x", "-o", "x.psp"], 2, "it leaves the work environment"),
        (&["plain,lifecycle=forever", "-o", "x.psp"], 2, "the lifecycle `forever`"),
        (&["plain,lifecycle=attestation", "-o", "x.psp"], 2, "the lifecycle `attestation`"),
        (&["plain", "plain", "-o", "x.psp"], 2, "two slots are called `plain`"),
        (&["plain", "-o", "x.psp", "--env", "A=1"], 2, "there is none"),
        (&["plain", "-o", "x.psp", "--command", "x", "--env", "A"], 2, "`A` is no variable"),
        (&["plain", "-o", "app"], 2, "`app` is a directory"),
        (&["app", "-o", "app/x.psp"], 2, "would lie in `app`"),
        (&[".", "-o", "x.psp"], 2, "would lie in `.`"),
        (&["plain", "-o", "x.psp", "--launcher", "nowhere"], 106, "cannot open `nowhere`"),
        (&["plain", "-o", "x.psp", "--launcher", "app"], 2, "`app` is no launcher"),
        (&["plain", "-o", "x.psp", "--private-key", "plain"], 107, "`plain` holds no Ed25519 private key"),
        (&["plain", "-o", "x.psp", "--manifest", "plain"], 109, "the manifest `plain` cannot be used"),
        (&["plain", "-o", "no/x.psp"], 106, "cannot create `no/"),
    ] {
        refused(&home, line, code, reason);
    }
}

#[test]
fn links_that_lead_out_are_refused() {
    let home = Home::new();
    application(&home);
    symlink("/usr/bin/env", home.path("app/bin/env")).unwrap();
    let done =
        refused(&home, &["app", "-o", "x.psp"], 102, "the symbolic link `bin/env` leads out of the tree");
    assert!(done.stderr.contains("--keep-links"), "{}", done.stderr);
    pack(&home, &["app", "-o", "x.psp", "--keep-links"]).success();
}

#[test]
fn what_is_no_package_is_replaced_only_on_demand() {
    let home = Home::new();
    application(&home);
    file(&home, "notes.txt", 0o644, "mine");
    let done =
        refused(&home, &["app", "-o", "notes.txt"], 2, "`notes.txt` is there already and is no package");
    assert!(done.stderr.contains("--yes"), "{}", done.stderr);
    pack(&home, &["app", "-o", "notes.txt", "-y"]).success();
    // A package is what the next one replaces.
    pack(&home, &["app", "-o", "notes.txt"]).success();
}

#[test]
fn damaged_archives_are_not_packed() {
    let home = Home::new();
    let archive = slotfs_tests::package::Tree::new().file("a", 0o644, &[7; 100_000]).archive();
    let mut bytes = slotfs_tests::package::compress("gzip", &archive);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xFF;
    file(&home, "torn.tgz", 0o644, &bytes);
    refused(&home, &["torn.tgz", "-o", "x.psp"], 102, "torn.tgz");
}

#[test]
fn special_files_and_bits_are_left_out_and_told() {
    let home = Home::new();
    application(&home);
    nix::unistd::mkfifo(&home.path("app/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    file(&home, "app/bin/risky", 0o4755, "x");
    let done = pack(&home, &["app", "-o", "x.psp"]).success();
    for text in ["`pipe` is neither a file nor a directory: left out", "`bin/risky` has set-user-ID"] {
        assert!(done.stderr.contains(text), "{}", done.stderr);
    }
}

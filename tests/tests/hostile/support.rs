//! What every test of bad input asks: did it end in time, with which code, and does it say path and reason.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use slotfs_tests::command::{Done, Home, shell_package};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};

/// No command may take longer for any input here. Most take milliseconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The commands that use a package, without the package; `extract` needs a directory behind it.
pub(crate) const COMMANDS: [&str; 4] = ["verify", "run", "mount", "extract"];

/// What the package of [`application`] prints when it runs as it should.
pub(crate) const TEXT: &str = "the right text\n";

/// A package that prints two of its files: one of an archive, one of its own.
pub(crate) fn application() -> PackageBuilder {
    let tree = Tree::new()
        .directory("lib", 0o755)
        .file("lib/text", 0o644, TEXT.as_bytes())
        .file("lib/more", 0o644, &[b'x'; 9000])
        .symlink("lib/link", "text");
    shell_package("app", "cat {workenv}/lib/text; cat {workenv}/etc/empty")
        .slot(SlotSpec::tree("app", "tar.gzip", tree))
        .slot(SlotSpec::file("settings", "{workenv}/etc/settings", "raw", b"a = 1\n"))
        .slot(SlotSpec::file("empty", "{workenv}/etc/empty", "raw", b""))
}

/// Runs slotfs within the time limit.
#[track_caller]
pub(crate) fn slotfs<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(home: &Home, arguments: I) -> Done {
    calm(Done::within(LIMIT, &mut home.slotfs(arguments)))
}

/// Runs one of [`COMMANDS`] on a package.
#[track_caller]
pub(crate) fn with_package(home: &Home, command: &str, package: &Path) -> Done {
    let mut words: Vec<&OsStr> = vec![command.as_ref(), package.as_ref()];
    let out = home.path("out");
    if command == "extract" {
        words.push(out.as_ref());
    }
    slotfs(home, words)
}

/// Runs every one of [`COMMANDS`] on a package that none may use: each ends with `code` and says each of `words`.
#[track_caller]
pub(crate) fn all_refuse(home: &Home, package: &Path, code: i32, words: &[&str]) {
    for command in COMMANDS {
        let done = with_package(home, command, package);
        says(&done, command, code, words);
        nothing_left(home, command);
    }
}

/// Asserts the exit code, and that every word is said.
#[track_caller]
pub(crate) fn says(done: &Done, what: &str, code: i32, words: &[&str]) {
    let said = format!("{}{}", done.stdout, done.stderr);
    assert_eq!(done.code, code, "{what}:\n{said}");
    for word in words {
        assert!(said.contains(word), "{what}: `{word}` is not said:\n{said}");
    }
}

/// Asserts that a refused command left neither mount nor server nor half of a tree.
#[track_caller]
pub(crate) fn nothing_left(home: &Home, what: &str) {
    assert_eq!(home.mounts(), Vec::<PathBuf>::new(), "{what}");
    assert_eq!(home.servers(), Vec::<i32>::new(), "{what}");
    assert!(!home.path("out").exists(), "{what} left half of a tree");
}

/// Asserts that nothing panicked, also not in the serving process of any environment.
#[track_caller]
pub(crate) fn calm(done: Done) -> Done {
    for sign in ["panicked", "RUST_BACKTRACE", "overflow"] {
        assert!(!done.stderr.contains(sign) && !done.stdout.contains(sign), "{}{}", done.stdout, done.stderr);
    }
    assert!(!matches!(done.code, 101 | 134 | 135 | 139), "code {}: {}", done.code, done.stderr);
    done
}

/// Returns what the serving process of the work environment has logged.
pub(crate) fn server_log(home: &Home, workenv: &str) -> String {
    let log = std::fs::read_to_string(home.session(workenv).join("server.log")).unwrap_or_default();
    assert!(!log.contains("panicked"), "{log}");
    log
}

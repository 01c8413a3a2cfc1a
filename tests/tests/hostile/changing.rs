//! A package that changes, shrinks or disappears under its mount.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use slotfs_tests::command::{Home, missing_fuse, shell_package};
use slotfs_tests::package::{Built, PackageBuilder, SlotSpec, Tree};

use super::support::{nothing_left, says, server_log, slotfs};

const FILES: usize = 30;

fn content(file: usize) -> Vec<u8> {
    format!("file {file} of the package\n").repeat(3000 + file).into_bytes()
}

fn package(chain: &str) -> PackageBuilder {
    let tree =
        (0..FILES).fold(Tree::new(), |tree, file| tree.file(format!("lib/{file}"), 0o644, &content(file)));
    shell_package("app", "true").slot(SlotSpec::tree("library", chain, tree)).slot(SlotSpec::file(
        "big",
        "{workenv}/big",
        "raw",
        &content(99),
    ))
}

/// Reads every file: the right content or EIO. Returns how many were right.
fn right_files(root: &Path) -> usize {
    let places = (0..FILES).map(|file| (format!("lib/{file}"), file)).chain([("big".to_owned(), 99)]);
    places
        .filter(|(place, file)| match std::fs::read(root.join(place)) {
            Ok(bytes) => {
                assert!(bytes == content(*file), "`{place}` has wrong bytes");
                true
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "`{place}`: {error}");
                false
            }
        })
        .count()
}

/// Mounts a package, lets `change` do something to its file, and returns how many files are right then, and the log.
fn changed(chain: &str, change: impl FnOnce(&Path, &Built)) -> (usize, String) {
    let home = Home::new();
    let built = package(chain).build();
    let path = home.path("app.psp");
    built.write(&path);
    slotfs(&home, ["mount".as_ref(), path.as_os_str()]).success();
    let root = home.workenv("app");
    assert_eq!(std::fs::read(root.join("lib/3")).unwrap(), content(3));
    // Some file systems' clocks tick slowly.
    std::thread::sleep(Duration::from_millis(30));
    change(&path, &built);
    let right = right_files(&root);
    let log = server_log(&home, "app");
    slotfs(&home, ["unmount", "app"]).success();
    (right, log)
}

#[test]
fn a_package_written_over_in_place_gives_eio_and_a_line_in_the_log() {
    if missing_fuse().is_some() {
        return;
    }
    for chain in ["tar", "tar.gzip", "tar.zstd"] {
        let (right, log) = changed(chain, |path, built| {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            for slot in &built.slots {
                let noise: Vec<u8> = built.bytes[slot.clone()].iter().map(|byte| byte ^ 0xFF).collect();
                file.write_all_at(&noise, slot.start as u64).unwrap();
            }
        });
        assert!(right <= FILES, "{chain}: nothing was noticed");
        assert!(log.contains("changed") && log.contains("slot `big`"), "{chain}: {log}");
    }
}

#[test]
fn a_package_cut_short_gives_eio_and_nobody_dies() {
    if missing_fuse().is_some() {
        return;
    }
    for chain in ["tar", "tar.gzip"] {
        for length in [0, 100] {
            let (right, log) = changed(chain, |path, _| {
                std::fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
            });
            assert!(right <= FILES, "{chain}: nothing was noticed");
            assert!(log.contains("slot `big`"), "{chain}: {log}");
        }
    }
}

#[test]
fn a_package_that_is_removed_or_replaced_is_served_to_the_end() {
    if missing_fuse().is_some() {
        return;
    }
    for chain in ["tar", "tar.gzip", "tar.bzip2"] {
        let (right, _) = changed(chain, |path, _| std::fs::remove_file(path).unwrap());
        assert_eq!(right, FILES + 1, "{chain}");
        let (right, _) = changed(chain, |path, _| {
            let other = path.with_extension("new");
            shell_package("app", "true").write(&other);
            std::fs::rename(&other, path).unwrap();
        });
        assert_eq!(right, FILES + 1, "{chain}");
    }
}

#[test]
fn a_package_that_disappears_is_missed_by_name() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let path = home.package("app.psp", package("tar.gzip"));
    slotfs(&home, ["run".as_ref(), path.as_os_str()]).success();
    std::fs::remove_file(&path).unwrap();
    says(&slotfs(&home, ["run".as_ref(), path.as_os_str()]), "run", 111, &["app.psp"]);
    nothing_left(&home, "run");
    slotfs(&home, ["list"]).success();
    slotfs(&home, ["inspect", "app"]).success();
}

/// Somebody writes a package while it is started: it is refused, or it is the one that was verified.
#[test]
fn a_package_that_changes_while_it_starts_is_never_mixed() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let script = |text: &str| {
        let tree = Tree::new().file("text", 0o644, text.as_bytes()).file("fill", 0o644, &vec![7; 1 << 20]);
        shell_package("app", "cat {workenv}/text").slot(SlotSpec::tree("t", "tar", tree)).build()
    };
    let (one, two) = (script("one\n"), script("two\n"));
    assert_eq!(one.bytes.len(), two.bytes.len());
    let path: PathBuf = home.path("app.psp");
    one.write(&path);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for built in [&two, &one] {
                    file.write_all_at(&built.bytes, 0).unwrap();
                    std::thread::sleep(Duration::from_millis(7));
                }
            }
        });
        for _ in 0..25 {
            let done = slotfs(&home, ["run".as_ref(), path.as_os_str()]);
            match done.code {
                0 => assert!(["one\n", "two\n"].contains(&done.stdout.as_str()), "{}", done.stdout),
                // The program may find that its file cannot be read any more.
                1 => assert!(done.stderr.contains("Input/output error"), "{}", done.stderr),
                _ => {
                    assert!([102, 107].contains(&done.code), "{} {}", done.code, done.stderr);
                    assert!(done.stderr.contains("app.psp`"), "{}", done.stderr);
                }
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

//! Changes that are held up for a moment: nothing moves meanwhile, and everything goes on afterwards.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use slotfs_fs::driver::OpenMode;
use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_tests::mounted::Writable;

const LIMIT: Duration = Duration::from_secs(20);

/// The number in a file; 0 before one was written.
fn number(path: &Path) -> u64 {
    let mut bytes = [0; 8];
    let count = File::open(path).unwrap().read_at(&mut bytes, 0).unwrap();
    assert!(matches!(count, 0 | 8), "{count} bytes of a number");
    u64::from_le_bytes(bytes)
}

/// Lets writers loose: pairs of files of which the first is never behind, and names that come and go.
fn write_until(root: &Path, done: &AtomicBool, rounds: &AtomicU64, thread: usize) {
    let [first, second] = ["first", "second"].map(|name| {
        let path = root.join(format!("{name}-{thread}"));
        OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap()
    });
    let mut count = 0u64;
    while !done.load(Ordering::Relaxed) {
        count += 1;
        first.write_all_at(&count.to_le_bytes(), 0).unwrap();
        second.write_all_at(&count.to_le_bytes(), 0).unwrap();
        let name = root.join(format!("name-{thread}"));
        fs::write(&name, count.to_le_bytes()).unwrap();
        fs::rename(&name, root.join(format!("moved-{thread}"))).unwrap();
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

fn check_held(mode: OpenMode) {
    const WRITERS: usize = 12;
    let Some(writable) = Writable::new(MemoryLayer::builder().file("d/file", 0o644, *b"lower"), mode) else {
        return;
    };
    let (root, upper) = (writable.root().to_path_buf(), writable.upper());
    let (done, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let control = writable.control();
    std::thread::scope(|scope| {
        for thread in 0..WRITERS {
            let (root, done, rounds) = (&root, &done, &rounds);
            scope.spawn(move || write_until(root, done, rounds, thread));
        }
        let finished = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..20 {
                let before = rounds.load(Ordering::Relaxed);
                while rounds.load(Ordering::Relaxed) < before + 20 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let held = control.hold(LIMIT).unwrap();
                let look = || {
                    let mut names: Vec<_> =
                        fs::read_dir(&upper).unwrap().map(|entry| entry.unwrap().file_name()).collect();
                    names.sort();
                    let numbers: Vec<_> = names
                        .iter()
                        .map(|name| upper.join(name))
                        .filter(|path| path.metadata().unwrap().len() == 8)
                        .map(|path| number(&path))
                        .collect();
                    (names, numbers)
                };
                let seen = look();
                for thread in 0..WRITERS {
                    let [first, second] =
                        ["first", "second"].map(|name| number(&upper.join(format!("{name}-{thread}"))));
                    assert!(first == second || first == second + 1, "round {round}: {first} and {second}");
                }
                std::thread::sleep(Duration::from_millis(10));
                assert_eq!(seen, look(), "something was changed in round {round}");
                drop(held);
            }
        }));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = finished {
            std::panic::resume_unwind(panic);
        }
    });
    assert_eq!(fs::read(root.join("d/file")).unwrap(), b"lower");
}

#[test]
fn nothing_changes_while_writers_are_held_and_they_go_on() {
    check_held(OpenMode::Automatic);
}

#[test]
fn it_is_so_without_passthrough() {
    check_held(OpenMode::Requests);
}

#[test]
fn nobody_else_is_left_waiting_by_the_name_that_is_asked_for() {
    let Some(writable) =
        Writable::new(MemoryLayer::builder().file("file", 0o644, *b"x"), OpenMode::Automatic)
    else {
        return;
    };
    let path = writable.root().join("file");
    let error = rustix::fs::removexattr(&path, "user.slotfs.held").unwrap_err();
    assert_eq!(error, rustix::io::Errno::NODATA);
    rustix::fs::setxattr(&path, "user.slotfs.held", b"mine", rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::removexattr(&path, "user.slotfs.held").unwrap();
}
